"""The pages of a study in a real browser: by keyboard alone, on wide and narrow screens, without a network at times."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import axe_playwright_python
import polars as pl
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from support.browser import QUIET, chromium
from support.studies import go_through, right, study_in
from thalweg.files.whole import read_json, write_frame, write_json
from thalweg.study import export
from thalweg.study.app import make_app
from thalweg.study.design import Study, open_study
from thalweg.study.serving import Links, address_of, bound, in_background
from thalweg.study.session import Sessions
from thalweg.study.store import Store, open_store

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
KEYS = ("123", "789")
FRAMED = "--disable-features=LocalNetworkAccessChecks"  # a page of the web may show one of this machine
OPEN = ".choices button:not(:disabled)"
NASTY = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*QUIET, FRAMED])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_in(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same study as if its stimuli were texts, with markup in them."""
    study = study_in(tmp_path_factory.mktemp("texts"))
    stimuli = pl.read_parquet(study.path / "stimuli.parquet")
    pieces = [[f" a text {number} with ", NASTY, " at its", " end"] for number in range(len(stimuli))]
    none = pl.lit(None, pl.Binary)
    write_frame(study.path / "stimuli.parquet", stimuli.with_columns(pl.Series("pieces", pieces), none.alias("png")))
    write_json(study.path / "study.json", {**read_json(study.path / "study.json"), "modality": "text"})
    return open_study(study.path)


class Served:
    """A study that is served, and its database."""

    def __init__(self, study: Study, store: Store, address: str) -> None:
        self.study, self.store = study, store
        self.links = Links(address, study)

    def answers(self, participant: str) -> pl.DataFrame:
        return export.tables(self.study, self.store)[1].filter(external=participant).sort("position")


def served(study: Study) -> Iterator[Served]:
    store, sock = open_store(study), bound("127.0.0.1", 0)
    with in_background(make_app(study, store, flood=0), sock):
        yield Served(study, store, address_of(sock))
    store.close()


@pytest.fixture(scope="module")
def shown_pictures(pictures: Study) -> Iterator[Served]:
    yield from served(pictures)


@pytest.fixture(scope="module")
def shown_texts(texts: Study) -> Iterator[Served]:
    yield from served(texts)


class Reader:
    """A page, what it complains of, and what its server told it."""

    def __init__(self, browser: Browser, width: int, height: int, **settings: Any) -> None:
        self.context: BrowserContext = browser.new_context(viewport={"width": width, "height": height}, **settings)
        self.page: Page = self.context.new_page()
        self.page.clock.install()
        self.view: dict[str, Any] = {}
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda wrong: self.complaints.append(str(wrong)))
        self.page.on("response", self._heard)

    def _heard(self, response: Any) -> None:
        if "/api/" in response.url and response.ok:
            self.view = response.json()

    def open(self, link: str) -> None:
        self.page.goto(link)
        self.page.wait_for_selector("h1")

    def trial(self) -> None:
        """Wait for a trial, and until it can be answered; of its time none is waited for."""
        self.page.wait_for_selector(".trial:has(.choices button:disabled):not(:has(.chosen))")
        self.page.locator(".trial h1:focus").wait_for()
        self.page.clock.run_for(1600)
        self.page.wait_for_selector(OPEN)

    def problems(self) -> list[str]:
        """What axe finds, and whether the page is wider than the window."""
        self.page.evaluate(AXE)
        found = self.page.evaluate("axe.run()")["violations"]
        wide = self.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found] + ["too wide"] * wide

    def press(self, name: str) -> None:
        """Find a button by its name with the Tab key alone, and press it."""
        for _ in range(12):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement.textContent") == name:
                self.page.keyboard.press("Enter")
                return
        raise AssertionError(f"no button {name!r} is reached by the Tab key")


def test_someone_takes_part_by_keyboard_alone(shown_pictures: Served, browser: Browser):
    """From consent to code; axe finds nothing on any screen, and the policy stops nothing of the page's own."""
    reader = Reader(browser, 1280, 800)
    page = reader.page
    reader.open(shown_pictures.links.person("keys"))
    assert page.evaluate("document.activeElement.tagName") == "H1"
    assert reader.problems() == []
    reader.press("I agree to take part")
    for name in ("Next", "Next", "Start the practice"):
        page.wait_for_selector(f"text={name}")
        assert reader.problems() == []
        reader.press(name)
    page.wait_for_selector(".trial")
    seen, pressed = set(), []
    while True:
        page.wait_for_selector(".page h1, .trial h1")
        if page.locator(".page").count():
            title = page.locator("h1").inner_text()
            seen.add(title)
            assert reader.problems() == []
            if title == "Thank you":
                break
            reader.press(page.locator(".page .actions button").first.inner_text())
            page.wait_for_selector(".trial")
            continue
        reader.trial()
        view = reader.view
        item = shown_pictures.study.items[view["trial"]["id"]]
        picked = item.correct if pressed else 1 - item.correct  # the first one is wrong
        key = KEYS[picked][len(pressed) % 3]
        with page.expect_response("**/api/answer"):
            page.keyboard.press(f"Digit{key}")
        pressed.append((item.trial, picked, 1 + len(pressed) % 3))
        if view["phase"] == "practice":
            page.wait_for_selector(".feedback button:focus")
            assert reader.problems() == []
            page.keyboard.press("Enter")
            page.wait_for_selector(".feedback button", state="detached")
        else:
            page.wait_for_selector(".trial:not(:has(.chosen)), .page")
    assert seen == {"Once more", "The practice is over", "A break", "Thank you"}
    answers = shown_pictures.answers("keys")
    assert answers["trial", "picked", "confidence"].rows() == pressed
    assert page.locator(".code").inner_text() == reader.view["code"]
    assert reader.complaints == []
    reader.context.close()


