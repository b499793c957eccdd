"""Answers of other studies: the published layout, a plain one, and what is refused."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from thalweg.cli import app
from thalweg.errors import ThalwegError
from thalweg.psychophysics.analysis import analyse
from thalweg.psychophysics.curves import read_strengths
from thalweg.psychophysics.importing import read_responses
from thalweg.psychophysics.tables import read_export

PUBLISHED = {  # proportion correct with natural references, Zimmermann, Klein & Brendel 2023, and the models' accuracy
    "GoogLeNet": (0.8792, 0.6915),
    "Robust ResNet-50": (0.8522, 0.6238),
    "WideResNet-50-2": (0.8409, 0.816),
    "ViT-B/32 IN1k": (0.7996, 0.7490),
}
UNITS, WORKERS, TASKS = 84, 21, 40


def published(folder: Path) -> Path:
    """A table in the published layout whose means of units are the published ones: 84 units, 10 answers to each."""
    rows = []
    for number, (model, (mean, _)) in enumerate(PUBLISHED.items()):
        answers = np.zeros(UNITS, int)
        right = round(mean * UNITS * WORKERS * TASKS / UNITS)
        per_unit = [right // UNITS + (unit < right % UNITS) for unit in range(UNITS)]
        for worker in range(WORKERS):
            who = {"participant_id": f"P{number}-{worker}", "task_id": f"{model}-{worker}", "task_number": worker}
            flags = {"passed_checks": True, "multi_participation": False}
            demo = {"correct": True, "confidence": 3, "rt": 900.5, "catch_trial": False, "is_demo": True}
            rows.append({**who, **flags, **demo})
            catch = {**demo, "catch_trial": True, "is_demo": False, "batch": -1, "channel": 4, "layer": "manual"}
            rows.append({**who, **flags, **catch, "mode": "catch_trial", "model": "catch/manual"})
            for task in range(TASKS):
                unit = (worker * TASKS + task) % UNITS
                answers[unit] += 1
                asked = {"batch": int(answers[unit]) % 10, "channel": unit, "layer": f"layer{unit % 7}"}
                right_now = bool(answers[unit] <= per_unit[unit])
                answer = {**demo, "correct": right_now, "is_demo": False, "mode": "natural", "model": model}
                rows.append({**who, **flags, **answer, **asked})
    frame = pl.DataFrame(rows, infer_schema_length=None)
    flags = [name for name, kind in frame.schema.items() if kind == pl.Boolean]
    written = frame.with_columns(pl.col(flags).cast(pl.String).str.to_titlecase())  # as pandas writes them
    written = written.with_columns(pl.col("batch", "channel").cast(pl.Float64))  # as pandas does where some are missing
    file = folder / "responses.csv"
    written.write_csv(file)
    return file


def strengths(folder: Path) -> Path:
    rows = "".join(f"{model},{accuracy}\n" for model, (_, accuracy) in PUBLISHED.items())
    file = folder / "models.csv"
    file.write_text(f"model,top1\n{rows}")
    return file


def test_the_published_layout_gives_the_published_means_and_order(tmp_path: Path) -> None:
    file, models = published(tmp_path), strengths(tmp_path)
    given = ["--strengths", str(models), "--strength", "top1", "--out", str(tmp_path / "imi")]
    result = CliRunner().invoke(app, ["study", "import", str(file), *given])
    assert result.exit_code == 0, result.output
    assert "84 of 84 participants count" in result.stdout
    record = json.loads((tmp_path / "imi" / "analysis" / "analysis.json").read_text())
    scored = record["kept"]["models"]
    assert [row["rung"] for row in scored] == sorted(PUBLISHED, key=lambda model: PUBLISHED[model][1])
    means = {row["rung"]: row["mean_of_units"]["value"] for row in scored}
    assert sorted(means, key=means.__getitem__) == sorted(PUBLISHED, key=lambda model: PUBLISHED[model][0])
    assert means == pytest.approx({model: mean for model, (mean, _) in PUBLISHED.items()}, abs=1e-3)
    assert {row["n_units"] for row in scored} == {UNITS}
    assert {row["n_responses"] for row in scored} == {WORKERS * TASKS}
    (verdict,) = record["kept"]["verdicts"]
    assert verdict["axis"] == "top1"
    assert verdict["n_models"] == 4
    assert record["kept"]["comparison"][0]["p"] < 0.001
    page = (tmp_path / "imi" / "analysis" / "analysis.html").read_text()
    assert "Robust ResNet-50" in page
    assert verdict["sentence"][:40] in page
    kept = pl.read_parquet(tmp_path / "imi" / "responses.parquet")
    assert kept["kind"].value_counts().sort("kind").rows() == [("catch", 84), ("main", 3360), ("practice", 84)]
    assert kept["seconds"].unique().to_list() == [pytest.approx(0.9005)]
    assert read_export(tmp_path / "imi").main.height == 3360  # so it can be analysed again


PLAIN = {
    "participant": list("aabbcc"),
    "model": list("mnmnmn"),
    "unit": [0, 0, 0, 1, 1, 1],
    "correct": [1, 0, 1, 1, 0, 1],
}


def plain(folder: Path, **columns: list[object] | None) -> Path:
    frame = pl.DataFrame({name: each for name, each in {**PLAIN, **columns}.items() if each is not None})
    frame.write_csv(folder / "answers.csv")
    return folder / "answers.csv"


def test_a_plain_table_is_enough(tmp_path: Path) -> None:
    data = read_responses(plain(tmp_path))
    assert data.name == "answers"
    assert data.main["rung"].to_list() == list("mnmnmn")
    assert data.main["correct"].to_list() == [True, False, True, True, False, True]
    record = analyse(data).record
    assert [row["mean_of_units"]["value"] for row in record["kept"]["models"]] == [0.5, 0.5]
    assert [row["hierarchical"]["value"] for row in record["kept"]["models"]] == pytest.approx([2 / 3, 2 / 3])
    assert record["kept"]["verdicts"] == []


def test_the_studys_own_checks_exclude(tmp_path: Path) -> None:
    checks: list[object] = [True, True, False, False, True, True]
    data = read_responses(plain(tmp_path, passed_checks=checks))
    record = analyse(data).record
    assert record["exclusion"]["reasons"] == {"did not pass the study's own checks": 1}
    assert record["kept"]["n_responses"] == 4
    assert record["everyone"]["n_responses"] == 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"unit": None, "correct": None}, "the columns unit, correct are missing"),
        ({"correct": [1, 0, 1, 1, 0, 2]}, "row 6, column 'correct': '2' is impossible; true or false was expected"),
        (
            {"unit": ["0", "0", "0", "1.5", "1", "1"]},
            "row 4, column 'unit': '1.5' is impossible; a whole number was expected",
        ),
        (
            {"unit": [0, 0, 0, 1, 1, -1]},
            "row 6, column 'unit': -1 is impossible; 0 or more was expected",
        ),
        ({"confidence": [1, 2, 3, 9, 1, 1]}, "row 4, column 'confidence': '9' is impossible; 1, 2 or 3 was expected"),
        ({"seconds": [1.0, -2.0, 3.0, 9.0, 1.0, 1.0]}, "row 2, column 'seconds': '-2.0' is impossible"),
        ({"seconds": [1.0, float("inf"), 3.0, 9.0, 1.0, 1.0]}, "row 2, column 'seconds': 'inf' is impossible"),
        ({"participant": ["a", None, "b", "b", "c", "c"]}, "row 2, column 'participant': missing; a name was expected"),
        ({"kind": ["main"] * 5 + ["extra"]}, "row 6, column 'kind': 'extra' is impossible"),
        ({"kind": ["main"] * 4 + ["catch"] * 2}, "participant 'c' finished and has no response to a main trial"),
        ({"trial": ["t"] * 6}, "participant 'a' answered one main trial twice"),
        ({"trial": list("xyxzzy")}, "trial 'y' asks about two units"),
        ({"trial": list("xyxyxz"), "unit": [0] * 6, "picked": [1, 0, 0, 1, 1, 0]}, "two answers to it are right"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(
    tmp_path: Path, columns: dict[str, list[object] | None], message: str
) -> None:
    with pytest.raises(ThalwegError) as refused:
        read_responses(plain(tmp_path, **columns))
    assert message in str(refused.value)
    assert "answers.csv" in str(refused.value)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("rt", "inf", "column 'rt': 'inf' is impossible; a finite number, 0 or more was expected"),
        ("rt", "-5", "column 'rt': '-5' is impossible"),
        ("confidence", "4", "column 'confidence': '4' is impossible; 1, 2 or 3 was expected"),
        ("channel", "-3", "column 'channel': -3 is impossible; 0 or more was expected"),
        ("channel", "", "column 'channel': missing; 0 or more was expected"),
        ("model", "", "column 'model': missing; what the trial is about was expected"),
    ],
)
def test_a_bad_cell_is_named_by_its_column_in_the_file(tmp_path: Path, column: str, cell: str, message: str) -> None:
    table = pl.read_csv(published(tmp_path), infer_schema=False).with_row_index("row")
    main = (pl.col("is_demo") == "False") & (pl.col("catch_trial") == "False")
    row = table.filter(main)["row"][0]
    bad = table.with_columns(pl.when(pl.col("row") == row).then(pl.lit(cell)).otherwise(column).alias(column))
    bad.drop("row").write_csv(tmp_path / "bad.csv")
    with pytest.raises(ThalwegError) as refused:
        read_responses(tmp_path / "bad.csv")
    assert f"bad.csv, row {row + 1}, {message}" in str(refused.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "heads.csv").write_text("participant,model,unit,correct\n")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    for name, message in (
        ("empty.csv", "the table is empty"),
        ("heads.csv", "the table is empty"),
        ("damaged.parquet", "cannot be read as Parquet"),
        ("absent.csv", "there is no such file"),
        ("answers.json", "as .csv or .parquet was expected"),
        ("", "this is a folder"),
    ):
        with pytest.raises(ThalwegError, match=message):
            read_responses(tmp_path / name)


def test_strengths_must_name_every_model(tmp_path: Path) -> None:
    data = read_responses(plain(tmp_path))
    table = tmp_path / "models.csv"
    table.write_text("model,loss\nm,1\n")
    with pytest.raises(ThalwegError, match="--strengths names no model 'n'"):
        analyse(data, strengths=read_strengths(table, "loss"))
    assert read_strengths(table, "loss").of == {"m": -1}
    table.write_text("model,loss\nm,1\nm,2\n")
    with pytest.raises(ThalwegError, match="model 'm' stands there twice"):
        read_strengths(table, "loss")


def test_strengths_without_their_column_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "import", str(plain(tmp_path)), "--strength", "loss"])
    assert isinstance(result.exception, ThalwegError)
    assert "give both, or neither" in str(result.exception)
