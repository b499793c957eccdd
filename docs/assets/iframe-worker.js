/* Search in pages that are opened from files: browsers start no Worker there, so an iframe takes its place. It has the
   parts of Worker that the site's search uses, after iframe-worker (MIT, https://github.com/squidfunk/iframe-worker). */
class IFrameWorker extends EventTarget {
  constructor(url) {
    super()
    this.frame = document.createElement("iframe")
    this.frame.hidden = true
    document.body.appendChild(this.frame)
    const inside = this.frame.contentWindow
    inside.document.open()
    inside.document.write(
      `<script>postMessage = (data, origin) => parent.postMessage(data, origin || "*")</script>` +
      `<script src="${url}"></script>`
    )
    inside.document.close()
    this.ready = new Promise((resolve) => { inside.onload = resolve })
    addEventListener("message", (event) => {
      if (event.source !== inside) return
      const message = new MessageEvent("message", { data: event.data })
      this.dispatchEvent(message)
      if (this.onmessage) this.onmessage(message)
    })
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", structuredClone({ data }))))
  }

  terminate() { this.frame.remove() }
}

if (location.protocol === "file:") window.Worker = IFrameWorker
