"""What the report shows of observers that answered single trials: their curves, and how far they agree with others."""

import functools
from typing import Any

import polars as pl

from thalweg.agreement.table import GROUP, UNITS
from thalweg.report import charts, rows
from thalweg.report.charts import Figure, Panel, ValueAxis
from thalweg.report.figures import TRAINED, curve_summary, made_or_failed, verdict_note
from thalweg.report.ladder import SAME_PLACE, Ladder
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.styles import Row
from thalweg.report.text import decimal, interval, missing, whole

NAME, TITLE = "answers", "Answers, one trial at a time"
CHANCE = 0.5
FORMS_NOTE = (
    "Scores of language models: the share of right answers; of detection and fuzzing the balanced accuracy over the "
    "stimuli of the lists; of simulation Pearson's correlation over tokens. The interval comes from the differences "
    "between units. Beside each score stand what guessing gives and what always giving the commonest right answer "
    "gives. Explained forms show no references: they go by one sentence, written from references alone. A score that "
    "trained models and their twins share says nothing of what was learnt."
)
NOTE = (
    "Spearman's correlation with a 95 % interval from drawing the units (or models) again. Reliability: the "
    "correlation of scores from two random halves of the answers, at full length. Without noise: the correlation "
    "divided by the square root of the reliability; it can exceed 1 by chance. An observer of vectors that is compared "
    "by two_choice is asked the same mixture of bands; the headlines ask about one pole of a unit."
)


def figures(ladder: Ladder) -> list[Figure]:
    """The curves of those who answered; none for a single model or where nobody did."""
    if len(ladder.order) == 1 or ladder.answers.points.is_empty():
        return []
    return [made_or_failed(NAME, functools.partial(_figure, ladder))]


def _figure(ladder: Ladder) -> Figure:
    panels = []
    points = {name: _points(ladder, *name) for name in _observers(ladder)}
    scale = charts.domain(*points.values())
    for (observer, version), shown in points.items():
        verdict = ladder.answers.verdicts.get((observer, version, ladder.name))
        name = _name(ladder, observer, version)
        chart = charts.curve(
            shown,
            axis=ladder.axis,
            axis_title=ladder.axis_title(ladder.axis),
            score=ValueAxis("proportion correct", scale, CHANCE),
            kinds=ladder.shapes,
            verdict=verdict,
        )
        panels.append(Panel(name, curve_summary(shown, verdict, name), chart, verdict_note(verdict)))
    caption = (
        f"The share of right answers: the mean over layers of the mean over units that were asked about, with its "
        f"95 % interval from the differences between units. {SAME_PLACE}",
        "The verdict is by the rule of all other curves, with these models alone.",
    )
    there = {row["control"] for shown in points.values() for row in shown}
    controls = tuple(control for control in ladder.controls if control in there)
    return Figure(NAME, TITLE, caption, tuple(panels), controls=controls, kinds=ladder.shapes)


def _observers(ladder: Ladder) -> list[tuple[str, int]]:
    """The observers that answered, with their versions."""
    return sorted(ladder.answers.points.select("observer", "version").unique().iter_rows())


def _name(ladder: Ladder, observer: str, version: int) -> str:
    """What an observer is called here: with its version, where several of them answered."""
    versions = [other for name, other in _observers(ladder) if name == observer]
    return observer if len(versions) <= 1 else f"{observer}, version {version}"


def _points(ladder: Ladder, observer: str, version: int) -> list[Row]:
    """The scores of seeds and rungs and of their twins, by one observer."""
    own = ladder.answers.points.filter(observer=observer, version=version)
    return list(rows.plain(rows.placed(ladder.run, ladder.name, ladder.axis, own)))


