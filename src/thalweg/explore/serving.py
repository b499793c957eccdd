"""A site served on this machine: each page is made when a browser asks for it, so nothing waits for all of them."""

import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from thalweg.errors import ThalwegError
from thalweg.explore.site import Site

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # by which a browser may ask: a page of another name may not read this one's
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "webp": "image/webp"}


def server_of(site: Site, port: int = 0) -> ThreadingHTTPServer:
    """A server of a site on this machine alone; `serve_forever` starts it.

    Raises:
        ThalwegError: the port is taken.
    """
    alone = threading.Lock()  # pages share what was read of the run

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if (self.headers.get("Host") or "").rpartition(":")[0] not in NAMES:
                return self._send(HTTPStatus.FORBIDDEN, b"This server answers this machine alone.", "text/plain")
            address = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
            try:
                with alone:
                    content = site.content(address)
            except ThalwegError as wrong:
                return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(wrong).encode(), "text/plain")
            if content is None:
                return self._send(HTTPStatus.NOT_FOUND, b"There is no such page.", "text/plain")
            self._send(HTTPStatus.OK, content, TYPES.get(address.rpartition(".")[2], "text/plain"))

        def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
            with suppress(ConnectionError):  # the reader has left
                self.send_response(status)
                self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind != "image/webp" else kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as refused:
        raise ThalwegError(
            f"port {port} cannot be opened ({refused.strerror or refused}); choose another with --port, or 0 for any"
        ) from refused


def serve_site(site: Site, port: int = 0, *, ready: Callable[[str], None]) -> None:
    """Serve a site until the user interrupts; `ready` is told its address."""
    with server_of(site, port) as server:
        ready(f"http://{HOST}:{server.server_address[1]}/")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