@pytest.mark.parametrize("modality", ["pictures", "texts"])
def test_a_narrow_screen_shows_all_of_a_trial(
    shown_pictures: Served, shown_texts: Served, browser: Browser, modality: str
):
    shown = shown_pictures if modality == "pictures" else shown_texts
    reader = Reader(browser, 320, 640, color_scheme="dark", reduced_motion="reduce")
    go_through(Sessions(shown.study, shown.store), "narrow", right, most=4)
    reader.open(shown.links.person("narrow"))
    reader.trial()
    for width, height in ((320, 640), (640, 400)):  # 640: 1280 at 200 %
        reader.page.set_viewport_size({"width": width, "height": height})
        assert reader.problems() == []
        for each in reader.page.locator("img, .window, .choices button").all():
            box = each.bounding_box()
            assert box is not None
            assert box["width"] > 20
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    assert reader.complaints == []
    reader.context.close()


def test_markup_in_a_text_stays_text_and_its_last_token_is_marked(shown_texts: Served, browser: Browser):
    reader = Reader(browser, 1280, 800)
    go_through(Sessions(shown_texts.study, shown_texts.store), "nasty", right, most=3)
    reader.open(shown_texts.links.person("nasty"))
    reader.press("Start")
    reader.trial()
    windows = reader.page.locator(".window")
    assert windows.count() == 20
    assert all(NASTY in text and text.startswith("a text") for text in windows.all_inner_texts())
    assert set(reader.page.locator(".window mark").all_text_contents()) == {" end"}
    assert reader.page.locator("#study img, #study script").count() == 0
    assert reader.page.title() == "Which example fits better?"
    assert reader.complaints == []
    reader.context.close()


def test_a_reload_and_a_lost_network_resume_at_the_same_trial(shown_pictures: Served, browser: Browser):
    reader = Reader(browser, 1280, 800)
    page = reader.page
    go_through(Sessions(shown_pictures.study, shown_pictures.store), "resumes", right, most=5)
    reader.open(shown_pictures.links.person("resumes"))
    reader.trial()
    first = reader.view["trial"]["id"]
    page.reload()
    page.wait_for_selector(".trial")
    reader.trial()
    assert reader.view["trial"]["id"] == first
    reader.context.set_offline(True)
    page.locator(OPEN).nth(1).click()
    page.wait_for_selector("#notice:has-text('Your answers are safe')")
    assert len(shown_pictures.answers("resumes")) == 5
    reader.context.set_offline(False)
    with page.expect_response("**/api/answer"):
        page.clock.run_for(12_000)
    page.wait_for_selector(".trial:not(:has(.chosen)), .page")
    assert page.locator("#notice").inner_text() == ""
    stored = shown_pictures.answers("resumes").row(5, named=True)
    assert (stored["trial"], stored["picked"], stored["confidence"]) == (first, 0, 2)
    older = reader.page
    newer = reader.context.new_page()
    newer.goto(shown_pictures.links.person("resumes"))
    newer.wait_for_selector(".trial, .page")
    if older.locator(".page .actions button").count():
        older.locator(".page .actions button").first.click()
    reader.trial()
    older.keyboard.press("Digit1")
    older.wait_for_selector("text=This did not work")
    assert "opened again in another window" in older.locator("main").inner_text()
    reader.context.close()


def test_leaving_asks_first_and_is_for_good(shown_pictures: Served, browser: Browser):
    reader = Reader(browser, 1280, 800)
    go_through(Sessions(shown_pictures.study, shown_pictures.store), "leaves", right, most=1)
    reader.open(shown_pictures.links.person("leaves"))
    for answer, after in (("Stay", ".trial"), ("Leave", "text=You have left the study")):
        reader.page.get_by_role("button", name="Leave the study").click()
        assert reader.problems() == []
        reader.page.locator("dialog button", has_text=re.compile(f"^{answer}$")).click()
        reader.page.wait_for_selector(after)
    reader.page.reload()
    reader.page.wait_for_selector("text=You have left the study")
    reader.context.close()


