"""The report's first screen: the curves on an axis that keeps models apart, what decides the verdict, and one unit.

Three questions are to be answered at once: is there a valley, may I believe it, what does a unit look like?
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.pipeline.verdicts import ALL
from thalweg.report import charts, pictures
from thalweg.report.charts import MISSING_BITS, RANK, Figure, Panel
from thalweg.report.figures import TRAINED, UNTRAINED, curve_summary, twins, verdict_note
from thalweg.report.ladder import Ladder
from thalweg.report.styles import Row
from thalweg.strength.axes import SHARE

CROWDED = 0.04  # of the axis: two models nearer than this lie on one another
HEIGHT = 200  # pixels: the picture, the verdicts with what decides them, and a unit fit on one screen
LONG = 150  # characters of a sentence on the first screen
FEW = 2  # models that are named without which a verdict changes
MEASURED = "measured"
CHOICES = {MEASURED: "as measured", SHARE: "share", RANK: "rank", "log": "log of what is missing"}
Respaced = Callable[[float], float]


def figure(ladder: Ladder) -> tuple[dict[str, Figure], str]:
    """The headline curves on each axis that they can be drawn on, and the one that is shown first: the measured
    strength, or the rank where models would lie on one another.
    """
    drawn = {name: made for name in CHOICES if (made := _on_axis(ladder, name))}
    spread = crowded(_strengths(ladder))
    return drawn, RANK if spread and RANK in drawn else MEASURED


def _strengths(ladder: Ladder) -> list[float]:
    """The strengths of the rungs, in increasing order."""
    points = ladder.points(next(iter(ladder.headlines.values())))
    own = [row["strength"] for row in points if row["seed"] is None and row["control"] == TRAINED]
    return sorted(strength for strength in own if strength is not None)


def crowded(strengths: Sequence[float]) -> bool:
    """Whether a third of the models or more lie on a neighbour."""
    reach = strengths[-1] - strengths[0] if strengths else 0
    gaps = np.diff(strengths)
    return bool(reach) and 3 * int((gaps < CROWDED * reach).sum()) >= len(strengths)


def _on_axis(ladder: Ladder, name: str) -> Figure | None:
    """The curves on one axis; None where it can't be drawn."""
    respaced = _respacing(ladder, name)
    if respaced is None:
        return None
    axis, title = {RANK: (RANK, RANK), "log": (MISSING_BITS, f"{MISSING_BITS} (logarithmic)")}.get(
        name, (SHARE, ladder.axis_title(SHARE)) if name == SHARE else (ladder.axis, ladder.axis_title(ladder.axis))
    )
    shown = {word: ladder.points(measure) for word, measure in ladder.headlines.items()}
    scale = charts.domain(*shown.values())
    panels = []
    for word, points in shown.items():
        verdict = ladder.verdict(ladder.headlines[word])
        chart = charts.curve(
            [_moved(row, respaced) for row in points],
            axis=axis,
            axis_title=title,
            score=ladder.score_axis(ladder.headlines[word], scale, word),
            kinds=ladder.shapes,
            verdict=_moved_fit(verdict, respaced),
            height=HEIGHT,
        )
        panels.append(Panel(word, curve_summary(points, verdict, word), chart, verdict_note(verdict)))
    return Figure("lead", "", (), tuple(panels), controls=ladder.controls, kinds=ladder.shapes)


def _respacing(ladder: Ladder, name: str) -> Respaced | None:
    """From a strength to its place on an axis; None where the axis can't be had."""
    strengths = _strengths(ladder)
    if name == MEASURED or not strengths:
        return (lambda strength: strength) if name == MEASURED else None
    if name == RANK:
        different = sorted(set(strengths))
        return lambda strength: float(np.interp(strength, different, range(1, len(different) + 1)))
    models = ladder.run.models.filter(ladder=ladder.name, control=TRAINED)
    if ladder.axis != "bits" or not {"bits", SHARE} <= set(models.columns):
        return None
    known = [
        (bits, share) for bits, share in models.select("bits", SHARE).iter_rows() if bits and share and share == share
    ]
    if not known:
        return None
    achievable = float(np.median([bits / share for bits, share in known]))
    if name == SHARE:
        return lambda strength: strength / achievable
    return (lambda strength: achievable - strength) if max(strengths) < achievable else None


def _moved(row: Row, respaced: Respaced) -> Row:
    return row if row["strength"] is None else {**row, "strength": respaced(row["strength"])}


