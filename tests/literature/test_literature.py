"""Published studies: those that ship are whole, a user's are checked field by field, and verdicts become one page."""

import doctest
import html
import json
import re
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import thalweg.literature.review
from thalweg.errors import ThalwegError
from thalweg.literature.review import Literature
from thalweg.literature.studies import SHIPPED, Study, read_studies, read_study
from thalweg.literature.verdicts import NO_VERDICT, judge_studies, what_decides, what_the_axis_decides

RECORD = """\
name = "Rising"
exact = "stated"
taken = "Table 1."
models = "model"

[citation]
authors = "Doe and Roe"
year = 2030
title = "Units <b>read</b>"
venue = "Nowhere"
link = "https://example.org/paper"

[[axes]]
column = "params"
means = "parameters"
logarithmic = true

[[axes]]
column = "loss"
means = "loss"
less_is_better = true

[[scores]]
column = "share"
means = "share of units that people read"

[[without]]
models = ["m0"]
why = "the untrained model"
"""
SHARES = [0.11, 0.62, 0.63, 0.61, 0.64, 0.63]
TABLE = "model,params,loss,share\n" + "".join(f"m{i},{10**i},{4 - i / 2},{share}\n" for i, share in enumerate(SHARES))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path) -> Path:
    (folder / "mine.csv").write_text(TABLE)
    (folder / "mine.toml").write_text(RECORD)
    return folder / "mine.toml"


@pytest.fixture(scope="module")
def literature(tmp_path_factory: pytest.TempPathFactory) -> Literature:
    """What the example of the documentation makes of that study."""
    folder = tmp_path_factory.mktemp("literature")
    written(folder)
    (test,) = (each for each in doctest.DocTestFinder().find(thalweg.literature.review) if each.examples)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0
    made: Literature = test.globs["literature"]
    return replace(made, page=folder / made.page, records=folder / made.records)


@pytest.fixture(scope="module")
def shipped() -> dict[str, Study]:
    return {each.key: each for each in read_studies()}


def test_each_table_that_ships_has_a_record_with_a_whole_citation(shipped: dict[str, Study]):
    assert set(shipped) == {path.stem for path in SHIPPED.glob("*.csv")}
    assert len(shipped) >= 11
    for each in shipped.values():
        citation = each.citation
        assert all((citation.authors, citation.title, citation.venue, each.taken))
        assert re.fullmatch(
            r"https://(arxiv\.org/abs/\d{4}\.\d{5}|distill\.pub/.+|transformer-circuits\.pub/.+)", citation.link
        )
        assert 2017 <= citation.year <= 2026
        assert each.part_of in ("", *shipped)


def test_what_is_unsure_gets_no_verdict(shipped: dict[str, Study]):
    unsure = {key for key, each in shipped.items() if each.why_no_verdict(each.axes[0])}
    assert unsure == {"dravid2026_dinov2", "dravid2026_openclip", "karvonen2024_layers", "netdissect2017_places365"}
    (reading, *_) = judge_studies([shipped["netdissect2017_places365"]])
    assert (reading.verdict, reading.curve) == (NO_VERDICT, None)
    assert "checked against a source" in reading.why_not


def test_network_dissection_rises_through_its_random_network_alone(shipped: dict[str, Study]):
    whole, trained = judge_studies([shipped["netdissect2017_imagenet"]])
    assert (whole.verdict, trained.verdict) == ("increasing", "cannot tell")
    assert trained.without is not None
    assert "caffenet_random" in what_decides(whole)
    assert whole.is_main
    assert not trained.is_main
    assert whole.to_record()["p_decisive"] == pytest.approx(0.008, abs=0.003)


def test_of_too_few_models_nothing_is_said_to_decide(shipped: dict[str, Study]):
    (reading,) = judge_studies([shipped["gurnee2024_universal"]])
    assert (reading.verdict, what_decides(reading)) == ("cannot tell", "")


def test_the_wheel_leaves_no_table_out():
    """The wheel takes all of the package but what git ignores."""
    root = Path(__file__).parents[2]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build == {"targets": {"wheel": {"packages": ["src/thalweg"]}}}
    files = [*map(str, SHIPPED.iterdir()), str(SHIPPED.parent / "literature.html.j2")]
    ignored = subprocess.run(["git", "check-ignore", *files], cwd=root, capture_output=True, text=True, check=False)
    assert ignored.stdout == ""


