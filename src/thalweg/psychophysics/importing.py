"""Answers of other studies, as the tables that are analysed.

Two layouts are read. `published` is that of Zimmermann, Klein & Brendel 2023: a row for each response, the practice and
the catch trials too, with the outcome of the study's own checks. `plain` has what any study has: who answered about
which unit of which model, and whether that was right.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files import parquet
from thalweg.psychophysics.tables import StudyData, check
from thalweg.study.columns import PARTICIPANTS, RESPONSES

TEXT, FLAG, WHOLE, SURE = "a text", "true or false", "a whole number", "1, 2 or 3"
TIME = "a finite number, 0 or more"
FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
ABSENT = ("", "nan", "na", "none", "null", "<na>")
MILLISECONDS = 1000.0  # jsPsych's times
IMPORTED = 1  # version of an imported study's study.json


@dataclass(frozen=True)
class Layout:
    """A layout of a table of responses: its columns by what they hold, how it is laid out as ours is, and what it calls
    our columns that have another name.
    """

    name: str
    needed: Mapping[str, str]
    optional: Mapping[str, str]
    responses: Callable[[pl.DataFrame], pl.DataFrame]
    called: Mapping[str, str]


def read_responses(path: str | Path, name: str = "") -> StudyData:
    """Read a table of responses of another study.

    Args:
        path: A CSV or Parquet file, in one of the two layouts.
        name: What the study is called; by default as the file.

    Raises:
        ThalwegError: the file cannot be read, a column is missing, a value is impossible, or nothing is in it.
    """
    file = Path(path)
    source = readable(file)
    table = _read(file)
    layout = _layout_of(table, source)
    if table.is_empty():
        raise ThalwegError(f"{source}: the table is empty; a row for each response was expected")
    columns = {**layout.needed, **{name: kind for name, kind in layout.optional.items() if name in table.columns}}
    typed = table.select(_parsed(table, column, kind, source) for column, kind in columns.items())
    responses = layout.responses(_with_sessions(typed)).with_columns(pl.lit(0, pl.Int32).alias("seed"))
    responses = responses.with_columns(pl.lit("trained").alias("control"))
    people = _participants(responses)
    absent = [pl.lit(None, kind).alias(name) for name, kind in RESPONSES.items() if name not in responses.columns]
    shaped = responses.with_columns(absent).select(*RESPONSES).cast(pl.Schema(RESPONSES))
    record = {"version": IMPORTED, "name": name or file.stem, "layout": layout.name, "source": file.name, "rules": None}
    data = StudyData(file.parent, record, None, people, shaped)
    check(data, source, source, layout.called)
    return data


def _read(file: Path) -> pl.DataFrame:
    """A table with all cells as text."""
    if file.is_dir():
        raise ThalwegError(
            f"{readable(file)}: this is a folder; give a table of responses (.csv or .parquet), or analyse the "
            "folder of an export with `thalweg study analyse`"
        )
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise ThalwegError(f"{readable(file)}: a table of responses as .csv or .parquet was expected")
    if not file.is_file():
        raise ThalwegError(f"{readable(file)}: there is no such file; a table of responses was expected")
    if file.suffix.lower() == ".parquet":
        return parquet.columns(file).cast(pl.String)
    try:
        return pl.read_csv(file, infer_schema=False, encoding="utf8-lossy")
    except pl.exceptions.NoDataError as empty:
        raise ThalwegError(f"{readable(file)}: the table is empty; a row for each response was expected") from empty
    except (pl.exceptions.PolarsError, OSError) as damage:
        first = str(damage).strip().splitlines()[0][:160]
        raise ThalwegError(f"{readable(file)}: cannot be read as CSV ({first})") from damage


def _layout_of(table: pl.DataFrame, source: str) -> Layout:
    """The layout that a table has.

    Raises:
        ThalwegError: none; names what is missing of the one that comes nearest.
    """
    lacking = {layout.name: [name for name in layout.needed if name not in table.columns] for layout in LAYOUTS}
    for layout in LAYOUTS:
        if not lacking[layout.name]:
            return layout
    near = max(LAYOUTS, key=lambda layout: len(layout.needed) - 2 * len(lacking[layout.name]))
    raise ThalwegError(
        f"{source}: the columns {', '.join(lacking[near.name])} are missing; for the layout {near.name!r} the columns "
        f"{', '.join(near.needed)} were expected"
    )


def _parsed(table: pl.DataFrame, column: str, kind: str, source: str) -> pl.Series:
    """A column of texts as what it holds; missing cells stay missing.

    Raises:
        ThalwegError: a cell holds something else; says in which row.
    """
    cell = pl.col(column).str.strip_chars()
    number = pl.col(column).cast(pl.Float64, strict=False)
    whole = pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))
    read = {
        TEXT: pl.col(column),
        FLAG: pl.col(column).str.to_lowercase().replace_strict(FLAGS, default=None, return_dtype=pl.Boolean),
        WHOLE: whole,
        SURE: pl.when(whole.is_in([1, 2, 3])).then(whole),
        TIME: pl.when(number.is_finite() & (number >= 0)).then(number),
    }
    cells = table.select(pl.when(~cell.str.to_lowercase().is_in(ABSENT)).then(cell).alias(column))
    texts, values = cells.to_series(), cells.select(read[kind].alias(column)).to_series()
    wrong = (texts.is_not_null() & values.is_null()).arg_true()
    if len(wrong):
        raise ThalwegError(
            f"{source}, row {wrong[0] + 1}, column {column!r}: {texts[wrong[0]]!r} is impossible; {kind} was expected"
        )
    return values


def _with_sessions(table: pl.DataFrame) -> pl.DataFrame:
    """The rows with their participant's name; where one came back, each time is a participant of its own."""
    if "participant_id" not in table.columns:
        return table
    key = ["participant_id", "task_id"]
    asked = ["model", "mode", "layer", "channel", "batch"]
    again = pl.when(~pl.col("is_demo")).then(pl.int_range(pl.len()).over(*key, *asked)).otherwise(0)
    table = table.with_columns(again.alias("again"))
    session = pl.struct("task_id", "again")
    several = session.n_unique().over("participant_id") > 1
    named = pl.concat_str("participant_id", "task_id", pl.col("again") + 1, separator="/")
    return table.with_columns(pl.when(several).then(named).otherwise("participant_id").alias("participant"))


