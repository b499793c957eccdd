"""What the report shows of capability: what the best-scored units carry, beside random ones and those by the loss."""

import functools
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from thalweg.capability.total import STATED
from thalweg.report import charts, rows
from thalweg.report.charts import Figure, Panel, Specification
from thalweg.report.figures import TRAINED, made_or_failed, verdict_note
from thalweg.report.ladder import Ladder
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.styles import Row, ladder_styles
from thalweg.report.text import NONE, decimal, listing, missing, p_value, percent, whole

NAME = "tic"
WHOLE, BEST, BY_LOSS, RANDOM = "whole model", "best units by crisp", "units chosen by the loss", "random units"
SERIES = {BEST: "tic", BY_LOSS: "by_loss", RANDOM: "random", WHOLE: "carried"}  # and their columns
HEIGHT = 260
ALPHA = 0.05
MORE_THAN_ALL = "more than the whole model"
MORE = (
    "with all its units the model does worse on these held-out stimuli than with its best alone, after the confidence "
    "of both was set right: what is replaced adds noise there, as what was learnt by heart of training stimuli does"
)


def figures(ladder: Ladder) -> list[Figure]:
    """The figure of a ladder's capability; none for a single model or where it was not asked for."""
    if len(ladder.order) == 1 or not any(_kept(ladder, by) for by in ("mean", "resample")):
        return []
    return [made_or_failed(NAME, functools.partial(_figure, ladder))]


def _figure(ladder: Ladder) -> Figure:
    panels = [_amounts(ladder, by) for by in ("mean", "resample")] + [_excess(ladder), _fractions(ladder)]
    share = percent(STATED)
    caption = (
        f"All units but the best {share} of each layer, by crisp, are replaced: by what gives their mean output, or by "
        "their values on another stimulus. What is left of the model's bits (its confidence set right, and above what "
        "is left without any unit) is its total interpretable capability, TIC. Each point is a rung at the mean of "
        "its seeds.",
        f"Random units: as many of each layer, with the band that 95 % of {whole(_sets(ladder))} sets lie in. Units "
        "chosen by the loss show how much could be kept: where they stand in the band too, no score could have shown "
        "an excess.",
        "The fraction says mostly how wide and redundant a model is; it may fall while the amount rises.",
    )
    return Figure(NAME, "Total interpretable capability", caption, tuple(panels), ladders=tuple(SERIES))


def _kept(ladder: Ladder, by: str) -> list[Row]:
    """The rows of trained models at the stated cut, the weakest rung first, with their strengths."""
    chosen = ladder.run.capability.filter(ladder=ladder.name, ablation=by, cut=STATED, control=TRAINED)
    strength = rows.strengths(ladder.run, ladder.name, ladder.axis)
    placed = chosen.join(strength, on=["rung", "seed"], how="inner").filter(pl.col("strength").is_not_nan())
    return list(rows.plain(placed.with_columns(carried=pl.col("whole") - pl.col("floor")).sort("strength", "seed")))


def _sets(ladder: Ladder) -> int:
    chosen = ladder.run.capability.filter(ladder=ladder.name, cut=STATED)["n_sets"].drop_nulls()
    return int(chosen.to_list()[0]) if len(chosen) else 0


