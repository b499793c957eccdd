"""A page for every unit: what it says is what the run says, names are text, and a browser finds its way."""

import base64
import json
import re
import shutil
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import polars as pl
import pytest

import thalweg
from support.browser import QUIET, axe_violations, chromium, until
from support.examples import run_example
from support.surveys import OBSERVER
from support.tiny import corners, short_ladder
from thalweg.errors import ThalwegError
from thalweg.explore import columns
from thalweg.explore.serving import server_of
from thalweg.explore.site import Site, site_of, where_stimuli_lie

HOSTILE = "<script>alert(1)</script>"
RUNG = 'conv "2" <b>&amp;'


def hostile(data: Path | None, seed: int) -> thalweg.Splits:
    splits = corners(data, seed)
    names = ("nw", HOSTILE, "sw' onload=alert(2)", "se")
    return thalweg.Splits(
        *(replace(part, label_names=names) for part in (splits.train, splits.validation, splits.pool))
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    """A run of two rungs and their twins, by an observer that ships and by one that can't be asked again."""
    folder = tmp_path_factory.mktemp("explore")
    dense, conv = short_ladder().rungs
    ladder = replace(short_ladder(), rungs=(dense, replace(conv, name=RUNG)), splits=hostile)
    given = {"seeds": 1, "workers": 1, "resamples": 100, "cache": folder / "cache", "device": "cpu"}
    thalweg.survey(ladder, out=folder / "run", observer=["hog", OBSERVER], **given)
    return thalweg.open_run(folder / "run", ladder)


@pytest.fixture(scope="module")
def site(run: thalweg.Run) -> Site:
    return site_of(run, cache=run.path.parent / "cache")


@pytest.fixture(scope="module")
def index(run: thalweg.Run) -> Path:
    return thalweg.write_unit_pages(run, run.path.parent / "site", cache=run.path.parent / "cache")


def test_every_unit_has_a_page_and_its_address_lasts(run: thalweg.Run, site: Site, index: Path):
    units = run.units.select("ladder", "rung", "seed", "control", "layer", "unit").unique()
    pages = sorted(path.relative_to(index.parent).as_posix() for path in (index.parent / "units").rglob("*.html"))
    assert len(pages) == len(units) == site.catalogue.count == 6 * 3
    assert "units/tiny/dense-4/0/trained/1/3.html" in pages
    for address in pages:
        network, layer, unit = site.catalogue.find(address)
        assert network.address(layer, unit) == address
    assert site.catalogue.find("units/tiny/dense-4/0/trained/1/4.html") is None
    assert site.catalogue.find("units/tiny/dense-4/0/trained/1/03.html") is None
    assert [network.rung for network in site.catalogue.networks[::3]] == thalweg_order(run)


def thalweg_order(run: thalweg.Run) -> list[str]:
    trained = run.models.filter(control="trained").sort("bits")
    return trained["rung"].to_list()


def decoded(script: bytes, kind: str = "<u2") -> np.ndarray:
    return np.frombuffer(base64.b64decode(re.search(rb'"([A-Za-z0-9+/=]*)"\)', script)[1]), kind)


def test_pieces_hold_the_scores_of_the_table(run: thalweg.Run, site: Site):
    manifest = json.loads(site.content("data/manifest.js").decode().removeprefix("window.thalwegSite=").rstrip(";\n"))
    said = {column["label"]: column for column in manifest["columns"]}
    assert list(said)[:2] == ["predictable", "crisp"]
    assert [label for label, column in said.items() if column["shown"]] == ["predictable", "crisp"]
    units = decoded(site.content("data/unit/0.js"), "<u4")
    for label, measure, observer in (
        ("predictable", "one_sided", "hog"),
        ("crisp by corners", "one_sided_single", "corners"),
    ):
        column = said[label]
        stored = decoded(site.content(f"data/{column['name']}/0.js"))
        table = run.units.filter(measure=measure, observer=observer, band="mean", exchanged=False)
        for network in manifest["networks"]:
            own = table.filter(rung=network["rung"], control=network["control"])
            for layer in network["layers"]:
                part = slice(layer["first"], layer["first"] + layer["count"])
                known = dict(zip(own["unit"], own["value"], strict=True))
                expected = np.array([known[unit] for unit in units[part].tolist()])
                shown = np.where(stored[part] == 65535, np.nan, stored[part] / 65534)
                np.testing.assert_allclose(shown, expected, atol=1e-5)
    assert site.content("data/unit/1.js") is None
    assert site.content("data/nothing/0.js") is None


def test_a_piece_is_all_that_a_reader_of_many_units_loads():
    column = columns.Column("x", "x", "", 0.0, 1.0, np.arange(100_000).astype(np.uint16))
    assert columns.pieces(100_000) == 13
    assert len(column.piece(0)) < 25_000
    whole = np.concatenate([decoded(column.piece(number).encode()) for number in range(13)])
    assert (whole == column.stored).all()


def test_trials_that_observers_got_wrong_are_those_of_the_scores(run: thalweg.Run, site: Site):
    """The share of wrong pairs in each band is what the table of units says, and what is shown is wrong."""
    network = next(each for each in site.catalogue.networks if each.control == "trained")
    layer = network.layers[0].name
    pages = site.pages
    units = network.layers[0].numbers.tolist()
    from thalweg.explore.observing import observe
    from thalweg.explore.page import is_upper
    from thalweg.runs.recordings import read_some

    recorded = read_some(pages.recordings(network), layer, range(len(units)))
    rows = [pages.scores.of(network, layer, unit) for unit in units]
    trials, observed = observe(pages.watchers[network.ladder], recorded, [is_upper(each) for each in rows])
    counted = 0
    for unit, own in enumerate(rows):
        for wrong in observed[unit].wrong:
            measure = "one_sided" if "whole" in wrong.manner else "one_sided_single"
            table = {row["band"]: row for row in own if (row["measure"], row["observer"]) == (measure, wrong.observer)}
            for band, (missed, asked) in wrong.by_band.items():
                if asked >= 10:
                    assert 1 - missed / asked == pytest.approx(table[band]["value"], abs=1e-5)
                    counted += 1
            for trial in wrong.trials:
                queries = trials.queries[trial.band]
                assert trial.driving in queries.high[unit].tolist()
                assert trial.typical in queries.low[unit].tolist()
    assert counted > 10


def test_a_score_says_where_it_stands_in_its_layer(run: thalweg.Run, site: Site, index: Path):
    table = run.units.filter(rung="dense-4", control="trained", measure="one_sided", observer="corners", band="mean")
    values = {row["unit"]: row["value"] for row in table.filter(exchanged=False).iter_rows(named=True)}
    for unit, value in values.items():
        page = (index.parent / f"units/tiny/dense-4/0/trained/1/{unit}.html").read_text()
        line = re.search(r'<th scope="row">corners</th><td[^>]*>(.*?)</td>', page)[1]
        known = [each for each in values.values() if not np.isnan(each)]
        if np.isnan(value):
            assert "above" not in line
        else:
            below = sum(each < value for each in known) + sum(each == value for each in known) / 2
            assert f"above {100 * below / len(known):.0f} % of its layer" in line


def test_chosen_features_are_named_and_come_from_the_references_alone(site: Site, index: Path):
    page = (index.parent / "units/tiny/dense-4/0/trained/1/0.html").read_text()
    assert re.search(r"(more|less): gradients at \d+° in row \d, column \d of four by four cells", page)
    assert "corners could not be asked again: no observer is called" in page


def test_names_are_text_and_nothing_comes_from_elsewhere(index: Path):
    for page in [index, *(index.parent / "units").rglob("*.html")]:
        text = page.read_text()
        assert HOSTILE not in text
        assert 'onload=alert(2)"' not in text.replace("&#39;", "'") or "sw&#39; onload" in text
        scripts = re.findall(r"<script[^>]*>", text)
        assert all(re.fullmatch(r'<script src="[./]*[\w./-]+">', each) for each in scripts)
        for address in re.findall(r'(?:src|href)="([^"]*)"', text):
            assert not re.match(r"\w+:|//", address.removeprefix("data:,")), address
        assert len(text) < 150_000
    labelled = (index.parent / "units/tiny/dense-4/0/trained/1/0.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in labelled


def test_every_file_that_a_page_names_is_there(index: Path):
    missing = [
        (page.name, address)
        for page in (index.parent / "units").rglob("*.html")
        for address in re.findall(r'(?:src|href)="([^"#]+)"', page.read_text())
        if not address.startswith("data:") and not (page.parent / address).resolve().is_file()
    ]
    assert missing == []


def test_bad_requests(run: thalweg.Run, tmp_path: Path):
    with pytest.raises(ThalwegError, match="no rung of this run is called 'dense-5'; did you mean 'dense-4'"):
        site_of(run, rung=["dense-5"])
    with pytest.raises(ThalwegError, match="no ladder of this run is called 'large'"):
        site_of(run, data={"large": "x"})
    (tmp_path / "file").write_text("")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_text("")
    with pytest.raises(ThalwegError, match="this folder holds other things than pages; choose another --out"):
        thalweg.write_unit_pages(run, tmp_path / "pictures")
    with pytest.raises(ThalwegError, match="this is a file; name a folder with --out"):
        thalweg.write_unit_pages(run, tmp_path / "file")
    assert where_stimuli_lie(run, ["a/b=c"]) == {"tiny": "a/b=c"}
    assert where_stimuli_lie(run, ["tiny=c"]) == {"tiny": "c"}
    broken = tmp_path / "run"
    shutil.copytree(run.path, broken)
    emptied = tmp_path / "emptied"
    shutil.copytree(run.path, emptied)
    for file in (emptied / "units").iterdir():
        pl.read_parquet(file).clear().write_parquet(file)
    with pytest.raises(ThalwegError, match=r"units: damaged or truncated \(there are no units in it"):
        site_of(thalweg.open_run(emptied, run.given["tiny"]), cache=run.path.parent / "cache")
    for file in (broken / "recordings").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ThalwegError, match="damaged or truncated"):
        thalweg.write_unit_pages(thalweg.open_run(broken, run.given["tiny"]), cache=run.path.parent / "cache")


def test_the_server_answers_this_machine_alone(site: Site, index: Path):
    with server_of(site) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        for address in ("index.html", "units/tiny/dense-4/0/trained/1/2.html", "explore.css", "data/note/0.js"):
            with urllib.request.urlopen(f"{url}/{address}") as answer:
                assert answer.read() == (index.parent / address).read_bytes(), address
        picture = next((index.parent / "stimuli").rglob("*.webp")).relative_to(index.parent).as_posix()
        with urllib.request.urlopen(f"{url}/{picture}") as answer:
            assert answer.headers["Content-Type"] == "image/webp"
        for address, status in (("../run/run.json", 404), ("stimuli/tiny/0/99999999.webp", 404), ("units/x", 404)):
            with pytest.raises(HTTPError) as refused:
                urllib.request.urlopen(f"{url}/{address}")
            assert refused.value.code == status
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "elsewhere.example"}))
        assert refused.value.code == 403
        with pytest.raises(ThalwegError, match="cannot be opened"):
            server_of(site, server.server_address[1])
        server.shutdown()
        thread.join()