def _published(table: pl.DataFrame) -> pl.DataFrame:
    """The published layout, as ours: a mode is a ladder, a model a rung, a channel a unit."""
    practice, catch, main = map(pl.lit, ("practice", "catch", "main"))
    kind = pl.when("is_demo").then(practice).when("catch_trial").then(catch).otherwise(main)
    asked = pl.concat_str("model", "mode", "layer", "channel", "batch", separator="/", ignore_nulls=True)
    return table.with_columns(
        kind.alias("kind"),
        pl.int_range(pl.len()).over("participant").alias("position"),
        asked.fill_null("").alias("trial"),
        pl.col("mode").alias("ladder"),
        pl.col("model").alias("rung"),
        pl.col("channel").alias("unit"),
        pl.lit("extreme").alias("band"),
        (pl.col("rt") / MILLISECONDS).alias("seconds"),
    )


def _plain(table: pl.DataFrame) -> pl.DataFrame:
    """The plain layout, as ours."""
    usual = {"ladder": "study", "layer": "layer", "band": "extreme", "kind": "main"}
    filled = [
        (pl.col(name).fill_null(value) if name in table.columns else pl.lit(value)).alias(name)
        for name, value in usual.items()
    ]
    table = table.with_columns(filled).with_columns(
        pl.col("model").alias("rung"), pl.int_range(pl.len()).over("participant").alias("position")
    )
    if "trial" in table.columns:
        return table
    named = pl.concat_str("model", "layer", "unit", "participant", "position", separator="/", ignore_nulls=True)
    return table.with_columns(named.alias("trial"))


def _participants(responses: pl.DataFrame) -> pl.DataFrame:
    """A row for each participant, with the outcome of the study's own checks."""
    passed, repeated = pl.lit(True), pl.lit(False)
    if "passed_checks" in responses.columns:
        passed = pl.col("passed_checks").all()
    if "multi_participation" in responses.columns:
        repeated = pl.col("multi_participation").any()
    people = responses.group_by("participant", maintain_order=True).agg(
        pl.lit("finished").alias("status"),
        passed.alias("passed_checks"),
        repeated.alias("multi_participation"),
    )
    absent = [pl.lit(None, kind).alias(name) for name, kind in PARTICIPANTS.items() if name not in people.columns]
    return people.with_columns(absent).select(*PARTICIPANTS, "passed_checks", "multi_participation")


LAYOUTS = (
    Layout(
        "published",
        {
            **dict.fromkeys(("correct", "catch_trial", "is_demo", "passed_checks", "multi_participation"), FLAG),
            **{"confidence": SURE, "rt": TIME, "participant_id": TEXT, "task_id": TEXT, "task_number": WHOLE},
            **{"batch": WHOLE, "channel": WHOLE, "layer": TEXT, "mode": TEXT, "model": TEXT},
        },
        {},
        _published,
        {"ladder": "mode", "rung": "model", "unit": "channel", "seconds": "rt", "participant": "participant_id"},
    ),
    Layout(
        "plain",
        {"participant": TEXT, "model": TEXT, "unit": WHOLE, "correct": FLAG},
        {
            **dict.fromkeys(("ladder", "layer", "trial", "band", "kind"), TEXT),
            **{"picked": WHOLE, "confidence": SURE, "seconds": TIME},
            **dict.fromkeys(("passed_checks", "multi_participation"), FLAG),
        },
        _plain,
        {"rung": "model"},
    ),
)
