"""The tables of a run, put together from what each model's task left behind."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from thalweg.scores import (
    HEADLINES,
    PLAIN,
    ModelScores,
    distributions,
    frame,
    is_headline,
    missing,
    model_scores,
    reliability,
    table,
)
from thalweg.tables import MODEL_KEY, RunDirectory, read_frame, read_json
from thalweg.tasks import CONTROLS, Model


def gather(run: RunDirectory, models: Sequence[Model]) -> dict[str, pl.DataFrame]:
    """All tables of a run, by name, put together from the parts of its models."""
    observer = models[0].watching[0].name
    settings = models[0].settings
    parts = [read_frame(run / f"parts/{model.name}.parquet") for model in models]
    units = pl.concat(parts)
    again = _again(units)
    scored, rows = [], []
    for model, part in zip(models, parts, strict=True):
        about = read_json(run / f"weights/{model.name}.json")
        for control in CONTROLS:
            found = model_scores(part.filter(control=control), resamples=settings.resamples, seed=settings.seed)
            scored.append(found)
            rows.append(
                _model_row(model, about["untrained" if control == "untrained" else "trained"], found, again, observer)
            )
    return {
        "units": units,
        "models": pl.concat(rows, how="diagonal_relaxed"),
        "scores": table(scored, seed=settings.seed),
        "distributions": distributions(units, observer),
        "missing": missing(units, observer),
        "gallery": pl.concat([read_frame(run / f"parts/{model.name}-gallery.parquet") for model in models]),
    }


def _again(units: pl.DataFrame) -> dict[tuple[Any, ...], float | None]:
    """The test-retest reliability, by model and measure."""
    found = reliability(units).select(*MODEL_KEY, "measure", "reliability")
    return {tuple(row[:-1]): row[-1] for row in found.iter_rows()}


def _model_row(
    model: Model,
    about: Mapping[str, Any],
    scored: ModelScores,
    again: Mapping[tuple[Any, ...], float | None],
    observer: str,
) -> pl.DataFrame:
    """The row of the table of models: what it is, how strong, how its training ended, and its headline scores."""
    words = {name: word for word, name in HEADLINES.items()} | {PLAIN: PLAIN}
    headline: dict[str, Any] = {}
    for row in frame(scored).filter(is_headline(observer)).iter_rows(named=True):
        word = words[row["measure"]]
        headline |= {f"{word}": row["score"], f"{word}_low": row["low"], f"{word}_high": row["high"]}
        key = (*scored.key.values(), row["measure"])
        headline |= {f"{word}_coverage": row["coverage"], f"{word}_reliability": again.get(key)}
    order = [rung.name for rung in model.ladder.rungs].index(model.rung.name)
    return pl.DataFrame(
        {
            **scored.key,
            "order": order,
            "modality": model.ladder.modality,
            **about,
            **headline,
            "n_units": scored.units,
            "n_failed": scored.failed,
        }
    ).cast({"seed": pl.Int32})
