"""The tables of a study that are analysed: participants and responses, checked before anything rests on them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files import parquet, whole
from thalweg.study.columns import PARTICIPANTS, RESPONSES
from thalweg.study.design import RECORD, Rules

KINDS = ("practice", "catch", "main")
STATUSES = ("started", "finished", "left", "returned")
MODEL = ["ladder", "rung", "seed", "control"]
UNIT = [*MODEL, "layer", "unit"]
EXPORT = "`thalweg study export` writes such a folder"


@dataclass(frozen=True, eq=False)
class StudyData:
    """A study as it is analysed.

    Attributes:
        path: The folder.
        record: What study.json says.
        rules: The rules for exclusion; None where the study brings its own checks.
        participants: A row for each, by the columns of `PARTICIPANTS`; there may be more.
        responses: A row for each, by the columns of `RESPONSES`.
    """

    path: Path
    record: dict[str, Any]
    rules: Rules | None
    participants: pl.DataFrame
    responses: pl.DataFrame

    @property
    def name(self) -> str:
        """The study's name, which says where its participants are simulated."""
        name = str(self.record.get("name") or self.path.name)
        return f"{name} (simulated)" if self.record.get("simulated") else name

    @property
    def main(self) -> pl.DataFrame:
        """The responses to main trials."""
        return self.responses.filter(kind="main")


def read_export(folder: Path) -> StudyData:
    """Read the folder that an export or an import wrote.

    Raises:
        ThalwegError: a file or a column is missing, a value is impossible, the tables do not belong together, or there
            is nothing to analyse.
    """
    record, rules = read_record(folder)
    participants, responses = (
        _table(folder / f"{name}.parquet", schema)
        for name, schema in (("participants", PARTICIPANTS), ("responses", RESPONSES))
    )
    data = StudyData(folder, record, rules, participants, responses)
    check(data, readable(folder / "participants.parquet"), readable(folder / "responses.parquet"))
    return data


