"""The figures of one ladder: which rows go into which panel, with summaries in words."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from thalweg.errors import ThalwegError, reason
from thalweg.measures.headlines import PLAIN
from thalweg.report import charts, rows, styles
from thalweg.report.charts import Figure, Panel, ValueAxis
from thalweg.report.ladder import SAME_PLACE, Ladder
from thalweg.report.styles import Range, Row
from thalweg.report.text import NONE, decimal, listing, percent, signed
from thalweg.scoring.populations import LEVELS, STATISTICS
from thalweg.shape.kinds import at_equal_strength
from thalweg.trials.one_sided import BANDS

TRAINED, UNTRAINED, ROTATED = "trained", "untrained", "rotated"
FALSE_TURNS = "Where nothing turns, about 1 verdict in 20 is a valley or a hump all the same, a control's too."


def figures(ladder: Ladder) -> list[Figure]:
    """All figures of a ladder, in the order of the page, without those that have nothing to show; one that cannot be
    made says why instead.
    """
    if len(ladder.order) == 1:  # one model has no curve
        makers: tuple[Callable[[Ladder], Figure], ...] = (layer_by_layer, by_capacity, unit_spreads)
    else:
        makers = (
            *(headline_curves, within_kinds, rung_by_rung, populations, bands, plain_and_matched, by_observer, by_axis),
            *(by_capacity, unit_spreads, coverage),
        )
    made = [made_or_failed(MAKERS[maker], partial(maker, ladder)) for maker in makers]
    return [figure for figure in made if figure.panels or figure.failed]


def made_or_failed(name: str, make: Callable[[], Figure]) -> Figure:
    """A figure, or one without panels that says why it could not be made."""
    try:
        return make()
    except ThalwegError:  # a table is damaged: no figure can help
        raise
    except Exception as wrong:
        return Figure(name, name.capitalize(), (), (), failed=reason(wrong))


def badge(verdict: Row) -> str:
    """A verdict in few words, and whether single models carry it."""
    return str(verdict["verdict"]) + (" (rests on single models)" if rests_on_single_models(verdict) else "")


def rests_on_single_models(verdict: Row) -> bool:
    """Whether another verdict, or none, would be given without one of the models."""
    return bool(verdict["changes_without"]) and verdict["verdict"] != "cannot tell"


def verdict_note(verdict: Row | None) -> str:
    """A verdict beside a chart."""
    return f"verdict: {badge(verdict)}" if verdict else "no verdict"


def unscored(points: Sequence[Row]) -> str:
    """Which rungs have no point, in words."""
    lost = [row["rung"] for row in points if row["seed"] is None and row["control"] == TRAINED and row["score"] is None]
    return f"No unit could be measured in {listing(lost)}, so there is no point." if lost else ""


def curve_summary(points: Sequence[Row], verdict: Row | None, what: str) -> str:
    """A curve in words: its ends, its twins' range, its verdict."""
    parts = []
    whole = [row for row in points if row["seed"] is None and row["score"] is not None]
    for control in styles.controls_of(whole):
        scored = [row for row in whole if row["control"] == control]
        if control == TRAINED and scored:
            first, last = scored[0], scored[-1]
            ends = f"from {decimal(first['score'])} at the weakest ({first['rung']}) to {decimal(last['score'])}"
            parts.append(f"trained {ends} at the strongest ({last['rung']}) of {len(scored)} rungs")
        elif scored:
            values = [row["score"] for row in scored]
            parts.append(f"{control} {decimal(min(values))} to {decimal(max(values))}")
    says = verdict["sentence"] if verdict else "No verdict."
    return f"{what}: {'; '.join(parts) or 'no scores'}. {says}"


def _controls(points: Sequence[Row], *controls: str) -> list[Row]:
    return [row for row in points if row["control"] in controls]


