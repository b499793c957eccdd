"use strict";
// Whole windows of text are loaded when they are asked for: a script hands over some of a ladder's at once.
const windows = {};
window.thalwegTexts = (ladder, texts) => Object.assign((windows[ladder] ??= {}), texts);

for (const button of document.querySelectorAll("button.whole")) {
  button.addEventListener("click", () => {
    const { ladder, stimulus, script } = button.dataset;
    const show = () => {
      const place = button.previousElementSibling;
      place.textContent = windows[ladder]?.[stimulus] ?? "This window could not be loaded.";
      button.remove();
    };
    if (windows[ladder]?.[stimulus] !== undefined) return show();
    const element = document.createElement("script");
    element.src = script;
    element.onload = element.onerror = show;
    document.head.append(element);
  });
}
