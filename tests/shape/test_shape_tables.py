"""Tables of models as people keep them: each is read rightly, or its first fault is named with its line."""

import doctest
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import thalweg.shape.axes
import thalweg.shape.judging
import thalweg.shape.several
from thalweg.cli import app
from thalweg.errors import ThalwegError
from thalweg.shape import Choice, Curve, ModelTable, judge, judge_curves, judge_table, read_table, table_of_frame
from thalweg.shape.axes import is_less_better
from thalweg.shape.reading import number_of
from thalweg.shape.records import remarks, write_records
from thalweg.shape.tables import numbers

PARAMS = [20166762, 116676921, 287773694, 1889237209, 3805831315, 4246843794]
SCORES = [0.7767, 0.7317, 0.6685, 0.6340, 0.6094, 0.7272]
ROWS = [f"m{i},{params},{score:.4f}" for i, (params, score) in enumerate(zip(PARAMS, SCORES, strict=True))]
CSV = "\n".join(["model,params,score", *ROWS]) + "\n"


class Heard:
    """Progress that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int):
        self.stages.append(name)
        yield lambda: None

    def say(self, text: str) -> None:
        self.said.append(text)


def table(tmp_path: Path, content: str | bytes, name: str = "table.csv") -> ModelTable:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(file)


def read(found: ModelTable) -> tuple[list[float], list[float]]:
    return numbers(found, "params")[0].tolist(), numbers(found, "score")[0].tolist()


def commas(text: str) -> str:
    return text.replace(",", ";").replace(".", ",")


def thousands(mark: str) -> str:
    return CSV.replace(",", ";").replace("0.", "0,").replace("20166762", f"20{mark}166{mark}762")


WAYS = {
    "plain": (CSV, None),
    "tabs": (CSV.replace(",", "\t"), "tabs"),
    "semicolons": (CSV.replace(",", ";"), "semicolons"),
    "bars": (CSV.replace(",", "|"), "bars"),
    "decimal commas": (commas(CSV), "commas are decimal marks"),
    "aligned by spaces": (CSV.replace(",", "    "), "spaces"),
    "spaces in the header": (CSV.replace(",", ", "), None),
    "UTF-16": (CSV.encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (CSV.encode("utf-16-le"), "UTF-16"),
    "a byte order mark": (b"\xef\xbb\xbf" + CSV.encode(), None),
    "Windows-1252": (CSV.replace("m3", "modèle").encode("cp1252"), "Windows-1252"),
    "Windows line ends": (CSV.replace("\n", "\r\n"), None),
    "old line ends": (CSV.replace("\n", "\r"), None),
    "quoted": (CSV.replace("m1", '"m1, the ""second"""').replace("0.7767", '"0.7767"'), None),
    "a comment": ("# run 3, with m0\n" + CSV + "# the end\n", "comment (2 lines, the first is line 1)"),
    "blank lines": ("\n" + CSV.replace("\n", "\n\n"), None),
    "sep=": ("sep=;\n" + CSV.replace(",", ";"), "semicolons"),
    "an index without a name": (CSV.replace("\nm", "\n7,m").replace("model", ",model"), None),
    "an index without a header": (CSV.replace("\nm", "\n7,m"), None),
    "empty cells at the end": (CSV.replace("\nm2", ",,\nm2"), None),
    "columns without a name at the end": (CSV.replace("score", "score,,").replace("\nm2", ",,\nm2"), None),
    "thousands with commas": (CSV.replace("20166762", '"20,166,762"'), None),
    "thousands with points": (thousands("."), "commas are decimal marks"),
    "thousands with spaces": (thousands("\u202f"), "semicolons"),
    "thousands with apostrophes": (thousands("'"), "semicolons"),
    "a plus and an exponent": (CSV.replace("0.7767", "+7.767e-1"), None),
    "a total": (CSV + "Total,9,9\nmean,9,9\n", "line 8 ('Total') is passed over as a summary"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_is_read_however_it_was_written(tmp_path: Path, way: str):
    content, note = WAYS[way]
    found = table(tmp_path, content)
    assert read(found) == (PARAMS, SCORES)
    if note is None:
        assert found.notes == ()
    else:
        assert any(note in said for said in found.notes)


def test_a_header_in_a_comment_is_the_header(tmp_path: Path):
    lines = [f"{params} {score}" for params, score in zip(PARAMS, SCORES, strict=True)]
    assert read(table(tmp_path, "\n".join(["# from numpy", "# params score", *lines]), "table.txt")) == (PARAMS, SCORES)


def test_percent_signs_and_a_decimal_comma_that_could_be_a_thousand(tmp_path: Path):
    percent = table(tmp_path, "params,score\n1,77.67%\n2,\n3,61 %\n")
    assert numbers(percent, "score")[0].tolist() == pytest.approx([77.67, np.nan, 61], nan_ok=True)
    unsure = "params;score\n1;0,5\n2;1,234\n"
    assert read(table(tmp_path, unsure))[1] == [0.5, 1.234]
    assert read(table(tmp_path, "params;score\n1;2,345\n2;1,234\n"))[1] == [2.345, 1.234]  # as spreadsheets write it
    assert read(table(tmp_path, 'params,score\n1,"2,345"\n2,"1,234"\n'))[1] == [2345, 1234]


@pytest.mark.parametrize(("text", "number"), [("1,234.5", 1234.5), ("−3", -3.0), ("1e-3", 1e-3), (" 7 ", 7.0)])
def test_numbers(text: str, number: float):
    assert number_of(text, ".") == number


@pytest.mark.parametrize("text", ["0,5", "1.2.3", "12,34,567", "0x10", "1e", "five", "1 2", "1,2345", "True", "²"])
def test_what_is_no_number(text: str):
    assert number_of(text, ".") is None


@pytest.mark.parametrize("mark", ["NA", "N/A", "null", "", "-", "nan", "None", "#N/A", " "])
def test_missing_numbers_are_left_out_and_said(tmp_path: Path, mark: str):
    heard, found = Heard(), table(tmp_path, "\n".join(["model,params,score", *ROWS[:4]]).replace("0.6340", mark))
    verdict = judge_table(found, strength="params", score="score", progress=heard)
    assert (verdict.n_rows, verdict.n_dropped, verdict.n_models) == (4, 1, 3)
    assert len(heard.said) == 1
    assert "1 of 4 rows left out (1 without score; line 5" in heard.said[0]
    assert (repr(mark) in heard.said[0]) == bool(mark.strip())


GOOD = {"strength": "params", "score": "score"}
FAULTS = {
    "a word": (CSV.replace("0.6340", "missing value"), GOOD, "line 5, column 'score': 'missing value' is no number"),
    "infinity": (CSV.replace("0.6340", "-inf"), GOOD, "line 5, column 'score': '-inf' is infinite"),
    "beyond floats": (CSV.replace("0.6340", "1e999"), GOOD, "line 5, column 'score': '1e999' is infinite"),
    "too large": (CSV.replace("0.6340", "1e300"), GOOD, "line 5, column 'score': 1e300 is too large"),
    "after a comment": ("# a\n\n" + CSV.replace("0.6340", "x"), GOOD, "line 7, column 'score': 'x'"),
    "after a quoted line end": (CSV.replace("m1", '"m\n1"').replace("0.6340", "x"), GOOD, "line 6, column 'score'"),
    "both marks": (CSV.replace(",", ";").replace("0.6340", "0,6340"), GOOD, "line 5, column 'score': '0,6340'"),
    "ragged": (CSV.replace("m3,", "m,3,"), GOOD, "line 5: has 4 fields where the header (line 1) has 3"),
    "short": (CSV + "the end\n", GOOD, "line 8: has 1 field where"),
    "twice": (CSV.replace("model", "score"), GOOD, "2 columns are called 'score' (columns 1, 3)"),
    "no header": ("\n".join(ROWS).replace("m", ""), GOOD, "the first line holds numbers"),
    "one column for two": (CSV, GOOD | {"score": "params"}, "'params' is given as strength and as score"),
    "score as group": (CSV, GOOD | {"group": "score"}, "'score' is given as score and as group"),
    "no group": (CSV.replace("m2,", "NA,"), GOOD | {"group": "model"}, "line 4, column 'model': the group is missing"),
    "negative error": (
        CSV.replace("m", "-").replace("-odel,para-s", "e,params"),
        GOOD | {"se": "e"},
        "line 3, column 'e': a standard error is negative",
    ),
    "a null byte": (CSV.replace("m2", "m\0"), GOOD, "line 4 holds a null byte"),
    "half a character": (CSV.encode("utf-16")[:-1], GOOD, "is no text"),
    "a Parquet file": (b"PAR1" + CSV.encode(), GOOD, "is a Parquet file, not text"),
    "comments alone": ("# a\n# b\n", GOOD, "is empty"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_line(tmp_path: Path, fault: str):
    content, columns, message = FAULTS[fault]
    with pytest.raises(ThalwegError) as wrong:
        judge_table(table(tmp_path, content), **columns, draws=100)
    assert message in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([True] * 6, "row 1, column 'x': True is no number"),
        (pl.Series([1] * 6).cast(pl.Date), "row 1, column 'x': '1970-01-02' (date)"),
        ([[1.0]] * 6, "row 1, column 'x': '[1.0]' (list)"),
        ([1.0, 2, 3, float("inf"), 5, 6], "row 4, column 'x': 'inf' is infinite"),
    ],
    ids=str,
)
def test_columns_of_a_frame_that_are_no_numbers(values: object, message: str):
    frame = pl.DataFrame({"params": PARAMS, "x": values})
    with pytest.raises(ThalwegError) as wrong:
        judge_table(frame, strength="params", score="x")
    assert message in str(wrong.value)


def test_models_may_be_grouped_by_their_strength(tmp_path: Path):
    assert judge_table(table(tmp_path, CSV), **GOOD, group="params", draws=100).n_models == 6


def test_fractions_and_percentages_get_one_verdict():
    noise = 0.005 * np.random.default_rng(0).standard_normal(12)
    small, large = (judge(np.arange(12.0), unit * (0.6 + noise), draws=200) for unit in (1.0, 100.0))
    assert small.verdict == large.verdict == "flat"
    assert (small.smallest_effect, large.smallest_effect) == (0.05, 5.0)
    assert large.p == pytest.approx(small.p)
    assert large.depth.high == pytest.approx(100 * small.depth.high)
    assert "0.050 or more" in small.sentence
    assert "5.0 percentage points or more" in large.sentence


@pytest.mark.parametrize(
    ("top", "effect"), [(1.0, 0.05), (1.3, 0.05), (7.0, 0.05), (60.0, 5.0), (100.0, 5.0), (101, 0.05)]
)
def test_only_what_is_clearly_in_percent_is_taken_for_it(top: float, effect: float):
    scores = np.linspace(0.0, top, 3)
    assert judge([1.0, 2, 3], scores).smallest_effect == effect
    assert judge([1.0, 2, 3], scores, smallest_effect=0.2).smallest_effect == 0.2


def test_numbers_whose_squares_vanish_or_overflow_are_refused():
    rows = np.arange(6.0)
    with pytest.raises(ThalwegError, match=r"score is 1e\+200 in row 2; a number beyond 1e\+60"):
        judge(rows, rows * 1e200)
    with pytest.raises(ThalwegError, match="strength differs by 5e-200 at most"):
        judge(rows * 1e-200, rows)


# anything at all

cells = st.one_of(
    st.sampled_from(
        ["", "NA", "1", "2.5", "-3", "0,5", "1e9", "1e308", "inf", "m", '"', "#", "1,234", "5 %", "\u2212"]
    ),
    st.floats().map(str),
    st.text(max_size=4),
)
rows_of_cells = st.lists(st.lists(cells, min_size=3, max_size=3), max_size=6)
texts = st.builds(
    lambda rows, separator, end: end.join(separator.join(row) for row in [["x", "y", "z"], *rows]).encode(
        "utf-8", "replace"
    ),
    rows_of_cells,
    st.sampled_from([",", ";", "\t", " ", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(texts, st.binary(max_size=60), texts.map(lambda b: b.decode().encode("utf-16"))))
def test_any_bytes_are_a_table_or_a_mistake_in_one_line(tmp_path: Path, content: bytes):
    said = ""
    try:
        found = table(tmp_path, content)
        for name in found.names:
            assert len(numbers(found, name)[0]) == len(found)
    except ThalwegError as wrong:
        said = str(wrong)
    assert "\n" not in said


extreme = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e60, -1e60, 1e-60, 1e-300, 5e-324, 1e61, 0.5, 1 + 2**-52]),
    st.floats(),
    st.none(),
)
frames = st.integers(0, 7).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "x": st.lists(extreme, min_size=n, max_size=n),
            "y": st.lists(extreme, min_size=n, max_size=n),
            "e": st.lists(extreme, min_size=n, max_size=n),
            "g": st.lists(st.sampled_from("abcdef"), min_size=n, max_size=n),
        }
    )
)


