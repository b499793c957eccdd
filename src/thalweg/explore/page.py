"""The page of one unit: what it needs is put together here, and `unit.html.j2` lays it out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from thalweg.explore.catalogue import TRAINED, UP, Catalogue, Network
from thalweg.explore.columns import MISSING, TOP, Column, main_observers
from thalweg.explore.observing import Observed, Watchers, observe
from thalweg.explore.scores import Score, ScoreTable, Spread, UnitScores, score_tables, spreads
from thalweg.explore.showing import StimulusFiles
from thalweg.explore.values import UnitValues, marks, unit_values
from thalweg.measures.base import MEAN
from thalweg.report.page import environment
from thalweg.report.text import NONE, decimal, interval, missing, percent
from thalweg.runs.recordings import read_some, recordings_file
from thalweg.runs.run import Run
from thalweg.trials.building import REFERENCES, TrialSet

HERE = Path(__file__).parent
EXAMPLES_OF_A_BAND = 3


@dataclass(frozen=True, eq=False)
class Pages:
    """All that the pages of a run's units are made from."""

    run: Run
    catalogue: Catalogue
    columns: Sequence[Column]
    stimuli: Mapping[str, StimulusFiles]  # by ladder
    watchers: Mapping[str, Watchers]
    scores: UnitScores = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", UnitScores(self.run))

    @cached_property
    def template(self) -> jinja2.Template:
        """What lays a page out."""
        return environment(HERE).get_template("unit.html.j2")

    def render(self, network: Network, layer: str, units: Sequence[int]) -> Iterator[tuple[str, str]]:
        """The pages of some units of a layer: address and HTML."""
        position = network.layer(layer).position
        units = sorted(units, key=position.__getitem__)
        recorded = read_some(self.recordings(network), layer, [position[unit] for unit in units])
        rows = [self.scores.of(network, layer, unit) for unit in units]
        upper = [is_upper(each) for each in rows]
        trials, observed = observe(self.watchers[network.ladder], recorded, upper)
        for index, (unit, values) in enumerate(zip(units, unit_values(recorded), strict=True)):
            found = Found(unit, values, rows[index], trials, index, observed[index], upper[index])
            yield network.address(layer, unit), self.template.render(self._context(network, layer, found))

    def used(self) -> Iterator[str]:
        """The addresses of the stimuli that the pages made so far show in files of their own."""
        for files in self.stimuli.values():
            yield from map(files.address, sorted(files.used))

    def recordings(self, network: Network) -> Path:
        """The file of a network's recordings."""
        basis = "" if network.main else network.basis
        return self.run.path / recordings_file(network.ladder, network.rung, network.seed, network.control, basis)

    def _context(self, network: Network, layer: str, found: "Found") -> dict[str, Any]:
        """What the template needs of one unit."""
        place = network.layer(layer).first + network.layer(layer).position[found.unit]
        shown = Showing(self.stimuli[network.ladder], found.values)
        heads = [column for column in self.columns if column.shown]
        return {
            "root": "../" * UP,
            "network": network,
            "layer": layer,
            "unit": found.unit,
            "title": f"unit {found.unit} of layer {layer}, {network.name}",
            "description": self.run.record["ladders"][network.ladder]["description"],
            "others": self._others(network, layer, found.unit),
            "twins": self._twins(network, layer, found.unit),
            "headlines": [_headline(column, found.rows, self.run, network.ladder) for column in heads],
            "spreads": [
                {
                    "label": column.label,
                    "value": _at(column, place),
                    "column": column,
                    "groups": [_bars(each) for each in group],
                }
                for column in heads
                if (group := spreads(column, self.catalogue, network, layer, place))
            ],
            "numbers": _numbers(found.values),
            "histogram": _histogram(found),
            "highest": shown.items(found.values.highest),
            "lowest": shown.items(found.values.lowest),
            "quantiles": [
                {"name": f"{quantile:.0%}".replace("%", " %"), "stimuli": shown.items(ids)}
                for quantile, ids in found.values.at_quantiles()
            ],
            "references": REFERENCES,
            "upper": found.upper,
            "bands": _bands(found, shown),
            "tables": [_table(each) for each in score_tables(self.run, found.rows)],
            "chosen": _chosen(found.observed, shown),
            "wrong": _wrong(found.observed, shown),
            "explanations": [],
            "missing_observers": self.watchers[network.ladder].missing,
        }

    def _others(self, network: Network, layer: str, unit: int) -> dict[str, int | None]:
        """The units before and after this one."""
        units = network.layer(layer)
        place = units.position[unit]
        return {
            "before": int(units.numbers[place - 1]) if place else None,
            "after": int(units.numbers[place + 1]) if place + 1 < len(units.numbers) else None,
        }

    def _twins(self, network: Network, layer: str, unit: int) -> list[dict[str, str]]:
        """The unit of the same number in the trained network and its twins, where there is one."""
        return [
            {
                "name": twin.control if twin.control == TRAINED else f"{twin.control} twin",
                "address": twin.address(layer, unit),
            }
            for twin in self.catalogue.twins(network)
            if twin is not network and any(each.name == layer and unit in each.position for each in twin.layers)
        ]


@dataclass(frozen=True, eq=False)
class Found:
    """What is known of one unit."""

    unit: int
    values: UnitValues
    rows: Sequence[Score]
    trials: TrialSet
    index: int  # of the unit among the trials
    observed: Observed
    upper: bool


