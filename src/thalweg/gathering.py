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
from thalweg.tables import RunDirectory, read_frame, read_json
from thalweg.tasks import Model


def gather(run: RunDirectory, models: Sequence[Model]) -> dict[str, pl.DataFrame]:
    """All tables of a run, by name, put together from the parts of its models."""
    observer = models[0].watching[0].name
    settings = models[0].settings
    parts: dict[str, list[pl.DataFrame]] = {
        name: [] for name in ("units", "models", "distributions", "missing", "gallery")
    }
    found = []
    for model in models:
        rows = read_frame(run / f"parts/{model.name}.parquet")
        parts["units"].append(rows)
        parts["gallery"].append(read_frame(run / f"parts/{model.name}-gallery.parquet"))
        about = read_json(run / f"weights/{model.name}.json")
        for (control,), units in rows.group_by("control", maintain_order=True):
            scored = model_scores(units, resamples=settings.resamples, seed=settings.seed)
            found.append(scored)
            parts["models"].append(_model_row(model, str(control), about, scored, units, observer))
            parts["distributions"].append(distributions(units, observer))
            parts["missing"].append(missing(units, observer))
    frames = {name: pl.concat(some, how="diagonal_relaxed") for name, some in parts.items()}
    return frames | {"scores": table(found, seed=settings.seed)}


def _model_row(
    model: Model, control: str, about: Mapping[str, Any], scored: ModelScores, units: pl.DataFrame, observer: str
) -> pl.DataFrame:
    """The row of the table of models: what the model is, how strong, how its training ended, and its headline
    scores.
    """
    rows = frame(scored, scored.score, scored.draws).filter(is_headline(observer))
    again = dict(reliability(units).select("measure", "reliability").iter_rows())
    words = {name: word for word, name in HEADLINES.items()} | {PLAIN: PLAIN}
    headline: dict[str, Any] = {}
    for row in rows.iter_rows(named=True):
        word = words[row["measure"]]
        headline |= {f"{word}": row["score"], f"{word}_low": row["low"], f"{word}_high": row["high"]}
        headline |= {f"{word}_coverage": row["coverage"], f"{word}_reliability": again.get(row["measure"])}
    order = [rung.name for rung in model.ladder.rungs].index(model.rung.name)
    return pl.DataFrame(
        {
            **scored.key,
            "order": order,
            "modality": model.ladder.modality,
            **about["untrained" if control == "untrained" else "trained"],
            **headline,
            "n_units": scored.units,
            "n_failed": scored.failed,
        }
    )