def read_record(folder: Path) -> tuple[dict[str, Any], Rules | None]:
    """What study.json says, and the rules for exclusion that it holds.

    Raises:
        ThalwegError: it is missing or damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ThalwegError(f"{readable(path)}: there is no such file; {EXPORT}")
    record = whole.read_json(path)
    given = record.get("rules") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not (given is None or isinstance(given, dict)):
        raise whole.Damaged(path, "the record of a study was expected", EXPORT)
    if given is None:
        return record, None
    try:
        low, high = map(float, given["total_seconds"])
        rules: dict[str, Any] = {**given, "total_seconds": (low, high)}
        return record, Rules(**rules)
    except (KeyError, TypeError, ValueError) as wrong:
        raise whole.Damaged(path, f"its rules for exclusion cannot be read: {wrong}", EXPORT) from wrong


def _table(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    if not path.is_file():
        raise ThalwegError(f"{readable(path)}: there is no such file; {EXPORT}")
    frame = parquet.columns(path)
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise ThalwegError(
            f"{readable(path)}: the columns {', '.join(missing)} are missing; a table with {', '.join(schema)} was "
            "expected"
        )
    try:
        typed = frame.with_columns(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as wrong:
        first = str(wrong).splitlines()[0]
        raise ThalwegError(f"{readable(path)}: a column holds what it should not ({first[:160]}); {EXPORT}") from wrong
    return typed.select(*schema, pl.exclude(*schema))


def check(data: StudyData, of_participants: str, of_responses: str, called: Mapping[str, str] | None = None) -> None:
    """Check a study's tables; the texts name them in messages, and `called` the columns that a file names otherwise.

    Raises:
        ThalwegError: a value is impossible, the tables do not belong together, or there is nothing to analyse.
    """
    people, answers = data.participants, data.responses
    for frame, source in ((people, of_participants), (answers, of_responses)):
        if frame.is_empty():
            raise ThalwegError(f"{source}: the table is empty; a row for each participant and response was expected")
    _check_values(people, of_participants, PERSON, {})
    _check_values(answers, of_responses, ANSWER, called or {})
    _check_doubled(people, of_participants, ["participant"], "stands there twice")
    _check_doubled(answers, of_responses, ["participant", "position"], "has two responses at one position")
    asked = answers.filter(kind="main")
    _check_doubled(asked, of_responses, ["participant", "trial"], "answered one main trial twice")
    _check_one_study(people, answers, of_participants, of_responses)
    silent = people.filter(status="finished").join(asked, on="participant", how="anti")
    if len(silent):
        raise ThalwegError(
            f"{of_participants}: participant {silent['participant'][0]!r} finished and has no response to a main trial "
            f"in {of_responses} ({len(silent)} such); give both tables of one study"
        )


PERSON: dict[str, tuple[pl.Expr, str]] = {  # by column, what must hold, and what was expected
    "participant": (pl.col("participant").is_not_null(), "a name"),
    "status": (pl.col("status").is_in(STATUSES), ", ".join(STATUSES)),
    **{
        name: (pl.col(name).is_null() | (pl.col(name).is_finite() & (pl.col(name) >= 0)), "0 or more seconds")
        for name in ("instruction_seconds", "total_seconds")
    },
}
ANSWER: dict[str, tuple[pl.Expr, str]] = {
    "participant": (pl.col("participant").is_not_null(), "a name"),
    "trial": (pl.col("trial").is_not_null(), "the id of a trial"),
    "kind": (pl.col("kind").is_in(KINDS), ", ".join(KINDS)),
    "picked": (pl.col("picked").is_null() | pl.col("picked").is_in([0, 1]), "0, 1 or nothing"),
    "correct": (pl.col("correct").is_not_null(), "true or false"),
    "confidence": (pl.col("confidence").is_null() | pl.col("confidence").is_in([1, 2, 3]), "1, 2, 3 or nothing"),
    "seconds": (
        pl.col("seconds").is_null() | (pl.col("seconds").is_finite() & (pl.col("seconds") >= 0)),
        "0 or more seconds",
    ),
    "unit": (pl.when(pl.col("kind") == "main").then(pl.col("unit") >= 0).otherwise(True), "0 or more"),
    **{
        name: ((pl.col("kind") != "main") | pl.col(name).is_not_null(), "what the trial is about")
        for name in ("ladder", "rung", "control", "layer", "band")
    },
}


def _check_values(
    frame: pl.DataFrame, source: str, wanted: dict[str, tuple[pl.Expr, str]], called: Mapping[str, str]
) -> None:
    numbered = frame.with_row_index("row", 1)
    for column, (holds, expected) in wanted.items():
        wrong = numbered.filter(~holds.fill_null(False))
        if len(wrong):
            value, name = wrong[column][0], called.get(column, column)
            said = "missing" if value is None else f"{value!r} is impossible"
            raise ThalwegError(
                f"{source}, row {wrong['row'][0]}, column {name!r}: {said}; {expected} was expected"
                + (f" ({len(wrong)} such rows)" if len(wrong) > 1 else "")
            )


def _check_doubled(frame: pl.DataFrame, source: str, key: Sequence[str], what: str) -> None:
    twice = frame.filter(pl.struct(key).is_duplicated())
    if len(twice):
        raise ThalwegError(
            f"{source}: participant {twice['participant'][0]!r} {what}; each was expected once: were two studies put "
            "together?"
        )


def _check_one_study(people: pl.DataFrame, answers: pl.DataFrame, of_participants: str, of_responses: str) -> None:
    """Check that both tables are of one study.

    Raises:
        ThalwegError: someone who answered is not among the participants, or one trial asks two things.
    """
    strangers = answers.join(people, on="participant", how="anti")
    if len(strangers):
        raise ThalwegError(
            f"{of_responses}: participant {strangers['participant'][0]!r} is not in {of_participants} "
            f"({strangers['participant'].n_unique()} such); give both tables of one study"
        )
    right = pl.when(pl.col("correct")).then("picked").otherwise(1 - pl.col("picked"))
    main = answers.filter(kind="main").select("trial", pl.struct(UNIT).alias("unit"), right.alias("right"))
    asked = main.group_by("trial").agg(pl.col("unit").n_unique(), pl.col("right").drop_nulls().n_unique())
    mixed = asked.filter((pl.col("unit") > 1) | (pl.col("right") > 1)).sort("trial")
    if len(mixed):
        raise ThalwegError(
            f"{of_responses}: trial {mixed['trial'][0]!r} asks about two units, or two answers to it are right; the "
            "responses of one study were expected"
        )


def unit_names(rows: pl.DataFrame) -> pl.Series:
    """The name of the unit that each row is about."""
    return rows.select(pl.concat_str(*UNIT, separator="/", ignore_nulls=True).alias("unit")).to_series()


def write_data(folder: Path, data: StudyData) -> None:
    """Write a study as an export does."""
    whole.write_frame(folder / "participants.parquet", data.participants)
    whole.write_frame(folder / "responses.parquet", data.responses)
    whole.write_json(folder / RECORD, json.loads(json.dumps(data.record)))
