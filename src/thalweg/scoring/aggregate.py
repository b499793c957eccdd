"""From units to models and rungs: means with intervals.

A model's score is the mean over its layers of the mean over their units, so each layer counts once however wide it is.
Its interval comes from drawing each layer's units again (bootstrap, 95 % percentiles). A rung's score is the mean over
its seeds; its interval draws seeds, then units. Where seeds differ more than their units explain, that of three seeds
is two fifths as wide as Student's and holds the mean in about .85 of cases (docs/intervals.md): tests of shape use the
seeds' variance instead.

A layer with a single unit shows no scatter. Such layers come from units drawn at random from many layers (`--units`),
which hit some layers and miss others; so then whole layers are drawn again. One unit alone has no interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES, PLAIN, is_headline
from thalweg.scoring.columns import MODEL_KEY, SCORE_KEY

Numbers = NDArray[np.float64]
PERCENTILES = (2.5, 97.5)
BINS = 20  # of a headline's range, in the distribution of units
HELD = 1 << 26  # numbers of one kind that are held at once: half a gigabyte


@dataclass(frozen=True, eq=False)
class LayerValues:
    """The scores of the units of one layer of a model."""

    layer: str
    depth: int
    values: NDArray[np.float32]  # (unit, column)


@dataclass(frozen=True, eq=False)
class UnitValues:
    """The scores of all units of one model, laid out for averaging."""

    key: Mapping[str, object]
    columns: pl.DataFrame  # (measure, observer, band, capacity)
    layers: Sequence[LayerValues]  # the first layer first
    failed: int  # units that make no trial at all


@dataclass(frozen=True, eq=False)
class ModelScores:
    """One model's score for each measure, its bootstrap draws, and how many units it has and could measure."""

    key: Mapping[str, object]
    columns: pl.DataFrame  # (measure, observer, band, capacity)
    score: Numbers  # (column)
    draws: Numbers  # (resample, column)
    units: int
    measured: NDArray[np.int64]  # (column)
    failed: int  # units that make no trial at all
    layers: pl.DataFrame  # a row for each layer and headline measure


def model_scores(units: UnitValues, *, resamples: int, seed: int) -> ModelScores:
    """The scores of one model from those of its units."""
    columns = units.columns
    measured = np.zeros(len(columns), np.int64)
    layer_scores: list[Numbers] = []
    layer_draws: list[Numbers] = []
    layers: list[pl.DataFrame] = []
    shown = columns.select(pl.col("measure").is_in([*HEADLINES.values(), PLAIN]) & (pl.col("band") == MEAN)).to_series()
    generator = np.random.default_rng(seed)
    for layer in units.layers:
        sums, counts = _sums(None, layer.values)
        with np.errstate(invalid="ignore"):
            layer_scores.append(sums / counts)
        layer_draws.append(_redrawn(layer.values, resamples, generator))
        if len(layer.values) == 1:
            layer_draws[-1][:] = np.nan
        measured += counts.astype(np.int64)
        layers.append(
            _keyed(columns.filter(shown), {**units.key, "layer": layer.layer, "depth": layer.depth}).with_columns(
                pl.lit(len(layer.values), pl.Int32).alias("n_units"),
                pl.Series("n_measured", counts[shown.to_numpy()], dtype=pl.Int32),
                *_with_interval(layer_scores[-1][shown.to_numpy()], layer_draws[-1][:, shown.to_numpy()]),
            )
        )
    scores, draws = np.stack(layer_scores), _mean(np.stack(layer_draws))
    if any(len(layer.values) == 1 for layer in units.layers):
        draws = _redrawn(scores, resamples, generator)
        draws[:, (~np.isnan(scores)).sum(0) == 1] = np.nan  # a layer alone
    return ModelScores(
        units.key,
        columns,
        _mean(scores),
        draws,
        sum(len(layer.values) for layer in units.layers),
        measured,
        units.failed,
        pl.concat(layers),
    )


