"use strict";
// The experimenter's page: the token stands after the # of the address, which no server and no log ever sees.
(() => {
  const EVERY = 5000; // milliseconds between two looks
  const STATES = { open: "Open: new participants are let in.", paused: "Paused: nobody new is let in; who has begun goes on.",
    closed: "Closed: nobody can answer any more." };
  const ACTIONS = { open: "Open", paused: "Pause", closed: "Close" };
  let token = location.hash.slice(1);

  const byId = (id) => document.getElementById(id);

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  async function ask(path, body) {
    const headers = { Authorization: `Bearer ${token}` };
    const options = { headers, credentials: "omit", cache: "no-store" };
    if (body) {
      Object.assign(options, { method: "POST", body: JSON.stringify(body) });
      headers["Content-Type"] = "application/json";
    }
    const answer = await fetch(path, options);
    const told = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(told.detail), { status: answer.status });
    return told;
  }

  const share = (value) => (value === null ? "none yet" : `${Math.round(100 * value)} %`);
  const counted = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;
  const number = (value, digits = 0) => value.toFixed(digits);
  const quartiles = (values, unit) => (values.length
    ? `${number(values[1], 1)} ${unit}; half of them between ${number(values[0], 1)} and ${number(values[2], 1)}` : "none yet");

  function card(title, ...parts) {
    const paragraphs = parts.map((part) => (typeof part === "string" ? make("p", {}, part) : part));
    return make("section", { class: "card", "aria-label": title }, make("h2", {}, title), ...paragraphs);
  }

  function bars(heights, says) {
    const most = Math.max(1, ...heights);
    const row = make("div", { class: "bars", role: "img", "aria-label": says });
    for (const height of heights) {
      const bar = make("span");
      bar.style.height = `${(100 * height) / most}%`;
      row.append(bar);
    }
    return row;
  }

  function stateCard(told) {
    const buttons = Object.entries(ACTIONS).filter(([name]) => name !== told.state).map(([name, label]) =>
      make("button", { type: "button", class: name === "closed" ? "quiet" : false, onclick: () => change(name) }, label));
    return card("State", STATES[told.state], make("p", { class: "actions" }, ...buttons));
  }

  async function change(state) {
    if (state === "closed" && !confirm("Close the study? Nobody can answer any more until it is opened again.")) return;
    try {
      show(await ask("/api/state", { state }));
    } catch (wrong) {
      byId("notice").textContent = wrong.message;
    }
  }

  function people(told) {
    const { started, finished, left, returned, dropout, left_in: leftIn } = told.people;
    const places = Object.entries(leftIn).map(([phase, count]) => `${count} in ${phase}`).join(", ");
    return card("Participants", make("p", { class: "big" }, `${finished} of ${told.planned} finished`),
      `${started} at work, ${left} have left${places ? ` (${places})` : ""}, ${returned} returned it.`,
      `Dropout: ${share(dropout)}.`);
  }

  function attention(told) {
    const { n, right, participants, below, rule } = told.catch;
    const attempts = Object.entries(told.attempts).map(([attempt, count]) => `${count} at attempt ${attempt}`).join(", ");
    return card("Attention", make("p", { class: "big" }, `${share(right)} of catch trials right`),
      `${counted(n, "catch trial")} of ${counted(participants, "participant")}; ${below} below the rule of ${share(rule)}.`,
      `Practice: ${attempts || "none yet"}.`);
  }

  const time = (told) => card("Time", make("p", { class: "big" }, `${told.seconds.length ? number(told.seconds[1], 1) : "–"} s per trial`),
    `A main trial takes ${quartiles(told.seconds, "s")}.`, `The whole takes ${quartiles(told.minutes, "min")}.`);

  function latest(told) {
    const total = told.latest.reduce((sum, count) => sum + count, 0);
    return card("Responses of the last 30 minutes", bars(told.latest, `${total} responses in the last 30 minutes`),
      `${total} in all, ${told.latest.at(-1)} in the last minute.`);
  }

  function units(told) {
    const { responses, wanted, models, histogram } = told.units;
    const heads = ["model", "units", "least", "mean", "most"].map((name, index) =>
      make("th", { scope: "col", class: index ? "number" : false }, name));
    const rows = models.map((model) => make("tr", {}, make("th", { scope: "row" }, model.name),
      ...[model.units, model.least, number(model.mean, 1), model.most].map((value) => make("td", {}, `${value}`))));
    const table = make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Responses of each model" },
      make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
    const most = Math.max(...histogram.map(([count]) => count));
    const counts = Array.from({ length: most + 1 }, (_, count) => Object.fromEntries(histogram)[count] ?? 0);
    const section = card("Responses per unit", `${counted(responses, "response")} to main trials; ${number(wanted, 1)} per unit are planned.`,
      bars(counts, `units by the number of their responses, from 0 to ${most}`), `Units with 0 to ${most} responses.`, table);
    section.classList.add("wide");
    return section;
  }

  function show(told) {
    document.title = `${told.name}: experimenter`;
    byId("updated").textContent = `As of ${new Date().toLocaleTimeString()}`;
    byId("notice").textContent = "";
    const focused = document.activeElement?.textContent;
    byId("board").replaceChildren(make("h1", {}, told.name), make("div", { class: "cards" }, stateCard(told), people(told),
      attention(told), time(told), latest(told), units(told)));
    if (focused) [...document.querySelectorAll("button")].find((each) => each.textContent === focused)?.focus();
  }

  function askForToken(why) {
    const field = make("input", { id: "token", type: "password", autocomplete: "off", required: true });
    const form = make("form", { onsubmit: (event) => {
      event.preventDefault();
      token = field.value.trim();
      look();
    } }, make("p", {}, make("label", { for: "token" }, "The experimenter's token"), make("br"), field),
    make("p", {}, make("button", { type: "submit" }, "Show the study")));
    byId("board").replaceChildren(make("h1", {}, "Experimenter"), make("p", {}, why), form);
    field.focus();
  }

  async function look() {
    try {
      show(await ask("/api/overview"));
    } catch (wrong) {
      if (wrong.status === 401) return askForToken(token ? "This token is not right." : "It was printed when the server started.");
      byId("notice").textContent = wrong.status ? wrong.message : "The server cannot be reached; trying again.";
    }
    setTimeout(look, EVERY);
  }

  if (token) look();
  else askForToken("It was printed when the server started.");
})();
