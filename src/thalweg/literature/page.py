"""The page of the literature: what the studies show together, each curve with its verdict and source, and one table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from altair.utils.schemapi import debug_mode

from thalweg.literature.studies import Study
from thalweg.literature.verdicts import NO_VERDICT, Reading, summary, what_decides, what_the_axis_decides
from thalweg.report import charts
from thalweg.report.charts import Figure, Panel, ValueAxis
from thalweg.report.listings import Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.text import p_value, whole
from thalweg.shape.several import decisive
from thalweg.shape.tables import labels_of, numbers

HERE = Path(__file__).parent
SPAN = 1.96  # standard errors to each side: 95 %
PLAIN = ".6~g"
HOVER = {"rung": "model", "score": "score", "from": "from", "to": "to"}  # of the report's chart, and how it is named


def render(readings: Sequence[Reading]) -> str:
    """The whole page; the same readings make the same text."""
    readings = sorted(readings, key=lambda reading: bool(reading.why_not))  # those with a verdict first
    studies = list(dict.fromkeys(reading.study.key for reading in readings))
    with debug_mode(False):  # Vega checks the charts too
        sections = [
            _section([reading for reading in readings if reading.study.key == key], f"study-{index}")
            for index, key in enumerate(studies, 1)
        ]
    context = {
        **frame([curve["figure"] for section in sections for curve in section["curves"]]),
        "summary": summary(readings),
        "sections": sections,
        "every": _every(readings),
    }
    return environment(HERE).get_template("literature.html.j2").render(context)


def _section(readings: Sequence[Reading], anchor: str) -> dict[str, Any]:
    """All that the page shows of one study."""
    study = readings[0].study
    curves = []
    for index, score in enumerate(study.scores, 1):
        mine = [reading for reading in readings if reading.score == score]
        curves.append(
            {
                "means": score.means,
                "figure": shown_figure(_figure(study, mine), f"{anchor}-{index}"),
                "sentence": _sentence(mine[0]),
                "decides": list(filter(None, (what_decides(mine[0]), what_the_axis_decides(mine), *_left_out(mine)))),
            }
        )
    return {"id": anchor, "study": study, "curves": curves}


def _sentence(reading: Reading) -> str:
    if reading.curve is None:
        return f"No verdict: {reading.why_not}."
    return reading.curve.verdict.sentence


def _left_out(readings: Sequence[Reading]) -> Iterator[str]:
    """What is said without the models that a record names."""
    for reading in readings:
        if reading.without and reading.curve:
            yield f"Without {reading.without.why}: {reading.curve.verdict.sentence}"


def _figure(study: Study, readings: Sequence[Reading]) -> Figure:
    """A panel for each axis of a score, and for each set of models."""
    panels = []
    for reading in readings:
        rows = _rows(study, reading)
        record = reading.curve.verdict.to_record() if reading.curve else None
        logarithmic = reading.axis.logarithmic and not reading.axis.less_is_better
        axis = "parameters" if logarithmic else "strength"
        title = f"{'minus ' if reading.axis.less_is_better else ''}{reading.axis.column}"
        chart = charts.curve(
            rows,
            axis=axis,
            axis_title=title,
            score=ValueAxis(reading.score.column, _range(rows)),
            kinds={"model": "circle"},
            verdict=record,
            height=220,
        )
        name = f"without {', '.join(reading.without.models)}" if reading.without else f"against {title}"
        note = reading.verdict if reading.curve is None else f"verdict: {reading.verdict}"
        summary = f"{reading.score.means} {name}: {len(rows)} models. {_sentence(reading)}"
        panels.append(Panel(name, summary, _adapted(chart, axis, title), note))
    return Figure(readings[0].score.column, readings[0].score.means, (), tuple(panels), columns=min(2, len(panels)))


def _rows(study: Study, reading: Reading) -> list[dict[str, Any]]:
    """A study's models as the report's charts take them."""
    x = numbers(study.table, reading.axis.column)[0] * (-1 if reading.axis.less_is_better else 1)
    y = numbers(study.table, reading.score.column)[0]
    se = numbers(study.table, reading.score.se)[0] if reading.score.se else np.full(len(y), np.nan)
    names = labels_of(study.table, study.models) if study.models else [f"{value:g}" for value in x]
    rows = []
    for name, strength, score, error in zip(names, x.tolist(), y.tolist(), se.tolist(), strict=True):
        if np.isnan(strength + score) or (reading.without and name in reading.without.models):
            continue
        half = 0.0 if np.isnan(error) else SPAN * error
        rows.append(
            {
                **{"rung": name, "kind": "model", "control": "trained", "seed": None, "coverage": 1},
                **{"strength": strength, "score": score, "low": score - half, "high": score + half},
            }
        )
    return rows


def _range(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The range of a chart's scores: all intervals, and a little more."""
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    margin = 0.08 * (high - low) or 0.05
    return low - margin, high + margin


def _adapted(chart: charts.Specification, axis: str, title: str) -> charts.Specification:
    """The report's chart with what a published table has to say of a point: not its seed, coverage or units;
    and with strengths as plain numbers, 30 not 3e+1.
    """
    names = {**HOVER, axis: title}
    for layer in chart["layer"]:
        if axis not in charts.LOGARITHMIC:
            layer["encoding"]["x"]["axis"]["format"] = PLAIN
        tooltips = layer["encoding"].get("tooltip", [])
        kept = [{**tip, "title": names[tip["title"]]} for tip in tooltips if tip["title"] in names]
        if kept:
            layer["encoding"]["tooltip"] = kept
    return chart


def _every(readings: Sequence[Reading]) -> Table:
    """Every curve in one table."""
    lines = []
    for reading in readings:
        verdict = reading.curve.verdict if reading.curve else None
        shape, p = decisive(verdict) if verdict else ("", None)
        changes = ", ".join(verdict.changes_without) if verdict else ""
        lines.append(
            {
                "study": word(
                    f"{reading.study.citation.authors.split(',')[0].split(' and ')[0]} {reading.study.citation.year}"
                ),
                "score": word(reading.score.column),
                "axis": word(reading.axis.column),
                "left out": word(", ".join(reading.without.models) if reading.without else ""),
                "models": number(verdict.n_models if verdict else None, whole),
                "verdict": word(verdict.verdict if verdict else NO_VERDICT),
                "p": number(p, p_value),
                "of": word(shape),
                "changes without": word(changes),
                "exact": word(reading.axis.exact or reading.study.exact),
            }
        )
    return table("curves", "Verdicts of all curves", lines)
