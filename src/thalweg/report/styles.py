"""Colours, shapes and fonts of the report's charts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Range = tuple[float | int, float | int]
# Okabe & Ito's palette, safe for colour-blind readers; shapes and filling say the same again
COLOURS = {
    "trained": "var(--trained)",
    "untrained": "var(--untrained)",
    "rotated": "var(--rotated)",
    "memorising": "var(--memorising)",
}
INK = {"ink": "var(--ink)", "faint": "var(--faint)", "grid": "var(--grid)"}
PAPER = {
    "--trained": "#0072B2",
    "--untrained": "#D55E00",
    "--rotated": "#009E73",
    "--memorising": "#CC79A7",
    "--twin-1": "#7a6a00",
    "--twin-2": "#6a3d9a",
    "--twin-3": "#8c564b",
    "--ladder-1": "#332288",  # Tol's muted palette, as safe
    "--ladder-2": "#CC6677",
    "--ladder-3": "#117733",
    "--ladder-4": "#AA8800",
    "--ladder-5": "#44AA99",
    "--ink": "#1b1b1b",
    "--faint": "#595959",
    "--grid": "#dddddd",
}
OTHERS = ("var(--twin-1)", "var(--twin-2)", "var(--twin-3)")  # twins of a user's own ladder, by the order of its twins
OTHER_SHAPES = ("triangle-down", "cross", "stroke")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
CONTROL_SHAPES = ("circle", "square", "triangle-up", "diamond")
LADDER_COLOURS = ("var(--ladder-1)", "var(--ladder-2)", "var(--ladder-3)", "var(--ladder-4)", "var(--ladder-5)")
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def config(*, legend: bool) -> dict[str, Any]:
    """What all charts share; the page draws its own legends."""
    return {
        "background": "transparent",
        "font": FONT,
        "aria": False,
        "view": {"stroke": None},
        "axis": {
            "labelColor": INK["faint"],
            "titleColor": INK["faint"],
            "gridColor": INK["grid"],
            "domainColor": INK["faint"],
            "tickColor": INK["faint"],
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 11,
            "labelLimit": 175,
            "labelOverlap": True,
        },
        "axisX": {"grid": False},
        "title": {"color": INK["ink"], "subtitleColor": INK["faint"], "fontSize": 12, "anchor": "start", "limit": 320},
        "legend": {
            "disable": not legend,
            "labelColor": INK["ink"],
            "titleColor": INK["ink"],
            "orient": "bottom",
            "symbolOpacity": 1,
        },
        "point": {"size": 42, "strokeWidth": 1.5},
    }


def others(controls: Iterable[str]) -> list[str]:
    """The twins that only this ladder has, in order."""
    return [control for control in dict.fromkeys(controls) if control not in COLOURS]


def styles(controls: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The colour and the shape of each control that is known everywhere, and of those that only a ladder has."""
    chosen = dict(zip(COLOURS, zip(COLOURS.values(), CONTROL_SHAPES, strict=True), strict=True))
    for index, name in enumerate(others(controls)):
        chosen[name] = OTHERS[index % len(OTHERS)], OTHER_SHAPES[index % len(OTHER_SHAPES)]
    return chosen


def controls_of(rows: Iterable[Row]) -> list[str]:
    """The controls that are known everywhere, and then the others of some rows."""
    return [*COLOURS, *others(row["control"] for row in rows)]


def shapes(kinds: Iterable[str]) -> dict[str, str]:
    """A shape for each kind of rung."""
    return {kind: SHAPES[index % len(SHAPES)] for index, kind in enumerate(kinds)}


def ladder_styles(ladders: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour and a shape for each ladder."""
    return {
        name: (LADDER_COLOURS[index % len(LADDER_COLOURS)], SHAPES[index % len(SHAPES)])
        for index, name in enumerate(ladders)
    }