def _redrawn(values: NDArray[np.float32] | Numbers, resamples: int, generator: np.random.Generator) -> Numbers:
    """The means over units, or layers, drawn again with replacement so many times: (resample, column)."""
    n_units = len(values)
    draws = []
    for start in range(0, resamples, step := max(1, HELD // n_units)):
        counts = generator.multinomial(n_units, np.full(n_units, 1 / n_units), min(step, resamples - start))
        sums, measured = _sums(counts.astype(float), values)
        with np.errstate(invalid="ignore"):
            draws.append(sums / measured)
    return np.concatenate(draws)


def _sums(weights: Numbers | None, values: NDArray[np.float32] | Numbers) -> tuple[Numbers, Numbers]:
    """The sum over measured units of each column, and how many these are; or of several weightings of the units."""
    sums: list[Numbers] = []
    counts: list[Numbers] = []
    for start in range(0, values.shape[1], step := max(1, HELD // len(values))):
        block = values[:, start : start + step].astype(float)
        there = ~np.isnan(block)
        filled = np.where(there, block, 0)
        sums.append(filled.sum(0) if weights is None else weights @ filled)
        counts.append(there.sum(0).astype(float) if weights is None else weights @ there)
    return np.concatenate(sums, -1), np.concatenate(counts, -1)


def _mean(numbers: Numbers) -> Numbers:
    """The mean over axis 0 of what is not NaN; NaN where nothing is left."""
    there = ~np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        mean: Numbers = np.where(there, numbers, 0).sum(0) / there.sum(0)
    return mean


def rung_scores(seeds: Sequence[ModelScores], *, seed: int) -> ModelScores:
    """The scores of a rung from those of its seeds."""
    draws = np.stack([model.draws for model in seeds])  # (seed, resample, column)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(seeds), size=(draws.shape[1], len(seeds)))
    redrawn = np.stack([draws[chosen[:, position], np.arange(draws.shape[1])] for position in range(len(seeds))])
    return ModelScores(
        {**seeds[0].key, "seed": None},
        seeds[0].columns,
        _mean(np.stack([model.score for model in seeds])),
        _mean(redrawn),
        sum(model.units for model in seeds),
        np.sum([model.measured for model in seeds], axis=0),
        sum(model.failed for model in seeds),
        pl.DataFrame(),
    )


def frame(model: ModelScores) -> pl.DataFrame:
    """A row for each measure of a model, with intervals from its draws."""
    return _keyed(model.columns, model.key).with_columns(
        *_with_interval(model.score, model.draws),
        pl.lit(model.units, pl.Int32).alias("n_units"),
        pl.Series("n_measured", model.measured, dtype=pl.Int32),
        pl.lit(model.failed, pl.Int32).alias("n_failed"),
        pl.Series("coverage", model.measured / max(1, model.units - model.failed)),
    )


NUMBERED = {"seed": pl.Int32, "depth": pl.Int16}


def _keyed(columns: pl.DataFrame, key: Mapping[str, object]) -> pl.DataFrame:
    """Columns' rows, each with the key before it."""
    named = [pl.lit(value, NUMBERED.get(name, pl.String)).alias(name) for name, value in key.items()]
    return columns.select(*named, *SCORE_KEY)


def _with_interval(score: Numbers, draws: Numbers) -> list[pl.Series]:
    """Scores with their intervals, as columns."""
    low, high = _interval(draws)
    return [pl.Series("score", score), pl.Series("low", low), pl.Series("high", high)]


def _interval(draws: Numbers) -> Numbers:
    """The percentiles of each column's draws that are not NaN; NaN where none is left."""
    gaps = np.isnan(draws)
    ends = np.percentile(np.where(gaps, 0, draws), PERCENTILES, axis=0)
    for column in np.flatnonzero(gaps.any(0)):  # few: columns of which some draws hold no measured unit
        kept = draws[~gaps[:, column], column]
        ends[:, column] = np.percentile(kept, PERCENTILES) if len(kept) else np.nan
    return ends


def exchanged_pairs(units: pl.DataFrame) -> pl.DataFrame:
    """For each unit and measure, its value and that of exchanged halves, where it has both."""
    key = [*MODEL_KEY, "layer", "unit", *SCORE_KEY]
    measures = [*HEADLINES.values(), PLAIN]
    rows = units.filter(pl.col("measure").is_in(measures) & (pl.col("band") == "mean"))
    again = rows.filter("exchanged")
    both = rows.filter(~pl.col("exchanged")).join(again, on=key, suffix="_again", maintain_order="left")
    both = both.filter(pl.col("value").is_not_nan() & pl.col("value_again").is_not_nan())
    return both.select(*MODEL_KEY, "measure", "value", "value_again")


def reliability(pairs: pl.DataFrame) -> pl.DataFrame:
    """For each measure, the rank correlation over each model's units of its value with that of exchanged halves
    (test-retest).
    """
    return pairs.group_by(*MODEL_KEY, "measure", maintain_order=True).agg(
        pl.corr("value", "value_again", method="spearman").fill_nan(None).alias("reliability")
    )


def distributions(units: pl.DataFrame, observers: Mapping[str, str]) -> pl.DataFrame:
    """How the units of each model spread over a headline's range: counts in bins of equal width."""
    rows = units.filter(~pl.col("exchanged") & is_headline(observers) & pl.col("value").is_not_nan())
    bin_index = (pl.col("value") * BINS).floor().clip(0, BINS - 1).cast(pl.Int32).alias("bin")
    return rows.group_by([*MODEL_KEY, "measure", bin_index]).agg(pl.len().cast(pl.Int32).alias("n"))


def missing(units: pl.DataFrame, observers: Mapping[str, str]) -> pl.DataFrame:
    """How many units of each model have no headline score, by reason."""
    rows = units.filter(~pl.col("exchanged") & is_headline(observers) & pl.col("value").is_nan())
    return rows.group_by([*MODEL_KEY, "measure", "note"]).agg(pl.len().cast(pl.Int32).alias("n"))


def added_up(counts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Counts `n` of several parts, added up and sorted by what they count."""
    key = [name for name in counts[0].columns if name != "n"]
    return pl.concat(counts).group_by(key).agg(pl.col("n").sum().cast(pl.Int32)).sort(key)