@dataclass(frozen=True, eq=False)
class Showing:
    """How a unit shows stimuli."""

    files: StimulusFiles
    values: UnitValues

    def items(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Stimuli with the unit's values, where these were kept."""
        return [self.files.item(each, self.values.known.get(each)) for each in ids if each >= 0]


def is_upper(rows: Sequence[Score]) -> bool:
    """Whether the main pole of a unit is the upper one."""
    return not any(row["measure"] == "upper_tail_share" and row["value"] < 0.5 for row in rows)


def _at(column: Column, place: int) -> float | None:
    stored = int(column.stored[place])
    return None if stored == MISSING else column.low + (column.high - column.low) * stored / TOP


def _headline(column: Column, rows: Sequence[Score], run: Run, ladder: str) -> dict[str, str]:
    """A headline's score with its interval, or why there is none."""
    wanted = run.headlines[column.label], main_observers(run)[ladder], MEAN
    none: Score = {"value": None, "low": None, "high": None, "note": "not measured"}
    row = next((row for row in rows if (row["measure"], row["observer"], row["band"]) == wanted), none)
    return {"label": column.label, "score": interval(row["value"], row["low"], row["high"]), "note": row["note"]}


def _numbers(values: UnitValues) -> list[tuple[str, str]]:
    found = [
        ("stimuli", f"{values.count:,}"),
        ("mean", decimal(values.mean, 3)),
        ("standard deviation", decimal(values.deviation, 3)),
        ("median", decimal(values.median, 3)),
    ]
    return [*found, ("values that are not finite", f"{values.nonfinite:,}")] if values.nonfinite else found


def _histogram(found: Found) -> dict[str, Any]:
    """Bars in per cent of the width and height, and below them where references and bands lie."""
    counts, edges = found.values.histogram()
    low, high = float(edges[0]), float(edges[-1])
    most = max(1, int(counts.max()))

    def along(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    bars = [
        {"x": along(float(edges[index])), "height": round(100 * math.sqrt(count / most), 1), "count": int(count)}
        for index, count in enumerate(counts)
        if count
    ]
    lines = [
        {
            "name": name,
            "x": along(least),
            "width": max(0.6, round(along(most_) - along(least), 2)),
            "text": _range(least, most_),
        }
        for name, least, most_ in marks(found.trials, found.index, found.values)
    ]
    middle = along(found.values.median) if math.isfinite(found.values.median) else None
    return {"bars": bars, "width": round(100 / len(counts), 3), "low": decimal(low, 3), "high": decimal(high, 3)} | {
        "marks": lines,
        "median": middle,
        "sampled": len(found.values.ordered[1]),
    }


def _range(low: float, high: float) -> str:
    return decimal(low, 3) if low == high else f"{decimal(low, 3)} to {decimal(high, 3)}"


def _bars(spread: Spread) -> dict[str, Any]:
    most = max(1, *spread.counts)
    bars = [
        {"x": 5 * index, "height": round(100 * count / most, 1)} for index, count in enumerate(spread.counts) if count
    ]
    below = "" if spread.below is None else f"above {percent(spread.below)} of {spread.measured:,}"
    return {"name": spread.name, "bars": bars, "below": below, "measured": spread.measured}


def _bands(found: Found, shown: Showing) -> list[dict[str, Any]]:
    """A few queries of each band: those that drive the unit, and typical ones."""
    listed = []
    for band, queries in found.trials.queries.items():
        driving, typical = (
            [each for each in side[found.index].tolist() if each >= 0] for side in (queries.high, queries.low)
        )
        if driving and typical:
            listed.append(
                {
                    "name": band,
                    "driving": shown.items(driving[:EXAMPLES_OF_A_BAND]),
                    "typical": shown.items(typical[:EXAMPLES_OF_A_BAND]),
                    "counts": f"{len(driving)} driving, {len(typical)} typical",
                }
            )
    return listed


def _table(table: ScoreTable) -> dict[str, Any]:
    lines = [{"name": name or "no observer", "cells": [_cell(cell) for cell in cells]} for name, cells in table.lines]
    return {
        "measure": table.measure,
        "meaning": table.meaning,
        "chance": None if table.chance is None else decimal(table.chance),
        "bands": [band or "score" for band in table.bands],
        "lines": lines,
    }


def _cell(cell: Mapping[str, Any] | None) -> dict[str, str]:
    if cell is None:
        return {"score": NONE, "between": "", "note": ""}
    if missing(cell["value"]):
        return {"score": NONE, "between": "", "note": cell["note"]}
    return {
        "score": decimal(cell["value"]),
        "between": f"{decimal(cell['low'])} to {decimal(cell['high'])}",
        "note": "",
    }


def _chosen(observed: Observed, shown: Showing) -> list[dict[str, Any]]:
    return [
        {
            "observer": observer,
            "features": [
                {
                    "name": feature.name,
                    "more": feature.more,
                    "separation": decimal(feature.separation, 1),
                    "stimuli": shown.items(feature.examples),
                }
                for feature in features
            ],
        }
        for observer, features in observed.chosen
    ]


def _wrong(observed: Observed, shown: Showing) -> list[dict[str, Any]]:
    return [
        {
            "observer": each.observer,
            "manner": each.manner,
            "wrong": f"{each.wrong:g}",
            "asked": each.asked,
            "trials": [
                {"band": trial.band, "stimuli": shown.items((trial.driving, trial.typical))} for trial in each.trials
            ],
        }
        for each in observed.wrong
    ]
