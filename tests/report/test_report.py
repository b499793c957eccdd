"""The report: what it says is what the tables hold, names are text and never markup, and a browser draws all of it."""

import copy
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from support.browser import QUIET, axe_violations, chromium, until
from support.worlds import HOSTILE, KINDS, LOST, NAN, OWN, QUOTED, World
from thalweg import open_run
from thalweg.files.whole import write_frame, write_json
from thalweg.pipeline import descriptions
from thalweg.pipeline.settings import Settings
from thalweg.report import lead, text
from thalweg.report.figures import verdict_note
from thalweg.report.page import render, write_report
from thalweg.report.text import MINUS
from thalweg.runs.run import Run

VALUES = ("score", "difference", "share", "coverage", "reliability", "value")  # what a chart may show


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return World().save(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def small(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The ladder of three rungs, one kind and one seed alone."""
    alone = run.record | {"ladders": {QUOTED: run.record["ladders"][QUOTED]}}
    return altered(run, tmp_path_factory.mktemp("small") / "run", run=alone)


@pytest.fixture(scope="module")
def html(run: Run) -> str:
    return render(run)


@pytest.fixture(scope="module")
def small_html(small: Run) -> str:
    return render(small)


class Reader(HTMLParser):
    """What a browser would see: elements with their attributes, ids, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.said: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.within = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, dict(attributes)))
        self.within = tag

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within in self.raw:
            self.raw[self.within].append(data)
        else:
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())

    def all(self, attribute: str) -> list[str]:
        return [found[attribute] for _, found in self.elements if attribute in found]


def charts(html: str) -> dict[str, dict]:
    """The specifications in a page, by the id of their place."""
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])["charts"]


def rows(chart: dict) -> list[dict]:
    return [row for dataset in chart["datasets"].values() for row in dataset]


def altered(run: Run, path: Path, /, **changes: object) -> Run:
    """A copy of a run with some of its JSON files replaced."""
    shutil.copytree(run.path, path)
    for name, content in changes.items():
        write_json(path / f"{name}.json", content)
    return open_run(path)


# what it says


def test_same_results_same_bytes(small: Run, small_html: str, tmp_path: Path) -> None:
    slower = small.record | {"seconds": {"train": 1.0}, "peak_memory_mib": 1, "device": "cuda"}
    other = copy.deepcopy(small.record)
    other["ladders"][QUOTED]["data_hash"] = "fedcba9876543210"
    assert render(altered(small, tmp_path / "again", run=slower)) == small_html
    assert render(altered(small, tmp_path / "other", run=other)) != small_html


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    page = Reader(html)
    for address in page.all("src") + page.all("href") + page.all("srcset") + page.all("action"):
        assert address.startswith(("#", "data:")), address
    style = "".join(page.raw["style"])
    assert "url(" not in style
    assert "@import" not in style
    assert {tag for tag, _ in page.elements}.isdisjoint({"iframe", "object", "embed", "base", "form"})
    assert len(html.encode()) < 4_000_000


def test_names_are_text(html: str) -> None:
    page = Reader(html)
    assert len(page.raw["script"]) == sum(tag == "script" for tag, _ in page.elements) == 3  # data, library, page
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert {"i", "u", "b", "em", 'h1 "1"'}.isdisjoint(tag for tag, _ in page.elements)
    assert [tag for tag, _ in page.elements].count("h1") == 1
    for name in (
        HOSTILE,
        QUOTED,
        LOST,
        *KINDS,
        OWN,
        "<u>done</u>",
        "because of <b>x</b>",
        "made <em>up</em>",
        '<h1>"1"',
    ):
        assert name in page.text, name
    assert any('"><svg onload=alert(4)>' in alternative for alternative in page.all("alt"))
    assert LOST in json.dumps(charts(html)["ladder-1-twins-1"])  # among the data, it is data


def test_verdicts_are_those_of_the_run(run: Run, html: str) -> None:
    said = Reader(html).text
    assert run.verdict[HOSTILE]["predictable"]["verdict"] == "valley"
    assert run.verdict[QUOTED]["crisp"]["verdict"] == "cannot tell"
    for verdicts in run.verdict.values():
        for one in verdicts.values():
            assert one["sentence"] in said
    assert "a shape needs 4 distinct strengths, and there are 3" in said


def test_twins_stand_where_their_trained_model_stands(html: str) -> None:
    for name in ("curve-1", "axes-3", "observers-1"):
        places: dict[tuple, set] = {}
        for row in rows(charts(html)[f"ladder-1-{name}"]):
            if "control" in row:
                places.setdefault((row["rung"], row["seed"]), set()).add(row["strength"])
        assert len(places) >= 11
        assert all(len(found) == 1 for found in places.values()), name