def test_prolific_gets_its_participants_back(shown_pictures: Served, browser: Browser):
    reader = Reader(browser, 1280, 800)
    go_through(Sessions(shown_pictures.study, shown_pictures.store), "5f2a9c", right, source="prolific")
    returned: list[str] = []

    def prolific(route: Route) -> None:
        returned.append(route.request.url)
        route.fulfill(body="thank you")

    reader.context.route("https://app.prolific.com/**", prolific)
    template = shown_pictures.links.prolific
    filled = [("{{%PROLIFIC_PID%}}", "5f2a9c"), ("{{%STUDY_ID%}}", "s"), ("{{%SESSION_ID%}}", "t")]
    for place, value in filled:
        template = template.replace(place, value)
    assert template.endswith("?PROLIFIC_PID=5f2a9c&STUDY_ID=s&SESSION_ID=t")
    reader.open(template)
    reader.page.get_by_role("link", name="Return to Prolific").click()
    reader.page.wait_for_selector("text=thank you")
    assert returned == [f"https://app.prolific.com/submissions/complete?cc={reader.view['code']}"]
    reader.context.close()


def test_mturk_frames_the_page_and_gets_the_code(shown_pictures: Served, browser: Browser):
    """MTurk's side as it is documented: a frame at its worker's site, four parameters, a form that is posted back."""
    sessions = Sessions(shown_pictures.study, shown_pictures.store)
    reader, page = (made := Reader(browser, 1280, 800)), made.page
    submitted: list[tuple[str, str | None]] = []
    asked: dict[str, str] = {}

    def worker_site(route: Route) -> None:
        query = urlencode({"assignmentId": "3X", "hitId": "H", **asked})
        route.fulfill(content_type="text/html", body=f'<iframe src="{shown_pictures.links.mturk}?{query}"></iframe>')

    def submit(route: Route) -> None:
        submitted.append((route.request.method, route.request.post_data))
        route.fulfill(body="submitted")

    reader.context.route("https://worker.mturk.com/**", worker_site)
    reader.context.route("**/mturk/externalSubmit", submit)
    inner = page.frame_locator("iframe")
    for worker, host in (("A1", "https://www.mturk.com/"), ("A2", "https://workersandbox.mturk.com")):
        go_through(sessions, worker, right, source="mturk")
        asked |= {"workerId": worker, "turkSubmitTo": host}
        page.goto("https://worker.mturk.com/projects/P/tasks/T")
        inner.get_by_role("button", name="Submit to MTurk").click()
        inner.get_by_text("submitted").wait_for()
        assert submitted.pop() == ("POST", f"assignmentId=3X&completionCode={reader.view['code']}")
    asked["turkSubmitTo"] = "https://evil.example"
    page.goto("https://worker.mturk.com/projects/P/tasks/T")
    inner.locator("h1").wait_for()
    assert inner.locator("form").count() == 0
    reader.open(f"{shown_pictures.links.mturk}?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE")
    assert "accept the HIT" in page.locator("main").inner_text()
    reader.context.close()


@pytest.mark.parametrize(
    ("parameter", "told"),
    [("PROLIFIC_PID=back", "return your submission"), ("workerId=back&assignmentId=3X", "the HIT")],
)
def test_whoever_leaves_is_told_what_the_panel_wants(
    shown_pictures: Served, browser: Browser, parameter: str, told: str
):
    reader = Reader(browser, 390, 800)
    link = shown_pictures.links.prolific if "PROLIFIC" in parameter else shown_pictures.links.mturk
    reader.open(f"{link.partition('?')[0]}?{parameter}")
    reader.press("I do not agree")
    reader.page.wait_for_selector("text=You have left the study")
    assert told in reader.page.locator("main").inner_text()
    reader.context.close()


@pytest.mark.parametrize("width", [1280, 320])
def test_the_experimenter_watches_pauses_and_opens(shown_pictures: Served, browser: Browser, width: int):
    reader = Reader(browser, width, 800)
    page = reader.page
    page.goto(f"{shown_pictures.links.address}/experimenter")
    page.get_by_label("The experimenter's token").fill("guessed")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=This token is not right.")
    assert reader.problems() == []
    reader.complaints.clear()  # the browser notes the refusal
    page.goto("about:blank")
    page.goto(shown_pictures.links.experimenter)
    page.wait_for_selector(".card")
    assert reader.problems() == []
    page.get_by_role("button", name="Pause").click()
    page.wait_for_selector("text=nobody new is let in")
    assert shown_pictures.store.state() == "paused"
    page.get_by_role("button", name="Open").click()
    page.wait_for_selector("text=new participants are let in")
    assert shown_pictures.store.state() == "open"
    assert reader.complaints == []
    reader.context.close()