def _moved_fit(verdict: Row | None, respaced: Respaced) -> Row | None:
    """A verdict whose fitted curve stands on another axis."""
    if not verdict or not verdict.get("fit"):
        return verdict
    fit = verdict["fit"]
    return {**verdict, "fit": {**fit, "x": [respaced(each) for each in fit["x"]]}}


def evidence(ladder: Ladder, word: str) -> list[tuple[str, str]]:
    """What decides whether a headline's verdict may be believed, in a line each."""
    measure = ladder.headlines[word]
    verdict = ladder.verdict(measure)
    if verdict is None:
        return []
    lines = []
    kinds = {kind: ladder.verdict(measure, kind=kind) for kind in ladder.several_kinds if kind != ALL}
    if kinds:
        lines.append(("within kinds", _said(kinds)))
    controls = {each["name"] for each in ladder.run.record["ladders"][ladder.name]["observers"] if each["control"]}
    others = [name for name in ladder.observers if name != ladder.observer and name not in controls]
    if others:
        lines.append(("other observers", _said({name: ladder.verdict(measure, observer=name) for name in others})))
    lost = verdict["changes_without"]
    named = "; ".join(f"without {name}: {other}" for name, other in lost.items())
    without = named if len(lost) <= FEW else f"another verdict for {len(lost)} of {verdict['n_models']}"
    lines.append(("leaving one out", without or "the same, whichever it is"))
    lines += [("beside twins", said)] if (said := _beside(ladder, measure)) else []
    return lines


def first_sentence(text: str) -> str:
    """The first sentence of a verdict: what the shape is. What such a long one says of power stands further down."""
    first = re.split(r"(?<=[a-z)]\.) (?=[A-Z])", text, maxsplit=1)[0]
    return first if len(first) <= LONG else re.split(r"; ", first, maxsplit=1)[0].rstrip(".") + "."


def _said(verdicts: Mapping[str, Row | None]) -> str:
    """Verdicts with those that have them; one that all have, once."""
    by_verdict: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        by_verdict.setdefault(verdict["verdict"] if verdict else "not judged", []).append(name)
    if len(by_verdict) == 1 and len(verdicts) > 1:
        return f"{next(iter(by_verdict))} in all {len(verdicts)}"
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in by_verdict.items())


def _beside(ladder: Ladder, measure: str) -> str:
    """On how many rungs the trained model stands above its untrained twin."""
    gaps = [row.get(f"minus_{UNTRAINED}") for row in twins(ladder, measure)]
    known = [gap for gap in gaps if gap is not None]
    return f"above untrained on {sum(gap > 0 for gap in known)} of {len(known)} rungs" if known else ""


def example(ladder: Ladder) -> dict[str, Any] | None:
    """One good unit: the best of the strongest rung that the gallery has."""
    shown = pictures.gallery(ladder)
    if not shown or not shown[-1]["units"]:
        return None
    rung, unit = shown[-1], shown[-1]["units"][0]
    return {**unit, "rung": rung["rung"], "kind": rung["kind"]}


def without_words(figure: Figure) -> Figure:
    """A figure without its caption, which stands where it is shown in full."""
    return replace(figure, caption=())


LINES = {  # what each part of the page shows
    "curve": "both headlines, large, and how to read them",
    "kinds": "whether one kind of network alone has the shape",
    "twins": "each model beside control networks that should score low",
    "populations": "best and worst tenth of the units, and units beside random directions",
    "bands": "the curve for trials that are easy and hard",
    "matched": "the published question, with and without pairs that low-level statistics decide",
    "observers": "whether other observers see the same shape",
    "axes": "the curve against other measures of strength",
    "capacity": "scores by how many named features an observer may use",
    "spread": "how single units spread around the mean",
    "coverage": "how many units could be measured, and how repeatable scores are",
    "factors": "numbers of whole models beside the curve",
    "bases": "units of other bases beside neurons",
    "conditions": "whether pictures made to drive a unit explain it as natural stimuli do",
    "tic": "how much of what a model can do its best units carry",
    "concepts": "whether two languages share concepts",
    "edits": "whether an edit in one language reaches the other",
    "goals": "whether models can be redirected to another goal",
    "layers": "each layer beside its twins",
    "answers": "people and language models that answered trials",
}


def line_of(name: str) -> str:
    """What a part of the page shows, in a line."""
    return LINES.get(name, "")
