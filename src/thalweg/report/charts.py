"""The charts: Vega-Lite specifications made of rows, one small panel after another.

A figure is a row of panels that the page lays out by itself, so that they fit a phone and a sheet of paper, and that
are put together to one picture for a file. Colours are CSS variables: the page gives them their values for light and
dark, `printed` those for paper. Every panel names its own parts; nothing is numbered by the library, so the same rows
make the same bytes.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import altair as alt

from thalweg.report.escaping import visible, visible_parts
from thalweg.report.styles import (
    COLOURS,
    CONTROL_SHAPES,
    INK,
    PAPER,
    Range,
    Row,
    config,
    controls_of,
    ladder_styles,
    others,
    styles,
)
from thalweg.report.text import Number

RANK, MISSING_BITS = "rank of strength", "bits that are missing"  # axes that only spread models
LOGARITHMIC = ("parameters", "compute")
FORMATS = {"accuracy": ".0%", "parameters": "~s", "compute": ".0e", RANK: "d"}
HOVER_FORMATS = {"accuracy": ".1%", "parameters": ",.0f", "compute": ".2e"}
SIDE = {"trained": 0, "untrained": -1, "rotated": 1, "memorising": 2}
SIDESTEP = 3.0  # pixels that twins are moved sideways, so that intervals do not hide each other
SKETCH = ("simple models", "confused abstractions", "crisp abstractions")
FILE_WIDTH = 320  # of a panel in a file
Specification = dict[str, Any]  # of Vega-Lite
Align = Literal["left", "center", "right"]


@dataclass(frozen=True)
class ValueAxis:
    """The axis of a score or another value."""

    title: str
    range: Range
    level: Number = None  # that a line marks: chance, or no difference


@dataclass(frozen=True, eq=False)
class Panel:
    """One chart with its heading and a summary in words for readers who do not see it."""

    title: str
    summary: str
    chart: Specification
    note: str = ""  # under the heading: mostly a verdict


@dataclass(frozen=True, eq=False)
class Figure:
    """Panels that belong together, with what a reader must know of them."""

    name: str
    title: str
    caption: tuple[str, ...]
    panels: tuple[Panel, ...]
    controls: tuple[str, ...] = ()  # the legend
    kinds: Mapping[str, str] | None = None  # kinds by shape, where points have their kind's shape
    control_shapes: bool = False  # points have their control's shape
    columns: int = 2
    small: bool = False  # panels narrower than usual
    ladders: tuple[str, ...] = ()  # by colour and shape, where a panel holds several
    failed: str = ""  # why it could not be made, where it could not


def specification(panel: Panel, controls: Sequence[str] = ()) -> Specification:
    """A panel for the page: as wide as the page lets it be. `controls` are all that its figure names."""
    shown: Specification = _only(_finished(panel.chart | {"width": "container"}), (*COLOURS, *others(controls)))
    return shown


def printed(figure: Figure) -> Specification:
    """A whole figure for a file, on white, with its legend."""
    panels: list[Specification] = []
    rows: dict[str, str] = {}
    for panel in figure.panels:
        title = {"text": panel.title} | ({"subtitle": panel.note} if panel.note else {})
        width = FILE_WIDTH if not figure.small else FILE_WIDTH // 2
        panels.append({**panel.chart, "title": title, "width": width})
        rows |= panels[-1].pop("datasets")
    shape = "shared" if figure.kinds or figure.control_shapes or figure.ladders else "independent"
    resolve = {"scale": {"color": "shared", "shape": shape}}
    whole = {"concat": panels, "columns": figure.columns, "resolve": resolve, "datasets": rows}
    text = json.dumps({**_finished(whole), "config": config(legend=True) | {"background": "white"}})
    for name, colour in PAPER.items():
        text = text.replace(f"var({name})", colour)
    shown: Specification = _only(json.loads(text), figure.controls or tuple(COLOURS))
    return shown


def _only(part: Any, controls: Sequence[str]) -> Any:
    """A specification whose scales name these controls and no others."""
    if isinstance(part, list):
        return [_only(item, controls) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("domain") == list(COLOURS):
        style = {name: item for name, item in styles(controls).items() if name in controls}
        chosen: dict[str, list[str]] = {"domain": [visible(name) for name in style]}
        if "range" in part:
            shapes_wanted = part["range"] == list(CONTROL_SHAPES)
            paper = not shapes_wanted and not part["range"][0].startswith("var(")
            chosen["range"] = [shape if shapes_wanted else _on(paper, colour) for colour, shape in style.values()]
        return {**part, **chosen}
    return {name: _only(item, controls) for name, item in part.items()}


def _on(paper: bool, colour: str) -> str:
    """A colour as the page names it, or as it is on paper."""
    return PAPER[colour.removeprefix("var(").removesuffix(")")] if paper else colour


def inline(rows: Iterable[Row]) -> alt.InlineData:
    """Rows as text for now: the library would copy and check them again and again."""
    return alt.InlineData(values=json.dumps([dict(row) for row in rows], allow_nan=False))


def _finished(chart: Specification) -> Specification:
    """The specification, its rows as rows."""
    rows = {name: json.loads(rows) for name, rows in chart["datasets"].items()}
    finished: Specification = visible_parts({"$schema": alt.SCHEMA_URL, **chart, "datasets": rows})
    return finished


def _colour(title: str | None = None) -> alt.Color:
    domain = list(COLOURS)
    return alt.Color(
        "control:N", scale=alt.Scale(domain=domain, range=[COLOURS[control] for control in domain]), title=title
    )


def _kind_shape(kinds: Mapping[str, str]) -> alt.Shape:
    return alt.Shape("kind:N", scale=alt.Scale(domain=list(kinds), range=list(kinds.values())), title=None)


def _by_coverage() -> alt.Opacity:
    """The fewer units could be measured, the paler the point."""
    return alt.Opacity("coverage:Q", scale=alt.Scale(domain=[0, 0.5], range=[0.3, 1], clamp=True), legend=None)


def _control_shape() -> alt.Shape:
    return alt.Shape("control:N", scale=alt.Scale(domain=list(COLOURS), range=list(CONTROL_SHAPES)), title=None)


def domain(*columns: Sequence[Row], floor: float = 0.45) -> Range:
    """The range of scores that panels share: from a step below the least that is shown, chance at the latest, to 1."""
    least = [row[name] for rows in columns for row in rows for name in ("score", "low") if row.get(name) is not None]
    return min([floor, *(math.floor(value * 20) / 20 for value in least)]), 1


def strength_axis(axis: str, rows: Sequence[Row], title: str = "") -> alt.X:
    """The horizontal axis of a strength."""
    logarithmic = axis in LOGARITHMIC and all((row["strength"] or 0) > 0 for row in rows)
    if axis == MISSING_BITS:  # fewer are stronger: to the right
        scale = alt.Scale(type="log", nice=False, padding=12, reverse=True)
        return alt.X("strength:Q", title=title, scale=scale, axis=alt.Axis(format="~g", tickCount=5))
    return alt.X(
        "strength:Q",
        title=(title or axis) + (" (logarithmic)" if logarithmic else ""),
        scale=alt.Scale(type="log", nice=False, padding=12)
        if logarithmic
        else alt.Scale(zero=False, nice=False, padding=12),
        axis=alt.Axis(format=FORMATS.get(axis, "~g"), tickCount=5, labelFlush=False),
    )


def _score_hover() -> list[alt.Tooltip]:
    """A score with its interval and coverage."""
    return [
        alt.Tooltip("score:Q", title="score", format=".3f"),
        alt.Tooltip("low:Q", title="from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
        alt.Tooltip("coverage:Q", title="coverage", format=".0%"),
    ]


def _hover(axis: str, *, seed: bool) -> list[alt.Tooltip]:
    strength = HOVER_FORMATS.get(axis, ".3f")
    tooltips = [
        alt.Tooltip("rung:N", title="rung"),
        alt.Tooltip("kind:N", title="kind"),
        alt.Tooltip("control:N", title="model"),
        alt.Tooltip("seed:N", title="seed"),
        *_score_hover(),
        alt.Tooltip("n_units:Q", title="units", format=",d"),
        alt.Tooltip("strength:Q", title=axis, format=strength),
        alt.Tooltip("accuracy:Q", title="accuracy", format=".1%"),
    ]
    dropped = set() if seed else {"seed"}
    if axis == "accuracy":
        dropped.add("strength")
    return [tooltip for tooltip in tooltips if tooltip["title"] not in dropped]


def layered(layers: Sequence[alt.Chart | Specification], height: int) -> Specification:
    """Layers over each other, the last on top; rows that several share stand there once.

    The library's own layers copy all that is in them, again and again: they take most of a report's time.
    """
    parts = [layer.to_dict(validate=False) if isinstance(layer, alt.Chart) else layer for layer in layers]
    rows = {name: text for part in parts for name, text in part["datasets"].items()}
    alone = [{name: item for name, item in part.items() if name in ("data", "mark", "encoding")} for part in parts]
    return {"layer": alone, "height": height, "datasets": rows}


def _reference(value: float | int, *, vertical: bool = False) -> alt.Chart:
    rule = alt.Chart(inline([{}])).mark_rule(color=INK["faint"], strokeDash=[2, 3])
    line: alt.Chart = rule.encode(x=alt.XDatum(value)) if vertical else rule.encode(y=alt.YDatum(value))
    return line


@cache
def chance_line(value: float | int) -> tuple[Specification, ...]:
    """Chance, named: a layer of nearly every chart, and so made once."""
    name = alt.Chart(inline([{}])).mark_text(
        align="right", baseline="bottom", dx=-2, dy=-2, fontSize=10, color=INK["faint"], text="chance"
    )
    named = name.encode(x=alt.value("width"), y=alt.YDatum(value))
    return tuple(layer.to_dict(validate=False) for layer in (_reference(value), named))


def curve(
    rows: Sequence[Row],
    *,
    axis: str,
    score: ValueAxis,
    kinds: Mapping[str, str],
    verdict: Row | None = None,
    height: int = 300,
    axis_title: str = "",
) -> Specification:
    """Scores against strength: a point with its interval for each rung and control, its seeds faintly, and the fitted
    shape of the trained models (broken where the verdict does not rest on it). `axis_title` names the strength axis
    where the ladder has a name for it.
    """
    x = strength_axis(axis, rows, axis_title)
    y = _score_axis(score)
    layers: list[alt.Chart | Specification] = [*chance_line(score.level)] if score.level is not None else []
    layers += _fitted(verdict, x, y)
    for index, control in reversed(list(enumerate(controls_of(rows)))):
        series = [row for row in rows if row["control"] == control]
        aside = SIDE.get(control, index - 1) * SIDESTEP
        layers += _series(series, x, y, axis=axis, kinds=kinds, aside=aside, faint=control != "trained")
    layers += _sketch(verdict, x, y)
    return layered(layers, height)


def _score_axis(score: ValueAxis) -> alt.Y:
    limits = alt.Scale(domain=list(score.range), zero=False, nice=False, clamp=True)
    return alt.Y("score:Q", title=score.title, scale=limits, axis=alt.Axis(tickCount=6))


def _series(
    rows: Sequence[Row], x: alt.X, y: alt.Y, *, axis: str, kinds: Mapping[str, str], aside: float, faint: bool
) -> list[alt.Chart]:
    """One control's seeds, intervals and points."""
    seeds = [row for row in rows if row["seed"] is not None and row["score"] is not None]
    whole = [row for row in rows if row["seed"] is None and row["score"] is not None]
    layers = []
    if seeds:
        dots = alt.Chart(inline(seeds)).mark_circle(size=12, opacity=0.3, xOffset=aside)
        layers.append(dots.encode(x=x, y=y, color=_colour(), tooltip=_hover(axis, seed=True)))
    if whole:
        base = alt.Chart(inline(whole))
        rules = base.mark_rule(opacity=0.35 if faint else 0.8, strokeWidth=1.2 if faint else 1.6, xOffset=aside)
        layers.append(rules.encode(x=x, y=alt.Y("low:Q", scale=y["scale"]), y2=alt.Y2("high:Q"), color=_colour()))
        marks = base.mark_point(filled=not faint, xOffset=aside, strokeOpacity=0.6 if faint else 1)
        hover = _hover(axis, seed=False)
        layers.append(
            marks.encode(x=x, y=y, color=_colour(), shape=_kind_shape(kinds), opacity=_by_coverage(), tooltip=hover)
        )
    return layers