def headline_curves(ladder: Ladder) -> Figure:
    """THE curve: both headlines against strength."""
    shown = {word: ladder.points(measure) for word, measure in ladder.headlines.items()}
    scale = charts.domain(*shown.values())
    panels = []
    for word, points in shown.items():
        verdict = ladder.verdict(ladder.headlines[word])
        chart = charts.curve(
            points,
            axis=ladder.axis,
            axis_title=ladder.axis_title(ladder.axis),
            score=ladder.score_axis(ladder.headlines[word], scale, word),
            kinds=ladder.shapes,
            verdict=verdict,
            height=340,
        )
        panels.append(Panel(word, curve_summary(points, verdict, word), chart, verdict_note(verdict)))
    caption = (
        f"Each point is a rung with its 95 % interval, each dot a seed; a point is pale where few of the rung's "
        f"units could be measured. {SAME_PLACE}",
        "The line is the best curve of the shape that the verdict names, fitted to the trained rungs; where the "
        "verdict is cannot tell it is broken, and shows the shape of smallest p only.",
        *dict.fromkeys(note for points in shown.values() if (note := unscored(points))),
    )
    return Figure(
        "curve",
        "Interpretability against strength",
        caption,
        tuple(panels),
        controls=ladder.controls,
        kinds=ladder.shapes,
    )


def within_kinds(ladder: Ladder) -> Figure:
    """The same within each kind of rungs, where there are several."""
    differences: list[str] = []
    panels: list[Panel] = []
    for word, measure in ladder.headlines.items() if ladder.several_kinds else ():
        differences += kind_differences(word, ladder.points(measure), ladder.several_kinds[0])
    for kind in ladder.several_kinds:
        for word, measure in ladder.headlines.items():
            every = ladder.points(measure)
            points = [row for row in every if row["kind"] == kind]
            verdict = ladder.verdict(measure, kind=kind)
            chart = charts.curve(
                points,
                axis=ladder.axis,
                axis_title=ladder.axis_title(ladder.axis),
                score=ladder.score_axis(measure, charts.domain(every), word),
                kinds=ladder.shapes,
                verdict=verdict,
                height=240,
            )
            what = f"{word} within {kind}"
            panels.append(Panel(f"{kind}: {word}", curve_summary(points, verdict, what), chart, verdict_note(verdict)))
    return Figure(
        "kinds",
        "Within each kind",
        (
            "A curve over all kinds mixes what strength does with what the kind of network does; here is each kind by "
            "itself.",
            *differences,
        ),
        tuple(panels),
        controls=ladder.controls,
        kinds=ladder.shapes,
    )


def kind_differences(word: str, points: Sequence[Row], reference: str) -> list[str]:
    """How far each kind stands above one of them at equal strength, in words; nothing where no two can be compared.

    `points` are the scores of a headline, rungs and seeds, trained and twins.
    """
    trained = [row for row in points if row["seed"] is not None and row["control"] == TRAINED]
    every = at_equal_strength(
        [math.nan if row["strength"] is None else row["strength"] for row in trained],
        [math.nan if row["score"] is None else row["score"] for row in trained],
        [row["kind"] for row in trained],
        [row["rung"] for row in trained],
        reference=reference,
    )
    said = [
        f"{each.kind} {signed(each.difference)} ({signed(each.low)} to {signed(each.high)}, {each.n_rungs} rungs)"
        for each in every
        if not each.note
    ]
    if not said:
        return []
    return [f"At equal strength, compared with {reference}, {word} is: {listing(said)} (95 % intervals)."]


def layer_by_layer(ladder: Ladder) -> Figure:
    """Each layer of one model beside the same layer of its twins."""
    panels = []
    for word, measure in ladder.headlines.items():
        points = rows.layers(ladder.run, ladder.name, measure, observer=ladder.observer)
        order = list(dict.fromkeys(row["rung"] for row in points))
        chart = charts.by_rung(
            points,
            order,
            value="score",
            axis=ladder.score_axis(measure, charts.domain(points), word),
            name="layer",
        )
        summary = f"{word} of {len(order)} layers, from the first to the last to run, with intervals and twins"
        panels.append(Panel(word, summary, chart))
    caption = (
        "Layers in the order in which they run, the first on top; each with its 95 % interval, from drawing its units "
        "again, beside the same layer of the untrained and of the rotated twin.",
    )
    return Figure(
        "layers", "Layer by layer", caption, tuple(panels), columns=2, controls=ladder.controls, control_shapes=True
    )


