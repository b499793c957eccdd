"""The tutorials' files run as they are printed, one after another in one folder, and the examples of docstrings there
too; and their run holds what the page on the run directory lists.
"""

import contextlib
import importlib
import io
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import polars as pl
import pytest
from safetensors import safe_open

import thalweg
from support.examples import run_example
from support.tiny import blobs
from thalweg import cli
from thalweg.measures.base import MEASURES
from thalweg.models import interventions
from thalweg.runs.run import COLUMNS

PAGES = Path(__file__).parent.parent / "docs" / "tutorials"
ORDER = ("train.py", "measure.py", "observer.py", "ladder.py", "read.py", "read_polars.py", "own_measure.py")
IMPORTED = ("model", "ladder")  # what the others import
PUBLIC = {
    **{name: getattr(thalweg, name) for name in thalweg.__all__},
    **{name: getattr(interventions, name) for name in ("ablate", "patch", "add", "replace", "values_of")},
}
ELSEWHERE = {  # examples that are run where what they need is imported anyway, and what has none
    **dict.fromkeys(("Asked", "ask"), "tests/pipeline/test_ask.py asks a server of its own"),
    "edit": "tests/edits/test_edits.py",
    "measure_concepts": "tests/concepts/test_words.py",
    "judge_literature": "tests/literature/test_literature.py",
    "train_dictionary": "tests/bases/test_bases.py",
    "write_report": "tests/test_readme.py",
    "write_unit_pages": "tests/test_readme.py runs the command that calls it",
    "visualise": "tests/synthetic/test_visualise.py",
    "write_comparison": "docs/comparing.md, which runs as a session",
    "ThalwegError": "it is raised, never made by a user",
    **dict.fromkeys(
        ("Choice", "ChoiceScores", "Trial", "TrialObserver", "TrialSettings", "one_by_one", "score_choices"),
        "docs/trials.md, which runs as a session",
    ),
}


def files() -> dict[str, str]:
    """The files that the tutorials print, by name."""
    pattern = r'^```python title="([\w.]+)"\n(.*?)^```'
    return {
        name: code
        for page in sorted(PAGES.glob("*.md"))
        for name, code in re.findall(pattern, page.read_text(), flags=re.S | re.M)
    }


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What each file of the tutorials prints, run in a folder that holds them all."""
    folder = tmp_path_factory.mktemp("tutorials")
    measures = dict(MEASURES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setenv("HOME", str(folder))  # its cache is empty
        for name, code in files().items():
            Path(name).write_text(code)
        importlib.invalidate_caches()
        yield {name: ran(name) for name in ORDER}
        for module in IMPORTED:
            sys.modules.pop(module, None)
    MEASURES.clear()
    MEASURES.update(measures)


def ran(name: str) -> str:
    """What a file prints when it is run."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pl.Config(tbl_rows=40, tbl_cols=20, tbl_width_chars=200):
        runpy.run_path(name, run_name="__main__")
    return shown.getvalue()


def test_every_file_of_a_tutorial_is_run():
    assert set(files()) == {*ORDER, "model.py", "traces.py"}  # the last is run by tests/stimuli/test_modality.py


def test_a_model_of_ones_own_is_measured(printed: dict[str, str]):
    for control in ("trained", "untrained", "rotated", "rerandomised"):
        assert control in printed["measure.py"]
    models = thalweg.open_run("runs/digits").models
    assert models["n_units"].to_list() == [32] * 4
    assert models.filter(control="trained")["accuracy"].item() > 0.8


