"""What the report says of why: the hypotheses and smaller claims, and what the run's own numbers can say of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from thalweg.report import factors, rows
from thalweg.report.ladder import Ladder
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.styles import Row
from thalweg.report.text import NONE, decimal, missing, whole
from thalweg.runs.run import Run

AS_PREDICTED, OTHERWISE, OPEN = "as predicted", "the other way", "cannot tell"
NARROW = 0.1  # of an interval
SIGNS = {1: "above 0", -1: "below 0", 0: NONE}
INTRODUCTION = (
    "Associations over the models of a ladder, with 95 % intervals in which rungs count more than their seeds. "
    "They are no causes: whatever else changes from rung to rung changes with them. The experiment thalweg causes "
    "moves one thing at a time; nothing of it is in this table."
)
BETWEEN = (
    "Differences between ladders of different stimuli, with 95 % intervals from drawing rungs again. They are no "
    "causes: such ladders differ in much more than their stimuli. The experiment thalweg causes shows the same task "
    "in two ways; nothing of it is in this table."
)


def section(ladder: Ladder) -> dict[str, Any]:
    """What one ladder says: an introduction, a table for the hypotheses and one for the smaller claims; empty where the
    run says nothing of it.
    """
    mine = (pl.col("ladder") == ladder.name) & (pl.col("other") == "")
    return _section(ladder.run, mine, ladder.name, INTRODUCTION)


def between(run: Run) -> dict[str, Any]:
    """What ladders of different stimuli say beside each other."""
    return _section(run, pl.col("other") != "", "between ladders", BETWEEN)


def _section(run: Run, keep: pl.Expr, whose: str, introduction: str) -> dict[str, Any]:
    lines = list(rows.plain(run.claims.filter(keep)))
    if not lines:
        return {}
    texts: Mapping[str, str] = run.record["claims"]
    hypotheses = [line for line in lines if _is_hypothesis(line["claim"])]
    smaller = [line for line in lines if not _is_hypothesis(line["claim"])]
    return {
        "introduction": introduction,
        "counts": [
            {"claim": f"{claim}: {texts.get(claim, '')}", "says": _counted(hypotheses, claim)}
            for claim in filter(_is_hypothesis, texts)
            if any(line["claim"] == claim for line in hypotheses)
        ],
        "hypotheses": _table("hypotheses", f"The hypotheses, {whose}", hypotheses, {}),
        "smaller": _table("smaller-claims", f"Smaller claims, {whose}", smaller, texts),
    }


def _is_hypothesis(claim: str) -> bool:
    return claim.startswith("H")


def _table(name: str, caption: str, lines: Sequence[Row], texts: Mapping[str, str]) -> Table:
    """The lines as a table, without columns in which nothing stands."""
    made = [_line(line, texts) for line in lines]
    said = [column for column in (made[0] if made else ()) if any(line[column].text != NONE for line in made)]
    return table(name, caption, [{column: line[column] for column in said} for line in made])


def _line(row: Row, texts: Mapping[str, str]) -> dict[str, Cell]:
    quantity = factors.spoken(row["quantity"]) + (f", {row['ladder']} less {row['other']}" if row["other"] else "")
    return {
        "claim": word(texts.get(row["claim"], row["claim"])),
        "what stands for it": word(quantity),
        "headline": word(row["headline"]),
        "value": Cell(_with_ends(row), number(row["value"], decimal).key),
        "says": word(says(row)),
        "held": word(factors.spoken(row["held"])),
        "statistic": word(row["statistic"]),
        "predicted": word(SIGNS[row["predicted"]]),
        "models": number(row["n_models"] or None, whole),
        "note": word(row["note"]),
    }


def _with_ends(row: Row) -> str:
    if missing(row["value"]):
        return NONE
    if missing(row["low"]):
        return decimal(row["value"])
    digits = 3 if row["high"] - row["low"] < NARROW else 2  # else an end may look like 0 that is not
    value, low, high = (decimal(row[name], digits) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def says(row: Row) -> str:
    """Whether a number is as the claim predicts, by its interval; nothing where no sign is predicted."""
    if not row["predicted"]:
        return ""
    if missing(row["low"]):
        return OPEN
    low, high = (row["low"], row["high"]) if row["predicted"] > 0 else (-row["high"], -row["low"])
    return AS_PREDICTED if low > 0 else OTHERWISE if high < 0 else OPEN


def _counted(lines: Sequence[Row], claim: str) -> str:
    """How many of a hypothesis's lines are as predicted, or the other way."""
    every = [says(line) for line in lines if line["claim"] == claim and line["predicted"]]
    counts = {answer: every.count(answer) for answer in (AS_PREDICTED, OTHERWISE, OPEN)}
    listed = [f"{count} {answer}" for answer, count in counts.items() if count]
    return f"{', '.join(listed)}, of {len(every)}" if every else "no number here stands for it"