def rung_by_rung(ladder: Ladder) -> Figure:
    """Each rung's score beside its twins', and the differences."""
    panels: list[Panel] = []
    for word, measure in ladder.headlines.items():
        points = [row for row in ladder.points(measure) if row["seed"] is None]
        differences = [
            {"rung": row["rung"], "control": control, "difference": row[f"minus_{control}"]}
            for row in twins(ladder, measure)
            for control in ladder.controls[1:]
        ]
        values = [abs(row["difference"]) for row in differences if row["difference"] is not None]
        reach = max([0.1, *values]) * 1.08
        scores = charts.by_rung(
            points,
            ladder.order,
            value="score",
            axis=ladder.score_axis(measure, charts.domain(points), word),
        )
        gaps = charts.by_rung(
            differences,
            ladder.order,
            value="difference",
            axis=ValueAxis("trained minus twin", (-reach, reach), 0),
            number="+.3f",
        )
        panels += [
            Panel(f"{word}: score", curve_summary(points, None, f"{word} of each rung, with intervals"), scores),
            Panel(f"{word}: trained minus twin", _gaps_summary(differences, word), gaps),
        ]
    caption = (
        "Rungs in the order of their strength, the weakest on top. Right of the line, trained units score above their "
        "twin. Units differ in coverage between twins; the numbers are in the table below.",
    )
    return Figure(
        "twins",
        "Rung by rung, beside its twins",
        caption,
        tuple(panels),
        controls=ladder.controls,
        control_shapes=True,
    )


def _gaps_summary(differences: Sequence[Row], word: str) -> str:
    parts = []
    for control in dict.fromkeys(row["control"] for row in differences):
        gaps = [row["difference"] for row in differences if row["control"] == control and row["difference"] is not None]
        if gaps:
            above = sum(value > 0 for value in gaps)
            parts.append(
                f"minus {control} {signed(min(gaps))} to {signed(max(gaps))}, above 0 in {above} of {len(gaps)} rungs"
            )
    return f"{word}, trained {'; trained '.join(parts) or NONE}."


def twins(ladder: Ladder, measure: str) -> list[dict[str, Any]]:
    """Each rung's score, its twins' and the differences."""
    points = rows.points(ladder.run, ladder.name, ladder.axis, measure=measure, observer=ladder.observer)
    return rows.twins(points)


def small_curve(
    ladder: Ladder,
    points: Sequence[Row],
    measure: str,
    verdict: Row | None,
    *,
    scale: Range,
    axis: str = "",
    height: int = 200,
) -> charts.Specification:
    """A curve among several."""
    axis = axis or ladder.axis
    return charts.curve(
        points,
        axis=axis,
        axis_title=ladder.axis_title(axis),
        score=ladder.score_axis(measure, scale),
        kinds=ladder.shapes,
        verdict=verdict,
        height=height,
    )


