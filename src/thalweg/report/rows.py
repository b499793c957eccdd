"""The rows that the report shows: joins, filters and orders of a run's tables, and nothing that is not in them.

Two things look like computing and are not: a rung's strength is the mean of its seeds' strengths, as in
its verdict, and twins are set beside the trained model with the difference of the two scores.
"""

from typing import Any

import polars as pl
import polars.selectors as cs

from thalweg.measures.base import MEAN
from thalweg.runs.run import Run
from thalweg.scoring.aggregate import BINS

CONTROLS = {  # as the report calls them
    "trained": "trained",
    "untrained": "untrained",
    "rotated": "rotated",
    "memorising": "memorising",
}
CAPACITY_ORDER = ("1", "2", "5", "20", "all")
DIGITS = 5
WHOLE = -1  # the seed of a rung's row while tables are joined, for a missing seed joins nothing


def plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, floats rounded for display, NaN as None."""
    return frame.with_columns(cs.float().cast(pl.Float64).fill_nan(None).round(DIGITS)).to_dicts()


def strengths(run: Run, ladder: str, axis: str) -> pl.DataFrame:
    """Strength on an axis and accuracy of the trained models of a ladder: a row a seed."""
    return run.models.filter((pl.col("ladder") == ladder) & (pl.col("control") == "trained")).select(
        "rung",
        pl.col("seed").cast(pl.Int32),
        pl.col(axis).cast(pl.Float64).alias("strength"),
        pl.col("accuracy").cast(pl.Float64).alias("accuracy"),
    )


def rung_strengths(seeds: pl.DataFrame) -> pl.DataFrame:
    """The strength of each rung: the mean of its seeds."""
    return seeds.group_by("rung", maintain_order=True).agg(
        pl.lit(WHOLE, pl.Int32).alias("seed"), pl.col("strength").mean(), pl.col("accuracy").mean()
    )


def points(
    run: Run, ladder: str, axis: str, *, measure: str, observer: str, band: str = MEAN, capacity: str | None = None
) -> pl.DataFrame:
    """The scores of a ladder's seeds and rungs and of their twins, each at the strength of its *trained* model.

    A rung stands at the mean strength of its seeds that have a score, as in its verdict; of all where none has. A row
    has rung, kind, control (in words), seed (missing for a rung), strength, accuracy, score, low, high, coverage and
    numbers of units; the weakest rung comes first.
    """
    keep = (
        (pl.col("ladder") == ladder)
        & (pl.col("measure") == measure)
        & (pl.col("observer") == observer)
        & (pl.col("band") == band)
    )
    if capacity is not None:
        keep = keep & (pl.col("capacity") == capacity)
    return placed(run, ladder, axis, run.scores.filter(keep))


def population_points(run: Run, ladder: str, axis: str, *, measure: str, observer: str, statistic: str) -> pl.DataFrame:
    """The same of another statistic of the units than their mean."""
    keep = (pl.col("ladder") == ladder) & (pl.col("measure") == measure) & (pl.col("observer") == observer)
    return placed(run, ladder, axis, run.populations.filter(keep & (pl.col("statistic") == statistic)))


def placed(run: Run, ladder: str, axis: str, scores: pl.DataFrame) -> pl.DataFrame:
    """Scores of seeds, rungs and twins, at the strengths of the trained models."""
    rows = scores.with_columns(pl.col("seed").cast(pl.Int32).fill_null(WHOLE))
    joined = rows.join(_along(rows, strengths(run, ladder, axis)), on=["rung", "seed"], how="left").with_columns(
        pl.col("control").replace(CONTROLS),
        pl.when(pl.col("seed") == WHOLE).then(None).otherwise(pl.col("seed")).alias("seed"),
    )
    order = [*dict.fromkeys((*CONTROLS.values(), *controls(run, ladder)))]
    rank = pl.col("control").replace_strict(order, range(len(order)), default=len(order), return_dtype=pl.Int32)
    ranked = joined.with_columns(rank.alias("rank"))
    return ranked.sort("strength", "rung", "rank", "seed", nulls_last=True).select(
        *("rung", "kind", "control", "seed", "strength", "accuracy"),
        *("score", "low", "high", "coverage", "n_units", "n_measured"),
    )


def _along(rows: pl.DataFrame, seeds: pl.DataFrame) -> pl.DataFrame:
    """The strengths of seeds, and of rungs: the mean over seeds that have a score, over all where none has."""
    scored = rows.filter((pl.col("control") == "trained") & (pl.col("seed") != WHOLE) & pl.col("score").is_not_nan())
    judged = seeds.join(scored, on=["rung", "seed"], how="semi")
    others = seeds.join(judged, on="rung", how="anti")
    return pl.concat([seeds, rung_strengths(judged), rung_strengths(others)])


def rungs(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of whole rungs among points."""
    return frame.filter(pl.col("seed").is_null())