def test_the_example_runs(run: thalweg.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(thalweg, "open_run", lambda _path: replace(run, path=tmp_path / "run"))
    shutil.copytree(run.path, tmp_path / "run")
    run_example(thalweg.write_unit_pages)


# what a browser makes of it


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        yield started
        started.close()


def opened(browser, file: Path, *, width: int = 1100, scheme: str = "light", where: str = ""):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or page.complaints.append(asked.url))
    page.goto(file.as_uri() + where, timeout=120_000)
    if file.name == "index.html":
        page.wait_for_selector("html.drawn")
    return page


def listed(page) -> list[list[str]]:
    lines = page.locator("regular-table tbody tr").all()
    return [line.locator("th, td").all_inner_texts() for line in lines]


def test_the_index_sorts_filters_and_leads_to_pages(browser, index: Path):
    page = opened(browser, index)
    assert page.locator("#count").inner_text() == "6 of 18 units"
    assert sorted(line[0] for line in listed(page)) == ["0 : 0", "0 : 1", "1 : 0", "1 : 1", "1 : 2", "1 : 3"]
    page.select_option("select[name=control]", "")
    until(page, "document.getElementById('count').textContent === 'All 18 units'")
    page.get_by_role("button", name="crisp", exact=True).click()
    until(page, "location.hash.includes('sort=')")
    page.wait_for_selector("th[aria-sort=descending]")
    crisp = [float(line[3]) for line in listed(page) if line[3] != "–"]
    assert crisp == sorted(crisp, reverse=True)
    assert len(crisp) >= 10
    page.fill("input[name=search]", "dense 3")
    until(page, "document.getElementById('count').textContent === '3 of 18 units'")
    again = opened(browser, index, where=page.evaluate("location.hash"))
    assert again.locator("#count").inner_text() == "3 of 18 units"
    assert listed(again) == listed(page)
    first = listed(again)[0]
    again.locator("#units").focus()
    again.keyboard.press("Enter")
    again.wait_for_selector("h1 >> text=Unit 3")
    assert first[1].split(",")[0] in again.locator("h1").inner_text()
    assert page.complaints == again.complaints == []