def section(ladder: Ladder) -> dict[str, Any] | None:
    """The section's sentences and tables; None where nobody answered."""
    if ladder.answers.points.is_empty() and ladder.answers.forms.is_empty():
        return None
    headlines = (pl.col("other") == ladder.observer) | pl.col("measure").is_in(["two_choice", "answers"])
    agreements = ladder.answers.agreements.filter(headlines).sort(*GROUP, maintain_order=True)
    if len(ladder.order) == 1:  # one model: there is nothing between models, and nothing but what is within it
        agreements = agreements.filter(level=UNITS)
    trained = pl.col("control") == TRAINED
    return {
        "title": TITLE,
        "sentences": _sentences(ladder),
        "scores": table(
            "answers-scores", "How often each was right, and how often it picked the first", _scores(ladder)
        ),
        "trained": _agreements(ladder, "answers-agreement", "Agreement on trained models", agreements.filter(trained)),
        "twins": _agreements(ladder, "answers-twins", "Agreement on twins", agreements.filter(~trained)),
        "note": NOTE,
        "forms": _forms(ladder),
        "forms_note": FORMS_NOTE,
    }


def _sentences(ladder: Ladder) -> list[str]:
    lines = [
        "These observers were asked about single trials: here are stimuli that drive the unit most and least; which of "
        "these two new ones drives it more? Chance is 0.5."
    ]
    for observer, version in _observers(ladder):
        if verdict := ladder.answers.verdicts.get((observer, version, ladder.name)):
            lines.append(f"{_name(ladder, observer, version)}: {verdict['sentence']}")
    if stale := ladder.answers.stale:
        lines.append(f"Left out: {stale:,} answers about models that were made anew since.")
    return lines


def _scores(ladder: Ladder) -> list[dict[str, Cell]]:
    return [
        {
            "observer": word(_name(ladder, row["observer"], row["version"])),
            "model": word(rows.CONTROLS.get(row["control"], row["control"])),
            "right": _with_ends(row, "value", "low", "high"),
            "picked the first": _with_ends(row, "first", "first_low", "first_high"),
            "answers": number(row["n"], whole),
            "failed": number(row["n_failed"], whole),
        }
        for row in rows.plain(
            ladder.answers.biases.sort("observer", "version", pl.col("control") != TRAINED, "control")
        )
    ]


def _forms(ladder: Ladder) -> Table:
    """The scores of language models in every form, beside what guessing gives."""
    order = {rung: index for index, rung in enumerate(ladder.order)}
    scored = sorted(
        rows.plain(ladder.answers.forms),
        key=lambda row: (row["model"], row["form"], order.get(row["rung"], 0), row["control"] != TRAINED),
    )
    lines = [
        {
            "form": word(row["form"]),
            "asked": word(row["model"]),
            "rung": word(row["rung"]),
            "seed": number(row["seed"], whole),
            "model": word(rows.CONTROLS.get(row["control"], row["control"])),
            "score": _with_ends(row, "value", "low", "high"),
            "chance": number(row["chance"], decimal),
            "commonest answer": number(row["majority"], decimal),
            "area under the ROC curve": number(row["auc"], decimal),
            "units": number(row["n_units"], whole),
            "replies": number(row["n"], whole),
            "failed": number(row["n_failed"], whole),
            "refused": number(row["refused"], whole),
        }
        for row in scored
    ]
    return table("answers-forms", "Language models, by form", lines)


def _agreements(ladder: Ladder, name: str, caption: str, agreements: pl.DataFrame) -> Table:
    lines = [
        {
            "observer": word(_name(ladder, row["observer"], row["version"])),
            **({} if name == "answers-agreement" else {"model": word(row["control"])}),
            "compared with": word(row["other"]),
            "by": word(row["measure"].replace("_", " ")),
            "over": word(row["level"]),
            "correlation": _with_ends(row, "rho", "low", "high"),
            "reliability": _with_ends(row, "reliability", "reliability_low", "reliability_high"),
            "without noise": _with_ends(row, "corrected", "corrected_low", "corrected_high"),
            "n": number(row["n"], whole),
            "note": word(row["note"]),
        }
        for row in rows.plain(agreements)
    ]
    return table(name, caption, lines)


def _with_ends(row: Row, value: str, low: str, high: str) -> Cell:
    key = float("inf") if missing(row[value]) else float(row[value])
    return Cell(interval(row[value], row[low], row[high]), key if key != float("inf") else number(None, decimal).key)