@settings(max_examples=60, derandomize=True, phases=[Phase.explicit, Phase.generate])  # shrinking would take minutes
@example({"x": [0.0, 1, 6521387, 2], "y": [0.0, 0, 0, 1e60], "e": [0.0] * 4, "g": ["a"] * 4}, False, False)
@given(frames, st.booleans(), st.booleans())
def test_any_numbers_get_a_verdict_or_a_mistake(columns: dict, errors: bool, groups: bool):
    frame = pl.DataFrame(columns, schema={"x": pl.Float64, "y": pl.Float64, "e": pl.Float64, "g": pl.String})
    try:
        verdict = judge_table(
            frame, strength="x", score="y", se="e" if errors else None, group="g" if groups else None, draws=100
        )
    except ThalwegError:
        return
    assert verdict.sentence
    assert all(np.isnan(p) or 0 <= p <= 1 for p in verdict.p.values())
    verdict.to_record()


@pytest.mark.parametrize("module", [thalweg.shape.several, thalweg.shape.axes, thalweg.shape.judging])
def test_the_examples_of_the_documentation_run(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_page_of_tables_runs_as_printed():
    found = doctest.testfile(str(Path(__file__).parents[2] / "docs/tables.md"), module_relative=False)
    assert found.attempted > 0
    assert found.failed == 0


def curves_of(frame: pl.DataFrame, choice: Choice, **options: object) -> list[Curve]:
    return list(judge_curves([table_of_frame(frame, "the models")], choice, **options))


RISING = pl.DataFrame({"params": [1.0, 2, 3, 4, 5, 6], "score": [0.61, 0.64, 0.71, 0.78, 0.80, 0.86]})
FALLING = RISING.with_columns(score=1 - pl.col("score"))


def test_tables_scores_and_groups_of_models_get_a_row_each():
    both = pl.concat([RISING.with_columns(kind=pl.lit("a")), FALLING.with_columns(kind=pl.lit("b"))])
    both = both.with_columns(again=1 - pl.col("score"))
    tables = [table_of_frame(both, "first"), table_of_frame(both.reverse(), "second")]
    curves = judge_curves(tables, Choice("params", ("score", "again"), by="kind"))
    said = {(curve.table, curve.by, curve.score): curve.verdict.verdict for curve in curves}
    up, down = "increasing", "decreasing"
    assert said == {
        (table, kind, score): up if (kind == "a") == (score == "score") else down
        for table in ("first", "second")
        for kind in "ab"
        for score in ("score", "again")
    }
    alone = judge(RISING["params"], RISING["score"])
    assert curves[0].verdict.to_record() == alone.to_record()
    record = curves[0].to_record()
    assert record["p_of"] == up
    assert 0 < record["p_decisive"] < 0.05
    assert record["sentence"] == alone.sentence


def test_a_standard_error_belongs_to_a_score():
    with pytest.raises(ThalwegError, match=r"2 scores \(score, again\) and 1 standard errors"):
        curves_of(RISING, Choice("params", ("score", "again"), errors=("se",)))


@pytest.mark.parametrize("name", ["loss", "val_loss", "testLoss", "perplexity", "top1 error"])
def test_a_strength_of_which_less_is_better_is_turned_and_that_is_said(name: str):
    frame = RISING.rename({"params": name})
    (curve,) = curves_of(frame, Choice(name, ("score",)))
    assert curve.turned
    assert curve.verdict.verdict == "decreasing"
    assert any("less" in note and "negative" in note for note in curve.notes)
    (kept,) = curves_of(frame, Choice(name, ("score",), less_is_better=False))
    assert (kept.turned, kept.verdict.verdict, kept.notes) == (False, "increasing", ())
    assert judge_table(frame, strength=name, score="score").verdict == "decreasing"


@pytest.mark.parametrize("name", ["params", "bits", "loss_reduction", "glossary", "terror"])
def test_other_strengths_are_not_turned(name: str):
    assert not is_less_better(name)


@pytest.mark.parametrize("effect", ["5%", "2%", "20 %", None])
def test_percentages_and_fractions_get_one_verdict(effect: str | None):
    noise = np.random.default_rng(3).normal(0.6, 0.007, 12)
    verdicts = [
        judge_table(
            pl.DataFrame({"x": np.arange(12), "score": noise * whole}),
            strength="x",
            score="score",
            smallest_effect=effect,
        )
        for whole in (1, 100)
    ]
    assert verdicts[0].verdict == verdicts[1].verdict
    assert verdicts[0].verdict == "flat" or effect != "20 %"
    assert verdicts[0].p == pytest.approx(verdicts[1].p)
    assert verdicts[1].smallest_effect == pytest.approx(100 * verdicts[0].smallest_effect)


def test_a_scale_that_is_said_wins_and_one_that_is_needed_is_asked_for():
    small = RISING.with_columns(pl.col("score") * 10)  # percentages below ten look like fractions of nothing
    said = judge_table(small, strength="params", score="score", smallest_effect="5%", scale="percent")
    assert said.smallest_effect == 5
    assert judge_table(small, strength="params", score="score", scale="percent").smallest_effect == 5
    assert judge_table(small, strength="params", score="score", smallest_effect=0.2).smallest_effect == 0.2
    wide = RISING.with_columns(pl.col("score") * 1000)
    with pytest.raises(ThalwegError, match="'score' runs from 610 to 860, so it is no share"):
        judge_table(wide, strength="params", score="score", smallest_effect="5%")
    with pytest.raises(ThalwegError, match="no scale is called 'permille'"):
        judge_table(wide, strength="params", score="score", scale="permille")
    with pytest.raises(ThalwegError, match="smallest effect is 'some'"):
        judge_table(wide, strength="params", score="score", smallest_effect="some")


HINTS = {
    "a score against itself": (RISING.with_columns(score=pl.col("params")), {}, "hold the same numbers"),
    "a doubled row": (pl.concat([RISING, RISING[2:3]]), {}, "row 7: the same as an earlier one in every column"),
    "one value": (RISING.with_columns(score=pl.lit(0.5)), {}, "'score' is 0.5 in every row"),
    "few models": (RISING[:4], {}, "4 models: fewer than 5"),
    "one configuration": (
        RISING.with_columns(kind=pl.lit("a")),
        {"group": "kind"},
        "'kind' names 1 configuration only",
    ),
    "twins beside trained models": (
        RISING.with_columns(control=pl.Series([*["trained"] * 4, "untrained", "rotated"])),
        {},
        "'control' names trained models and others (untrained, rotated), and all are judged together: to judge each "
        "kind by itself give --by control",
    ),
}


@pytest.mark.parametrize("what", HINTS)
def test_a_careful_readers_questions_are_asked(what: str):
    frame, options, hint = HINTS[what]
    (curve,) = curves_of(frame, Choice("params", ("score",), **options))
    assert any(hint in note for note in curve.notes)
    heard = Heard()
    judge_table(frame, strength="params", score="score", **options, progress=heard)
    assert hint in heard.said[-1]


def test_nothing_is_asked_of_a_plain_table():
    (curve,) = curves_of(RISING, Choice("params", ("score",)))
    assert curve.notes == ()


def test_twins_that_are_judged_by_themselves_or_not_at_all_raise_no_question():
    both = pl.concat([RISING.with_columns(control=pl.lit(kind)) for kind in ("trained", "rotated")])
    apart = curves_of(both, Choice("params", ("score",), by="control"))
    assert [curve.notes for curve in apart] == [(), ()]
    unscored = both.with_columns(score=pl.when(control="trained").then("score"))
    (curve,) = curves_of(unscored, Choice("params", ("score",)))
    assert not any("--by" in note for note in curve.notes)


@pytest.mark.parametrize("ending", [".json", ".csv", ".parquet"])
def test_records_are_written_by_the_ending(tmp_path: Path, ending: str):
    records = [curve.to_record() for curve in curves_of(RISING.with_columns(again=1 - pl.col("score")), TWO)]
    path = tmp_path / f"verdicts{ending}"
    write_records(records, path)
    if ending == ".json":
        assert json.loads(path.read_text()) == records
        return
    rows = (pl.read_csv(path) if ending == ".csv" else pl.read_parquet(path)).to_dicts()
    assert [(row["score"], row["verdict"], row["p_of"]) for row in rows] == [
        ("score", "increasing", "increasing"),
        ("again", "decreasing", "decreasing"),
    ]


TWO = Choice("params", ("score", "again"))


def test_a_note_that_holds_for_all_curves_of_a_table_is_said_once():
    frame = pl.concat([RISING, RISING[2:3]]).with_columns(again=pl.lit(0.5))
    lines = remarks(curves_of(frame, TWO))
    assert [line.split(":")[0] for line in lines] == ["the models", "the models"]
    assert "row 7" in lines[0]
    assert "again: 'again' is 0.5" in lines[1]
    with pytest.raises(ThalwegError, match=r"ends in \.json, \.csv or \.parquet"):
        write_records([], Path("verdicts.txt"))


def test_the_command_gives_a_row_for_each_curve(tmp_path: Path):
    table = tmp_path / "models.csv"
    RISING.with_columns(again=1 - pl.col("score")).write_csv(table)
    words = ["shape", str(table), "--strength", "params", "--score", "score", "--score", "again"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "verdicts.csv")])
    assert result.exit_code == 0
    header, *rows = [line.split() for line in result.stdout.splitlines()]
    assert header[:3] == ["score", "models", "verdict"]
    assert [(row[0], row[1], row[2]) for row in rows[:2]] == [
        ("score", "6", "increasing"),
        ("again", "6", "decreasing"),
    ]
    assert pl.read_csv(tmp_path / "verdicts.csv").height == 2
    result = CliRunner().invoke(app, [*words, "--json"])
    assert [record["verdict"] for record in json.loads(result.stdout)] == ["increasing", "decreasing"]
