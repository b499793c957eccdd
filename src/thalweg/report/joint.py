"""All ladders of a run in one picture, on the strength axis that they share, and beside each other on their own."""

from collections.abc import Sequence

from thalweg.report import charts, figures
from thalweg.report.charts import Figure, Panel
from thalweg.report.figures import TRAINED, UNTRAINED
from thalweg.report.ladder import Ladder
from thalweg.report.styles import Row
from thalweg.report.text import decimal
from thalweg.strength.axes import SHARE

AXIS = "share of the achievable bits"
FLOOR = -0.25  # of the axis: who errs with confidence may lie far below 0


def together(ladders: Sequence[Ladder]) -> Figure:
    """Both headlines for all ladders, on the shared axis."""
    names = [ladder.name for ladder in ladders]
    shown = {word: [_points(ladder, measure) for ladder in ladders] for word, measure in ladders[0].headlines.items()}
    panels = []
    for word, measure in ladders[0].headlines.items():
        rows = [row for points in shown[word] for row in points]
        chart = charts.joint(
            rows,
            [fit for ladder in ladders if (fit := _fit(ladder, measure))],
            names,
            title=AXIS,
            score=ladders[0].score_axis(measure, charts.domain(rows), word),
            floor=FLOOR,
            height=260,
        )
        panels.append(Panel(word, _summary(ladders, shown[word], measure, word), chart))
    caption = (
        "All ladders on the one strength axis that they share: the bits that a model knows as a share of all "
        "that guessing by frequency leaves open. Filled: trained, with 95 % intervals; hollow: untrained twins. The "
        "lines are the best curves of the shapes that the verdicts name, broken where the verdict is cannot tell.",
        "The weakness of that axis: digits and sums can be known for certain, and 1 can be reached. The next word "
        "can't be known, and nobody knows how much of it can: language stays far below 1 however strong the model, so "
        f"compare shapes, not places. What lies below {decimal(FLOOR)} (models that err with confidence) is drawn at "
        "the edge.",
    )
    return Figure("joint", "All ladders", caption, tuple(panels), ladders=tuple(names))


def each(ladders: Sequence[Ladder]) -> Figure:
    """Both headlines for each ladder on its own axis, beside the others."""
    panels = []
    for ladder in ladders:
        for word, measure in ladder.headlines.items():
            points = [row for row in ladder.points(measure) if row["seed"] is None]
            points = [row for row in points if row["control"] in (TRAINED, UNTRAINED)]
            verdict = ladder.verdict(measure)
            chart = figures.small_curve(ladder, points, measure, verdict, scale=charts.domain(points))
            title = f"{ladder.name}: {word}"
            panels.append(
                Panel(title, figures.curve_summary(points, verdict, title), chart, figures.verdict_note(verdict))
            )
    caption = (
        "Each ladder on its own strength axis, with its verdict; the shapes of points are its kinds of rung, as in its "
        "own section.",
    )
    return Figure("each", "Each on its own axis", caption, tuple(panels), controls=(TRAINED, UNTRAINED))


def _points(ladder: Ladder, measure: str) -> list[Row]:
    """The rungs of a ladder, trained and untrained, on the shared axis."""
    rows = ladder.points(measure, axis=SHARE)
    return [
        {**row, "ladder": ladder.name}
        for row in rows
        if row["seed"] is None and row["score"] is not None and row["control"] in (TRAINED, UNTRAINED)
    ]


def _fit(ladder: Ladder, measure: str) -> Row | None:
    """The fitted shape of a ladder, moved from its own axis of bits to their share of those to be had."""
    verdict = ladder.verdict(measure, axis="bits")
    models = ladder.run.models.filter((ladder.run.models["ladder"] == ladder.name) & (ladder.run.models["bits"] != 0))
    if not verdict or not verdict.get("fit") or models.is_empty():
        return None
    scale = models[SHARE][0] / models["bits"][0]
    points = [
        {"strength": x * scale, "score": y} for x, y in zip(verdict["fit"]["x"], verdict["fit"]["y"], strict=True)
    ]
    kept = [point for point in points if point["strength"] >= FLOOR]
    return {"ladder": ladder.name, "verdict": verdict["verdict"], "points": kept}


def _summary(ladders: Sequence[Ladder], shown: Sequence[Sequence[Row]], measure: str, word: str) -> str:
    parts = [
        figures.curve_summary(points, ladder.verdict(measure), f"{word} of {ladder.name}")
        for ladder, points in zip(ladders, shown, strict=True)
    ]
    return " ".join(parts)