def test_the_commands_of_a_model_of_ones_own_run_as_printed(
    printed: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    Path("photographs").mkdir()
    images = blobs(160, seed=3)
    for number in range(len(images)):
        images.picture(number).resize((40, 30)).save(f"photographs/{number}.png")
    (block,) = re.findall(r"^```\n(thalweg .*?)^```", (PAGES / "own-model.md").read_text(), flags=re.S | re.M)
    assert len(block.splitlines()) == 3
    for line in block.splitlines():
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0, capfd.readouterr().err[-2000:]
    assert thalweg.open_run("runs/photographs").models["n_units"].to_list() == [32] * 4


def test_an_observer_of_ones_own_stands_beside_others(printed: dict[str, str]):
    for observer in ("profiles", "hog", "trivial", "pixels", "random"):
        assert observer in printed["observer.py"]


def test_a_ladder_of_ones_own_gets_verdicts(printed: dict[str, str]):
    assert [line.split(":")[0] for line in printed["ladder.py"].splitlines()] == ["predictable", "crisp"]
    assert "3 models" in printed["ladder.py"]


def test_a_run_is_read_in_pandas_and_in_polars(printed: dict[str, str]):
    for column in ("trained", "untrained", "rotated", "shuffled", "coverage", "verdict"):
        assert column in printed["read.py"]
    assert "softmax" in printed["read.py"]
    assert "mlp-64" in printed["read_polars.py"]


def test_a_measure_of_ones_own_scores_every_rung(printed: dict[str, str]):
    rows = thalweg.open_run("runs/small-digits").scores.filter(measure="share_above_mean")
    assert rows["rung"].n_unique() == 3
    assert rows["score"].is_between(0, 1).all()
    assert "softmax" in printed["own_measure.py"]


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - set(ELSEWHERE)))
def test_the_example_of_a_public_name_gives_what_it_shows(name: str, printed: dict[str, str]):
    run_example(PUBLIC[name])


def test_the_example_of_reading_units_lazily_gives_what_it_shows(printed: dict[str, str]):
    run_example(thalweg.Run.scan_units)


RUN_PAGE = PAGES.parent / "run-directory.md"


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the rows of the first table below a heading of the page on the run directory."""
    text = f"\n{RUN_PAGE.read_text()}".partition(f"\n{heading}\n")[2]
    table = re.search(r"(^\|.*\n)+", text, flags=re.M)
    assert table, heading
    lines = table.group().splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def columns_of(table: str) -> dict[str, str]:
    """The columns that the page lists for a table, with their types; those of keys stand in the first of its tables."""
    keys = {name: row[1] for row in rows_of("## Keys") for name in names_in(row[0])}
    heading = "## units" if table == "units" else f"## {table}.parquet"
    return {name: row[1] or keys[name] for row in rows_of(heading) for name in names_in(row[0])}


@pytest.mark.parametrize("table", [*COLUMNS, "units"])
def test_the_page_lists_the_columns_of_each_table(table: str, printed: dict[str, str]):
    frame = getattr(thalweg.open_run("runs/small-digits"), table)
    assert columns_of(table) == {name: str(kind) for name, kind in frame.schema.items()}


def test_the_page_lists_the_files_of_a_run(printed: dict[str, str]):
    patterns = [pattern for row in rows_of("# What a run directory holds") for pattern in names_in(row[0])]
    folder = Path("runs/small-digits")
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    described = {name for name in held for pattern in patterns if fnmatch(name, pattern)}
    assert described == held
    later = {
        "dictionaries/*/*/",
        "report.html",
        "figures/*.svg",
        "figures/*.png",
        "failures/*.txt",
        "answers.parquet",
        "answers/*.parquet",
        "asked.parquet",
        "asked/*.parquet",
        "explanations.parquet",
        "people.parquet",
        "explore/",
        "synthetic.parquet",
        "synthetic.html",
        "synthetic/*",
        "synthetic.json",
        "neuronpedia/",
        "saedashboard/",
        "tracking/tensorboard/",
        "tracking/wandb/",
        "weights/*-unfinished.pt",
    }
    assert {pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in held)} == later


def test_the_page_lists_the_fields_of_the_records_of_a_run(printed: dict[str, str]):
    run = thalweg.open_run("runs/small-digits")
    ladder = {name for row in rows_of("For each ladder:") for name in names_in(row[0])}
    assert {name for row in rows_of("## run.json") for name in names_in(row[0])} == set(run.record)
    assert ladder == set(run.record["ladders"]["small-digits"])
    assert {name for row in rows_of("## shape.json") for name in names_in(row[0])} == set(run.shape[0])


def test_the_page_lists_the_tensors_of_a_recording(printed: dict[str, str]):
    patterns = [pattern for row in rows_of("## recordings") for pattern in names_in(row[0])]
    with safe_open("runs/small-digits/recordings/small-digits-mlp-4-0-trained.safetensors", "pt") as file:
        held = {key.split("/")[2] for key in file.keys()}  # noqa: SIM118  (the file is no mapping)
    assert {name for name in held if any(fnmatch(name, pattern) for pattern in patterns)} == held
    assert all(any(fnmatch(name, pattern) for name in held) for pattern in patterns)