def populations(ladder: Ladder) -> Figure:
    """What the mean over units hides, for both headlines."""
    panels = []
    for statistic, what in STATISTICS.items():
        shown = {word: ladder.population_points(measure, statistic) for word, measure in ladder.headlines.items()}
        for word, points in shown.items():
            if not any(row["score"] is not None for row in points):
                continue
            verdict = ladder.verdict(ladder.headlines[word], statistic=statistic)
            plain = ladder.score_axis(ladder.headlines[word], charts.domain(*shown.values()))
            level = LEVELS.get(statistic, plain.level)
            every = [row for points_shown in shown.values() for row in points_shown]
            ends = [row[end] for row in every for end in ("low", "high") if row[end] is not None]
            scale = plain.range if level is None or level == plain.level else (min([level, *ends]), max([level, *ends]))
            chart = charts.curve(
                points,
                axis=ladder.axis,
                axis_title=ladder.axis_title(ladder.axis),
                score=charts.ValueAxis(word, scale, level),
                kinds=ladder.shapes,
                verdict=verdict,
                height=190,
            )
            summary = curve_summary(points, verdict, f"{word}, {what}")
            panels.append(Panel(f"{word}: {what}", summary, chart, verdict_note(verdict)))
    caption = (
        "A mean can stay where it is while some units become clearer and the rest muddier. Each score is taken in "
        "every layer and averaged over layers. If units were no better than directions of the rotated layer, 5 % "
        "would stand above 95 % of these, and the difference of the means would be 0.",
    )
    return Figure(
        "populations",
        "What the mean over units hides",
        caption,
        tuple(panels),
        controls=ladder.controls,
        kinds=ladder.shapes,
    )


def bands(ladder: Ladder) -> Figure:
    """The psychometric view: the same curve for easy and hard trials."""
    measure = ladder.headlines["predictable"]
    shown = {
        band: _controls([row for row in ladder.points(measure, band=band) if row["seed"] is None], TRAINED, UNTRAINED)
        for band in BANDS
    }
    shown = {band: points for band, points in shown.items() if points}
    panels = []
    for band, points in shown.items():
        verdict = ladder.verdict(measure, band=band)
        chart = small_curve(ladder, points, measure, verdict, scale=charts.domain(*shown.values()))
        panels.append(
            Panel(band, curve_summary(points, verdict, f"predictable, band {band}"), chart, verdict_note(verdict))
        )
    caption = (
        "The band extreme asks about the stimuli that drive a unit most, against typical ones; v75 and v50 about those "
        "three quarters and half of the way from the unit's median. Easy trials saturate, hard ones don't.",
    )
    return Figure(
        "bands",
        "Easy and hard trials",
        caption,
        tuple(panels),
        controls=(TRAINED, UNTRAINED),
        kinds=ladder.shapes,
    )


def plain_and_matched(ladder: Ladder) -> Figure:
    """The published question beside the headline's."""
    panels = []
    shown = {measure: ladder.points(measure) for measure in (PLAIN, ladder.headlines["predictable"])}
    for measure, points in shown.items():
        verdict = ladder.verdict(measure)
        chart = small_curve(ladder, points, measure, verdict, scale=charts.domain(*shown.values()), height=260)
        panels.append(Panel(measure, curve_summary(points, verdict, measure), chart, verdict_note(verdict)))
    caption = (
        "two_choice is the question of published studies: is a stimulus more like a unit's highest or its lowest "
        "stimuli, over all pairs? The headline asks about one pole, against typical stimuli, and only over pairs that "
        "low-level statistics can't decide. What untrained twins lose from left to right was never an abstraction.",
    )
    return Figure(
        "matched",
        "The published question, and the headline's",
        caption,
        tuple(panels),
        controls=ladder.controls,
        kinds=ladder.shapes,
    )


def by_observer(ladder: Ladder) -> Figure:
    """Both headlines for every observer."""
    observers = ladder.run.record["ladders"][ladder.name]["observers"]
    controls = {observer["name"] for observer in observers if observer["control"]}
    panels = []
    for observer in ladder.observers:
        role = "headline" if observer == ladder.observer else "control" if observer in controls else "beside it"
        for word, measure in ladder.headlines.items():
            points = [row for row in ladder.points(measure, observer=observer) if row["seed"] is None]
            points = _controls(points, TRAINED, UNTRAINED)
            if not points:
                continue
            verdict = ladder.verdict(measure, observer=observer)
            scale = charts.domain(points, floor=0.4)
            chart = small_curve(ladder, points, measure, verdict, scale=scale, height=170)
            what = f"{word}, observer {observer} ({role})"
            panels.append(
                Panel(
                    f"{observer}: {word}",
                    curve_summary(points, verdict, what),
                    chart,
                    f"{role}; {verdict_note(verdict)}",
                )
            )
    caption = (
        "Each observer sees only its own kind of unit. The headline's observer is first, then others, then controls, "
        "which should not tell trained from untrained units, and what the observer called random scores is chance. "
        f"{FALSE_TURNS} Vertical axes reach as far down as each panel needs.",
    )
    return Figure(
        "observers",
        "By observer",
        caption,
        tuple(panels),
        controls=(TRAINED, UNTRAINED),
        kinds=ladder.shapes,
    )


