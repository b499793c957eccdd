"""From units to models and rungs: means with intervals.

A model's score is the mean over its layers of the mean over their units, so each layer counts once however wide it is.
Its interval comes from drawing each layer's units again (bootstrap, 95 % percentiles). A rung's score is the mean over
its seeds; its interval draws seeds, then units. With three seeds the percentile interval is too narrow by a factor of
up to sqrt(2/3): tests of shape use the seeds' variance instead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES, PLAIN, is_headline
from thalweg.scoring.columns import MODEL_KEY, SCORE_KEY
from thalweg.trials.building import CONSTANT, NONFINITE

Numbers = NDArray[np.float64]
PERCENTILES = (2.5, 97.5)
BINS = 20  # of a headline's range, in the distribution of units


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


def model_scores(units: pl.DataFrame, *, resamples: int, seed: int) -> ModelScores:
    """The scores of one model from its rows of the table of units."""
    rows = units.filter(~pl.col("exchanged"))
    columns = rows.select(SCORE_KEY).unique(maintain_order=True)
    layer_scores, layer_draws, measured, count = [], [], np.zeros(len(columns), np.int64), 0
    first, layers = rows.select(MODEL_KEY).row(0, named=True), []
    shown = columns.select(pl.col("measure").is_in([*HEADLINES.values(), PLAIN]) & (pl.col("band") == MEAN)).to_series()
    generator = np.random.default_rng(seed)
    for (depth,), layer in rows.sort("depth", maintain_order=True).group_by("depth", maintain_order=True):
        values = _by_column(layer, len(columns))  # (unit, column)
        there = ~np.isnan(values)
        filled = np.where(there, values, 0)
        with np.errstate(invalid="ignore"):
            layer_scores.append(filled.sum(0) / there.sum(0))
            weights = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), resamples).astype(float)
            layer_draws.append((weights @ filled) / (weights @ there))
        measured += there.sum(0)
        count += len(values)
        layers.append(
            _keyed(columns.filter(shown), {**first, "layer": layer["layer"][0], "depth": depth}).with_columns(
                pl.lit(len(values), pl.Int32).alias("n_units"),
                pl.Series("n_measured", there.sum(0)[shown.to_numpy()], dtype=pl.Int32),
                *_with_interval(layer_scores[-1][shown.to_numpy()], layer_draws[-1][:, shown.to_numpy()]),
            )
        )
    dead = rows.filter(pl.col("note").is_in([CONSTANT, NONFINITE]))
    return ModelScores(
        first,
        columns,
        _mean(np.stack(layer_scores)),
        _mean(np.stack(layer_draws)),
        count,
        measured,
        dead.select("layer", "unit").n_unique() if len(dead) else 0,
        pl.concat(layers),
    )


def _by_column(layer: pl.DataFrame, columns: int) -> Numbers:
    """A layer's values as (unit, column): its rows hold the columns in the same order for every few units."""
    ordered = layer.sort("unit", maintain_order=True)
    return ordered["value"].to_numpy().astype(float).reshape(-1, columns)


def _mean(numbers: Numbers) -> Numbers:
    """The mean over axis 0 of what is not NaN; NaN where nothing is left."""
    there = ~np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        return np.where(there, numbers, 0).sum(0) / there.sum(0)  # type: ignore[no-any-return]


def table(models: list[ModelScores], *, seed: int) -> pl.DataFrame:
    """A row for each model and measure, and for each rung and measure with the seed missing."""
    frames = [frame(model) for model in models]
    for rung in _rungs(models):
        draws = np.stack([model.draws for model in rung])  # (seed, resample, column)
        generator = np.random.default_rng(seed)
        chosen = generator.integers(len(rung), size=(draws.shape[1], len(rung)))
        redrawn = np.stack([draws[chosen[:, position], np.arange(draws.shape[1])] for position in range(len(rung))])
        together = _mean(np.stack([model.score for model in rung]))
        whole = ModelScores(
            {**rung[0].key, "seed": None},
            rung[0].columns,
            together,
            _mean(redrawn),
            sum(model.units for model in rung),
            np.sum([model.measured for model in rung], axis=0),
            sum(model.failed for model in rung),
            pl.DataFrame(),
        )
        frames.append(frame(whole))
    return pl.concat(frames)


def _rungs(models: list[ModelScores]) -> Iterator[list[ModelScores]]:
    groups: dict[tuple[object, ...], list[ModelScores]] = {}
    for model in models:
        groups.setdefault(tuple(model.key[name] for name in MODEL_KEY if name != "seed"), []).append(model)
    yield from groups.values()


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


def reliability(units: pl.DataFrame) -> pl.DataFrame:
    """For each measure, the rank correlation over each model's units of its value with that of exchanged halves
    (test-retest).
    """
    key = [*MODEL_KEY, "layer", "unit", *SCORE_KEY]
    measures = [*HEADLINES.values(), PLAIN]
    rows = units.filter(pl.col("measure").is_in(measures) & (pl.col("band") == "mean"))
    both = rows.filter(~pl.col("exchanged")).join(rows.filter("exchanged"), on=key, suffix="_again")
    both = both.filter(pl.col("value").is_not_nan() & pl.col("value_again").is_not_nan())
    return both.group_by(*MODEL_KEY, "measure").agg(
        pl.corr("value", "value_again", method="spearman").fill_nan(None).alias("reliability"), pl.len().alias("n")
    )


def distributions(units: pl.DataFrame, observers: Mapping[str, str]) -> pl.DataFrame:
    """How the units of each model spread over a headline's range: counts in bins of equal width."""
    rows = units.filter(~pl.col("exchanged") & is_headline(observers) & pl.col("value").is_not_nan())
    bin_index = (pl.col("value") * BINS).floor().clip(0, BINS - 1).cast(pl.Int32).alias("bin")
    counted = rows.group_by([*MODEL_KEY, "measure", bin_index]).agg(pl.len().cast(pl.Int32).alias("n"))
    return counted.sort([*MODEL_KEY, "measure", "bin"])


def missing(units: pl.DataFrame, observers: Mapping[str, str]) -> pl.DataFrame:
    """How many units of each model have no headline score, by reason."""
    rows = units.filter(~pl.col("exchanged") & is_headline(observers) & pl.col("value").is_nan())
    return (
        rows.group_by([*MODEL_KEY, "measure", "note"])
        .agg(pl.len().cast(pl.Int32).alias("n"))
        .sort([*MODEL_KEY, "measure", "note"])
    )
