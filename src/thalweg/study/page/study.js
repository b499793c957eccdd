"use strict";
// The participants' page. jsPsych runs the screens one after another; the server says which comes next. An answer is
// sent until the server has stored it, and only then is the next trial shown.
(() => {
  const SURE = ["unsure", "fairly sure", "sure"];
  const KEYS = [["1", "2", "3"], ["7", "8", "9"]];
  const NAMES = ["A", "B"];
  const MTURK = ["https://www.mturk.com", "https://workersandbox.mturk.com"];
  const given = new URLSearchParams(location.search);
  const seen = new Set();
  let study = {}, session = "", view = {}, jsPsych = null, over = false;

  const byId = (id) => document.getElementById(id);

  // Elements are built from texts, never from markup: nothing in a stimulus can become part of the page.
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "onclick") element.addEventListener("click", value);
      else if (value !== false && value !== null) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  class Stopped extends Error {}

  async function ask(path, body) {
    for (let turn = 0; ; turn++) {
      try {
        const headers = { "Content-Type": "application/json" };
        if (session) headers.Authorization = `Bearer ${session}`;
        const answer = await fetch(path, {
          method: "POST", headers, body: JSON.stringify(body ?? {}), credentials: "omit", cache: "no-store",
        });
        const told = await answer.json();
        if (answer.ok) {
          byId("notice").textContent = "";
          return told;
        }
        if (answer.status < 500 && answer.status !== 429) throw new Stopped(told.detail);
        byId("notice").textContent = typeof told.detail === "string" ? told.detail : "The server is busy; trying again.";
      } catch (wrong) {
        if (wrong instanceof Stopped) throw wrong;
        byId("notice").textContent = "The connection is lost. Your answers are safe; trying again.";
      }
      await new Promise((done) => setTimeout(done, Math.min(10000, 1000 * 2 ** turn)));
    }
  }

  const externalId = () => given.get("PROLIFIC_PID") || given.get("workerId") || "";

  async function enter() {
    const external = externalId().replace(/[^A-Za-z0-9_-]/g, "").slice(0, 64);
    view = await ask("/api/enter", { link: location.pathname.split("/").pop(), external });
    session = view.session;
    study = view.study;
    document.title = study.title;
    byId("title").textContent = study.title;
  }

  // Which screen comes next.
  function screen() {
    const first = (name) => !seen.has(name) && seen.add(name);
    if (!["practice", "main"].includes(view.phase)) return view.phase;
    if (view.phase === "practice" && view.place === 0 && first(`practice ${view.attempt}`)) {
      if (view.attempt > 1) return "again";
    }
    if (view.phase === "main" && view.place === 0 && first("main") && study.practice) return "begin";
    if (view.pause && first(`pause ${view.position}`)) return "pause";
    return "trial";
  }

  function progress() {
    const counted = view.phase === "practice" || view.phase === "main";
    byId("progress").hidden = !counted;
    byId("leave").hidden = ["finished", "returned", "consent", "stopped"].includes(view.phase);
    if (!counted) return;
    const what = view.phase === "practice" ? "Practice" : "Trial";
    byId("bar-text").textContent = `${what} ${view.place + 1} of ${view.of}`;
    byId("bar").value = view.place / view.of;
  }

  // Pages of text. Each resolves with what its button stands for.
  function page(display, title, parts, buttons) {
    return new Promise((done) => {
      const actions = buttons.map(([label, value, quiet]) =>
        make("button", { type: "button", class: quiet ? "quiet" : false, onclick: () => done(value) }, label));
      const heading = make("h1", { tabindex: "-1" }, title);
      const paragraphs = parts.map((part) => (typeof part === "string" ? make("p", {}, part) : part));
      display.replaceChildren(make("section", { class: "page" }, heading, ...paragraphs,
        ...(actions.length ? [make("p", { class: "actions" }, ...actions)] : [])));
      heading.focus();
    });
  }

  const key = (name) => make("kbd", {}, name);

  function instructions() {
    const text = study.modality !== "image";
    const what = text ? "texts" : "pictures";
    const marked = text ? " What matters is often the end of a text: its last piece is marked." : "";
    return [
      ["What you will see", [
        `On the left you see ${what}, on the right others. Those on the right have something in common that those on the
         left have not.${marked}`.replace(/\s+/g, " "),
        "Sometimes it is plain what they have in common. Sometimes it is hard to see, and sometimes there may be nothing.",
        `Between or below them stand two new ${what}, A and B.`]],
      ["What you are asked", [
        "Which one fits the right examples better, A or B? And how sure are you?",
        make("p", {}, "One press answers both: the buttons below A are for A, those below B for B. Or press a key: ",
          key("1"), " ", key("2"), " ", key("3"), " for A, from unsure to sure, and ", key("7"), " ", key("8"), " ",
          key("9"), " for B."),
        "If you can't tell, guess. There is always one right answer."]],
      ["Before you begin", [
        ...(study.practice ? [`First comes a practice of ${study.practice} trials. After each you are told whether you were
         right. The practice is repeated until all your answers are right.`.replace(/\s+/g, " ")] : []),
        `${study.practice ? "Then come" : "There are"} ${study.trials} trials in which you are not told.`,
        "A few trials are very easy. They show us whether someone pays attention, so please look at each one.",
        "If you close this page or lose the connection, open your link again: you go on where you were."]],
    ];
  }

  const screens = {
    async consent(display) {
      const parts = study.consent.split(/\n\s*\n/);
      const agreed = await page(display, study.title, parts, [["I agree to take part", true], ["I do not agree", false, true]]);
      view = await ask(agreed ? "/api/consent" : "/api/leave");
    },
    async instructions(display) {
      const pages = instructions();
      for (let number = 0; number < pages.length;) {
        const buttons = [[number + 1 < pages.length ? "Next" : study.practice ? "Start the practice" : "Start", 1]];
        if (number) buttons.push(["Back", -1, true]);
        number += await page(display, pages[number][0], pages[number][1], buttons);
      }
      view = await ask("/api/instructed");
    },
    again: (display) => page(display, "Once more", [
      "Not all of the practice was right yet, so it comes again, in another order.",
      "Look at what those on the right have in common, and those on the left have not."], [["Start the practice", 1]]),
    begin: (display) => page(display, "The practice is over", [
      "All of it was right. From here on you are not told what is right."], [["Start", 1]]),
    pause: (display) => page(display, "A break", [
      `You have done ${view.place} of ${view.of} trials. Rest for as long as you like.`], [["Go on", 1]]),
    async finished(display) {
      over = true;
      page(display, "Thank you", ["You have answered all trials. Your completion code is:",
        make("p", {}, make("output", { class: "code" }, view.code)), ...panel(),
        "You can close this page now."], []);
    },
    async returned(display) {
      over = true;
      const returning = given.get("PROLIFIC_PID") ? "return your submission on Prolific"
        : given.get("assignmentId") ? "return the HIT on MTurk" : "";
      page(display, "You have left the study", ["Thank you for your interest.", returning
        ? `Please ${returning}, so that someone else can take your place.`
        : "You can close this page now; there is nothing left to do."], []);
    },
    async stopped(display) {
      over = true;
      if (await page(display, "This did not work", [view.detail], [["Load the page again", 1]])) location.reload();
    },
  };

  // What the panel that a participant came from wants at the end.
  function panel() {
    if (given.get("PROLIFIC_PID")) {
      const target = `https://app.prolific.com/submissions/complete?cc=${encodeURIComponent(view.code)}`;
      return [make("p", {}, make("a", { class: "button", href: target, rel: "noreferrer" }, "Return to Prolific"))];
    }
    const host = URL.canParse(given.get("turkSubmitTo")) ? new URL(given.get("turkSubmitTo")).origin : "";
    if (!given.get("assignmentId") || !MTURK.includes(host)) return [];
    const fields = { assignmentId: given.get("assignmentId"), completionCode: view.code };
    return [make("form", { method: "post", action: `${host}/mturk/externalSubmit` },
      ...Object.entries(fields).map(([name, value]) => make("input", { type: "hidden", name, value })),
      make("button", { type: "submit" }, "Submit to MTurk"))];
  }

  class Page {
    static info = { name: "thalweg-page", version: "1", parameters: {}, data: {} };
    trial(display, trial) {
      progress();
      screens[trial.screen](display).catch(stop).then(() => over || jsPsych.finishTrial({ screen: trial.screen }));
    }
  }
  Page.info.parameters = { screen: { type: jsPsychModule.ParameterType.STRING } };

  // One stimulus: a picture, or a text whose last piece is marked.
  function stimulus(shown, name) {
    if (shown.png !== undefined) {
      const picture = make("img", { alt: name, src: `data:image/png;base64,${shown.png}` });
      picture.addEventListener("load", () => picture.classList.toggle("small", picture.naturalWidth < 100));
      return picture;
    }
    const last = shown.pieces.length - 1;
    return make("p", { class: "window" }, ...shown.pieces.map((piece, index) =>
      index === last ? make("mark", {}, piece) : index ? piece : piece.trimStart()));
  }

  function set(side, title, stimuli) {
    const items = stimuli.map((each, index) => make("li", {}, stimulus(each, `${title}, ${index + 1} of ${stimuli.length}`)));
    return make("section", { class: `set ${side}`, "aria-label": title }, make("h2", {}, title), make("ul", {}, ...items));
  }

  function query(shown, which, choose) {
    const buttons = SURE.map((word, index) => make("button", {
      type: "button", disabled: true, "aria-label": `${NAMES[which]}, ${word}, key ${KEYS[which][index]}`,
      onclick: () => choose(which, index + 1),
    }, make("kbd", { "aria-hidden": "true" }, KEYS[which][index]), word));
    return make("section", { class: "query", "aria-label": NAMES[which] }, make("h2", {}, NAMES[which]),
      stimulus(shown, NAMES[which]), make("div", { class: "choices" }, ...buttons));
  }

  class Choice {
    static info = { name: "thalweg-choice", version: "1", parameters: {}, data: {} };

    trial(display) {
      this.run(display).catch(stop).then((data) => over || jsPsych.finishTrial(data));
    }

    async run(display) {
      progress();
      const trial = view.trial;
      let choose;
      const chosen = new Promise((done) => { choose = (picked, confidence) => done({ picked, confidence }); });
      const heading = make("h1", { tabindex: "-1" }, "Which one fits the right examples better, A or B?");
      const queries = trial.queries.map((each, which) => query(each, which, choose));
      const layout = make("div", { class: trial.queries[0].png === undefined ? "trial text" : "trial" }, heading,
        set("low", "Left examples", trial.low), make("div", { class: "queries" }, ...queries),
        set("high", "Right examples", trial.high), make("div", { class: "feedback" }));
      display.replaceChildren(layout);
      await Promise.all([...layout.querySelectorAll("img")].map((picture) => picture.decode().catch(() => null)));
      heading.focus({ preventScroll: true });
      scrollTo(0, 0);
      const start = performance.now();
      const buttons = [...layout.querySelectorAll(".choices button")];
      const open = setTimeout(() => buttons.forEach((button) => { button.disabled = false; }), 1000 * study.wait);
      const pressed = (event) => {
        const name = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
        const which = KEYS.findIndex((names) => names.includes(name));
        if (which < 0 || event.repeat || event.ctrlKey || event.metaKey || event.altKey || byId("leaving").open) return;
        if (!buttons[0].disabled) choose(which, KEYS[which].indexOf(name) + 1);
      };
      document.addEventListener("keydown", pressed);
      const { picked, confidence } = await chosen;
      const seconds = (performance.now() - start) / 1000;
      document.removeEventListener("keydown", pressed);
      clearTimeout(open);
      buttons.forEach((button, index) => {
        button.disabled = true;
        button.classList.toggle("chosen", index === 3 * picked + confidence - 1);
      });
      const told = await ask("/api/answer", { position: view.position, trial: trial.id, picked, confidence, seconds });
      if (told.feedback) await feedback(layout, queries, told.feedback);
      view = told;
      return { trial: trial.id, picked, confidence, rt: seconds * 1000 };
    }
  }

  function feedback(layout, queries, { correct, right }) {
    queries[right].classList.add("fits");
    const text = correct ? `Right: ${NAMES[right]} fits better.` : `Not right: ${NAMES[right]} fits better.`;
    return new Promise((done) => {
      const button = make("button", { type: "button", onclick: done }, "Go on");
      layout.querySelector(".feedback").replaceChildren(
        make("p", { class: correct ? "yes" : "no", role: "status" }, text), button);
      button.focus();
    });
  }

  function stop(wrong) {
    view = { phase: "stopped", detail: wrong instanceof Stopped ? wrong.message : `The page failed (${wrong.message}).` };
    progress();
    screens.stopped(document.querySelector("#jspsych-content") ?? byId("study"));
  }

  function leaving() {
    const dialog = byId("leaving");
    byId("leave").addEventListener("click", () => dialog.showModal());
    byId("stay").addEventListener("click", () => dialog.close());
    byId("go").addEventListener("click", async () => {
      dialog.close();
      try {
        view = await ask("/api/leave");
        progress();
        screens.returned(document.querySelector("#jspsych-content"));
      } catch (wrong) {
        stop(wrong);
      }
    });
  }

  async function start() {
    if (given.get("assignmentId") === "ASSIGNMENT_ID_NOT_AVAILABLE") {
      page(byId("study"), "A preview", ["Please accept the HIT to take part in this study."], []);
      return;
    }
    await enter();
    leaving();
    jsPsych = initJsPsych({ display_element: "study" });
    let next = "";
    const is = (wanted) => () => { next = screen(); return wanted(next); };
    const pages = { timeline: [{ type: Page, screen: () => next }], conditional_function: is((name) => name !== "trial") };
    const trials = { timeline: [{ type: Choice }], conditional_function: is((name) => name === "trial") };
    await jsPsych.run([{ timeline: [pages, trials], loop_function: () => !over }]);
  }

  start().catch(stop);
})();