def by_axis(ladder: Ladder) -> Figure:
    """Both headlines against every strength axis."""
    panels = []
    for axis in ladder.run.record["axes"]:
        for word, measure in ladder.headlines.items():
            every = [row for row in ladder.points(measure, axis=axis) if row["seed"] is None]
            points = _controls(every, TRAINED, UNTRAINED)
            if not points or all(row["strength"] is None for row in points):
                continue
            verdict = ladder.verdict(measure, axis=axis)
            chart = small_curve(ladder, points, measure, verdict, axis=axis, scale=charts.domain(points), height=190)
            what = f"{word} against {ladder.run.record['axes'][axis]}"
            panels.append(Panel(f"{axis}: {word}", curve_summary(points, verdict, what), chart, verdict_note(verdict)))
    caption = (
        "A shape survives any increasing rescaling of an axis, but not another order of the models. Accuracy "
        "saturates; parameters and compute are what a model costs, not what it can do.",
    )
    return Figure(
        "axes", "By strength axis", caption, tuple(panels), controls=(TRAINED, UNTRAINED), kinds=ladder.shapes
    )


def by_capacity(ladder: Ladder) -> Figure:
    """How many features an observer needs, rung by rung."""
    every = rows.plain(rows.capacities(ladder.run, ladder.name, observer=ladder.observer))
    order = [capacity for capacity in rows.CAPACITY_ORDER if any(row["capacity"] == capacity for row in every)]
    panels = []
    for rung in ladder.order:
        rung_rows = [row for row in every if row["rung"] == rung]
        if not rung_rows:
            continue
        chart = charts.capacity(
            rung_rows, order, scale=charts.domain(every), chance=ladder.score_axis("one_sided_capacity", (0, 1)).level
        )
        summary = "; ".join(
            f"{control} "
            + ", ".join(f"{row['capacity']}: {decimal(row['score'])}" for row in rung_rows if row["control"] == control)
            for control in styles.controls_of(rung_rows)
            if any(row["control"] == control for row in rung_rows)
        )
        panels.append(Panel(rung, f"Score of {rung} by number of features. {summary}.", chart, ladder.kinds[rung]))
    caption = (
        "The score of an observer that may use 1, 2, 5, 20 or all features of its dictionary, rungs from weak to "
        "strong. A crisp unit is near its full score at 1, a confused one needs many: a mixture of named things "
        "climbs, one thing without a name does not.",
        *climbs(every, ladder.order),
    )
    return Figure(
        "capacity",
        "How many features it takes",
        caption,
        tuple(panels),
        controls=ladder.controls,
        control_shapes=True,
        columns=4,
        small=True,
    )


def climbs(capacities: Sequence[Row], order: Sequence[str]) -> list[str]:
    """How far the trained units of the weakest and of the strongest rung climb from 1 feature to 20, in a sentence."""
    scores = {(row["rung"], row["capacity"]): row["score"] for row in capacities if row["control"] == TRAINED}
    ends = {rung: (scores.get((rung, "1")), scores.get((rung, "20"))) for rung in order}
    known = {rung: pair for rung, pair in ends.items() if None not in pair}
    if not known:
        return []
    shown = {rung: known[rung] for rung in dict.fromkeys((next(iter(known)), list(known)[-1]))}
    parts = [f"{decimal(one)} to {decimal(many)} in {rung}" for rung, (one, many) in shown.items()]
    return [f"From 1 feature to 20, units climb from {' and from '.join(parts)}."]


