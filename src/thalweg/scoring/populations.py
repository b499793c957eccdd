"""What the mean over a model's units hides: its best and worst units, and how many stand out from the layer's rotation.

A mean can stay where it is while some units become clearer and the rest muddier. So a model has, for each headline,
four more scores: the 10th and the 90th percentile of its units; the share of units that stand above 95 % of the
directions of their own layer's rotated twin; and the mean over units minus that over those directions. Each is taken
layer by layer and averaged over layers, as the mean is. Intervals draw each layer's units again, of a rung its seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thalweg.measures.base import ALPHA, MEAN
from thalweg.measures.headlines import HEADLINES
from thalweg.scoring.columns import MODEL_KEY

Numbers = NDArray[np.float64]
STATISTICS = {
    "p10": "10th percentile of the units",
    "p90": "90th percentile of the units",
    "above_rotated": "share of units above 95 % of their layer's rotation",
    "minus_rotated": "mean of the units minus that of their layer's rotation",
}
AGAINST_ROTATED = ("above_rotated", "minus_rotated")
LEVELS = {"above_rotated": ALPHA, "minus_rotated": 0.0}  # where nothing stands out
MOST_DRAWS = 200
LEAST_UNITS = 5  # measured ones of a layer
LEAST_OF_TAIL = 7  # of fewer, the draws of a tenth rarely hold the lowest or highest, and their interval misses it
POPULATIONS = {
    **{name: pl.Int32 if name == "seed" else pl.String for name in MODEL_KEY},
    "measure": pl.String,
    "observer": pl.String,
    "statistic": pl.String,
    "score": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_units": pl.Int32,
    "n_measured": pl.Int32,
    "coverage": pl.Float64,
}


@dataclass(frozen=True, eq=False)
class Population:
    """One more score of one model, with its bootstrap draws."""

    key: Mapping[str, object]  # with the measure, the observer and the statistic
    score: float
    draws: Numbers
    units: int
    measured: int


def populations_of(units: pl.DataFrame, observer: str, *, resamples: int, seed: int) -> list[Population]:
    """The scores of one model and its twins, from its rows of the table of units."""
    rows = units.filter(~pl.col("exchanged"), pl.col("observer") == observer, pl.col("band") == MEAN)
    found = []
    for measure in HEADLINES.values():
        mine = rows.filter(measure=measure)
        layers = {
            control: [layer["value"].to_numpy().astype(float) for layer in part.partition_by("depth")]
            for (control,), part in mine.sort("depth", maintain_order=True).group_by("control", maintain_order=True)
        }
        keys = {row["control"]: row for row in mine.select(MODEL_KEY).unique(maintain_order=True).iter_rows(named=True)}
        for control, values in layers.items():
            for statistic in STATISTICS:
                against = statistic in AGAINST_ROTATED
                if against and (control != "trained" or "rotated" not in layers):
                    continue
                others = layers["rotated"] if against else values
                key = {**keys[control], "measure": measure, "observer": observer, "statistic": statistic}
                found.append(_population(key, statistic, values, others, min(resamples, MOST_DRAWS), seed))
    return found


def _population(
    key: Mapping[str, object],
    statistic: str,
    layers: Sequence[Numbers],
    others: Sequence[Numbers],
    resamples: int,
    seed: int,
) -> Population:
    """The mean over layers of a statistic, and of its draws; layers without enough units are left out."""
    generator = np.random.default_rng(seed)
    scores: list[float] = []
    draws: list[Numbers] = []
    for values, rotated in zip(layers, others, strict=True):
        mine, theirs = (part[~np.isnan(part)] for part in (values, rotated))
        if min(len(mine), len(theirs)) < (LEAST_UNITS if statistic in AGAINST_ROTATED else LEAST_OF_TAIL):
            continue
        score = float(BY_NAME[statistic](mine[None], theirs[None])[0])
        if np.isnan(score):
            continue
        scores.append(score)
        drawn, turned = (part[generator.integers(len(part), size=(resamples, len(part)))] for part in (mine, theirs))
        draws.append(BY_NAME[statistic](drawn, turned))
    measured = sum(int((~np.isnan(values)).sum()) for values in layers)
    units = sum(len(values) for values in layers)
    if not scores:
        return Population(key, np.nan, np.full(resamples, np.nan), units, measured)
    return Population(key, float(np.mean(scores)), np.mean(draws, axis=0), units, measured)


def _percentile(percent: float) -> Callable[[Numbers, Numbers], Numbers]:
    return lambda values, _rotated: np.percentile(values, percent, axis=1)


def _above(values: Numbers, rotated: Numbers) -> Numbers:
    """The share of units that at most 5 % of the rotated ones reach, counting the unit itself among these: where units
    and rotated ones come from the same distribution, at most 5 % are expected.
    """
    least = np.floor(ALPHA * (rotated.shape[1] + 1)).astype(int)  # of all, the unit included
    if least < 1:
        return np.full(len(values), np.nan)
    bar = np.sort(rotated, axis=1)[:, -least]
    share: Numbers = (values > bar[:, None]).mean(1)
    return share


def _minus(values: Numbers, rotated: Numbers) -> Numbers:
    difference: Numbers = values.mean(1) - rotated.mean(1)
    return difference


BY_NAME: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "p10": _percentile(10.0),
    "p90": _percentile(90.0),
    "above_rotated": _above,
    "minus_rotated": _minus,
}


def populations_table(models: Sequence[Population], *, seed: int) -> pl.DataFrame:
    """A row for each model, measure and statistic, and for each rung with the seed missing."""
    groups: dict[tuple[object, ...], list[Population]] = {}
    for model in models:
        groups.setdefault(tuple(value for name, value in model.key.items() if name != "seed"), []).append(model)
    return rows_of([*models, *(_rung(group, seed) for group in groups.values())])


def rows_of(models: Sequence[Population]) -> pl.DataFrame:
    """A row for each model, measure and statistic."""
    return pl.DataFrame([_row(model) for model in models], schema=POPULATIONS)


def _rung(seeds: Sequence[Population], seed: int) -> Population:
    """A rung: the mean over its seeds that have a score; its draws draw seeds, then units."""
    scored = [each for each in seeds if not np.isnan(each.score)]
    units, measured = (sum(getattr(each, name) for each in seeds) for name in ("units", "measured"))
    key = {**seeds[0].key, "seed": None}
    if not scored:
        return Population(key, np.nan, seeds[0].draws, units, measured)
    draws = np.stack([each.draws for each in scored])  # (seed, resample)
    chosen = np.random.default_rng(seed).integers(len(scored), size=(draws.shape[1], len(scored)))
    redrawn = draws[chosen, np.arange(draws.shape[1])[:, None]].mean(1)
    return Population(key, float(np.mean([each.score for each in scored])), redrawn, units, measured)


def _row(model: Population) -> dict[str, object]:
    missing = np.isnan(model.draws).any()
    low, high = (np.nan, np.nan) if missing else np.percentile(model.draws, (2.5, 97.5))
    counts = {"n_units": model.units, "n_measured": model.measured}
    return {
        **model.key,
        "score": model.score,
        "low": float(low),
        "high": float(high),
        **counts,
        "coverage": model.measured / max(1, model.units),
    }
