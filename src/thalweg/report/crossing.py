"""What the report shows of edits: what a change of a fact in one language does there, beside it and in the other; and
whether models can be redirected to another goal.
"""

import functools

import polars as pl

from thalweg.edits.columns import GOALS_KNOWN, REDIRECT
from thalweg.pipeline.verdicts import edit_measure
from thalweg.report import concepts, rows
from thalweg.report.charts import Figure, Panel
from thalweg.report.figures import TRAINED, made_or_failed, rests_on_single_models, verdict_note
from thalweg.report.ladder import Ladder
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.styles import Row
from thalweg.report.text import NONE, decimal, missing, whole

NAME, GOALS = "edits", "goals"
ROME, STAR = "rome", "*"
Series = dict[str, tuple[str, str]]  # of a figure, with their methods and controls; bars are of the first
SERIES: Series = {"ROME": (ROME, "trained"), "MEMIT": ("memit", "trained"), "steering": ("steer", "trained")}
SERIES |= {"fine-tuning, as specific": ("fine-tune-matched", "trained")}
SERIES |= {"ROME, two worlds": (ROME, "two-worlds")}
GOAL_SERIES: Series = {
    TRAINED: (REDIRECT, "trained"),
    "two-worlds": (REDIRECT, "two-worlds"),
    "memorising": (REDIRECT, "memorising"),
    "untrained": (REDIRECT, "untrained"),
    "prompts dealt out": (REDIRECT, "shuffled"),
}
MEASURES = {
    "efficacy": "edited prompts with the new answer",
    "paraphrase": "paraphrases with the new answer",
    "neighbourhood": "other facts that stay",
    "score": "harmonic mean of the three",
    "transfer": "answers there that change",
    "transfer_neighbourhood": "other facts there that stay",
}
GOAL_MEASURES = {
    "redirected": "right answers for the other goal",
    "reached": "answers of the other goal",
    "redirected_kept": "answers to other goals that stay",
}


_OF_GOALS = (pl.col("method") == REDIRECT) | (pl.col("measure") == GOALS_KNOWN)


def figures(ladder: Ladder) -> list[Figure]:
    """The figures of a ladder's edits of facts and of goals; none for a single model or where there are none."""
    if len(ladder.order) == 1:
        return []
    methods = set(ladder.run.edits.filter(ladder=ladder.name)["method"])
    makers = {NAME: (_facts, ROME in methods), GOALS: (_goals, REDIRECT in methods)}
    return [made_or_failed(name, functools.partial(make, ladder)) for name, (make, there) in makers.items() if there]


def _facts(ladder: Ladder) -> Figure:
    caption = (
        "Facts that a model knows in both languages are given a new value through one language. An answer counts if it "
        "beats all values of the relation. Each point is a rung at the mean of its seeds; bars are means of the seeds' "
        "intervals over facts. Models that know too few facts have no point.",
        "Steering adds a vector everywhere: it shows how far success goes without knowing which fact is asked. In the "
        "two-worlds twin the languages tell of different worlds, so an edit should not cross over there.",
    )
    panels = [panel for measure, title in MEASURES.items() for panel in _panel(ladder, measure, title, SERIES)]
    return Figure(NAME, "Edits of facts", caption, tuple(panels), ladders=tuple(SERIES))


def _goals(ladder: Ladder) -> Figure:
    there = set(ladder.run.edits.filter(ladder=ladder.name, method=REDIRECT)["control"])
    series = {name: parts for name, parts in GOAL_SERIES.items() if parts[1] in there}
    caption = (
        "A prompt names one of several goals. To a layer that was chosen on other prompts, the mean of prompts that "
        "name another goal is added, less the mean of those that name its own. Is the answer now the right one for the "
        "other goal, or at least one of those it has? And what do prompts answer that name a third goal, with the same "
        "vector added?",
        "Prompts count whose answers under both goals the model knows; of the untrained twin all. The last series adds "
        "vectors of the same length that come from prompts dealt out at random. Points are rungs at the mean of their "
        "seeds; bars are means of the seeds' intervals over cases.",
    )
    panels = [panel for measure, title in GOAL_MEASURES.items() for panel in _panel(ladder, measure, title, series)]
    return Figure(GOALS, "Goals redirected", caption, tuple(panels), ladders=tuple(series))


def _panel(ladder: Ladder, measure: str, title: str, series: Series) -> list[Panel]:
    """A measure against strength, by series; none where it was not measured."""
    points, first_series = _points(ladder, measure, series), next(iter(series))
    trained = [row for row in points if row["series"] == first_series]
    if not trained:
        return []
    method = series[first_series][0]
    note = verdict_note(ladder.verdict(edit_measure(method, measure)))
    verdict = note if method == REDIRECT else f"{first_series}, {note}"
    first, last = trained[0], trained[-1]
    says = f"{decimal(first['value'])} at {first['rung']}, {decimal(last['value'])} at {last['rung']}; {verdict}"
    chart = concepts.chart(ladder, points, title, series=tuple(series), barred=first_series)
    name = measure.replace("_", " ")
    return [Panel(name, f"{name}: {says}.", chart, verdict)]


def _points(ladder: Ladder, measure: str, series: Series) -> list[Row]:
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
        .with_columns(series=pl.lit(name))
        for name, (method, control) in series.items()
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


def verdicts(ladder: Ladder) -> Table:
    """The verdict on every measure of edits of facts, by method, against strength and against parameters."""
    there = set(ladder.run.edits.filter(ladder=ladder.name)["method"])
    methods = {name: method for name, (method, control) in SERIES.items() if control == "trained" and method in there}
    lines = []
    for measure in MEASURES if methods else ():
        for axis in dict.fromkeys((ladder.axis, "parameters")):
            found = {name: ladder.verdict(edit_measure(method, measure), axis=axis) for name, method in methods.items()}
            badges = {name: word(_starred(verdict)) for name, verdict in found.items()}
            lines.append({"measure": word(measure.replace("_", " ")), "against": word(axis), **badges})
    return table("edit-verdicts", f"Verdicts on edits of facts, by method ({STAR} rests on single models)", lines)


def _starred(verdict: Row | None) -> str:
    """A verdict in few words; none where nothing was judged."""
    if verdict is None:
        return ""
    return f"{verdict['verdict']}{STAR if rests_on_single_models(verdict) else ''}"


def values(ladder: Ladder) -> Table:
    """The measures of edits of facts, of each model and method."""
    return _values(ladder, ~_OF_GOALS, "edit-values", "Edits of facts, by model")


def goal_values(ladder: Ladder) -> Table:
    """The measures of redirecting, of each model and control."""
    return _values(ladder, _OF_GOALS, "goal-values", "Goals redirected, by model")


def _values(ladder: Ladder, chosen: pl.Expr, name: str, title: str) -> Table:
    order = {rung: index for index, rung in enumerate(ladder.order)}
    shown = chosen & ~pl.col("measure").str.ends_with("_margin") & (pl.col("rung") != "")
    kept = sorted(
        rows.plain(ladder.run.edits.filter(shown, ladder=ladder.name)),
        key=lambda row: (order.get(row["rung"], 0), row["control"], row["seed"]),
    )
    return table(name, title, (_line(row) for row in kept))


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
