"""The page of one unit: what it needs is put together here, and `unit.html.j2` lays it out."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jinja2
from jaxtyping import Float
from torch import Tensor

from thalweg.explore.answered import AnsweredWrong, SingleAnswers
from thalweg.explore.catalogue import TRAINED, UP, Catalogue, Network
from thalweg.explore.columns import MISSING, TOP, Column, main_observers, merged
from thalweg.explore.features import token
from thalweg.explore.logits import direct_logits, strongest
from thalweg.explore.nearest import Near, Nearest
from thalweg.explore.observing import Observed, Watchers, observe
from thalweg.explore.scores import Score, ScoreTable, Spread, UnitScores, score_tables, spreads, standing
from thalweg.explore.showing import StimulusFiles
from thalweg.explore.values import UnitValues, marks, unit_values
from thalweg.explore.weights import Loaded, Networks, values_along
from thalweg.measures.base import MEAN
from thalweg.report.page import environment
from thalweg.report.text import NONE, decimal, interval, missing, percent, signed
from thalweg.runs.recordings import read_some, recordings_file
from thalweg.runs.run import Run
from thalweg.trials.building import REFERENCES, TrialSet

HERE = Path(__file__).parent
EXAMPLES_OF_A_BAND = 3
AT_ONCE = 64  # units of a layer that are looked at together
MANY_TEXTS = 1000  # that a network reads: it is said before


@dataclass(frozen=True, eq=False)
class Pages:
    """All that the pages of a run's units are made from."""

    run: Run
    catalogue: Catalogue
    columns: Sequence[Column]
    stimuli: Mapping[str, StimulusFiles]  # by ladder
    watchers: Mapping[str, Watchers]
    say: Callable[[str], None]  # one line for the user

    @cached_property
    def scores(self) -> UnitScores:
        """The rows of the table of units."""
        return UnitScores(self.run)

    @cached_property
    def networks(self) -> Networks:
        """The networks, loaded when a page needs one."""
        return Networks(self.run, {ladder: files.pool for ladder, files in self.stimuli.items()})

    @cached_property
    def nearest(self) -> Nearest:
        """What finds the units that are driven by the same stimuli."""
        return Nearest(self.run, self.catalogue)

    @cached_property
    def answers(self) -> SingleAnswers:
        """The answers to single trials."""
        return SingleAnswers(self.run)

    @cached_property
    def _explanations(self) -> Mapping[tuple[Any, ...], list[dict[str, Any]]]:
        rows = self.run.explanations.partition_by("ladder", "rung", "seed", "control", "layer", "unit", as_dict=True)
        return {key: part.to_dicts() for key, part in rows.items()}

    @cached_property
    def template(self) -> jinja2.Template:
        """What lays a page out."""
        return environment(HERE).get_template("unit.html.j2")

    def render(self, network: Network, units: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, str]]:
        """The pages of some units of some layers: address and HTML. Pages of texts are held together until the network
        has read what all of them show, each text once.
        """
        drafts: Iterable[Draft] = (
            draft
            for layer, numbers in units.items()
            for start in range(0, len(numbers), AT_ONCE)
            for draft in self._drafts(network, layer, numbers[start : start + AT_ONCE])
        )
        if self.stimuli[network.ladder].kind == "text":
            drafts = self._read_by(network, list(drafts))
        for draft in drafts:
            yield network.address(draft.layer, draft.found.unit), self.template.render(draft.context)

    def _drafts(self, network: Network, layer: str, units: Sequence[int]) -> Iterator["Draft"]:
        """What is on the pages of some units of a layer, but for what takes their network."""
        position = network.layer(layer).position
        units = sorted(units, key=position.__getitem__)
        recorded = read_some(self.recordings(network), layer, [position[unit] for unit in units])
        rows = [self.scores.of(network, layer, unit) for unit in units]
        upper = [is_upper(each) for each in rows]
        trials, observed = observe(self.watchers[network.ladder], recorded, upper)
        near = self.nearest.of(network, layer, units)
        for index, (unit, values) in enumerate(zip(units, unit_values(recorded), strict=True)):
            answers = self.answers.of(network, layer, unit)
            found = Found(unit, values, rows[index], trials, index, observed[index], upper[index], near[index], answers)
            shown = Showing(self.stimuli[network.ladder], values)
            yield Draft(layer, found, shown, self._context(network, layer, found, shown))

    def _read_by(self, network: Network, drafts: Sequence["Draft"]) -> Sequence["Draft"]:
        """Pages with texts shaded by the units' values along them, and with logits; or with why these are missing."""
        loaded = self.networks.load(network)
        if isinstance(loaded, str):
            for draft in drafts:
                draft.context["no_network"] = loaded
            return drafts
        count = len({which for draft in drafts for which in draft.shown.by_stimulus})
        if count >= MANY_TEXTS:
            self.say(f"{network.name} reads {count:,} texts, by which its units' {len(drafts):,} pages are shaded")
        shade(loaded, drafts)
        pool = self.stimuli[network.ladder].pool
        for draft in drafts:
            draft.context["logits"] = _logits(loaded, draft.layer, draft.found.unit, pool)
        return drafts

    def used(self) -> Iterator[str]:
        """The addresses of the stimuli that the pages made so far show in files of their own."""
        for files in self.stimuli.values():
            yield from map(files.address, sorted(files.used))

    def recordings(self, network: Network) -> Path:
        """The file of a network's recordings."""
        basis = "" if network.main else network.basis
        return self.run.path / recordings_file(network.ladder, network.rung, network.seed, network.control, basis)

    def _context(self, network: Network, layer: str, found: "Found", shown: "Showing") -> dict[str, Any]:
        """What the template needs of one unit."""
        place = network.layer(layer).first + network.layer(layer).position[found.unit]
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
            "tables": self._tables(network, layer, place, found.rows),
            "chosen": _chosen(found.observed, shown),
            "wrong": _wrong(found.observed, shown),
            "answered": _answered(found.answers, shown),
            "near": [{"where": where, "units": [_near(each, shown) for each in units]} for where, units in found.near],
            "explanations": self._explanations.get((*network.key[:4], layer, found.unit), []) if network.main else [],
            "logits": None,
            "no_network": "",
            "missing_observers": self.watchers[network.ladder].missing,
        }

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, str, str], Column]:
        return {column.key: column for column in self.columns}

    def _tables(self, network: Network, layer: str, place: int, rows: Sequence[Score]) -> list[dict[str, Any]]:
        where = partial(self._standing, network, layer, place)
        return [_table(each, where) for each in score_tables(self.run, rows)]

    def _standing(self, network: Network, layer: str, place: int, cell: Score) -> str:
        """Where a score over all bands stands among its layer's."""
        key = merged(self.run, network.ladder, (cell["measure"], cell["observer"], cell["capacity"]))
        if cell["band"] not in (MEAN, "") or key not in self._by_key or len(network.layer(layer).numbers) == 1:
            return ""
        below = standing(self._by_key[key], network, layer, place)
        return "" if below is None else f"above {percent(below)} of its layer"

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
    near: Sequence[tuple[str, Sequence[Near]]]
    answers: Sequence[AnsweredWrong]


