"""The page of one model's edits: what each method does to the facts and beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
from altair.utils.schemapi import debug_mode

from thalweg.edits.evaluation import MARGIN, UNEDITED
from thalweg.files.whole import write_text
from thalweg.pipeline.edit import Edits
from thalweg.report import charts
from thalweg.report.charts import Figure, Panel
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.styles import INK
from thalweg.report.text import decimal

PAGE = "edits.html"
MEANINGS = {
    "efficacy": "the edited prompt is given the new answer",
    "paraphrase": "so are other wordings of the fact",
    "neighbourhood": "the same relation of other subjects keeps its answer",
    "neighbourhood_prepended": "it does so behind the text of the edited fact too",
    "score": "harmonic mean of efficacy, paraphrase and neighbourhood",
    "score_prepended": "the same with the harder neighbourhood",
    "drift": "rise of the loss on held-out text, nats per token",
    "fluency": "entropy of continuations, bits",
    "steps": "after which fine-tuning is as specific as ROME",
}
PLACES = {"drift": 3}  # decimal places, where not two
SHARES = ("efficacy", "paraphrase", "neighbourhood", "neighbourhood_prepended")


def write_page(edits: Edits) -> Path:
    """Write the page beside the tables: one HTML file that needs no network."""
    path = edits.path / PAGE
    write_text(path, render(edits))
    return path


def render(edits: Edits) -> str:
    """The whole page; the same tables make the same text."""
    with debug_mode(False):
        drawn = [shown_figure(_figure(edits.summary), "methods")]
    context = {
        **frame(drawn),
        "subject": edits.summary["rung"][0],
        "about": edits.about,
        "figures": drawn,
        "summary": _summary(edits.summary),
        "meanings": MEANINGS,
        "facts": _facts(edits.facts),
        "left_out": table(
            "left-out",
            "Facts that were left out",
            ({"fact": word(name), "why": word(why)} for name, why in edits.left_out.items()),
        ),
    }
    return environment().get_template("edits.html.j2").render(context)


def printed(edits: Edits) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of the table that the command line prints."""
    made = _summary(edits.summary)
    return list(made.columns), [[cell.text for cell in line] for line in made.lines]


def _summary(rows: pl.DataFrame) -> Table:
    """A line for each measure, a column for each method; margins are in the file alone."""
    by_cell = {(row["measure"], row["method"]): row for row in rows.iter_rows(named=True)}
    methods = list(dict.fromkeys(rows["method"]))
    lines = []
    for measure in MEANINGS:
        if any(known == measure for known, _ in by_cell):
            cells = {method: _estimate(by_cell.get((measure, method)), measure) for method in methods}
            lines.append({"measure": word(measure), **cells})
    return table("summary", "Means over facts", lines)


def _estimate(row: Mapping[str, Any] | None, measure: str) -> Cell:
    """A mean with its interval."""
    if row is None or row["value"] != row["value"]:
        return number(None, decimal)
    places = PLACES.get(measure, 2)
    ends = "" if row["low"] != row["low"] else f" ({row['low']:.{places}f} to {row['high']:.{places}f})"
    return Cell(f"{row['value']:.{places}f}{ends}", float(row["value"]))


def _facts(rows: pl.DataFrame) -> Table:
    """A line for each fact and method."""
    wide = rows.filter(~pl.col("measure").str.ends_with(MARGIN)).pivot(
        on="measure", index=["fact", "method"], values="value", maintain_order=True
    )
    names = [name for name in MEANINGS if name in wide.columns]
    lines = [
        {
            "fact": word(row["fact"]),
            "method": word(row["method"]),
            **{name: number(row[name], decimal) for name in names},
        }
        for row in wide.iter_rows(named=True)
    ]
    return table("facts", "Every fact", lines)


def _figure(rows: pl.DataFrame) -> Figure:
    panels = tuple(
        _panel(rows.filter(measure=measure), measure) for measure in SHARES if measure in set(rows["measure"])
    )
    caption = ("Points are means over facts, lines their 95 % intervals; the first is the unedited model.",)
    return Figure("methods", "Methods", caption, panels, columns=2, small=True)


def _panel(rows: pl.DataFrame, measure: str) -> Panel:
    """One measure by method."""
    points: Sequence[dict[str, Any]] = [
        {
            "method": row["method"],
            "value": row["value"],
            "low": row["low"] if row["low"] == row["low"] else row["value"],
            "high": row["high"] if row["high"] == row["high"] else row["value"],
        }
        for row in rows.iter_rows(named=True)
    ]
    order = [UNEDITED, *(point["method"] for point in points if point["method"] != UNEDITED)]
    x = alt.X("method:N", title=None, sort=order, axis=alt.Axis(labelAngle=0))
    y = alt.Y("value:Q", title="success", scale=alt.Scale(domain=[0, 1]))
    hover = [alt.Tooltip("method:N"), alt.Tooltip("value:Q", title=measure, format=".2f")]
    data = charts.inline(points)
    lines = alt.Chart(data).mark_rule(color=INK["faint"]).encode(x=x, y=alt.Y("low:Q", title="success"), y2="high:Q")
    dots = alt.Chart(data).mark_point(filled=True, size=50, color="var(--trained)").encode(x=x, y=y, tooltip=hover)
    summary = f"{measure}: " + "; ".join(f"{point['method']} {point['value']:.2f}" for point in points)
    return Panel(measure, summary, charts.layered([lines, dots], 170), MEANINGS[measure])