def test_charts_hold_the_scores_of_the_tables(run: Run, html: str) -> None:
    keep = (pl.col("ladder") == QUOTED) & (pl.col("measure") == "one_sided") & (pl.col("band") == "mean")
    table = run.scores.filter(keep & (pl.col("observer") == "image"))
    there = {(one["rung"], one["control"], one["seed"]): one["score"] for one in table.to_dicts()}
    shown = [row for row in rows(charts(html)["ladder-2-curve-1"]) if "control" in row]
    assert len(shown) == len(there) == 18
    for row in shown:
        control = row["control"]
        assert row["score"] == pytest.approx(there[row["rung"], control, row["seed"]], abs=1e-5)


def test_differences_are_trained_minus_twin(run: Run, html: str) -> None:
    gaps = {(row["rung"], row["control"]): row["difference"] for row in rows(charts(html)["ladder-2-twins-2"]) if row}
    whole = run.scores.filter(
        (pl.col("ladder") == QUOTED) & pl.col("seed").is_null() & (pl.col("measure") == "one_sided")
    ).filter((pl.col("band") == "mean") & (pl.col("observer") == "image"))
    score = {(one["rung"], one["control"]): one["score"] for one in whole.to_dicts()}
    assert len(gaps) == 6
    for (rung, control), gap in gaps.items():
        assert gap == pytest.approx(score[rung, "trained"] - score[rung, control], abs=1e-4)


def test_why_says_what_is_as_predicted_and_that_it_is_no_cause(html: str, small: Run, tmp_path: Path) -> None:
    text = Reader(html).text
    assert "H2: It is <i>so</i>. 1 as predicted, of 1" in text
    assert "It is <i>sparse</i>." in text
    assert "-0.50 (-0.90 to -0.10)".replace("-", MINUS) in text
    assert "They are no causes" in text
    older = altered(small, tmp_path / "older", run={**small.record, "claims": {}})
    assert "They are no causes" not in render(older)


def test_a_rung_without_scores_is_named(html: str) -> None:
    said = Reader(html).text
    assert f"No unit could be measured in {LOST}" in said
    assert "NaN" not in said
    assert re.search(r"\bnan\b", said) is None
    assert "NaN" not in json.dumps(charts(html))


def test_the_sketch_is_named_only_in_a_valley(run: Run, html: str, tmp_path: Path) -> None:
    names = ("simple models", "confused abstractions", "crisp abstractions")
    with_valley = charts(html)
    for name in names:
        assert name in json.dumps(with_valley["ladder-1-curve-1"])
        assert name not in json.dumps(with_valley["ladder-2-curve-1"])
    rising = [one | {"verdict": "increasing"} for one in run.shape]
    without = json.dumps(charts(render(altered(run, tmp_path / "rising", shape=rising))))
    assert not [name for name in names if name in without]


def test_basis_is_called_special_only_above_its_rotation(small: Run, html: str, tmp_path: Path) -> None:
    start = "predictable: neurons stand above their rotation on"
    assert f"{start} 3 of 3 rungs" in Reader(html).text
    other = altered(small, tmp_path / "level")
    level = pl.when(pl.col("control") == "rotated").then(pl.lit(0.0)).otherwise(pl.col("low")).alias("low")
    wide = pl.when(pl.col("control") == "rotated").then(pl.lit(1.0)).otherwise(pl.col("high")).alias("high")
    write_frame(other.path / "scores.parquet", small.scores.with_columns(level, wide))
    said = Reader(render(other)).text
    assert f"{start} 0 of 3 rungs. On 3 they do not: this basis is not special there" in said


def test_a_run_without_gallery_or_verdicts(small: Run, tmp_path: Path) -> None:
    others = [{**one, "headline": "", "measure": "of another kind"} for one in small.shape]
    bare = altered(small, tmp_path / "bare", shape=others)
    write_frame(bare.path / "gallery.parquet", small.gallery.clear())
    write_frame(bare.path / "missing.parquet", small.missing.clear())
    page = Reader(render(bare))
    assert "No curve of this headline was judged." in page.text
    assert "Gallery of units" not in page.text
    assert "Units without a score, by reason: none." in page.text


