"""The curves of a run and their verdicts: which scores are judged against which strength, and in which groups of
rungs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg import engine, strength, tables
from thalweg.measures import MEAN
from thalweg.progress import Stages
from thalweg.scores import HEADLINES, PLAIN
from thalweg.settings import Settings
from thalweg.shape import judge
from thalweg.tables import RunDirectory, digest

ALL = "all"
LEAST_COVERAGE = (
    0.25  # a mean over fewer of a model's units is that of an unusual few: shown, but no verdict rests on it
)
Z = 1.959964


@dataclass(frozen=True)
class Curve:
    """One question of shape: the scores of some models, against one strength axis."""

    ladder: str
    kind: str  # or "all"
    control: str
    measure: str
    observer: str
    band: str
    capacity: str
    axis: str
    headline: str  # "predictable" or "crisp" for the headline verdicts, else empty
    strength: tuple[float, ...]
    score: tuple[float, ...]
    se: tuple[float, ...]
    rung: tuple[str, ...]
    seed: int


def judged(curve: Curve) -> dict[str, Any]:
    """The verdict of one curve, as a record."""
    verdict = judge(
        np.array(curve.strength),
        np.array(curve.score),
        se=np.array(curve.se),
        group=curve.rung,
        seed=curve.seed,
    )
    names = ("ladder", "kind", "control", "measure", "observer", "band", "capacity", "axis", "headline")
    return {**{name: getattr(curve, name) for name in names}, **verdict.to_record()}


def curves(models: pl.DataFrame, table: pl.DataFrame, settings: Settings) -> Iterator[Curve]:
    """All curves that a report judges.

    On the headline's strength axis: both headlines and `two_choice`, for every observer and kind, and for the
    headline's observer each band too. On the other axes: the headlines. Models of which less than a quarter of the
    units could be measured have no score here.
    """
    observer = settings.observer[0]
    rows = table.filter(pl.col("seed").is_not_null() & (pl.col("control") == "none"))
    axes = models.filter(pl.col("control") == "none").select("ladder", "rung", "seed", "order", *strength.AXES)
    enough = pl.col("coverage") >= LEAST_COVERAGE
    rows = rows.with_columns(pl.when(enough).then("score").otherwise(math.nan).alias("score"))
    rows = rows.join(axes, on=["ladder", "rung", "seed"]).sort("order", "seed")
    measures = [*HEADLINES.values(), PLAIN]
    over_bands = pl.col("band") == MEAN
    words = {name: word for word, name in HEADLINES.items()}
    chosen = pl.col("measure").is_in(measures) & (over_bands | (pl.col("observer") == observer))
    keys = ["ladder", *tables.SCORE_KEY]
    for axis in strength.AXES:
        keep = chosen if axis == settings.strength else chosen & over_bands & (pl.col("observer") == observer)
        for (ladder, measure, observed, band, capacity), group in rows.filter(keep).group_by(keys, maintain_order=True):
            for kind in _kinds(group):
                some = group if kind == ALL else group.filter(pl.col("kind") == kind)
                is_headline = axis == settings.strength and observed == observer and band == MEAN
                yield Curve(
                    ladder=str(ladder),
                    kind=kind,
                    control="none",
                    measure=str(measure),
                    observer=str(observed),
                    band=str(band),
                    capacity=str(capacity),
                    axis=axis,
                    headline=words.get(str(measure), "") if is_headline else "",
                    strength=tuple(some[axis].cast(pl.Float64)),
                    score=tuple(some["score"]),
                    se=tuple((some["high"] - some["low"]) / (2 * Z)),
                    rung=tuple(some["rung"]),
                    seed=settings.seed,
                )


def _kinds(group: pl.DataFrame) -> list[str]:
    """All rungs together, then each kind of which there are several."""
    kinds = group["kind"].unique(maintain_order=True).to_list()
    return [ALL, *kinds] if len(kinds) > 1 else [ALL]


def judge_all(run: RunDirectory, settings: Settings, stages: Stages) -> None:
    """Judge every curve of a run and write shape.json, unless it is there already."""
    inputs = digest(tables.read_json(run / "steps/tables.json"), settings.strength)
    if not run.undone("shape", inputs):
        return
    found = list(curves(tables.read_frame(run / "models.parquet"), tables.read_frame(run / "scores.parquet"), settings))
    with stages("shape", len(found)) as advance:
        records: dict[int, dict[str, Any]] = {}
        for place, record in engine.run(judged, found, workers=settings.workers):
            records[place] = record
            advance()
    tables.write_json(run / "shape.json", [records[place] for place in sorted(records)])
    run.finish("shape", inputs, ["shape.json"])
