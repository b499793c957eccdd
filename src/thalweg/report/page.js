"use strict";
const told = JSON.parse(document.getElementById("charts").textContent);
const options = {
  actions: false, renderer: "svg", mode: "vega-lite", defaultStyle: false, config: told.config,
  tooltip: { disableDefaultStyle: true },
};
// one after another, from the top, so that the page can be read while the others are drawn
(async () => {
  for (const place of document.querySelectorAll(".drawing")) await draw(place);
  document.documentElement.classList.add("drawn");
})();

// what is folded has a width in browsers that know ::details-content; in others it is drawn when it is opened
async function draw(place, name = place.id) {
  const folded = place.closest("details:not([open])");
  if (folded && !place.clientWidth) {
    folded.addEventListener("toggle", () => draw(place, name), { once: true });
    return;
  }
  try {
    await vegaEmbed(place, told.charts[name], options);
  } catch (wrong) {
    place.className = "failed";
    place.textContent = `This chart could not be drawn: ${wrong.message}`;
    console.error(place.id, wrong);
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, column));
  });
}

function sort(table, head, column) {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const value = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
  const order = (a, b) => {
    const [x, y] = [Number(value(a)), Number(value(b))];
    if (Number.isNaN(x) || Number.isNaN(y)) {
      const text = value(a).localeCompare(value(b), "en", { numeric: true });
      return down ? -text : text;
    }
    if (!Number.isFinite(x) || !Number.isFinite(y)) return Number.isFinite(y) - Number.isFinite(x); // missing ones last
    return down ? y - x : x - y;
  };
  body.append(...[...body.rows].sort(order));
}

// the first picture on another axis
for (const choice of document.querySelectorAll("#axes input")) {
  choice.addEventListener("change", () => {
    for (const place of document.querySelectorAll("#lead .drawing")) draw(place, `${place.id}@${choice.value}`);
  });
}

// contents: beside the page where there is room, else folded; what a link leads to is opened
const contents = document.querySelector("nav.contents details"), wide = matchMedia("(min-width: 75rem)");
if (contents) {
  const fit = () => (contents.open = wide.matches);
  fit();
  wide.addEventListener("change", fit);
  contents.addEventListener("click", (event) => event.target.closest("a") && !wide.matches && (contents.open = false));
}

function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("main details:not([open])")];
  for (const one of closed) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of closed) one.open = false;
});
