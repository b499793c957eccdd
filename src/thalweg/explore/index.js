"use strict";
// The list of all units. A column of scores comes in pieces, which are loaded when a row of them is shown or when all
// units are sorted or filtered by it; so the page opens with the same few pieces however many units there are.
const site = window.thalwegSite;
const MISSING = 65535, TOP = 65534, NONE = "–", ROW = 26; // pixels
const form = document.getElementById("filters"), table = document.getElementById("units");
const field = (name) => form.elements.namedItem(name);

// columns

const store = {}; // by name: the numbers of all units, and a promise for each piece
const scores = new Map(site.columns.map((column) => [column.name, column]));

function column(name) {
  const wide = name === "unit";
  return (store[name] ??= { values: new (wide ? Uint32Array : Uint16Array)(site.count), pieces: [], wide });
}

const waiting = {};
window.thalwegPiece = (name, number, code) => {
  const bytes = Uint8Array.from(atob(code), (letter) => letter.charCodeAt(0));
  const kept = column(name);
  kept.values.set(new (kept.wide ? Uint32Array : Uint16Array)(bytes.buffer), number * site.piece);
  waiting[`${name}/${number}`]();
};

function piece(name, number) {
  const kept = column(name);
  return (kept.pieces[number] ??= new Promise((done, failed) => {
    const element = document.createElement("script");
    waiting[`${name}/${number}`] = () => (element.remove(), done());
    element.onerror = () => failed(new Error(`the scores ${name} could not be loaded`));
    element.src = `data/${name}/${number}.js`;
    document.head.append(element);
  }));
}

async function whole(name) {
  await Promise.all(Array.from({ length: Math.ceil(site.count / site.piece) }, (_, number) => piece(name, number)));
  return column(name).values;
}

// units, networks, layers

const layers = []; // of all networks, by the place of their first unit
site.networks.forEach((network, number) => {
  for (const layer of network.layers) layers.push({ ...layer, network, number });
});

function layerOf(place) {
  let low = 0, high = layers.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (layers[middle].first <= place) low = middle;
    else high = middle - 1;
  }
  return layers[low];
}

const value = (name, stored) => {
  const { low, high } = scores.get(name);
  return low + ((high - low) * stored) / TOP;
};
const written = (number) => (number === null || number === undefined ? NONE : Number(number.toPrecision(3)).toString());

// which units are listed, in which order

let rows = new Uint32Array(0), active = 0, turn = 0;
const shown = new Set(site.columns.filter((each) => each.shown).map((each) => each.name));

