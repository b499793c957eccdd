"""The table of relations: how each factor goes with each headline over the trained models of a ladder."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product

import polars as pl

from thalweg.factors.relation import Relation, relation
from thalweg.measures.headlines import HEADLINES
from thalweg.pipeline.verdicts import ALL, LEAST_COVERAGE
from thalweg.scoring.gains import GAIN

SCHEMA = {
    "ladder": pl.String,
    "kind": pl.String,  # of rungs, or all
    "factor": pl.String,
    "headline": pl.String,
    "rho": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_models": pl.Int32,
    "n_rungs": pl.Int32,
    "note": pl.String,  # why a number is missing
}


def relations(models: pl.DataFrame, factors: Sequence[str]) -> pl.DataFrame:
    """A row for each ladder, kind, factor and headline. As for verdicts, models of which less than a quarter of the
    units could be measured have no score here.
    """
    trained = models.filter(pl.col("control") == "trained")
    rows = []
    for (ladder,), of_ladder in trained.group_by("ladder", maintain_order=True):
        kinds = of_ladder["kind"].unique(maintain_order=True).to_list()
        for kind in [ALL, *kinds] if len(kinds) > 1 else [ALL]:
            shown = of_ladder if kind == ALL else of_ladder.filter(pl.col("kind") == kind)
            for factor, word in product(factors, HEADLINES):
                key = {"ladder": ladder, "kind": kind, "factor": factor, "headline": word}
                rows.append(key | asdict(_relation(shown, factor, word)))
    return pl.DataFrame(rows, schema=SCHEMA)


def gain_name(word: str, basis: str) -> str:
    """What the table of relations calls the gain of a basis on the neurons by a headline."""
    return f"{word} gain ({basis})"


def gain_relations(models: pl.DataFrame, populations: pl.DataFrame, factors: Sequence[str]) -> pl.DataFrame:
    """A row for each ladder, factor, and basis that gains on the neurons by a headline, over all kinds: how the gain
    goes with the factor over the trained models.
    """
    trained = models.filter(pl.col("control") == "trained").select("ladder", "rung", "seed", "order", *factors)
    gains = populations.filter(pl.col("control") == "trained", pl.col("seed").is_not_null(), statistic=GAIN)
    joined = gains.join(trained, on=["ladder", "rung", "seed"], maintain_order="left")
    rows = []
    for (ladder, basis), group in joined.group_by("ladder", "basis", maintain_order=True):
        for factor, (word, measure) in product(factors, HEADLINES.items()):
            scored = group.filter(pl.col("measure") == measure, pl.col("coverage") >= LEAST_COVERAGE)
            x, y = (scored[name].cast(pl.Float64).fill_null(math.nan).to_list() for name in (factor, "score"))
            key = {"ladder": ladder, "kind": ALL, "factor": factor, "headline": gain_name(word, str(basis))}
            rows.append(key | asdict(relation(x, y, scored["rung"].to_list())))
    return pl.DataFrame(rows, schema=SCHEMA)


def _relation(models: pl.DataFrame, factor: str, word: str) -> Relation:
    scored = models.filter(pl.col(f"{word}_coverage") >= LEAST_COVERAGE)
    x, y = (scored[name].cast(pl.Float64).fill_null(math.nan).to_list() for name in (factor, word))
    return relation(x, y, scored["rung"].to_list())
