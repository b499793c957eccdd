"""A unit's scores beside those of its layer, its twins and its model."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thalweg.explore.catalogue import Catalogue, Network
from thalweg.explore.columns import MISSING, Column, label_of
from thalweg.measures.base import MEAN
from thalweg.runs.run import Run

ROWS = 150  # of a unit, about
KEPT_IN_MEMORY = 3_000_000  # rows of a network that are kept; of a larger one, each unit's are read from its file
NETWORKS = 3  # whose rows are kept
BINS = 20


Score = Mapping[str, Any]  # a row of the table of units


class UnitScores:
    """The rows of the table of units, one unit at a time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._kept: OrderedDict[tuple[Any, ...], dict[tuple[Any, ...], pl.DataFrame]] = OrderedDict()

    def of(self, network: Network, layer: str, unit: int) -> Sequence[Score]:
        """The rows of one unit, halves not exchanged."""
        if network.count * ROWS > KEPT_IN_MEMORY:
            return self._of(network).filter(layer=layer, unit=unit).collect().to_dicts()
        if network.key not in self._kept:
            self._kept[network.key] = self._of(network).collect().partition_by("layer", "unit", as_dict=True)
            if len(self._kept) > NETWORKS:
                self._kept.popitem(last=False)
        return self._kept[network.key][layer, unit].to_dicts()

    def _of(self, network: Network) -> pl.LazyFrame:
        names = ("ladder", "rung", "seed", "control", "basis")
        wanted = dict(zip(names, network.key, strict=True))
        return self.run.scan_units().filter(~pl.col("exchanged"), **wanted)


@dataclass(frozen=True)
class Spread:
    """How the units of a group spread over the range of a score: counts in twentieths, and how many lie below the
    unit's.
    """

    name: str
    counts: tuple[int, ...]
    below: float | None  # share of the group that scores lower, ties counting half

    @property
    def measured(self) -> int:
        """How many have a score."""
        return sum(self.counts)


def spreads(column: Column, catalogue: Catalogue, network: Network, layer: str, place: int) -> list[Spread]:
    """The spread of a score over the unit's layer, the same layer of the other networks of its rung, and its model."""
    value = column.stored[place]
    groups: list[tuple[str, NDArray[np.uint16]]] = [("its layer", _layer(column, network, layer))]
    for twin in catalogue.twins(network):
        if twin is not network and any(each.name == layer for each in twin.layers):
            name = f"the layer, {twin.control}" + (f" {twin.basis}" if twin.control == network.control else "")
            groups.append((name, _layer(column, twin, layer)))
    if len(network.layers) > 1:
        groups.append(("its model", np.concatenate([_layer(column, network, each.name) for each in network.layers])))
    return [_spread(name, stored, value) for name, stored in groups]


def standing(column: Column, network: Network, layer: str, place: int) -> float | None:
    """The share of its layer that a unit scores above, ties counting half."""
    return _spread("", _layer(column, network, layer), column.stored[place]).below


def _layer(column: Column, network: Network, layer: str) -> NDArray[np.uint16]:
    units = network.layer(layer)
    return column.stored[units.first : units.first + len(units.numbers)]


def _spread(name: str, stored: NDArray[np.uint16], value: np.uint16) -> Spread:
    known = stored[stored != MISSING]
    counts = np.bincount(np.minimum(known.astype(np.int64) * BINS // (MISSING - 1), BINS - 1), minlength=BINS)
    below = None
    if len(known) and value != MISSING:
        below = float(((known < value).sum() + (known == value).sum() / 2) / len(known))
    return Spread(name, tuple(counts.tolist()), below)


@dataclass(frozen=True)
class ScoreTable:
    """Scores of a unit by one measure: a line for each observer and capacity, a column for each band."""

    measure: str
    meaning: str
    chance: float | None
    bands: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Score | None, ...]], ...]


def score_tables(run: Run, rows: Sequence[Score]) -> list[ScoreTable]:
    """All scores of a unit, the headlines first."""
    by_measure: dict[str, list[Score]] = {}
    for row in rows:
        by_measure.setdefault(row["measure"], []).append(row)
    order = [*run.headlines.values(), *run.record["measures"]]
    known = sorted(by_measure, key=lambda name: (order.index(name) if name in order else len(order), name))
    return [_score_table(run, measure, by_measure[measure]) for measure in known]


def _score_table(run: Run, measure: str, rows: Sequence[Score]) -> ScoreTable:
    bands = sorted(dict.fromkeys(row["band"] for row in rows), key=lambda band: band not in (MEAN, ""))
    lines: dict[str, dict[str, Score]] = {}
    for row in rows:
        capacity = row["capacity"]
        features = f"{capacity} feature{'' if capacity == '1' else 's'}" if capacity else ""
        lines.setdefault(", ".join(filter(None, (row["observer"], features))), {})[row["band"]] = row
    about = run.record["measures"].get(measure, {})
    label = label_of(run, measure, "")
    return ScoreTable(
        measure=f"{label} ({measure})" if label != measure else measure,
        meaning=about.get("meaning", ""),
        chance=about.get("chance"),
        bands=tuple(bands),
        lines=tuple((name, tuple(cells.get(band) for band in bands)) for name, cells in lines.items()),
    )
