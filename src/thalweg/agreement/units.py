"""Scores of units by answers and by observers of vectors, laid out over the same units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from thalweg.agreement.correlation import Scores
from thalweg.measures.base import MEAN
from thalweg.measures.two_choice import PLAIN_BANDS

SPLITS = 8
LEAST_ANSWERS = 4  # of a unit: with fewer its halves are single answers
MODEL = ["ladder", "rung", "seed", "control"]
UNIT = [*MODEL, "layer", "unit"]
PLAIN = "two_choice"


@dataclass(frozen=True, eq=False)
class Answering:
    """What one observer answered: its units, a row each (the columns of `UNIT`, and `n`), and their scores."""

    units: pl.DataFrame
    scores: Scores
    answers: pl.DataFrame


def answering(answers: pl.DataFrame, *, seed: int = 0) -> Answering:
    """The scores of the units of one observer's answers, and those from random halves, even over the bands.

    Answers that failed do not count, nor do units with fewer than four answers.
    """
    kept = answers.filter(pl.col("correct").is_not_null()).sort(*UNIT, "band", "trial")
    kept = kept.filter(pl.len().over(UNIT) >= LEAST_ANSWERS)
    units = kept.group_by(UNIT, maintain_order=True).agg(pl.len().alias("n"))
    unit = np.repeat(np.arange(len(units)), units["n"].to_numpy())
    band = kept["band"].rank("dense").fill_null(0).to_numpy()
    right = kept["correct"].cast(pl.Float64).to_numpy()
    halves = [_halved(unit, band, right, np.random.default_rng([seed, split])) for split in range(SPLITS)]
    value = np.bincount(unit, right, len(units)) / np.bincount(unit, minlength=len(units))
    first, second = (np.stack([each[side] for each in halves]) for side in (0, 1))
    return Answering(units, Scores(value, first, second), kept)


def _halved(
    unit: np.ndarray, band: np.ndarray, right: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of units from every other of their answers, in a random order within bands; and from the rest."""
    order = np.lexsort((generator.random(len(unit)), band, unit))
    count = np.bincount(unit)
    start = np.repeat(count.cumsum() - count, count)
    odd = ((np.arange(len(unit)) - start + generator.integers(2, size=len(count))[unit[order]]) % 2).astype(bool)
    sides = []
    for side in (~odd, odd):
        rows = order[side]
        sides.append(np.bincount(unit[rows], right[rows], len(count)) / np.bincount(unit[rows], minlength=len(count)))
    return sides[0], sides[1]


def by_vectors(
    units: pl.DataFrame | pl.LazyFrame, answered: Answering, measures: Mapping[str, str]
) -> dict[tuple[str, str], Float[np.ndarray, " unit"]]:
    """The scores of the same units by observers of vectors: by observer and measure, NaN where a unit has none.

    `two_choice` is the mean over the bands that were answered, each with the weight of its answers, so that both sides
    are asked the same mixture; the headlines (`measures`, by their words) are means over their own bands.

    Args:
        units: A run's table of units.
        answered: The units.
        measures: The measures of the headlines by their words.
    """
    chosen = pl.col("measure").is_in([PLAIN, *measures.values()]) & ~pl.col("exchanged")
    rows = units.lazy().filter(chosen).select(*UNIT, "measure", "observer", "band", "value").collect()
    rows = rows.join(answered.units.select(UNIT), on=UNIT, how="semi")
    weights = answered.answers.group_by(*UNIT, "band").agg(pl.len().alias("weight"))
    plain = rows.filter(pl.col("band").is_in([*PLAIN_BANDS, "v60"]), measure=PLAIN)
    plain = plain.join(weights, on=[*UNIT, "band"], how="inner")
    share = (pl.col("value") * pl.col("weight")).sum() / pl.col("weight").sum()
    tables = {PLAIN: plain.group_by(*UNIT, "observer").agg(share.alias("value"))}
    for word, measure in measures.items():
        tables[word] = rows.filter(measure=measure, band=MEAN).select(*UNIT, "observer", "value")
    found = {}
    for word, table in tables.items():
        for (observer,), part in table.group_by("observer", maintain_order=True):
            joined = answered.units.join(part, on=UNIT, how="left", maintain_order="left")
            found[str(observer), word] = joined["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return dict(sorted(found.items()))


def model_weights(units: pl.DataFrame, names: Sequence[str] = MODEL) -> tuple[pl.DataFrame, np.ndarray]:
    """The models of some units, and the weight of each unit in each model's mean over layers of the mean over units:
    (model, unit).
    """
    models = units.select(names).unique(maintain_order=True)
    layers = pl.col("layer").n_unique().over(names)
    weighed = units.with_columns((1 / (layers * pl.len().over(*names, "layer"))).alias("weight"))
    numbered = weighed.join(models.with_row_index("place"), on=list(names), how="left", maintain_order="left")
    weights = np.zeros((len(models), len(units)))
    weights[numbered["place"].to_numpy(), np.arange(len(units))] = numbered["weight"].to_numpy()
    return models, weights


def within_models(units: pl.DataFrame, scores: Scores) -> Scores:
    """The scores of units as differences from their model's mean over its units; NaN where a unit is a model's only."""
    _, model = np.unique(units.select(pl.struct(MODEL).rank("dense")).to_series().to_numpy(), return_inverse=True)
    members = (model[:, None] == np.arange(model.max(initial=-1) + 1)).astype(float)  # (unit, model)

    def centred(values: np.ndarray) -> np.ndarray:
        there = ~np.isnan(values)
        count = there @ members
        mean = (np.where(there, values, 0) @ members) / np.maximum(count, 1)
        return np.where(count[..., model] > 1, values - mean[..., model], np.nan)

    if scores.first is None or scores.second is None:
        return Scores(centred(scores.value))
    return Scores(centred(scores.value), centred(scores.first), centred(scores.second))