def _rungs(models: Sequence[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rungs: the means of their seeds, of those that have a number."""
    by_rung: dict[str, list[Row]] = {}
    for row in models:
        by_rung.setdefault(row["rung"], []).append(row)
    made = []
    for rung, seeds in by_rung.items():
        means = {}
        for name in ("strength", *names):
            there = [row[name] for row in seeds if not missing(row[name])]
            means[name] = sum(there) / len(there) if there else None
        made.append({"rung": rung, "kind": seeds[0]["kind"], "seeds": len(seeds), **means})
    return made


def _amounts(ladder: Ladder, by: str) -> Panel:
    """The bits that the best units carry, beside the whole model's, random units' and those chosen by the loss."""
    means = _rungs(_kept(ladder, by), [*SERIES.values(), "random_low", "random_high"])
    points = [point for series, column in SERIES.items() for point in _points(means, series, column)]
    chart = _chart(ladder, points, _points(means, RANDOM, "random"), "bits")
    carried = [row for row in means if row["tic"] is not None]
    says = "no numbers"
    if carried:
        first, last = carried[0], carried[-1]
        says = (
            f"{decimal(first['tic'])} of {decimal(first['carried'])} bits at the weakest ({first['rung']}), "
            f"{decimal(last['tic'])} of {decimal(last['carried'])} at the strongest ({last['rung']})"
        )
    note = verdict_note(ladder.verdict("tic")) if by == "mean" else ""
    return Panel(f"bits carried, {by} ablation", f"Best units, {by} ablation: {says}.", chart, note)


def _excess(ladder: Ladder) -> Panel:
    """How much more the best units carry than random ones, with what could have been seen."""
    models = _kept(ladder, "mean")
    points = _points(_rungs(models, ["excess", "excess_low", "excess_high"]), BEST, "excess")
    chart = _chart(ladder, points, points, "bits above random units")
    sure = sum(not missing(row["p"]) and row["p"] < ALPHA for row in models)
    least = sorted(row["least_excess"] for row in models if not missing(row["least_excess"]))
    could = f"; the median model could have shown {decimal(least[len(least) // 2])} bits" if least else ""
    note = f"{verdict_note(ladder.verdict('tic_excess'))}; p < .05 in {sure} of {len(models)} models{could}"
    return Panel("excess over random units, mean ablation", f"Excess over random units: {note}.", chart, note)


def _fractions(ladder: Ladder) -> Panel:
    """The share of each model's own bits that its best units carry."""
    points = _points(_rungs(_kept(ladder, "mean"), ["fraction"]), BEST, "fraction")
    chart = _chart(ladder, points, [], "share of the model's bits")
    shown = [row["value"] for row in points]
    spoken = f"{percent(min(shown))} to {percent(max(shown))}" if shown else "no numbers"
    note = f"above 100 % in {listing(above)}" if (above := _above(_kept(ladder, "mean"))) else ""
    return Panel("fraction, mean ablation", f"Fraction of the model's bits in its best units: {spoken}.", chart, note)


def _above(models: Sequence[Row]) -> list[str]:
    """The rungs whose best units carry more than the whole model."""
    return list(dict.fromkeys(row["rung"] for row in models if not missing(row["fraction"]) and row["fraction"] > 1))


def _points(means: Sequence[Row], series: str, column: str) -> list[Row]:
    """A column of rungs as points of a series, with its ends where it has some."""
    return [
        {
            "series": series,
            "value": row[column],
            "low": row.get(f"{column}_low"),
            "high": row.get(f"{column}_high"),
            **{name: row[name] for name in ("rung", "kind", "strength")},
        }
        for row in means
        if row[column] is not None
    ]


def _chart(ladder: Ladder, points: Sequence[Row], ends: Sequence[Row], title: str) -> Specification:
    """Points by strength, a colour and a shape for each series, and bars between the ends of some."""
    styles = ladder_styles(list(SERIES))
    x = charts.strength_axis(ladder.axis, points, ladder.axis_title(ladder.axis))
    heights = [row["value"] for row in points] + [row[end] for row in ends for end in ("low", "high")]
    scale = alt.Scale(domain=[min([0.0, *heights]), max([0.1, *heights])], nice=True)
    y = alt.Y("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    colours, marks = ([style[part] for style in styles.values()] for part in (0, 1))
    colour = alt.Color("series:N", scale=alt.Scale(domain=list(SERIES), range=colours), title=None)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=list(SERIES), range=marks), title=None)
    hover = [
        *(alt.Tooltip(f"{name}:N", title=name) for name in ("rung", "kind")),
        alt.Tooltip("series:N", title="units"),
        alt.Tooltip("value:Q", title=title, format=".3f"),
        alt.Tooltip("strength:Q", title=ladder.axis, format=".3f"),
    ]
    bars = alt.Chart(charts.inline(ends)).mark_rule(strokeWidth=6, opacity=0.25)
    low, high = alt.Y("low:Q", scale=scale), alt.Y2("high:Q")
    dots = alt.Chart(charts.inline(points)).mark_point(filled=True, opacity=0.9)
    shown = [dots.encode(x=x, y=y, color=colour, shape=shape, tooltip=hover)]
    return charts.layered([*([bars.encode(x=x, y=low, y2=high, color=colour)] if ends else []), *shown], HEIGHT)


def values(ladder: Ladder) -> Table:
    """The numbers of each model and of its untrained twin, at the stated cut."""
    order = {rung: index for index, rung in enumerate(ladder.order)}
    chosen = ladder.run.capability.filter(
        (pl.col("ladder") == ladder.name) & ((pl.col("cut") == STATED) | (pl.col("ablation") == ""))
    )
    ordered = sorted(rows.plain(chosen), key=lambda row: (order.get(row["rung"], 0), row["control"], row["seed"]))
    lines = [_line(row) for row in ordered]
    return table("tic-values", "What the best quarter of units carries, in bits", lines)


def _line(row: Row) -> dict[str, Cell]:
    return {
        "rung": word(row["rung"]),
        "model": word(rows.CONTROLS.get(row["control"], row["control"])),
        "seed": number(row["seed"], whole),
        "ablation": word(row["ablation"] or NONE),
        "whole model": number(row["whole"], decimal),
        "left without units": number(row["floor"], decimal),
        "TIC": Cell(_with_ends(row, "tic"), _key(row["tic"])),
        "fraction": number(row["fraction"], percent),
        "the other units": number(row["complement"], decimal),
        "chosen by loss": number(row["by_loss"], decimal),
        "random": number(row["random"], decimal),
        "excess": Cell(_with_ends(row, "excess"), _key(row["excess"])),
        "p": number(row["p"], p_value),
        "excess, like variance": number(row["excess_matched"], decimal),
        "p, like variance": number(row["p_matched"], p_value),
        "least excess to be seen": number(row["least_excess"], decimal),
        "note": word("; ".join(filter(None, (row["note"], MORE_THAN_ALL * bool(_above([row])))))),
    }


def _key(value: Any) -> float:
    return float("inf") if missing(value) else float(value)


def _with_ends(row: Row, name: str) -> str:
    if missing(row[name]):
        return NONE
    return f"{decimal(row[name])} ({decimal(row[f'{name}_low'])} to {decimal(row[f'{name}_high'])})"


def sentences(ladder: Ladder) -> list[str]:
    """The verdicts on the amount and on the excess, and what they leave out."""
    lines = []
    for measure, about in (("tic", "TIC"), ("tic_excess", "Excess over random units")):
        if verdict := ladder.verdict(measure):
            lines.append(f"{about}, as a share of the bits that can be gained: {verdict['sentence']}")
    if above := _above([*_kept(ladder, "mean"), *_kept(ladder, "resample")]):
        lines.append(f"A fraction above 100 %, in {listing(above)}: {MORE}.")
    part = [row["rung"] for row in _rungs([row for row in _kept(ladder, "mean") if row["note"]], ())]
    if part:
        lines.append(
            f"Only some units were measured in {listing(part)}: the others stay, and these rungs have no part in the "
            "verdicts."
        )
    return lines