def test_a_study_of_a_users_own_is_judged_on_each_axis_and_without_models(literature: Literature):
    readings = literature.readings
    by = {(reading.axis.column, reading.without is not None): reading for reading in readings}
    assert set(by) == {("params", False), ("loss", False), ("params", True)}
    assert by["params", False].curve is not None
    assert by["params", False].verdict == by["loss", False].verdict  # the loss is turned: one order of models
    assert by["params", True].curve is not None
    assert by["params", True].curve.verdict.n_models == 5
    assert "The axis does not decide" in what_the_axis_decides(readings)
    said = literature.sentence
    assert said.startswith("Of 1 published study")
    assert f"1 {by['params', False].verdict!r}" in said


def test_the_page_and_the_records_hold_all(literature: Literature):
    page = literature.page.read_text()
    record = json.loads(literature.records.read_text())
    assert record["sentence"] == literature.sentence
    assert literature.sentence in html.unescape(page)
    headings = re.findall(r"<h2[^>]*>([^<]+)<", page)
    regions = re.findall(r'role="region"[^>]*aria-label="([^"]+)"', page)
    assert not {*headings} & {*regions}  # who can't see the page tells its parts by their names
    assert "Units &lt;b&gt;read&lt;/b&gt;" in page
    assert 'href="https://example.org/paper"' in page
    assert [reading["verdict"] for reading in record["readings"] if reading["main"]]
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.S)[1])["charts"]
    assert len(charts) == 3
    points = [row["rung"] for row in charts["study-1-1-3"]["datasets"].values() for row in row if "rung" in row]
    assert "m1" in points
    assert "m0" not in points
    titles = {tip["title"] for layer in charts["study-1-1-1"]["layer"] for tip in layer["encoding"].get("tooltip", [])}
    assert titles == {"model", "score", "from", "to", "params"}


WRONG = {
    "no record": (None, r"mine\.toml cannot be read"),
    "no TOML": ("= 3", r"mine\.toml is no TOML"),
    "a missing field": (RECORD.replace('taken = "Table 1."', ""), r"mine\.toml, field 'taken': is missing; give text"),
    "a misspelt field": (RECORD.replace("exact =", "exakt ="), r"mine\.toml, no field is called 'exakt'; did you mean"),
    "another type": (RECORD.replace("2030", '"2030"'), r"citation, field 'year': is '2030'; give a whole number"),
    "no address": (RECORD.replace("https:", "http:"), r"citation, field 'link'"),
    "an unknown exactness": (RECORD.replace('"stated"', '"sure"'), r"field 'exact': no exactness is called 'sure'"),
    "no such column": (RECORD.replace('"share"', '"shares"'), r"field 'scores': no column is called 'shares'"),
    "no such model": (RECORD.replace('["m0"]', '["m9"]'), r"without, field 'models': no model is called 'm9'"),
    "no axes": (re.sub(r"\[\[axes\]\].*?(?=\[\[scores)", "", RECORD, flags=re.S), r"field 'axes': is missing"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_record_is_named_with_its_field(study: Path, what: str):
    content, message = WRONG[what]
    study.unlink()
    if content is not None:
        study.write_text(content)
    with pytest.raises(ThalwegError, match=message) as wrong:
        read_study(study)
    assert "\n" not in str(wrong.value)


def test_a_folder_without_records_and_a_page_of_another_kind_are_refused(tmp_path: Path):
    with pytest.raises(ThalwegError, match=r"holds no \.toml file"):
        read_studies([tmp_path])
    with pytest.raises(ThalwegError, match=r"such as literature\.html"):
        thalweg.literature.review.judge_literature(out=tmp_path / "page.txt")


def test_the_record_of_the_documentation_is_one(study: Path):
    page = (Path(__file__).parents[2] / "docs" / "literature.md").read_text()
    study.write_text(re.search(r"```toml\n(.*?)```", page, re.S)[1])
    rows = [f"{name},{params},0.5,0.1" for name, params in (("untrained", 1), ("small", 2))]
    study.with_suffix(".csv").write_text("\n".join(["model,params,share,se", *rows]))
    shown = read_study(study)
    assert shown.without[0].models == ("untrained",)
    assert shown.scores[0].se == "se"
    (study.parent / "mine.csv").rename(study.parent / "other.csv")
    study.write_text('table = "other.csv"\n' + study.read_text())
    assert read_study(study).table.columns == shown.table.columns
