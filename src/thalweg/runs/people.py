"""What people answered about the trials of a run, as the analysis of a study leaves it there.

Several people answer one trial, so their answers have a table of their own; `Run.answers` has them too, under the name
`people:STUDY`.
"""

from pathlib import Path
from typing import Any

import polars as pl

from thalweg.files import whole
from thalweg.runs.answers import ANSWERS, ORDER
from thalweg.runs.directory import RunDirectory

TABLE, PREFIX, VERSION = "people.parquet", "people:", 1
PEOPLE: dict[str, Any] = {
    "study": pl.String,
    "participant": pl.String,
    **{name: ANSWERS[name] for name in ("trial", "ladder", "rung", "seed", "control", "layer", "unit", "band")},
    "picked": pl.Int8,  # 0 or 1: the first or the second query of the trial
    "correct": pl.Boolean,
    "confidence": pl.Int8,  # 1 to 3; missing where it was not asked
    "seconds": pl.Float64,
}
MEND = "give `thalweg study analyse` again, or remove the file"


def read_people(path: Path) -> pl.DataFrame:
    """The answers of people in a run directory; no rows where nobody was asked.

    Raises:
        ThalwegError: the file is damaged.
    """
    if not (path / TABLE).is_file():
        return pl.DataFrame(schema=PEOPLE)
    return whole.read_frame(path / TABLE, PEOPLE, mend=MEND).select(*PEOPLE).cast(pl.Schema(PEOPLE))


def keep_people(run: RunDirectory, study: str, rows: pl.DataFrame) -> None:
    """Put the answers of a study's people into the run, in place of what it had of the same study."""
    named = rows.with_columns(pl.lit(study).alias("study")).select(*PEOPLE).cast(pl.Schema(PEOPLE))
    with run.locked():
        others = read_people(run.path).filter(pl.col("study") != study)
        whole.write_frame(run / TABLE, pl.concat([others, named]))


def as_answers(people: pl.DataFrame) -> pl.DataFrame:
    """The answers of people as rows of the table of answers; how sure someone is, is no probability and left out."""
    named = people.with_columns(
        pl.concat_str(pl.lit(PREFIX), "study").alias("observer"),
        pl.lit(VERSION).alias("version"),
        pl.lit(None).alias("confidence"),
        pl.lit("").alias("note"),
        pl.lit("").alias("made_from"),
    )
    return named.select(*ANSWERS).cast(pl.Schema(ANSWERS)).sort(ORDER)