def unit_spreads(ladder: Ladder) -> Figure:
    """How the units of each rung spread over a headline's range."""
    panels = []
    for word, measure in ladder.headlines.items():
        every = rows.plain(rows.spreads(ladder.run, ladder.name, measure))
        least = min([0.5, *(row["from"] for row in every)])
        for control, (colour, _) in styles.styles(ladder.controls).items():
            bins = [row for row in every if row["control"] == control]
            if bins:
                chart = charts.strips(bins, ladder.order, colour=colour, title=word, least=least)
                panels.append(Panel(f"{word}: {control}", _spread_summary(bins, word, control), chart))
    caption = (
        "A strip for each rung, the weakest on top: the stronger the colour, the larger the share of its units (all "
        "layers and seeds together) in that part of the range. Units without a score are not in it; see coverage.",
    )
    return Figure(
        "spread",
        "How units spread",
        caption,
        tuple(panels),
        columns=3,
    )


def _spread_summary(bins: Sequence[Row], word: str, control: str) -> str:
    units = sum(row["n"] for row in bins)
    high = sum(row["n"] for row in bins if row["from"] >= 0.9)
    return f"Spread of {units} {control} units over the range of {word}: {percent(high / units)} of them from 0.9 up."


def coverage(ladder: Ladder) -> Figure:
    """Which share of units could be measured, and how well halves agree."""
    points = [row for row in ladder.points(ladder.headlines["predictable"]) if row["seed"] is None]
    chart = charts.by_rung(
        points, ladder.order, value="coverage", axis=ValueAxis("share of units", (0, 1)), number=".1%", spread=18
    )
    shown = [row["coverage"] for row in points if row["control"] == TRAINED and row["coverage"] is not None]
    spoken = f"Coverage of trained rungs from {percent(min(shown))} to {percent(max(shown))}." if shown else "No units."
    panels = [Panel("coverage of the headlines", spoken, chart)]
    models = rows.plain(ladder.run.models.filter(ladder.run.models["ladder"] == ladder.name))
    panels += [panel for word in ladder.headlines if (panel := _reliability(ladder, models, word))]
    caption = (
        "Coverage: the share of units that leave enough pairs of queries which low-level statistics can't decide; "
        "where it is small, a rung's score is that of an unusual few.",
        "Reliability: the rank correlation of the units' scores with those when reference and query half are "
        "exchanged, a point for each model (missing where too few units have both).",
    )
    return Figure(
        "coverage",
        "Coverage and reliability",
        caption,
        tuple(panels) if points else (),
        controls=ladder.controls,
        control_shapes=True,
        columns=3,
    )


def _reliability(ladder: Ladder, models: Sequence[Row], word: str) -> Panel | None:
    """The reliability of a headline, model by model; None where no model has one."""
    seeds = [
        {
            "rung": model["rung"],
            "seed": model["seed"],
            "control": rows.CONTROLS.get(model["control"], model["control"]),
            "reliability": model.get(f"{word}_reliability"),
        }
        for model in models
    ]
    there = [row["reliability"] for row in seeds if row["reliability"] is not None]
    if not there:
        return None
    axis = ValueAxis("rank correlation", (min([0.0, *there]), 1), 0)
    chart = charts.by_rung(seeds, ladder.order, value="reliability", axis=axis, number=".2f", spread=18)
    spoken = f"Reliability of {word}, model by model: {decimal(min(there))} to {decimal(max(there))}."
    return Panel(f"reliability of {word}", spoken, chart)


# the anchor of each figure on the page, known before the figure is made
MAKERS: dict[Callable[[Ladder], Figure], str] = {
    headline_curves: "curve",
    within_kinds: "kinds",
    layer_by_layer: "layers",
    rung_by_rung: "twins",
    populations: "populations",
    bands: "bands",
    plain_and_matched: "matched",
    by_observer: "observers",
    by_axis: "axes",
    by_capacity: "capacity",
    unit_spreads: "spread",
    coverage: "coverage",
}
