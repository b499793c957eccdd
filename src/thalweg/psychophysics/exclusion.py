"""Whose responses count, by rules that were written before the study ran, and blind to what was found.

The rules see whether catch trials were answered rightly, how often each place was chosen, and how long things took.
They see neither whether the main trials were answered rightly nor which model a trial was about.
"""

from collections import Counter
from typing import Any

import polars as pl
from scipy.stats import binom

from thalweg.study.design import Rules

NOT_FINISHED = "did not finish"
REPEATED = "took part more than once"
NOT_PASSED = "did not pass the study's own checks"
EXCLUSIONS: dict[str, Any] = {
    "participant": pl.String,
    "kept": pl.Boolean,
    "reasons": pl.String,  # parted by semicolons; empty for those that are kept
    **dict.fromkeys(("n_main", "n_catch", "catch_right", "fewer_side"), pl.Int64),
}


def blinded(responses: pl.DataFrame) -> pl.DataFrame:
    """What the rules may see of responses: whose each is, its kind and place, and of catch trials whether it is
    right.
    """
    of_catch = pl.when(pl.col("kind") == "catch").then("correct").alias("catch_right")
    return responses.select("participant", "kind", "picked", of_catch)


def exclude(participants: pl.DataFrame, seen: pl.DataFrame, rules: Rules | None) -> pl.DataFrame:
    """Who is kept, and why the others are not.

    Args:
        participants: A row for each participant. Where a study brings its own checks, they stand in the columns
            `passed_checks` and `multi_participation`.
        seen: Their responses, as `blinded` leaves them.
        rules: The study's; None where it brings its own checks.

    Returns:
        A row for each participant, in the same order.
    """
    main = pl.col("kind") == "main"
    sides = pl.min_horizontal(*((pl.col("picked") == side).filter(main).sum() for side in (0, 1)))
    counted = seen.group_by("participant").agg(
        main.sum().alias("n_main"),
        pl.col("catch_right").count().alias("n_catch"),
        pl.col("catch_right").sum().alias("catch_right"),
        pl.when(pl.col("picked").filter(main).count() > 0).then(sides).alias("fewer_side"),
    )
    rows = participants.join(counted, on="participant", how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("n_main", "n_catch", "catch_right").fill_null(0))
    reasons = [[reason for reason, holds in _broken(row, rules).items() if holds] for row in rows.to_dicts()]
    rows = rows.with_columns(
        pl.Series("reasons", ["; ".join(each) for each in reasons], dtype=pl.String),
        pl.Series("kept", [not each for each in reasons], dtype=pl.Boolean),
    )
    return rows.select(*EXCLUSIONS).cast(pl.Schema(EXCLUSIONS))


def _broken(row: dict[str, Any], rules: Rules | None) -> dict[str, bool]:
    """Each reason to exclude a participant, and whether it holds. What is not known excludes nobody."""
    reasons = {NOT_FINISHED: row["status"] != "finished"}
    if rules is None:
        passed, repeated = row.get("passed_checks"), row.get("multi_participation")
        return {**reasons, NOT_PASSED: passed is False, REPEATED: repeated is True}
    instructions, total, side = row["instruction_seconds"], row["total_seconds"], row["fewer_side"]
    attempts, catches = row["practice_attempts"], row["n_catch"]
    low, high = rules.total_seconds
    reasons |= {
        f"fewer than {rules.catch_accuracy:.0%} of the catch trials right": (
            catches > 0 and row["catch_right"] < rules.catch_accuracy * catches - 1e-9
        ),
        f"less than {rules.instruction_seconds:g} seconds on the instructions": (
            instructions is not None and instructions < rules.instruction_seconds
        ),
        f"less than {low:g} or more than {high:g} seconds in all": total is not None and not low <= total <= high,
        f"one place chosen fewer than {rules.side_count} times": side is not None and side < rules.side_count,
        f"more than {rules.practice_attempts} attempts at the practice": (
            attempts is not None and attempts > rules.practice_attempts
        ),
    }
    if reasons[NOT_FINISHED]:
        return {NOT_FINISHED: True}  # what else a half of a session breaks says nothing
    return reasons


def counts(excluded: pl.DataFrame) -> dict[str, int]:
    """How many participants each reason excludes; one may have several."""
    every = Counter(reason for text in excluded["reasons"] if text for reason in text.split("; "))
    return dict(sorted(every.items()))


def passing(rules: Rules, catches: int, right: float) -> float:
    """The probability that a participant passes the rule on catch trials.

    Args:
        rules: The study's.
        catches: How many catch trials there are.
        right: The probability that the participant is right about one; a guesser's is 0.5.

    Source:
        The binomial distribution: of five, four must be right; a guesser passes with 0.1875.
    """
    least = -(-(rules.catch_accuracy * catches - 1e-9) // 1)
    return float(binom.sf(least - 1, catches, right))
