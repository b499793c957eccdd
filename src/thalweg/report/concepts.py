"""What the report shows of concepts: how far two languages share them, measure by measure, beside every control."""

import functools
from collections.abc import Sequence

import altair as alt
import polars as pl

from thalweg.report import charts, rows
from thalweg.report.charts import Figure, Panel, Specification
from thalweg.report.figures import TRAINED, made_or_failed, verdict_note
from thalweg.report.ladder import Ladder
from thalweg.report.listings import Table, number, table, word
from thalweg.report.styles import Row, ladder_styles
from thalweg.report.text import NONE, decimal, missing, whole

NAME = "concepts"
SHUFFLED = "unrelated pairs"
SERIES = {TRAINED: "trained", "two-worlds": "two-worlds", "untrained": "untrained", "rerandomised": "rerandomised"}
SERIES |= {SHUFFLED: "shuffled"}  # and the controls of their rows
MISMATCHED = "patch_mismatched"  # the control of patching has a row of its own
MEASURES = {  # with what its numbers are
    "retrieval": "share of translations found",
    "cka": "linear CKA",
    "overlap": "Jaccard overlap of the most active units",
    "shared_units": "units that answer to both words",
    "probe": "accuracy in the other language",
    "patch": "bits of shift",
    "carried": "accuracy on facts of the other language",
    "crisp_shared": "crisp, units that answer in both",
    "crisp_all": "crisp, all units",
}
HEIGHT = 220


def figures(ladder: Ladder) -> list[Figure]:
    """The figure of a ladder's concepts; none for a single model or where it has no concepts."""
    if len(ladder.order) == 1 or ladder.run.concepts.filter(ladder=ladder.name).is_empty():
        return []
    return [made_or_failed(NAME, functools.partial(_figure, ladder))]


def _figure(ladder: Ladder) -> Figure:
    panels = [panel for measure in MEASURES for panel in _panel(ladder, measure)]
    caption = (
        "How far two languages share concepts, by measures that stand side by side: none is sharing itself. Each point "
        "is a rung at the mean of its seeds and layers, each bar the mean of its seeds' intervals; twins stand at the "
        "strength of the trained model.",
        "In the two-worlds twin the languages tell of different worlds: a measure that is as high there does not show "
        "that knowledge is shared. Unrelated pairs are the trained model's, with the concepts of one language "
        "exchanged; of patching, an unrelated concept is put in.",
    )
    return Figure(NAME, "Concepts in two languages", caption, tuple(panels), ladders=tuple(SERIES))


def _panel(ladder: Ladder, measure: str) -> list[Panel]:
    """A measure against strength, a series for the model and each control; none where it was not measured."""
    points = _points(ladder, measure)
    trained = [row for row in points if row["series"] == TRAINED]
    if not trained:
        return []
    verdict = verdict_note(ladder.verdict(f"concept_{measure}"))
    first, last = trained[0], trained[-1]
    says = (
        f"{decimal(first['value'])} at the weakest ({first['rung']}), {decimal(last['value'])} at the strongest "
        f"({last['rung']}); {verdict}"
    )
    return [
        Panel(
            measure.replace("_", " "),
            f"{measure.replace('_', ' ')}: {says}.",
            chart(ladder, points, MEASURES[measure]),
            verdict,
        )
    ]


def _points(ladder: Ladder, measure: str) -> list[Row]:
    """The means of rungs over seeds, of the model and each control, the weakest first."""
    chosen = ladder.run.concepts.filter(pl.col("rung") != "", ladder=ladder.name, layer="")
    strength = rows.strengths(ladder.run, ladder.name, ladder.axis)
    names = {control: series for series, control in SERIES.items()}
    mismatched = pl.col("measure") == MISMATCHED
    if measure == "patch":
        shuffled = chosen.filter(mismatched, control="trained").with_columns(
            control=pl.lit("shuffled"), measure=pl.lit(measure)
        )
        chosen = pl.concat([chosen, shuffled])
    kept = chosen.filter(pl.col("control").is_in(list(names)), measure=measure)
    placed = kept.join(strength, on=["rung", "seed"], how="inner").filter(
        pl.col("strength").is_not_nan() & pl.col("value").is_not_nan()
    )
    means = placed.group_by("rung", "control", maintain_order=True).agg(
        pl.col("strength", "value", "low", "high").mean()
    )
    means = means.with_columns(series=pl.col("control").replace_strict(names))
    return list(rows.plain(means.sort("strength", "series")))