function wanted(layer, words) {
  const { network } = layer;
  const is = (name, said) => !field(name).value || field(name).value === said;
  if (!is("ladder", network.ladder) || !is("basis", network.basis) || !is("layer", layer.name)) return false;
  if (!is("model", network.model) || !is("control", network.control)) return false;
  const text = `${network.ladder} ${network.name} ${network.kind} ${layer.name}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

// Units whose search has a number that names no layer or rung are looked for by their own number.
function searched() {
  const words = field("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const numbers = words.filter((word) => /^\d+$/.test(word));
  return { words: words.filter((word) => !/^\d+$/.test(word)), numbers: numbers.map(Number) };
}

async function select() {
  const mine = ++turn;
  const { words, numbers } = searched();
  const chosen = layers.filter((layer) => wanted(layer, words));
  let listed = new Uint32Array(chosen.reduce((sum, layer) => sum + layer.count, 0)), filled = 0;
  for (const layer of chosen) for (let unit = 0; unit < layer.count; unit++) listed[filled++] = layer.first + unit;
  for (const number of numbers) {
    const units = await whole("unit");
    listed = listed.filter((place) => units[place] === number);
  }
  if (field("note").value !== "") {
    const notes = await whole("note"), reason = Number(field("note").value);
    listed = listed.filter((place) => (reason < 0 ? notes[place] === 0 : notes[place] === reason));
  }
  listed = await within(listed);
  listed = await sorted(listed);
  if (mine !== turn) return;
  rows = listed;
  active = 0;
  const all = rows.length === site.count ? "all" : "of";
  document.getElementById("count").textContent =
    all === "all" ? `All ${site.count.toLocaleString("en")} units` : `${rows.length.toLocaleString("en")} of ${site.count.toLocaleString("en")} units`;
  table.scrollTop = 0;
  await draw();
}

async function within(listed) {
  const name = field("score").value;
  const [from, to] = ["from", "to"].map((each) => (field(each).value === "" ? NaN : Number(field(each).value)));
  if (!name || (Number.isNaN(from) && Number.isNaN(to))) return listed;
  const passes = (number) => number !== null && number !== undefined && !(number < from) && !(number > to);
  if (!scores.has(name)) return listed.filter((place) => passes(layerOf(place).network.numbers[name]));
  const stored = await whole(name), slack = (scores.get(name).high - scores.get(name).low) / TOP / 2;
  return listed.filter((place) => {
    if (stored[place] === MISSING) return false;
    const number = value(name, stored[place]);
    return !(number < from - slack) && !(number > to + slack);
  });
}

// Units with one number stay in their order; those without one come last.
async function sorted(listed) {
  const name = field("sort").value, up = field("up").checked;
  if (!name) return up ? listed.reverse() : listed;
  let stored;
  if (scores.has(name)) stored = await whole(name);
  else {
    const known = [...new Set(site.networks.map((each) => each.numbers[name]).filter((each) => each !== null))].sort((a, b) => a - b);
    const ranks = site.networks.map((each) => (each.numbers[name] === null ? MISSING : known.indexOf(each.numbers[name])));
    stored = new Uint16Array(site.count);
    for (const layer of layers) stored.fill(ranks[layer.number], layer.first, layer.first + layer.count);
  }
  const key = (place) => (stored[place] === MISSING ? MISSING : up ? stored[place] : TOP - stored[place]);
  const starts = new Uint32Array(MISSING + 2);
  for (const place of listed) starts[key(place) + 1]++;
  for (let each = 1; each < starts.length; each++) starts[each] += starts[each - 1];
  const order = new Uint32Array(listed.length);
  for (const place of listed) order[starts[key(place)]++] = place;
  return order;
}

// the table

const columnsShown = () => site.columns.filter((each) => shown.has(each.name));
const heads = {};

function head(name, label, title) {
  return (heads[name] ??= (() => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.title = title;
    button.className = "sort";
    button.dataset.name = name;
    button.addEventListener("click", () => {
      const same = field("sort").value === name;
      field("up").checked = same && !field("up").checked;
      field("sort").value = name;
      changed();
    });
    return button;
  })());
}

function link(place) {
  const layer = layerOf(place), unit = column("unit").values[place];
  const element = document.createElement("a");
  element.href = `${layer.folder}/${unit}.html`;
  element.textContent = `${layer.name} : ${unit}`;
  element.tabIndex = -1;
  return element;
}

async function cells(x0, y0, x1, y1) {
  const names = columnsShown(), places = Array.from(rows.slice(y0, y1));
  const visible = names.slice(Math.max(0, x0 - 1), Math.max(0, x1 - 1));
  const numbers = [...new Set(places.map((place) => Math.floor(place / site.piece)))];
  await Promise.all(numbers.flatMap((number) => ["unit", ...visible.map((each) => each.name)].map((name) => piece(name, number))));
  const said = (name) => (place) => {
    const stored = column(name).values[place];
    return stored === MISSING ? NONE : value(name, stored).toFixed(2);
  };
  const models = x0 === 0 ? [places.map((place) => layerOf(place).network.name)] : [];
  const heads = [["model"], ...names.map((each) => [head(each.name, each.label, each.title)])];
  return {
    num_rows: rows.length,
    num_columns: names.length + 1,
    row_headers: places.map((place) => [link(place)]),
    column_headers: heads.slice(x0, x1),
    data: [...models, ...visible.map((each) => places.map(said(each.name)))],
    merge_headers: "none",
    row_height: ROW,
  };
}
table.setDataListener(cells);

// Columns are as wide as their texts turn out to be, so a second pass may have room for more of them.
async function draw() {
  await table.draw({ invalid_viewport: true });
  await table.draw({ invalid_viewport: true });
}

table.addStyleListener(() => {
  const inner = table.querySelector("table");
  inner.setAttribute("aria-rowcount", rows.length + 1);
  for (const cell of inner.querySelectorAll("thead th")) {
    const name = cell.querySelector("button")?.dataset.name;
    if (name && name === field("sort").value) cell.setAttribute("aria-sort", field("up").checked ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
    if (!cell.textContent) cell.textContent = "layer : unit";
  }
  for (const line of inner.querySelectorAll("tbody tr")) {
    const cell = line.querySelector("th");
    const at = cell && table.getMeta(cell)?.y;
    if (at === undefined) continue;
    line.setAttribute("aria-rowindex", at + 2);
    line.classList.toggle("active", at === active);
  }
});

function unitAddress(place) {
  return `${layerOf(place).folder}/${column("unit").values[place]}.html`;
}

table.addEventListener("keydown", async (event) => {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity };
  if (event.target !== table || !rows.length) return;
  if (event.key === "Enter") {
    await piece("unit", Math.floor(rows[active] / site.piece));
    location.href = unitAddress(rows[active]);
  }
  if (!(event.key in steps)) return;
  event.preventDefault();
  active = Math.min(rows.length - 1, Math.max(0, active + steps[event.key]));
  const visible = Math.max(1, Math.floor(table.clientHeight / ROW) - 3), first = Math.floor(table.scrollTop / ROW);
  if (active < first || active > first + visible) await table.scrollToCell(0, Math.max(0, active - (active < first ? 0 : visible)));
  await table.draw();
  await piece("unit", Math.floor(rows[active] / site.piece));
  const layer = layerOf(rows[active]);
  document.getElementById("at").textContent = `row ${active + 1}: layer ${layer.name}, unit ${column("unit").values[rows[active]]}, ${layer.network.name}`;
});

table.addEventListener("click", (event) => {
  const cell = event.target.closest("td, tbody th");
  const at = cell && table.getMeta(cell)?.y;
  if (at === undefined || event.target.closest("a")) return;
  active = at;
  table.draw();
});

// the form, and what the address says of it

function options(name, values, also = []) {
  for (const [said, label] of [...also, ...values]) field(name).add(new Option(label, said));
}

const unique = (values) => [...new Set(values)].map((each) => [each, each]);
options("ladder", unique(site.networks.map((each) => each.ladder)));
options("model", unique(site.networks.map((each) => each.model)));
options("control", unique(site.networks.map((each) => each.control)), [["", "all"]]);
options("basis", unique(site.networks.map((each) => each.basis)));
options("layer", unique(layers.map((each) => each.name)));
options("note", site.notes.slice(1).map((note, index) => [String(index + 1), note]), site.notes.length > 1 ? [["-1", "not missing"]] : []);
const named = site.columns.map((each) => [each.name, each.label]);
const factors = site.factors.map((each) => [each, `${each} of the model`]);
options("score", [...named, ...factors]);
options("sort", [...named, ...factors], [["", "ladder, strength, layer"]]);
for (const name of ["ladder", "basis", "layer"]) field(name).closest("label").hidden = field(name).length < 3;
field("note").closest("label").hidden = site.notes.length < 2;
field("control").value = site.networks.some((each) => each.control === "trained") ? "trained" : "";
const defaults = Object.fromEntries(["control"].map((name) => [name, field(name).value]));

for (const each of site.columns) {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox";
  box.checked = shown.has(each.name);
  box.addEventListener("change", () => {
    if (box.checked) shown.add(each.name);
    else shown.delete(each.name);
    table.resetAutoSize();
    draw();
  });
  label.append(box, ` ${each.label}`);
  label.title = each.title;
  document.getElementById("columns").append(label);
}

const KEPT = ["search", "ladder", "model", "control", "basis", "layer", "note", "score", "from", "to", "sort"];

function changed() {
  const state = new URLSearchParams();
  for (const name of KEPT) if (field(name).value !== (defaults[name] ?? "")) state.set(name, field(name).value);
  if (!field("score").value || (!state.has("from") && !state.has("to"))) state.delete("score");
  if (field("up").checked) state.set("up", "1");
  history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  return select().catch(failed);
}

function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const name of KEPT) field(name).value = state.get(name) ?? defaults[name] ?? "";
  field("up").checked = state.has("up");
  if (!field("score").value) field("score").selectedIndex = 0;
  return select().catch(failed);
}

function failed(wrong) {
  document.getElementById("count").textContent = `The list could not be shown: ${wrong.message}.`;
  console.error(wrong);
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => event.target.closest("#columns") || changed());
form.addEventListener("reset", () => setTimeout(() => (history.replaceState(null, "", location.pathname + location.search), restore())));
addEventListener("hashchange", restore);
restore().then(() => {
  document.documentElement.classList.add("drawn");
  let height = table.clientHeight; // a taller table has room for more rows
  new ResizeObserver(() => table.clientHeight !== height && ((height = table.clientHeight), draw())).observe(table);
});
