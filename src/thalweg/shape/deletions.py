"""Does the verdict hang on single models? It is judged again without each of them.

Up to `MANY` models every deletion is a judgement of its own. With more, one model in so many changes little but its own
part of the curve, so (1) all deletions are tested against the null of the whole ladder, at once; (2) depth and class
weights, the slow parts, are found anew only for the `EXAMINED` deletions with the weakest evidence of a turn, and are
those of the whole ladder for the others; (3) of more than `MOST` models, both ends and those furthest from the line
between their neighbours are left out in turn, and the others are not.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from thalweg.progress import Progress, Silent
from thalweg.shape.evidence import Evidence, Settings, examine, null_for
from thalweg.shape.families import CLASSES
from thalweg.shape.order_tests import MANY, Basis, Null, flat_p, holm, order_p
from thalweg.shape.points import Points, Rungs, distinct, noise_sources, points_of
from thalweg.shape.verdict import Name, decide

LEAST_POINTS = 4  # three points always make a line, a valley or a hump
DELETION_DRAWS = 1000  # a deletion asks for the class of a verdict, not for digits of p
MOST = 500
EXAMINED = 4
EXAMINED_DRAWS = 200
TOGETHER = 500  # deletions that are tested at once


def changes_without(
    rungs: Rungs,
    basis: Basis,
    evidence: Evidence,
    settings: Settings,
    *,
    at_most: int | None = None,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Names of the models without which the verdict would be another; may stop looking after `at_most` of them."""
    if len(rungs) > MANY:
        return _changes_of_many(rungs, basis, evidence, settings, progress or Silent())
    fewer = replace(settings, draws=min(settings.draws, DELETION_DRAWS))
    changed = []
    for i, name in enumerate(rungs.names):
        points = _points_without(rungs, basis, i)
        other = examine(points, fewer, complete=False).verdict if points else "cannot tell"
        if other != evidence.verdict:
            changed.append(name)
        if len(changed) == at_most:
            break
    return tuple(changed)


def _points_without(rungs: Rungs, basis: Basis, i: int) -> Points | None:
    """The points that are left without a model; None where nothing can be tested any more."""
    rest = rungs.keep(np.arange(len(rungs)) != i)
    return points_of(rest, basis) if distinct(rest) >= LEAST_POINTS and basis in noise_sources(rest) else None


def _changes_of_many(
    rungs: Rungs, basis: Basis, evidence: Evidence, settings: Settings, progress: Progress
) -> tuple[str, ...]:
    null = null_for(evidence.points, settings.draws, settings.seed)
    deletions = _furthest(rungs)
    verdicts: dict[int, Name] = {}
    turns: dict[int, tuple[float, Points, dict[str, float]]] = {}  # deletions in which the order test sees a turn
    with progress.stage("shape", -(-len(deletions) // TOGETHER) + 1) as advance:
        for start in range(0, len(deletions), TOGETHER):
            without = {int(i): _points_without(rungs, basis, int(i)) for i in deletions[start : start + TOGETHER]}
            verdicts |= dict.fromkeys(without, "cannot tell")
            for i, points, p in _tested({i: points for i, points in without.items() if points}, null):
                verdicts[i], p_turn = _verdict(points, p, evidence, settings)
                if p_turn < settings.alpha:
                    turns[i] = p_turn, points, p
            advance()
        fewer = replace(settings, draws=min(settings.draws, EXAMINED_DRAWS))
        for i in sorted(turns, key=lambda i: (-turns[i][0], i))[:EXAMINED]:
            _, points, p = turns[i]
            verdicts[i] = examine(points, fewer, complete=False, p=p).verdict
        advance()
    return tuple(rungs.names[i] for i in sorted(verdicts) if verdicts[i] != evidence.verdict)


def _furthest(rungs: Rungs) -> Int[np.ndarray, " deletion"]:
    """The models to leave out in turn: all, or both ends and those furthest from the line between their neighbours.

    Not those furthest from the fitted curve: a valley that one model makes fits that model.
    """
    if len(rungs) <= MOST:
        return np.arange(len(rungs))
    off = np.full(len(rungs), np.inf)  # the ends are always left out
    off[1:-1] = np.abs(rungs.score[1:-1] - (rungs.score[:-2] + rungs.score[2:]) / 2)
    return np.sort(np.argsort(-off, kind="stable")[:MOST])


def _tested(without: dict[int, Points], null: Null) -> Iterator[tuple[int, Points, dict[str, float]]]:
    """The p values of the order tests of many deletions: those of equal length are tested together."""
    by_length: dict[int, list[int]] = {}
    for i, points in without.items():
        by_length.setdefault(len(points), []).append(i)
    for indices in by_length.values():
        score = np.stack([without[i].score for i in indices])
        p = order_p(score, np.stack([without[i].variance for i in indices]), null)
        for row, i in enumerate(indices):
            yield i, without[i], {shape: float(values[row]) for shape, values in p.items()}


def _verdict(points: Points, p: dict[str, float], whole: Evidence, settings: Settings) -> tuple[Name, float]:
    """The verdict of a deletion, with the depth and class weights of the whole ladder; also the p of its turn."""
    p_holm = holm(p, ("valley", "hump")) | holm(p, ("increasing", "decreasing"))
    p_turn = min(p_holm["valley"], p_holm["hump"])
    monotone = min(p_holm["increasing"], p_holm["decreasing"]) < settings.alpha
    needed = p_turn >= settings.alpha and not monotone
    p_flat = flat_p(points.score, points.variance, points.df, settings.smallest_effect) if needed else 1.0
    verdict, _ = decide(
        p_holm=p_holm,
        p_flat=p_flat,
        depth_low=whole.depth.low if whole.depth else 0.0,
        class_weights=whole.weighing.class_weights if whole.weighing else dict.fromkeys(CLASSES, 0.0),
        stable=True,
        alpha=settings.alpha,
    )
    return verdict, p_turn
