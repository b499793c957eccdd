"""What the report shows of the bases beside the main one: what each gains on the neurons, in models and in their
twins, and whether it gains more where a factor is larger.
"""

import functools
from dataclasses import replace

import polars as pl

from thalweg.factors.claims import SHARING
from thalweg.pipeline.relations import gain_name
from thalweg.report import charts, factors, rows, text
from thalweg.report.charts import Figure, Panel
from thalweg.report.figures import TRAINED, curve_summary, made_or_failed
from thalweg.report.ladder import Ladder
from thalweg.report.styles import Row
from thalweg.scoring.gains import GAIN, minus

NAME = "bases"
CALLED = {"sae": "dictionary latents", "random": "random directions", "pca": "principal components"}


def figures(ladder: Ladder) -> list[Figure]:
    """The figure of a ladder's other bases; none where there are none, or for a single model."""
    others = ladder.run.bases[1:]
    if not others or len(ladder.order) == 1:
        return []
    made = made_or_failed(NAME, functools.partial(_figure, ladder, others))
    return [made] if made.panels or made.failed else []


def _figure(ladder: Ladder, others: tuple[str, ...]) -> Figure:
    """The gains of every basis by both headlines, against strength and against the factors of superposition."""
    panels: list[Panel] = []
    for basis in others:
        beside = replace(ladder, run=ladder.run.in_basis(basis))
        for word, measure in ladder.headlines.items():
            panels += _against_strength(ladder, beside, word, measure)
        for word, measure in ladder.headlines.items() if basis == "sae" else ():
            panels += _against_factors(ladder, beside, word, measure)
    called = [f"{name} are {CALLED[name]}" for name in others if name in CALLED]
    caption = (
        "A gain is the mean score of a basis' units minus that of the neurons of the same network, layer by layer; 0 "
        "is no gain. If features share neurons (superposition), the latents of a dictionary should gain, and more than "
        "those of the twins: a dictionary may make clear units of any network.",
        f"Here {text.listing(called)}. Latents that are never active have no part in a gain. Each twin has "
        "dictionaries of its own.",
    )
    controls = tuple(control for control in ladder.controls if control != "rotated")
    return Figure(NAME, "Other bases than neurons", caption, tuple(panels), controls=controls, kinds=ladder.shapes)


def _against_strength(ladder: Ladder, beside: Ladder, word: str, measure: str) -> list[Panel]:
    """A basis' gain in the trained models and their twins against strength."""
    basis = str(beside.run.basis)
    points = _points(ladder, beside, measure, ladder.axis)
    if not any(row["score"] is not None for row in points):
        return []
    verdict = beside.verdict(measure, statistic=GAIN)
    chart = charts.curve(
        points,
        axis=ladder.axis,
        axis_title=ladder.axis_title(ladder.axis),
        score=_gain_axis(word, points),
        kinds=ladder.shapes,
        verdict=verdict,
        height=220,
    )
    summary = curve_summary(points, verdict, f"gain of {CALLED.get(basis, basis)}, {word}")
    notes = [f"gain: {_in_a_word(verdict)}"]
    for control in ladder.controls[1:]:
        less = beside.verdict(measure, statistic=minus(control))
        notes += [f"minus {control} twin's: {_in_a_word(less)}"] if less else []
    return [Panel(f"{basis}: {word} gain", summary, chart, "; ".join(notes))]


def _against_factors(ladder: Ladder, beside: Ladder, word: str, measure: str) -> list[Panel]:
    """A basis' gain in the trained models against each factor that says how much is shared."""
    basis = str(beside.run.basis)
    panels: list[Panel] = []
    for name, about in ladder.run.record["factors"].items():
        if name not in SHARING:
            continue
        every = [row for row in _points(ladder, beside, measure, name) if row["control"] == TRAINED]
        points = [row for row in every if row["strength"] is not None]
        if not any(row["seed"] is None and row["score"] is not None for row in points):
            continue
        chart = charts.curve(
            points,
            axis=factors.spoken(name),
            axis_title=f"{factors.spoken(name)} ({about['unit']})",
            score=_gain_axis(word, points),
            kinds=ladder.shapes,
            height=190,
        )
        says = factors.relation_in_words(ladder, name, gain_name(word, basis))
        summary = f"gain of trained rungs, {word}, against {factors.spoken(name)}: {says}."
        panels.append(Panel(f"{basis}: {word} gain by {factors.spoken(name)}", summary, chart, says))
    return panels


def _points(ladder: Ladder, beside: Ladder, measure: str, axis: str) -> list[Row]:
    """The gains of seeds and rungs and of their twins, along an axis of the models."""
    keep = (pl.col("ladder") == ladder.name) & (pl.col("measure") == measure) & (pl.col("observer") == ladder.observer)
    gains = beside.run.populations.filter(keep & (pl.col("statistic") == GAIN))
    return list(rows.plain(rows.placed(ladder.run, ladder.name, axis, gains)))


def _in_a_word(verdict: Row | None) -> str:
    return str(verdict["verdict"]) if verdict else "no verdict"


def _gain_axis(word: str, points: list[Row]) -> charts.ValueAxis:
    """An axis of gains that holds 0."""
    ends = [row[end] for row in points for end in ("low", "high", "score") if row[end] is not None]
    return charts.ValueAxis(f"gain, {word}", (min([0.0, *ends]), max([0.0, *ends])), 0.0)
