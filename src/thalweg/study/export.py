"""From the database to the tables that are analysed and published."""

import json
import random
import time
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from thalweg.errors import readable
from thalweg.files import whole
from thalweg.study.columns import PARTICIPANTS, RESPONSES, UTC
from thalweg.study.design import RECORD, Study
from thalweg.study.people import PREFIX as SIMULATED
from thalweg.study.store import FINISHED, LEFT, STARTED, Store, participants, responses
from thalweg.study.tokens import Tokens

CODES = "codes.csv"
LEFT_AFTER = 3600.0  # seconds without a request after which someone who did not finish counts as having left
STIMULUS_COLUMNS = ("ladder", "rung", "seed", "control", "layer", "unit", "band")
NAMED = ["participant", "external"]


def export(study: Study, store: Store, out: Path, *, anonymous: bool = False) -> dict[str, int]:
    """Write study.json, participants.parquet and responses.parquet to a folder, and codes.csv with the completion codes
    of those who finished, by which a panel's submissions are checked.

    Args:
        study: The study.
        store: Its database.
        out: The folder.
        anonymous: Put numbers in random order for the participants' opaque ids, begin each one's clock at the year
            2000, and write no codes.

    Where the participants are simulated, study.json says so (`simulated`), and so does every analysis.

    Returns:
        How many participants there are of each status, and how many responses.
    """
    whole.writable(out, "--out")
    people, answers = tables(study, store)
    simulated = people["external"].str.starts_with(SIMULATED).any()
    if anonymous:
        people, answers = anonymised(people, answers)
        (out / CODES).unlink(missing_ok=True)
    else:
        tokens = Tokens(study)
        finished = people.filter(status=FINISHED).select("external", "id").rows()
        codes = pl.DataFrame(
            [(name, tokens.code(key)) for name, key in finished], schema=["participant", "code"], orient="row"
        )
        whole.write_text(out / CODES, codes.sort("participant").write_csv())
    people = people.drop("id").rename({"external": "participant"})
    answers = answers.drop("participant").rename({"external": "participant"})
    people = people.select(*PARTICIPANTS).cast(pl.Schema(PARTICIPANTS)).sort("participant")
    answers = answers.select(*RESPONSES).cast(pl.Schema(RESPONSES)).sort("participant", "position")
    whole.write_frame(out / "participants.parquet", people)
    whole.write_frame(out / "responses.parquet", answers)
    record: dict[str, Any] = study.record | ({"simulated": True} if simulated else {})
    if anonymous and "path" in record["run"]:
        record["run"] = {**record["run"], "path": Path(record["run"]["path"]).name}
    whole.write_json(out / RECORD, json.loads(json.dumps(record)))
    return {**dict(people["status"].value_counts().sort("status").iter_rows()), "responses": len(answers)}


def tables(study: Study, store: Store) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Participants and responses, joined with what the trials ask; `id` and `external` name a participant."""
    with store.reading() as connection:
        people = _frame(connection, participants)
        answers = _frame(connection, responses)
    now = max([time.time(), *people["seen_at"]])
    gone = (pl.col("status") == STARTED) & (pl.col("seen_at") < now - LEFT_AFTER)
    people = people.with_columns(
        pl.when(gone).then(pl.lit(LEFT)).otherwise("status").alias("status"),
        (pl.col("instructed_at") - pl.col("consented_at")).alias("instruction_seconds"),
        (pl.col("finished_at") - pl.col("started_at")).alias("total_seconds"),
        pl.when(pl.col("instructed_at").is_not_null()).then("attempt").otherwise(0).alias("practice_attempts"),
        *(_as_time(name) for name in ("started_at", "finished_at")),
    )
    people = people.select("id", "external", *(name for name in PARTICIPANTS if name != "participant"))
    trials = study.trials.select("trial", *STIMULUS_COLUMNS)
    answers = answers.join(trials, on="trial", how="left", maintain_order="left")
    answers = answers.with_columns(_as_time("answered_at"))
    return people, answers.join(people.select(participant="id", external="external"), on="participant")


def _frame(connection: sa.Connection, table: sa.Table) -> pl.DataFrame:
    rows = connection.execute(sa.select(table)).all()
    kinds: dict[type, Any] = {str: pl.String, int: pl.Int32, float: pl.Float64, bool: pl.Boolean}
    schema = {column.name: kinds[column.type.python_type] for column in table.columns}
    return pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")


def _as_time(name: str) -> pl.Expr:
    return (pl.col(name) * 1e6).round().cast(pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias(name)


def anonymised(people: pl.DataFrame, answers: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables with numbers in random order for ids, and every participant's clock begun at the year 2000."""
    order = list(people["id"])
    random.SystemRandom().shuffle(order)
    width = len(str(len(order)))
    new = {participant: f"p{number:0{width}}" for number, participant in enumerate(order, 1)}
    began = pl.DataFrame({"id": people["id"], "began": people["started_at"]}, schema_overrides={"began": UTC})
    epoch = pl.datetime(2000, 1, 1, time_zone="UTC", time_unit="us")
    people = people.join(began, on="id", maintain_order="left").with_columns(
        pl.col("id").replace_strict(new, return_dtype=pl.String).alias("external"),
        *((epoch + (pl.col(name) - pl.col("began"))).alias(name) for name in ("started_at", "finished_at")),
    )
    answers = answers.join(began, left_on="participant", right_on="id", maintain_order="left").with_columns(
        pl.col("participant").replace_strict(new, return_dtype=pl.String).alias("external"),
        (epoch + (pl.col("answered_at") - pl.col("began"))).alias("answered_at"),
    )
    return people.drop("began"), answers.drop("began")


def where(out: Path | None, study: Study) -> Path:
    """The folder of an export, by default `export` in the study's."""
    return out if out is not None else study.path / "export"


def summary(counts: dict[str, int], out: Path) -> str:
    """An export in one line."""
    parts = ", ".join(f"{number:,} {name}" for name, number in counts.items() if name != "responses")
    return f"{counts['responses']:,} responses of participants ({parts or 'none'}): {readable(out)}"