def test_a_taller_window_shows_more_units(browser, index: Path):
    page = opened(browser, index, where="#control=")
    page.set_viewport_size({"width": 1100, "height": 400})
    until(page, "document.querySelectorAll('#units tbody tr').length < 15")
    page.set_viewport_size({"width": 1100, "height": 1100})
    until(page, "document.querySelectorAll('#units tbody tr').length === 18")
    assert page.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (360, "dark")])
def test_axe_and_the_width_of_the_screen(browser, index: Path, width: int, scheme: str):
    for file in (index, index.parent / "units/tiny/dense-4/0/trained/1/1.html"):
        page = opened(browser, file, width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.complaints == []
        assert axe_violations(page) == []
        page.close()


def test_a_page_is_printed_as_it_is_shown(browser, index: Path):
    page = opened(browser, index.parent / "units/tiny/dense-4/0/trained/1/1.html", scheme="dark")
    folded = page.locator("details:not([open])").count()
    page.pdf(format="A4")
    assert page.locator("details:not([open])").count() == folded > 0
    page.emulate_media(media="print")
    assert page.locator("nav").first.is_hidden()
    page.locator("main").evaluate("place => place.innerHTML += '<p class=window><b class=s9>a token</b></p>'")
    assert page.locator(".window b").last.evaluate("shade => getComputedStyle(shade).printColorAdjust") == "exact"
    page.close()


def test_a_page_shows_its_pictures(browser, index: Path):
    page = opened(browser, index.parent / "units/tiny/dense-4/0/trained/1/1.html")
    until(page, "[...document.images].slice(0, 18).every(image => image.complete)")
    sizes = page.evaluate("[...document.images].slice(0, 18).map(image => image.naturalWidth)")
    assert sizes == [12] * 18
    assert page.locator("svg.bars rect").count() > 20
    page.get_by_role("link", name="unit 2 →").click()
    page.wait_for_selector("h1 >> text=Unit 2")
    page.get_by_role("link", name="All units").click()
    page.wait_for_selector("html.drawn")
    assert page.complaints == []