def rung_order(run: Run, ladder: str, axis: str) -> list[str]:
    """The ladder's rungs, the weakest first."""
    return rung_strengths(strengths(run, ladder, axis)).sort("strength", "rung", nulls_last=True)["rung"].to_list()


def kinds(run: Run, ladder: str) -> dict[str, str]:
    """The kind of each rung of a ladder, in the ladder's order."""
    rows = run.models.filter(pl.col("ladder") == ladder).select("rung", "kind").unique(maintain_order=True)
    return dict(rows.iter_rows())


def controls(run: Run, ladder: str) -> tuple[str, ...]:
    """The controls that a ladder has, the trained models first."""
    there = run.models.filter(pl.col("ladder") == ladder)["control"].unique(maintain_order=True).to_list()
    others = (name for name in there if name not in CONTROLS)  # twins that only this ladder has
    return (*(label for name, label in CONTROLS.items() if name in there), *others)


def twins(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """For each rung its score with interval and coverage, its twins', and the differences: trained minus twin."""
    by_rung: dict[str, dict[str, Any]] = {}
    for row in plain(rungs(frame)):
        entry = by_rung.setdefault(row["rung"], {"rung": row["rung"], "kind": row["kind"], "strength": row["strength"]})
        entry[row["control"]] = row
    for row in by_rung.values():
        for control in [*CONTROLS.values(), *frame["control"].unique(maintain_order=True)][1:]:
            pair = row.get("trained", {}).get("score"), row.get(control, {}).get("score")
            row[f"minus_{control}"] = None if None in pair else round(pair[0] - pair[1], DIGITS)
    return list(by_rung.values())


def layers(run: Run, ladder: str, measure: str, *, observer: str) -> list[dict[str, Any]]:
    """Each layer's score in the models of a ladder and their twins, in the order of the layers."""
    keep = (pl.col("ladder") == ladder) & (pl.col("measure") == measure) & (pl.col("observer") == observer)
    shown = (
        run.layers.filter(keep)
        .sort("depth", maintain_order=True)
        .with_columns(
            pl.col("layer").alias("rung"),
            pl.col("control").replace(CONTROLS),
            (pl.col("n_measured") / pl.col("n_units")).alias("coverage"),
        )
    )
    return list(plain(shown.select("rung", "control", "score", "low", "high", "coverage", "n_units")))


def capacities(run: Run, ladder: str, *, observer: str) -> pl.DataFrame:
    """Each rung's score by the number of features that the observer may use."""
    keep = (
        (pl.col("ladder") == ladder)
        & (pl.col("measure") == "one_sided_capacity")
        & (pl.col("observer") == observer)
        & pl.col("seed").is_null()
    )
    return run.scores.filter(keep).select(
        "rung", pl.col("control").replace(CONTROLS), "capacity", "score", "low", "high", "coverage", "n_units"
    )


def spreads(run: Run, ladder: str, measure: str) -> pl.DataFrame:
    """How the units of each rung (all seeds together) spread over a measure's range: the share of units in each bin."""
    rows = run.distributions.filter((pl.col("ladder") == ladder) & (pl.col("measure") == measure))
    counted = rows.group_by("rung", "control", "bin").agg(pl.col("n").sum())
    share = (pl.col("n") / pl.col("n").sum().over("rung", "control")).alias("share")
    return counted.with_columns(
        share,
        pl.col("control").replace(CONTROLS),
        (pl.col("bin") / BINS).alias("from"),
        ((pl.col("bin") + 1) / BINS).alias("to"),
    ).sort("control", "rung", "bin")


def absent(run: Run, ladder: str) -> pl.DataFrame:
    """How many units have no score, by measure, reason and control, over all rungs and seeds."""
    rows = run.missing.filter(pl.col("ladder") == ladder).with_columns(pl.col("control").replace(CONTROLS))
    return rows.group_by("measure", "note", "control").agg(
        pl.col("n").sum(), pl.col("rung").n_unique().alias("rungs"), pl.col("rung").unique().sort().alias("which")
    )
