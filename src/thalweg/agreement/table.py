"""The agreement of every observer that answered single trials with every other observer, as a table."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import polars as pl
import torch

from thalweg.agreement.correlation import Agreement, Scores, correlate
from thalweg.agreement.forms import form_answering
from thalweg.agreement.units import UNIT, Answering, answering, by_vectors, model_weights, within_models
from thalweg.measures.base import Z, wilson

UNITS, WITHIN, MODELS = "units", "units within models", "models"
ANSWERS = "answers"  # the measure of another observer that answered trials
NUMBERS = {each.name: pl.String if each.type is str else pl.Float64 for each in fields(Agreement)}
AGREEMENTS: dict[str, Any] = {
    **dict.fromkeys(("observer", "ladder", "control", "level", "other", "measure"), pl.String),
    "version": pl.Int32,
    **NUMBERS,
    "n": pl.Int64,
}
BIASES: dict[str, Any] = {
    **dict.fromkeys(("observer", "ladder", "control"), pl.String),
    "version": pl.Int32,
    **dict.fromkeys(("n", "n_failed"), pl.Int64),
    **dict.fromkeys(("value", "low", "high", "first", "first_low", "first_high"), pl.Float64),
}
GROUP = ["observer", "version", "ladder", "control"]


def agreements(
    answers: pl.DataFrame,
    units: pl.DataFrame | pl.LazyFrame,
    headlines: Mapping[str, str],
    *,
    asked: pl.DataFrame | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """How far each observer that answered single trials agrees with each other observer.

    Three levels: over all units of a ladder's models (`units`); over the same units, as differences from their model's
    mean (`units within models`), so that differences between models play no part; and over models (`models`), by the
    mean over layers of the mean over those units. Trained models and each kind of twin stand apart.

    Args:
        answers: Rows of a run's table of answers, or of people's, with the same columns.
        units: The run's table of units, in its main basis.
        headlines: The measures of the headlines by their words, as `run.headlines`.
        asked: What language models were asked in other forms (`run.asked`): each form counts as an observer.
        seed: That random halves and draws come from.

    Returns:
        A row for each answering observer, ladder, control, level and other observer with its measure: Spearman's
        `rho` with a 95 % interval, the reliability of the answers, and the correlation `corrected` for it.
    """
    found = {key: answering(part, seed=seed) for key, part in answers.group_by(GROUP)}
    found |= {} if asked is None else form_answering(asked, seed=seed)
    groups = dict(sorted(found.items(), key=lambda group: tuple(map(str, group[0]))))
    rows: list[dict[str, Any]] = []
    for key, answered in groups.items():
        named = dict(zip(GROUP, key, strict=True))
        others = {name: Scores(values) for name, values in by_vectors(units, answered, headlines).items()}
        others |= _beside(key, answered, groups)
        kept: dict[tuple[str, bytes], Scores] = {}
        for (other, measure), scores in others.items():
            for level, agreement in _levels(answered, scores, seed, kept):
                rows.append({**named, "level": level, "other": other, "measure": measure, **asdict(agreement)})
    return pl.DataFrame(rows, schema=AGREEMENTS)


def _beside(
    key: tuple[Any, ...], answered: Answering, groups: Mapping[tuple[Any, ...], Answering]
) -> dict[tuple[str, str], Scores]:
    """The scores of the same units by the other observers that answered trials about them."""
    found = {}
    for (observer, version, *where), other in groups.items():
        if (observer, version) != key[:2] and tuple(where) == key[2:]:
            place = other.units.with_row_index("place").select(*UNIT, pl.col("place").cast(pl.Int64))
            places = answered.units.join(place, on=UNIT, how="left", maintain_order="left")["place"]
            there, at = places.is_not_null().to_numpy(), places.fill_null(0).to_numpy()
            scores = other.scores.at(at) if len(other.units) else Scores(np.full(len(at), np.nan))
            parts = (
                np.where(there, part, np.nan)
                for part in (scores.value, scores.first, scores.second)
                if part is not None
            )
            found[f"{observer}, version {version}", ANSWERS] = Scores(*parts)
    return found


def _levels(
    answered: Answering, other: Scores, seed: int, kept: dict[tuple[str, bytes], Scores]
) -> Iterator[tuple[str, Agreement]]:
    """The agreement at each level, over the units that both have scored. `kept` holds the observer's own scores at the
    levels above, by which units these are.
    """
    both = ~np.isnan(other.value)
    units, other = answered.units.filter(pl.Series(both)), other.at(both)
    for level, lift in (UNITS, _same), (WITHIN, within_models), (MODELS, _of_models):
        key = (level, both.tobytes())
        if key not in kept:
            kept[key] = lift(units, answered.scores.at(both))
        yield level, correlate(kept[key], lift(units, other), seed=seed)


def _same(units: pl.DataFrame, scores: Scores) -> Scores:
    return scores


def _of_models(units: pl.DataFrame, scores: Scores) -> Scores:
    return scores.through(model_weights(units)[1])


def biases(answers: pl.DataFrame) -> pl.DataFrame:
    """How often each observer was right over all its answers, how often it picked the query that was shown first, and
    how many of its answers failed: a row for each observer, ladder and control, with Wilson's intervals.
    """
    counted = answers.group_by(GROUP).agg(
        pl.col("correct").count().alias("n"),
        pl.col("correct").null_count().alias("n_failed"),
        pl.col("correct").mean().alias("value"),
        (pl.col("picked") == 0).mean().alias("first"),
    )
    counted = counted.with_columns(pl.col("value", "first").fill_null(float("nan"))).sort(GROUP)
    n = torch.from_numpy(counted["n"].to_numpy().astype(float))
    columns: list[pl.Series] = []
    for name, (low, high) in {"value": ("low", "high"), "first": ("first_low", "first_high")}.items():
        ends = wilson(torch.from_numpy(counted[name].to_numpy().copy()), n, Z)
        columns += [pl.Series(low, ends[0].numpy()), pl.Series(high, ends[1].numpy())]
    return counted.with_columns(columns).select(*BIASES).cast(pl.Schema(BIASES))
