"""Units whose truth is known, recorded and scored as a model's units are."""

from functools import cache

import polars as pl
import torch
from torch import Tensor

from thalweg import Images
from thalweg.ladders import mnist
from thalweg.observers.base import OBSERVERS, Features, Observer, extract_features
from thalweg.observers.embedding import build_view
from thalweg.recording.keys import Scramble
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import Recording
from thalweg.scoring.units import Halves, ObserverOnPool, score_units, stimulus_metadata
from thalweg.stimuli.base import Source, Stimuli, halves


def any_halves(count: int) -> Halves:
    """So many stimuli in two halves, at random."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return Halves(order[: count // 2].sort().values, order[count // 2 :].sort().values)


def recordings(
    values: Tensor, parts: Halves, statistics: dict[str, Tensor], *, k: int = 64, sample: int = 512
) -> list[Recording]:
    """The recordings of both halves of units with these values (stimulus, unit)."""
    found = []
    for ids in (parts.reference, parts.query):
        recorder = Recorder(k=k, sample=sample, scramble=Scramble.seeded(0), statistics=statistics)
        for some in ids.split(100):
            recorder.update(values[some], some)
        found.append(recorder.compute())
    return found


def scored(values: Tensor, pool: Stimuli, watchers: list[ObserverOnPool], low_level: Tensor) -> pl.DataFrame:
    """The rows of the table of units for units with these values."""
    parts = Halves(*halves(pool, seed=0))
    facts = stimulus_metadata(pool, low_level)
    pair = recordings(values, parts, facts.tables())
    constants = {"ladder": "l", "rung": "r", "kind": "k", "seed": 0, "control": "trained", "basis": "neurons"}
    constants |= {"layer": "planted", "depth": 0, "reduction": "max"}
    units = pl.DataFrame({"unit": range(values.shape[1])}).with_columns(
        pl.lit(v).alias(k) for k, v in constants.items()
    )
    return score_units(*pair, units, halves=parts, observers=watchers, metadata=facts)


@cache
def digits() -> Images:
    """Held-out digits: enough for thirty references of a class in each half, few enough for deep observers."""
    return mnist.splits(Source(), 0).pool.take(slice(0, 1200))


@cache
def seen(name: str) -> Features:
    """What an observer without parts sees of the digits."""
    return extract_features(OBSERVERS[name], digits())


def watching(*names: str) -> list[ObserverOnPool]:
    observers = [OBSERVERS[name] for name in names]
    parts = {name: seen(name) for one in observers for name in one.parts or (one.name,)}
    return [ObserverOnPool(one, build_view(one, parts, digits())) for one in observers]


def on_digits(values: Tensor, *names: str) -> pl.DataFrame:
    return scored(values, digits(), watching(*names), seen("trivial")["features"])


def value(rows: pl.DataFrame, measure: str, band: str = "mean", observer: str = "image", capacity: str = "") -> Tensor:
    """A measure's values by unit."""
    chosen = rows.filter(
        (pl.col("measure") == measure)
        & (pl.col("band") == band)
        & (pl.col("observer") == observer)
        & (pl.col("capacity") == capacity)
        & ~pl.col("exchanged")
    ).sort("unit")
    assert len(chosen)
    return torch.tensor(chosen["value"].to_list())


def of_own(function: object) -> Observer:
    return Observer("own", 1, function)
