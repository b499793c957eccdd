"""What the report shows of edits: what a change of a fact in one language does there, beside it and in the other."""

import functools

import polars as pl

from thalweg.report import concepts, rows
from thalweg.report.charts import Figure, Panel
from thalweg.report.figures import made_or_failed, verdict_note
from thalweg.report.ladder import Ladder
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.styles import Row
from thalweg.report.text import NONE, decimal, missing, whole

NAME = "edits"
SERIES = {"ROME": ("rome", "trained"), "MEMIT": ("memit", "trained"), "steering": ("steer", "trained")}
SERIES |= {"ROME, two worlds": ("rome", "two-worlds")}
MEASURES = {
    "efficacy": "edited prompts with the new answer",
    "paraphrase": "paraphrases with the new answer",
    "neighbourhood": "other facts that stay",
    "score": "harmonic mean of the three",
    "transfer": "answers there that change",
    "transfer_neighbourhood": "other facts there that stay",
}


def figures(ladder: Ladder) -> list[Figure]:
    """The figure of a ladder's edits; none for a single model or where there are none."""
    if len(ladder.order) == 1 or ladder.run.edits.filter(ladder=ladder.name).is_empty():
        return []
    return [made_or_failed(NAME, functools.partial(_figure, ladder))]


def _figure(ladder: Ladder) -> Figure:
    panels = [panel for measure in MEASURES for panel in _panel(ladder, measure)]
    caption = (
        "Facts that a model knows in both languages are given a new value through one language. An answer counts if it "
        "beats all values of the relation. Each point is a rung at the mean of its seeds; bars are means of the seeds' "
        "intervals over facts. Models that know too few facts have no point.",
        "Steering adds a vector everywhere: it shows how far success goes without knowing which fact is asked. In the "
        "two-worlds twin the languages tell of different worlds, so an edit should not cross over there.",
    )
    return Figure(NAME, "Edits of facts", caption, tuple(panels), ladders=tuple(SERIES))


def _panel(ladder: Ladder, measure: str) -> list[Panel]:
    """A measure against strength, a series for each method; none where it was not measured."""
    points = _points(ladder, measure)
    trained = [row for row in points if row["series"] == "ROME"]
    if not trained:
        return []
    verdict = verdict_note(ladder.verdict(f"edit_{measure}"))
    first, last = trained[0], trained[-1]
    says = f"{decimal(first['value'])} at {first['rung']}, {decimal(last['value'])} at {last['rung']}; {verdict}"
    chart = concepts.chart(ladder, points, MEASURES[measure], series=tuple(SERIES), barred="ROME")
    name = measure.replace("_", " ")
    return [Panel(name, f"{name}: {says}.", chart, verdict)]


def _points(ladder: Ladder, measure: str) -> list[Row]:
    """The means of rungs over seeds, by series, the weakest first."""
    strength = rows.strengths(ladder.run, ladder.name, ladder.axis)
    of_models = ladder.run.edits.filter(pl.col("rung") != "", ladder=ladder.name, measure=measure)
    placed = of_models.join(strength, on=["rung", "seed"], how="inner").filter(
        pl.col("strength").is_not_nan() & pl.col("value").is_not_nan()
    )
    parts = [
        placed.filter(method=method, control=control)
        .group_by("rung", maintain_order=True)
        .agg(pl.col("strength", "value", "low", "high").mean())
        .with_columns(series=pl.lit(series))
        for series, (method, control) in SERIES.items()
    ]
    return list(rows.plain(pl.concat(parts).sort("strength", "series")))


def relations(ladder: Ladder) -> Table:
    """What the share of edits that cross over goes with over the trained models."""
    lines = (
        {
            "over models": word(row["measure"].replace("_", " ")),
            "Spearman's correlation": number(row["value"], decimal),
            "95 % interval": word(_ends(row)),
            "n models": number(row["n"], whole),
            "note": word(row["note"]),
        }
        for row in rows.plain(ladder.run.edits.filter(ladder=ladder.name, rung=""))
    )
    return table("edit-relations", "What the share of edits that cross over goes with", lines)


def values(ladder: Ladder) -> Table:
    """The measures of each model and method."""
    order = {rung: index for index, rung in enumerate(ladder.order)}
    shown = ~pl.col("measure").str.ends_with("_margin") & (pl.col("rung") != "")
    kept = sorted(
        rows.plain(ladder.run.edits.filter(shown, ladder=ladder.name)),
        key=lambda row: (order.get(row["rung"], 0), row["control"], row["seed"]),
    )
    return table("edit-values", "Edits of facts, by model", (_line(row) for row in kept))


def _line(row: Row) -> dict[str, Cell]:
    return {
        "rung": word(row["rung"]),
        "model": word(row["control"]),
        "seed": number(row["seed"], whole),
        "method": word(row["method"]),
        "measure": word(row["measure"].replace("_", " ")),
        "value": number(row["value"], decimal),
        "95 % interval": word(_ends(row)),
        "n": number(row["n"], whole),
        "note": word(row["note"]),
    }


def _ends(row: Row) -> str:
    return NONE if missing(row["low"]) else f"{decimal(row['low'])} to {decimal(row['high'])}"