def chart(
    ladder: Ladder,
    points: Sequence[Row],
    title: str,
    *,
    series: Sequence[str] = tuple(SERIES),
    barred: str = TRAINED,
) -> Specification:
    """Points by strength, a colour and a shape for each series, with bars for the intervals of one of them."""
    styles = ladder_styles(list(series))
    x = charts.strength_axis(ladder.axis, points, ladder.axis_title(ladder.axis))
    ends = [row for row in points if row["series"] == barred]
    heights = [row["value"] for row in points] + [row[end] for row in ends for end in ("low", "high")]
    scale = alt.Scale(domain=[min([0.0, *heights]), max([0.1, *heights])], nice=True)
    y = alt.Y("value:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    colours, marks = ([style[part] for style in styles.values()] for part in (0, 1))
    colour = alt.Color("series:N", scale=alt.Scale(domain=list(series), range=colours), title=None)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=list(series), range=marks), title=None)
    hover = [
        alt.Tooltip("rung:N", title="rung"),
        alt.Tooltip("series:N", title="model"),
        alt.Tooltip("value:Q", title=title, format=".3f"),
        alt.Tooltip("strength:Q", title=ladder.axis, format=".3f"),
    ]
    bars = alt.Chart(charts.inline(ends)).mark_rule(strokeWidth=5, opacity=0.25)
    dots = alt.Chart(charts.inline(points)).mark_point(filled=True, opacity=0.9)
    low, high = alt.Y("low:Q", scale=scale), alt.Y2("high:Q")
    drawn = [
        bars.encode(x=x, y=low, y2=high, color=colour),
        dots.encode(x=x, y=y, color=colour, shape=shape, tooltip=hover),
    ]
    return charts.layered(drawn, HEIGHT)


def relations(ladder: Ladder) -> Table:
    """Which measures move together over the trained models."""
    chosen = ladder.run.concepts.filter(ladder=ladder.name, rung="")
    lines = (
        {
            "measures": word(row["measure"].replace("_", " ")),
            "Spearman's correlation": number(row["value"], decimal),
            "95 % interval": word(NONE if missing(row["low"]) else f"{decimal(row['low'])} to {decimal(row['high'])}"),
            "n models": number(row["n"], whole),
            "note": word(row["note"]),
        }
        for row in rows.plain(chosen)
    )
    return table("concept-relations", "Which measures move together over models, and with strength", lines)


def values(ladder: Ladder) -> Table:
    """The measures of each model and control, means over layers."""
    order = {rung: index for index, rung in enumerate(ladder.order)}
    chosen = ladder.run.concepts.filter(pl.col("rung") != "", ladder=ladder.name, layer="")
    kept = rows.plain(chosen)
    lines = (
        {
            "rung": word(row["rung"]),
            "model": word(row["control"]),
            "seed": number(row["seed"], whole),
            "measure": word(row["measure"].replace("_", " ")),
            "value": number(row["value"], decimal),
            "95 % interval": word(f"{decimal(row['low'])} to {decimal(row['high'])}"),
            "n": number(row["n"], whole),
            "note": word(row["note"]),
        }
        for row in sorted(kept, key=lambda row: (order.get(row["rung"], 0), row["control"], row["seed"]))
    )
    return table("concept-values", "Concepts in two languages, by model: means over layers", lines)
