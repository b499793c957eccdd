"""The synthetic condition beside the natural one: a curve for each kind of references, with its verdict.

What was scored with synthetic references comes in after the survey (`thalweg visualise`), and is kept beside the run's
tables.
"""

import functools
from collections.abc import Mapping
from typing import Any

import polars as pl

from thalweg.report import charts, styles
from thalweg.report.charts import Figure, Panel, ValueAxis
from thalweg.report.figures import made_or_failed, verdict_note
from thalweg.report.ladder import Ladder
from thalweg.runs.run import Run

NAME, TITLE = "conditions", "Natural and synthetic references"
CHANCE = 0.5


def figures(ladder: Ladder) -> list[Figure]:
    """The figure of a ladder's two conditions; none where nobody asked for the synthetic one."""
    points = pl.DataFrame(ladder.run.synthetic["points"], infer_schema_length=None)
    if points.is_empty() or ladder.name not in points["ladder"]:
        return []
    records = [each for each in ladder.run.synthetic["verdicts"] if each["ladder"] == ladder.name]
    verdicts = {(each["measure"], each["references"]): each for each in records}
    meanings = ladder.run.synthetic["measures"]
    caption = (
        "Each unit is explained by nine natural stimuli a side, or by nine pictures a side that an optimiser made to "
        "drive it; queries, observer and units are the same. Few units of each layer are scored.",
        " ".join(f"{name}: {meaning}." for name, meaning in meanings.items()),
    )
    made = functools.partial(of_conditions, ladder.run, points.filter(ladder=ladder.name), verdicts, caption)
    return [made_or_failed(NAME, made)]


def of_conditions(
    run: Run,
    points: pl.DataFrame,
    verdicts: Mapping[tuple[str, str], Mapping[str, Any]],
    caption: tuple[str, ...],
) -> Figure:
    """A panel for each measure and condition, the conditions of a measure beside each other on one scale.

    Args:
        run: The run, for the strengths of its models.
        points: The scores of one ladder's models.
        verdicts: By measure and condition.
        caption: What stands below.
    """
    axis = run.record["settings"]["strength"]
    strength = run.models.filter(control="trained").select("ladder", "rung", pl.col("seed").cast(pl.Int32), axis)
    keys = ["ladder", "rung", "seed"]
    placed = points.cast({"seed": pl.Int32}).join(strength.unique(), on=keys, maintain_order="left")
    kinds = styles.shapes(dict.fromkeys(placed["kind"]))
    panels: list[Panel] = []
    for measure in dict.fromkeys(placed["measure"]):
        mine = placed.filter(measure=measure)
        scale = charts.domain(mine.drop_nulls("score").to_dicts())
        for condition in sorted(set(mine["references"])):
            rows = _as_points(mine.filter(references=condition), axis)
            verdict: Any = verdicts.get((measure, condition))
            chart = charts.curve(
                rows,
                axis=axis,
                axis_title=run.record["axes"][axis],
                score=ValueAxis(measure, scale, CHANCE),
                kinds=kinds,
                verdict=verdict,
                height=220,
            )
            summary = (
                f"{measure} with {condition} references: {len(rows)} models. {verdict['sentence'] if verdict else ''}"
            )
            panels.append(Panel(f"{measure}, {condition}", summary, chart, verdict_note(verdict)))
    controls = tuple(dict.fromkeys(placed["control"]))
    return Figure(NAME, TITLE, caption, tuple(panels), controls=controls, kinds=kinds)


def _as_points(rows: pl.DataFrame, axis: str) -> list[dict[str, Any]]:
    """Models as the report's charts take them: each as the point of its rung."""
    return [
        {**row, "strength": row[axis], "seed": None, "accuracy": None}
        for row in rows.drop_nulls("score").iter_rows(named=True)
    ]
