"""Does the verdict rest on single models? It is judged again without each of them.

All deletions that leave equally many points are tested at once, against the null of one of them; where the rungs
scatter unequally, each against its own. Of more than `MOST`
models, both ends and those furthest from the line between their neighbours are left out in turn, and the others are
not.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from thalweg.progress import Progress, Silent
from thalweg.shape.evidence import Evidence, Settings, examine_all
from thalweg.shape.order_tests import Basis
from thalweg.shape.points import Points, Rungs, distinct, noise_sources, points_of
from thalweg.shape.verdict import Name, says

LEAST_POINTS = 4  # three points always make a line, a valley or a hump
DRAWS = 1000  # a deletion asks for the verdict, not for digits of p
MOST = 1500
TOGETHER = 500  # deletions that are tested at once


def changes_without(
    rungs: Rungs, basis: Basis, evidence: Evidence, settings: Settings, *, progress: Progress | None = None
) -> dict[str, Name]:
    """The models without which the verdict would be another, and which.

    A slope whose turn is no longer excluded says less, and nothing else: that is no change.
    """
    fewer = replace(settings, draws=min(settings.draws, DRAWS))
    deletions = _furthest(rungs)
    verdicts: dict[int, Name] = {}
    with (progress or Silent()).stage("shape", -(-len(deletions) // TOGETHER)) as advance:
        for start in range(0, len(deletions), TOGETHER):
            chosen = deletions[start : start + TOGETHER].tolist()
            verdicts |= _verdicts({i: _points_without(rungs, basis, i) for i in chosen}, fewer)
            advance()
    changed = {i: verdicts[i] for i in sorted(verdicts) if says(verdicts[i]) != says(evidence.verdict)}
    return {rungs.names[i]: verdict for i, verdict in changed.items()}


def _points_without(rungs: Rungs, basis: Basis, i: int) -> Points | None:
    """The points that are left without a model; None where nothing can be tested any more."""
    rest = rungs.keep(np.arange(len(rungs)) != i)
    return points_of(rest, basis) if distinct(rest) >= LEAST_POINTS and basis in noise_sources(rest) else None


def _furthest(rungs: Rungs) -> Int[np.ndarray, " deletion"]:
    """The models to leave out in turn: all, or both ends and those furthest from the line between their neighbours.

    Not those furthest from the fitted curve: a valley that one model makes fits that model.
    """
    if len(rungs) <= MOST:
        return np.arange(len(rungs))
    off = np.full(len(rungs), np.inf)  # the ends are always left out
    off[1:-1] = np.abs(rungs.score[1:-1] - (rungs.score[:-2] + rungs.score[2:]) / 2)
    return np.sort(np.argsort(-off, kind="stable")[:MOST])


def _verdicts(without: dict[int, Points | None], settings: Settings) -> dict[int, Name]:
    """The verdict of each deletion: those of equal length are tested together."""
    verdicts: dict[int, Name] = dict.fromkeys(without, "cannot tell")
    by_length: dict[int, list[int]] = {}
    for i, points in without.items():
        if points:
            by_length.setdefault(len(points), []).append(i)
    for indices in by_length.values():
        left = [points for i in indices if (points := without[i])]
        found = examine_all(left, settings)
        verdicts |= {i: evidence.verdict for i, evidence in zip(indices, found, strict=True)}
    return verdicts
