"""What the report shows of factors: each against the headlines, how they go together, and the numbers of each model."""

import functools
from collections.abc import Mapping
from typing import Any

import polars as pl

from thalweg.report import charts, rows
from thalweg.report.charts import Figure, Panel
from thalweg.report.figures import TRAINED, made_or_failed
from thalweg.report.ladder import Ladder
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.text import NONE, decimal, missing, span, whole
from thalweg.runs.run import Run

NAME = "factors"


def figures(ladder: Ladder) -> list[Figure]:
    """The figure of a ladder's factors; none for a single model or where no factor has a number."""
    if len(ladder.order) == 1:
        return []
    made = made_or_failed(NAME, functools.partial(_figure, ladder))
    return [made] if made.panels or made.failed else []


def spoken(factor: str) -> str:
    """A factor's name as people read it."""
    return factor.replace("_", " ")


def _figure(ladder: Ladder) -> Figure:
    """Both headlines against every factor."""
    panels = []
    for name, about in ladder.run.record["factors"].items():
        for headline, measure in ladder.headlines.items():
            every = [row for row in ladder.points(measure, axis=name) if row["control"] == TRAINED]
            points = [row for row in every if row["strength"] is not None]
            if not any(row["seed"] is None and row["score"] is not None for row in points):
                continue
            title = f"{spoken(name)}: {headline}"
            chart = charts.curve(
                points,
                axis=spoken(name),
                axis_title=f"{spoken(name)} ({about['unit']})",
                score=ladder.score_axis(measure, charts.domain(points)),
                kinds=ladder.shapes,
                height=190,
            )
            says = relation_in_words(ladder, name, headline)
            panels.append(Panel(title, f"{headline} of trained rungs against {spoken(name)}: {says}.", chart, says))
    caption = (
        "Each point is a trained rung at the mean of its seeds, each dot a seed. The number is Spearman's rank "
        "correlation over models, with a 95 % interval in which rungs count more than their seeds.",
        "This is an association, not a cause: whatever changes from rung to rung (strength, width, the kind of "
        "network) changes the factor and the score together.",
        *([f"Factors without a number: {said}."] if (said := "; ".join(missing_in_words(ladder))) else []),
    )
    return Figure(NAME, "By factor", caption, tuple(panels), controls=(TRAINED,), kinds=ladder.shapes)


def missing_in_words(ladder: Ladder) -> list[str]:
    """For each factor that some trained models lack, how many they are, and why."""
    chosen = ladder.run.factors.filter(ladder=ladder.name, control=TRAINED, layer="")
    said = []
    for (name,), group in chosen.group_by("factor", maintain_order=True):
        lacking = group.filter(pl.col("value").is_nan() | pl.col("value").is_null())
        reasons = " / ".join(note for note in lacking["note"].unique(maintain_order=True) if note)
        if len(lacking):
            said.append(
                f"{spoken(str(name))}, {len(lacking)} of {len(group)} models ({reasons or 'no reason is known'})"
            )
    return said


def relation_in_words(ladder: Ladder, factor: str, headline: str) -> str:
    """How a factor goes with a headline over all of a ladder's models, in few words."""
    chosen = ladder.run.relations.filter(ladder=ladder.name, kind="all", factor=factor, headline=headline)
    return _said(rows.plain(chosen)[0]) if len(chosen) else "no relation"


def _said(row: Mapping[str, Any]) -> str:
    ends = "" if missing(row["low"]) else f" ({decimal(row['low'])} to {decimal(row['high'])})"
    number_of = f"{row['n_models']} model{'' if row['n_models'] == 1 else 's'}"
    return f"association {decimal(row['rho'])}{ends}, {number_of}" if not missing(row["rho"]) else "no association"


def relations(ladder: Ladder) -> Table:
    """How each factor goes with each headline, over all kinds and within each."""
    lines = (
        {
            "factor": word(spoken(row["factor"])),
            "headline": word(row["headline"]),
            "kind": word(row["kind"]),
            "Spearman's correlation": number(row["rho"], decimal),
            "95 % interval": word(NONE if missing(row["low"]) else f"{decimal(row['low'])} to {decimal(row['high'])}"),
            "n models": number(row["n_models"], whole),
            "n rungs": number(row["n_rungs"], whole),
            "note": word(row["note"]),
        }
        for row in rows.plain(ladder.run.relations.filter(ladder=ladder.name))
    )
    return table("relations", "How factors go with the headlines over models: associations, not causes", lines)


def values(ladder: Ladder) -> Table:
    """The factors of each model and of its twins."""
    order = {rung: index for index, rung in enumerate(ladder.order)}
    controls = {control: index for index, control in enumerate(ladder.controls)}
    by_model: dict[tuple[str, str, int], dict[str, Any]] = {}
    chosen = ladder.run.factors.filter((pl.col("ladder") == ladder.name) & (pl.col("layer") == ""))
    for row in rows.plain(chosen):
        control = rows.CONTROLS.get(row["control"], row["control"])
        by_model.setdefault((row["rung"], control, row["seed"]), {})[row["factor"]] = row
    keys = sorted(by_model, key=lambda key: (order.get(key[0], 0), controls.get(key[1], 0), key[2]))
    lines = []
    for rung, control, seed in keys:
        line = {"rung": word(rung), "model": word(control), "seed": number(seed, whole)}
        for name in ladder.run.record["factors"]:
            line[spoken(name)] = _estimate(by_model[rung, control, seed].get(name))
        lines.append(line)
    return table("factor-values", "The factors of each model and its twins", lines)


def _estimate(row: Mapping[str, Any] | None) -> Cell:
    """A factor with its interval, or why it is missing."""
    if not row or missing(row["value"]):
        return Cell(row["note"] if row and row["note"] else NONE, float("inf"))
    ends = "" if missing(row["low"]) else f" ({decimal(row['low'], 3)} to {decimal(row['high'], 3)})"
    return Cell(f"{decimal(row['value'], 3)}{ends}", float(row["value"]))


def meanings(run: Run) -> Table:
    """What each factor of the run means."""
    lines = (
        {
            "factor": word(spoken(name)),
            "version": number(about["version"], whole),
            "unit": word(about["unit"]),
            "meaning": word(about["meaning"]),
            "range": word(span(about["range"])),
            "more is": word(about["higher_is"]),
            "source": word(about["cite"]),
        }
        for name, about in run.record["factors"].items()
    )
    return table(NAME, "The factors", lines)