@dataclass(frozen=True, eq=False)
class Showing:
    """How a unit shows stimuli. The items that it gave are kept, so that texts can be shaded when all are known."""

    files: StimulusFiles
    values: UnitValues
    by_stimulus: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def items(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Stimuli with the unit's values, where these were kept."""
        items = [self.files.item(each, self.values.known.get(each)) for each in ids if each >= 0]
        for item in items:
            self.by_stimulus[item["id"]].append(item)
        return items

    def shade(self, which: int, along: Float[Tensor, " place"], end: float) -> None:
        """Shade a text by the unit's values along it: from none at its median to full at the end of its main pole."""
        median = self.values.median
        shades = ((along - median) / ((end - median) or 1)).clamp(0, 1).tolist()
        shaded = self.files.item(which, self.values.known.get(which), shades)
        for item in self.by_stimulus[which]:
            item.update(shaded)


@dataclass(frozen=True, eq=False)
class Draft:
    """A page that is not laid out yet."""

    layer: str
    found: Found
    shown: Showing
    context: dict[str, Any]


def shade(loaded: Loaded, drafts: Sequence[Draft]) -> None:
    """Shade the texts of some pages. Their network reads each text once, for the units of all layers."""
    units: dict[str, list[int]] = defaultdict(list)
    showing: dict[int, list[tuple[Draft, int, float]]] = defaultdict(list)  # by text: pages, the units' places, ends
    for draft in drafts:
        known = [value for value in draft.found.values.known.values() if math.isfinite(value)]
        if not known:
            continue
        place, end = len(units[draft.layer]), max(known) if draft.found.upper else min(known)
        units[draft.layer].append(draft.found.unit)
        for which in draft.shown.by_stimulus:
            showing[which].append((draft, place, end))
    for which, along in values_along(loaded, units, sorted(showing)):
        for draft, place, end in showing[which]:
            if draft.layer in along:
                draft.shown.shade(which, along[draft.layer][place], end)


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


def _table(table: ScoreTable, standing: Callable[[Score], str]) -> dict[str, Any]:
    lines = [
        {"name": name or "no observer", "cells": [_cell(cell, standing) for cell in cells]}
        for name, cells in table.lines
    ]
    return {
        "measure": table.measure,
        "meaning": table.meaning,
        "chance": None if table.chance is None else decimal(table.chance),
        "bands": [band or "score" for band in table.bands],
        "lines": lines,
    }


def _cell(cell: Score | None, where: Callable[[Score], str]) -> dict[str, str]:
    """A score with its interval and where it stands, or why there is none."""
    empty = {"score": NONE, "between": "", "note": ""}
    if cell is None:
        return empty
    if missing(cell["value"]):
        return empty | {"note": cell["note"]}
    between = f"{decimal(cell['low'])} to {decimal(cell['high'])}"
    return {"score": decimal(cell["value"]), "between": between, "note": where(cell)}


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


def _answered(answers: Sequence[AnsweredWrong], shown: Showing) -> list[dict[str, Any]]:
    """Trials that were answered one by one: the query that drives the unit first."""
    return [
        {
            "observer": each.observer,
            "wrong": each.wrong,
            "asked": each.asked,
            "trials": [
                {
                    "band": trial.band,
                    "stimuli": shown.items((trial.queries[trial.correct], trial.queries[1 - trial.correct])),
                }
                for trial in each.trials
            ],
        }
        for each in answers
    ]


def _near(near: Near, shown: Showing) -> dict[str, Any]:
    """A near unit, with the stimuli that drive it most and this unit's values on them."""
    name = f"layer {near.layer}, unit {near.unit}"
    return {
        "name": name,
        "address": near.network.address(near.layer, near.unit),
        "correlation": decimal(near.correlation),
        "stimuli": shown.items(near.highest),
    }


def _logits(loaded: Loaded, layer: str, unit: int, pool: Any) -> dict[str, Any] | None:
    """The tokens that a unit promotes and suppresses."""
    logits = direct_logits(loaded, layer, [unit])
    if logits is None:
        return None
    promoted, suppressed = (
        [{"token": token(pool, index), "logit": signed(value, 3)} for index, value in side]
        for side in strongest(logits[0, : len(pool.vocabulary)])
    )
    return {"promoted": promoted, "suppressed": suppressed}