def _fitted(verdict: Row | None, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    if not verdict or not verdict.get("fit"):
        return []
    fit = verdict["fit"]
    rows = [{"strength": a, "score": b} for a, b in zip(fit["x"], fit["y"], strict=True)]
    dash = [5, 4] if verdict["verdict"] == "cannot tell" else [1, 0]
    line = alt.Chart(inline(rows)).mark_line(color=INK["ink"], strokeWidth=1.6, opacity=0.75, strokeDash=dash)
    return [line.encode(x=x, y=y)]


def _sketch(verdict: Row | None, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """The sketch's names at the walls and the bottom of a valley, only where the verdict is a valley."""
    if not verdict or verdict["verdict"] != "valley" or not verdict.get("fit"):
        return []
    fit = verdict["fit"]
    bottom = min(range(len(fit["y"])), key=lambda index: fit["y"][index])
    anchors: Sequence[tuple[int, Align, int]] = (
        (0, "left", -14),
        (bottom, "center", 18),
        (len(fit["x"]) - 1, "right", -14),
    )
    return [
        alt.Chart(inline([{"strength": fit["x"][at], "score": fit["y"][at], "name": name}]))
        .mark_text(align=align, dy=dy, fontStyle="italic", fontSize=12, color=INK["ink"])
        .encode(x=x, y=y, text=alt.Text("name:N"))
        for name, (at, align, dy) in zip(SKETCH, anchors, strict=True)
    ]


def joint(
    rows: Sequence[Row],
    fits: Sequence[Row],
    ladders: Sequence[str],
    *,
    title: str,
    score: ValueAxis,
    floor: float,
    height: int,
) -> Specification:
    """Rungs of several ladders in one chart: filled if trained, hollow if untrained, with each ladder's fitted shape.

    Strengths below `floor` are drawn at the edge.
    """
    styles = ladder_styles(ladders)
    least = max(floor, min([0.0, *(row["strength"] for row in rows)]))
    x = alt.X(
        "strength:Q",
        title=title,
        scale=alt.Scale(domain=[least, 1], clamp=True, nice=False, padding=12),
        axis=alt.Axis(format="~g", tickCount=6),
    )
    y = _score_axis(score)
    colours, marks = ([style[part] for style in styles.values()] for part in (0, 1))
    colour = alt.Color("ladder:N", scale=alt.Scale(domain=list(styles), range=colours), title=None)
    shape = alt.Shape("ladder:N", scale=alt.Scale(domain=list(styles), range=marks), title=None)
    layers: list[alt.Chart | Specification] = [*chance_line(score.level)] if score.level is not None else []
    for fit in fits:
        line = alt.Chart(inline([{**point, "ladder": fit["ladder"]} for point in fit["points"]]))
        dash = [5, 4] if fit["verdict"] == "cannot tell" else [1, 0]
        layers.append(line.mark_line(strokeWidth=1.4, opacity=0.7, strokeDash=dash).encode(x=x, y=y, color=colour))
    hover = [alt.Tooltip("ladder:N", title="ladder"), *_hover("share", seed=False)]
    for control in ("untrained", "trained"):
        base = alt.Chart(inline([row for row in rows if row["control"] == control]))
        if control == "trained":
            low = alt.Y("low:Q", scale=y["scale"])
            layers.append(base.mark_rule(opacity=0.6).encode(x=x, y=low, y2=alt.Y2("high:Q"), color=colour))
        points = base.mark_point(filled=control == "trained", opacity=0.95 if control == "trained" else 0.5)
        layers.append(points.encode(x=x, y=y, color=colour, shape=shape, tooltip=hover))
    return layered(layers, height)


def _rung_axis(order: Sequence[str], *, grid: bool = True) -> alt.Y:
    return alt.Y(
        "rung:N",
        sort=list(order),
        title=None,
        scale=alt.Scale(domain=list(order), paddingInner=0.25),
        axis=alt.Axis(grid=grid, ticks=False, labelOverlap=False),
    )


def by_rung(
    rows: Sequence[Row],
    order: Sequence[str],
    *,
    value: str,
    axis: ValueAxis,
    number: str = ".3f",
    spread: int = 22,
    name: str = "rung",
) -> Specification:
    """A value for each rung (or what `name` says), the first on top, its controls beside each other; an interval where
    rows have one.
    """
    y, aside = _rung_axis(order), alt.YOffset("control:N", scale=alt.Scale(domain=list(COLOURS)))
    x = alt.X(
        f"{value}:Q",
        title=axis.title,
        scale=alt.Scale(domain=list(axis.range), nice=False, zero=False, clamp=True),
        axis=alt.Axis(tickCount=5, format="%" if number.endswith("%") else "~g"),
    )
    shown = [row for row in rows if row.get(value) is not None]
    base = alt.Chart(inline(shown))
    layers = [_reference(axis.level, vertical=True)] if axis.level is not None else []
    hover = [alt.Tooltip("rung:N", title=name), alt.Tooltip("control:N", title="model")]
    if any(row.get("seed") is not None for row in shown):
        hover.append(alt.Tooltip("seed:N", title="seed"))
    hover.append(alt.Tooltip(f"{value}:Q", title=axis.title, format=number))
    if value == "score":
        low = alt.X("low:Q", scale=x["scale"])
        layers.append(
            base.mark_rule(strokeWidth=1.4).encode(x=low, x2=alt.X2("high:Q"), y=y, yOffset=aside, color=_colour())
        )
        hover += [
            alt.Tooltip("low:Q", title="from", format=number),
            alt.Tooltip("high:Q", title="to", format=number),
            alt.Tooltip("coverage:Q", title="coverage", format=".0%"),
        ]
    dots = base.mark_point(filled=True, size=34, opacity=0.95)
    layers.append(dots.encode(x=x, y=y, yOffset=aside, color=_colour(), shape=_control_shape(), tooltip=hover))
    return layered(layers, max(3, len(order)) * spread)


def strips(rows: Sequence[Row], order: Sequence[str], *, colour: str, title: str, least: float) -> Specification:
    """How units spread, a strip for each rung: the darker, the larger the share of its units."""
    hover = [
        alt.Tooltip("rung:N", title="rung"),
        alt.Tooltip("from:Q", title="from", format=".2f"),
        alt.Tooltip("to:Q", title="to", format=".2f"),
        alt.Tooltip("share:Q", title="share of units", format=".1%"),
        alt.Tooltip("n:Q", title="units", format=",d"),
    ]
    x = alt.X(
        "from:Q", title=title, scale=alt.Scale(domain=[least, 1], nice=False), axis=alt.Axis(tickCount=5, format="~g")
    )
    shade = alt.Opacity("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0.03, 1]), legend=None)
    bars = alt.Chart(inline(rows)).mark_rect(color=colour, stroke=None)
    strip = bars.encode(x=x, x2=alt.X2("to:Q"), y=_rung_axis(order, grid=False), opacity=shade, tooltip=hover)
    return layered([strip], max(3, len(order)) * 17)


def capacity(rows: Sequence[Row], order: Sequence[str], *, scale: Range, chance: Number) -> Specification:
    """One rung's score by the number of features that the observer may use."""
    x = alt.X(
        "capacity:N",
        sort=list(order),
        title="features",
        scale=alt.Scale(domain=list(order)),
        axis=alt.Axis(labelAngle=0, labelOverlap=False),
    )
    limits = alt.Scale(domain=list(scale), nice=False, zero=False, clamp=True)
    y = alt.Y("score:Q", title=None, scale=limits, axis=alt.Axis(tickCount=4))
    hover = [
        alt.Tooltip("rung:N", title="rung"),
        alt.Tooltip("control:N", title="model"),
        alt.Tooltip("capacity:N", title="features"),
        *_score_hover(),
    ]
    base = alt.Chart(inline([row for row in rows if row["score"] is not None]))
    lines = base.mark_line(strokeWidth=1.4).encode(x=x, y=y, color=_colour())
    low = alt.Y("low:Q", scale=limits)
    rules = base.mark_rule(opacity=0.3).encode(x=x, y=low, y2=alt.Y2("high:Q"), color=_colour())
    dots = base.mark_point(filled=True, size=30, opacity=1)
    layers = [_reference(chance)] if chance is not None else []
    layers += [lines, rules, dots.encode(x=x, y=y, color=_colour(), shape=_control_shape(), tooltip=hover)]
    return layered(layers, 130)


def against(rows: Sequence[Row], names: tuple[str, str], scale: Range, height: int) -> Specification:
    """Scores of one run against those of another, with intervals both ways: on the diagonal they are the same. Rows
    hold `first`, `first_low`, `first_high`, and `second` likewise.
    """
    limits = alt.Scale(domain=list(scale), zero=False, nice=False, clamp=True)
    few = alt.Axis(tickCount=6)
    x = alt.X("first:Q", title=names[0], scale=limits, axis=few)
    y = alt.Y("second:Q", title=names[1], scale=limits, axis=few)
    ends = alt.Chart(inline({"first": value, "second": value} for value in scale))
    layers = [ends.mark_line(color=INK["faint"], strokeDash=[2, 3]).encode(x=x, y=y)]
    hover = [alt.Tooltip(f"{name}:N") for name in ("ladder", "rung", "control")]
    hover += [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("first", "second", "difference", "low", "high")]
    for control in reversed(controls_of(rows)):
        base = alt.Chart(inline(row for row in rows if row["control"] == control))
        rules = base.mark_rule(opacity=0.4)
        sideways = alt.X("first_low:Q", scale=limits, title=names[0], axis=few)
        layers.append(rules.encode(x=sideways, x2=alt.X2("first_high:Q"), y=y, color=_colour()))
        upright = alt.Y("second_low:Q", scale=limits, title=names[1], axis=few)
        layers.append(rules.encode(x=x, y=upright, y2=alt.Y2("second_high:Q"), color=_colour()))
        points = base.mark_point(filled=control == "trained")
        layers.append(points.encode(x=x, y=y, color=_colour(), tooltip=hover))
    return layered(layers, height)
