"""How often an observer that answers single trials is right: per unit, per layer and per model.

Chance is 0.5. A trial answered is right or wrong, so a unit's accuracy is a proportion, with Wilson's interval (Wilson
1927) over its answers. A layer's accuracy is the mean over its units, and a model's is the mean over its layers, as for
every other score here. Answers about one unit are not independent: a unit that is easy once is easy again. So the
interval of a layer comes from the differences between its units alone, with n the number of units, and the interval of
a model adds the variances of its layers. It has Wilson's form with the effective number of trials p (1 - p) / variance
and Student's quantile, as that of `two_choice` has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.special import stdtrit

from thalweg.measures.base import ALPHA, Z, wilson

MODEL = ["observer", "version", "ladder", "rung", "seed", "control"]
LAYER = [*MODEL, "layer"]
UNIT = [*LAYER, "unit"]
COUNTS = {"n": pl.Int64, "n_failed": pl.Int64}


@dataclass(frozen=True, eq=False)
class ChoiceScores:
    """The accuracy of answers to single trials, at three levels.

    Every table has a row for each thing that was asked about, and these columns: observer, version, ladder, rung, seed,
    control, `value` (proportion correct, 0 to 1; chance is 0.5), `low` and `high` (the 95 % interval; NaN where there
    are too few units for one), `n` (answers), `n_failed` (answers that failed, which count nowhere else).

    Attributes:
        units: A row per unit, with `layer` and `unit`.
        layers: A row per layer, with `layer` and `n_units`.
        models: A row per model and twin, with `n_units`.
    """

    units: pl.DataFrame
    layers: pl.DataFrame
    models: pl.DataFrame


def score_choices(answers: pl.DataFrame) -> ChoiceScores:
    """Score answers to single trials.

    Args:
        answers: Rows of a run's table of answers, as `run.answers` returns them.

    Returns:
        The proportion correct of every unit, layer and model, with 95 % intervals.

    Source:
        The 2AFC protocol of Zimmermann, Klein & Brendel 2023; Wilson 1927; degrees of freedom of a sum of variances:
        Satterthwaite 1946.
    """
    counted = answers.group_by(UNIT).agg(
        pl.col("correct").sum().cast(pl.Int64).alias("right"),
        pl.col("correct").count().cast(pl.Int64).alias("n"),
        pl.col("correct").null_count().cast(pl.Int64).alias("n_failed"),
    )
    counted = counted.sort(UNIT).with_columns((pl.col("right") / pl.col("n")).alias("value"))  # NaN where n is 0
    share, n = (torch.from_numpy(counted[name].to_numpy().astype(float)) for name in ("value", "n"))
    low, high = wilson(share, n, Z)
    units = counted.with_columns(pl.Series("low", low.numpy()), pl.Series("high", high.numpy()))
    return ChoiceScores(
        units.select(*UNIT, "value", "low", "high", *COUNTS), _means(units, LAYER), _means(units, MODEL)
    )


def _means(units: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The mean over layers of the mean over units, for each group of rows with the same key."""
    rows = []
    for names, group in units.group_by(key, maintain_order=True):
        asked = group.filter(pl.col("n") > 0)
        values = [layer["value"].to_numpy() for _, layer in asked.group_by("layer", maintain_order=True)]
        value, low, high = mean_over_layers(values)
        counts = {"n_units": len(asked), **{name: int(group[name].sum()) for name in COUNTS}}
        rows.append({**dict(zip(key, names, strict=True)), "value": value, "low": low, "high": high, **counts})
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    schema: dict[str, Any] = {**{name: units.schema[name] for name in key}, **numbers, "n_units": pl.Int64, **COUNTS}
    return pl.DataFrame(rows, schema=schema)


def mean_over_layers(values: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """The mean over layers of the mean over units, and the ends of its 95 % interval.

    A layer's variance is s^2 / m, with s^2 the variance between its m units. A layer of one unit has none of its own:
    it takes the mean s^2 of the others, weighed by their degrees of freedom. NaN ends where no layer has two units.

    Args:
        values: For each layer, the accuracies of its units, 0 to 1.
    """
    if not values:
        return float("nan"), float("nan"), float("nan")
    value = float(np.mean([layer.mean() for layer in values]))
    free = np.array([len(layer) - 1 for layer in values])  # degrees of freedom
    if not free.any():
        return value, float("nan"), float("nan")
    spreads = np.array([layer.var(ddof=1) if len(layer) > 1 else 0.0 for layer in values])
    spreads = np.where(free > 0, spreads, (spreads * free).sum() / free.sum())
    parts = spreads / (free + 1) / len(values) ** 2  # of the variance of the mean
    variance = float(parts.sum())
    if variance > 1e-12:
        degrees = variance**2 / float((parts**2 / np.where(free > 0, free, free.sum())).sum())
        trials = max(value * (1 - value) / variance, 1.0)
    else:  # all units of each layer have the same accuracy
        degrees, trials = float(free.sum()), float((free + 1).sum())
    share, n = torch.tensor(value, dtype=torch.float64), torch.tensor(trials, dtype=torch.float64)
    low, high = wilson(share, n, float(stdtrit(degrees, 1 - ALPHA / 2)))
    return value, float(low), float(high)