@pytest.mark.parametrize(
    ("ladders", "settings", "command"),
    [
        (["mnist"], {}, "thalweg survey mnist"),
        (["mnist", "words"], {"data": ["words=a b"]}, "thalweg survey mnist words --data 'words=a b'"),
        (["mnist"], {"quick": True}, "thalweg survey mnist --quick"),
        (["mnist"], {"seeds": 5, "data": ["my digits"]}, "thalweg survey mnist --seeds 5 --data 'my digits'"),
        (
            ["mnist"],
            {"observer": ["hog"], "strength": "compute"},
            "thalweg survey mnist --observer hog --strength compute",
        ),
        (["mnist"], {"capability": True}, "thalweg survey mnist --capability"),
        (["mnist"], {"capability": False}, "thalweg survey mnist --no-capability"),
        (["mine"], {"seed": 4}, "thalweg.survey(<ladder 'mine'>, seed=4)"),
    ],
)
def test_the_command_that_made_it(ladders: list[str], settings: dict, command: str) -> None:
    assert descriptions.command(Settings().affecting() | settings, dict.fromkeys(ladders, ())) == command


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (text.decimal(-0.126), "−0.13"),
        (text.decimal(NAN), "–"),
        (text.decimal(-0.001), "0.00"),
        (text.signed(0.05), "+0.05"),
        (text.signed(-0.05), "−0.05"),
        (text.signed(-0.004), "0.00"),
        (text.percent(0.416), "42 %"),
        (text.big(4045440000), "4.0 × 10⁹"),
        (text.big(950), "950"),
        (text.p_value(0.0004), "< 0.001"),
        (text.p_value(0.0312), "0.031"),
        (text.interval(0.5, 0.42, 0.61), "0.50 (0.42 to 0.61)"),
        (text.interval(NAN, 0.1, 0.2), "–"),
        (text.listing(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_as_people_read_them(said: str, expected: str) -> None:
    assert said == expected


def test_files(small: Run, small_html: str, tmp_path: Path) -> None:
    path = tmp_path / "there" / "report.html"
    assert write_report(small, path) == path
    assert path.read_text(encoding="utf-8") == small_html
    made = sorted(file.name for file in (path.parent / "figures").iterdir())
    names = {
        "curve",
        "twins",
        "bands",
        "matched",
        "observers",
        "axes",
        "capacity",
        "spread",
        "coverage",
        "factors",
        "populations",
        "tic",
        "concepts",
        "edits",
        "goals",
    }  # one kind
    assert made == sorted(f"1-a-b-{name}.{ending}" for name in names for ending in ("png", "svg"))
    for name in names:
        picture = Image.open(path.parent / "figures" / f"1-a-b-{name}.png")
        assert min(picture.size) > 150
        few = picture.convert("RGB").getcolors(20)  # none where there are more
        assert few is None, f"{name} is nearly empty"
        svg = (path.parent / "figures" / f"1-a-b-{name}.svg").read_text(encoding="utf-8")
        assert "var(" not in svg
        assert (
            "#332288" if name in ("tic", "concepts", "edits", "goals") else "#0072B2"
        ) in svg  # colours of series, or those of controls
    assert not list(path.parent.rglob("*.part"))


def test_each_kind_keeps_its_shape(html: str) -> None:
    scales = [
        layer["encoding"]["shape"]["scale"]
        for name, chart in charts(html).items()
        if name.startswith(("ladder-1-curve", "ladder-1-kinds"))
        for layer in chart["layer"]
        if "shape" in layer["encoding"]
    ]
    assert len(scales) >= 6
    assert all(scale == {"domain": list(KINDS), "range": ["circle", "square"]} for scale in scales)


# what a browser makes of it


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def small_file(small_html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the ladder of three rungs: a browser draws its charts in a fraction of the time."""
    path = tmp_path_factory.mktemp("small page") / "report.html"
    path.write_text(small_html, encoding="utf-8")
    return path


def opened(browser, file: Path, *, width: int = 1200, scheme: str = "light"):
    """The page in a window, when all its charts are drawn, with what it complained about."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(("file:", "data:")) else page.complaints.append(asked.url),
    )
    page.goto(file.as_uri(), timeout=120_000)
    page.wait_for_selector("html.drawn", timeout=40_000)
    return page


@pytest.fixture(scope="module")
def page(browser, file: Path):
    return opened(browser, file)


@pytest.fixture(scope="module")
def small_page(browser, small_file: Path):
    return opened(browser, small_file, width=1280)


@pytest.fixture(scope="module")
def dark_page(browser, small_file: Path):
    return opened(browser, small_file, width=1280, scheme="dark")


def test_a_browser_has_nothing_to_complain_about(page) -> None:
    assert page.complaints == []


def test_every_chart_is_drawn(page, html: str) -> None:
    found = page.evaluate(
        """() => [...document.querySelectorAll(".drawing")].map(place => {
            const svg = place.querySelector("svg"), box = svg?.getBoundingClientRect();
            const marks = svg ? svg.querySelectorAll(".mark-symbol path, .mark-rect path, .mark-line path").length : 0;
            return [place.id, box?.width ?? 0, box?.height ?? 0, marks];
        })"""
    )
    made, nothing = {name: chart for name, chart in charts(html).items() if "@" not in name}, 0
    assert sorted(name for name, *_ in found) == sorted(made)
    for name, width, height, marks in found:
        empty = all(row.get(value) is None for row in rows(made[name]) for value in VALUES)
        assert width > 150, name
        assert height > 90, name
        assert marks > 2 or empty, name
        nothing += empty
    assert nothing == 1  # the capacity of the rung without scores
    drawn = page.evaluate("document.querySelectorAll('#ladder-2-curve-1 .mark-symbol path').length")
    assert drawn == 3 * 3 * 2  # three rungs, three controls: a point and one seed's dot each


def test_every_link_leads_somewhere(page) -> None:
    broken = page.evaluate(
        """() => [...document.querySelectorAll("a[href]")].map(a => a.getAttribute("href"))
            .filter(to => !document.getElementById(to.slice(1)))"""
    )
    assert broken == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert page.evaluate("document.querySelectorAll('nav a').length") > 20


def test_pointing_at_a_rung_names_it(page) -> None:
    page.evaluate("document.getElementById('ladder-2-curve-title').closest('details').open = true")
    point = page.locator("#ladder-2-curve-1 .mark-symbol path").last
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown = page.locator("#vg-tooltip-element.visible")
    shown.wait_for(timeout=5000)
    said = shown.inner_text()
    assert f"{QUOTED}2" in said
    for name in ("score", "from", "to", "coverage", "units", "bits", "accuracy"):
        assert re.search(rf"\b{name}\b", said), name
    page.mouse.move(0, 0)


def test_tables_are_sorted_by_number(page) -> None:
    page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
    table = page.locator("#ladder-1-models").locator("xpath=ancestor::details[1]").locator("table").first
    parameters = "th => [...th.parentNode.children].findIndex(one => one.textContent.trim() === 'parameters')"
    column = table.locator("thead th").first.evaluate(parameters)
    for order in (1, -1):
        table.locator("thead th button").nth(column).click()
        values = table.evaluate(
            "(table, column) => [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.key))", column
        )
        assert len(set(values)) > 5
        assert values == sorted(values, reverse=order < 0)


def test_keys_reach_what_scrolls_and_folds(page) -> None:
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    wanted, reached = {"DIV.scroll", "SUMMARY.", "BUTTON.", "A."}, set()
    for _ in range(400):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
        if wanted <= reached:
            break
    assert wanted <= reached


def test_the_first_screen_has_the_picture_the_verdicts_and_a_unit(small_page) -> None:
    page = small_page
    for what in ("#lead-1 svg", "#lead-2 svg", ".verdict >> nth=1", ".evidence >> nth=0", ".example .window >> nth=0"):
        box = page.locator(what).bounding_box()
        assert box["y"] + box["height"] < 800, what
    assert page.locator("main details[open]").count() == 0
    said = page.locator(".says").inner_text()
    assert "Cannot tell from 3 models" in said
    assert "other observers" in said
    assert "above untrained on 3 of 3 rungs" in said


def test_the_first_picture_changes_its_axis(small_page) -> None:
    page = small_page
    titles = {"as measured": "held-out <bits>", "share": "share", "rank": "rank of strength"}
    assert [label.strip() for label in page.locator("#axes label").all_inner_texts()][:3] == list(titles)
    for choice, title in titles.items():
        page.get_by_label(choice, exact=True).check()
        page.locator("#lead-2 .role-axis-title >> text=" + title).wait_for(timeout=5000)
    assert page.locator("#lead-1 .mark-symbol path").count() == 18
    assert page.complaints == []


def test_models_that_lie_on_one_another_are_spread_by_rank() -> None:
    assert lead.crowded([2.3, 2.81, 2.82, 2.83, 3.2])
    assert not lead.crowded([1.0, 2.0, 3.0])
    assert not lead.crowded([])
    assert lead.first_sentence("Falls (p = 0.049). Whether it turns, no one knows.") == "Falls (p = 0.049)."
    long = "Cannot tell: " + "no shape stands out " * 6 + "(p = 1); these models could have shown one 0.24 deep."
    assert lead.first_sentence(long).endswith("(p = 1).")


def test_contents_stay_and_lead_into_what_is_folded(browser, small_file: Path) -> None:
    page = opened(browser, small_file, width=1280)
    page.get_by_role("link", name="Words").click()
    assert page.locator("#words").evaluate("one => one.closest('details').open")
    assert page.get_by_role("link", name="Verdict", exact=True).is_visible()
    box = page.locator("nav.contents").bounding_box()
    assert box["y"] >= 0
    page.set_viewport_size({"width": 390, "height": 844})
    until(page, "!document.querySelector('nav.contents details').open")
    page.locator("nav.contents summary").click()
    page.get_by_role("link", name="Models").first.click()
    assert not page.locator("nav.contents details").evaluate("one => one.open")
    assert axe_violations(page) == []
    page.close()


def test_pictures_and_charts_have_words(page) -> None:
    assert page.evaluate("[...document.images].every(one => one.alt.length > 10 && one.naturalWidth === 4)")
    said = page.evaluate(
        "[...document.querySelectorAll('.chart')].map(one => [one.role ?? one.getAttribute('role'), one.ariaLabel])"
    )
    assert all(role == "img" and len(label) > 15 for role, label in said)
    curve = page.evaluate("document.querySelector('#ladder-1-curve-1').parentNode.ariaLabel")
    assert "trained from" in curve
    assert "A valley" in curve


LUMINANCE = """selector => {
    const rgb = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    const light = colour => { const [r, g, b] = rgb(colour); return .2126 * r + .7152 * g + .0722 * b; };
    const one = document.querySelector(selector), style = getComputedStyle(one);
    const svg = one instanceof SVGElement;
    const paint = svg ? style.fill : style.color;
    const pair = [light(paint), light(getComputedStyle(document.body).backgroundColor)].sort();
    return (pair[1] + .05) / (pair[0] + .05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(request: pytest.FixtureRequest, scheme: str) -> None:
    page = request.getfixturevalue({"light": "small_page", "dark": "dark_page"}[scheme])
    bright = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert bright == (scheme == "light")
    for words in ("p", ".fine", "a[href]", "figcaption", "#ladder-1-curve-1 .mark-text text"):
        assert page.evaluate(LUMINANCE, words) > 4.5, words
    for marks in ("trained", "untrained", "rotated"):
        assert page.evaluate(LUMINANCE, f".symbol.{marks}") > 3, marks
    assert page.complaints == []


def test_a_phone_shows_it_without_scrolling_sideways(browser, file: Path) -> None:
    page = opened(browser, file, width=360)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate(
        "[...document.querySelectorAll('.drawing svg')].filter(one => one.getBoundingClientRect().right > 361).length"
    )
    assert wide == 0
    assert page.complaints == []
    page.close()


def test_paper_shows_all_of_it(dark_page) -> None:
    page = dark_page
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('main details[open]').length") == 0  # closed again afterwards
    page.emulate_media(media="print")
    page.evaluate("document.body.style.width = '680px'")  # a sheet's width, which no resize event tells
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 27, 27)"
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".drawing svg")].filter(svg =>
            svg.getBoundingClientRect().right > svg.closest(".panel").getBoundingClientRect().right + 1).length"""
    )
    assert cut == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0


def test_without_scripts_tables_and_pictures_are_there(browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri(), timeout=120_000)
    assert "The charts need JavaScript" in page.inner_text("body")
    assert page.locator("table tbody tr").count() > 50
    context.close()


def test_the_report_of_one_model_shows_its_layers_and_no_verdict(tmp_path):
    page = render(World.of_one_model().save(tmp_path))
    assert "How interpretable are the units of net&lt;1&gt;?" in page
    assert "Layer by layer" in page
    assert '"blocks.1.<mlp>"' not in page.replace("\\u003c", "<").split("<script")[0]  # only as a chart's data
    assert "Verdicts on the headlines" not in page
    assert "Interpretability against strength" not in page
    assert re.search(r"0\.\d\d \(0\.\d\d to 0\.\d\d\), the mean over layers", page)
    assert "Its twins: untrained 0.55" in page


def test_a_chart_says_where_its_verdict_rests_on_single_models():
    verdict = {"verdict": "increasing", "changes_without": {}}
    assert verdict_note(verdict) == "verdict: increasing"
    resting = verdict | {"changes_without": {"wide": "cannot tell"}}
    assert verdict_note(resting) == "verdict: increasing (rests on single models)"
    assert verdict_note(resting | {"verdict": "cannot tell"}) == "verdict: cannot tell"
    assert verdict_note(None) == "no verdict"
