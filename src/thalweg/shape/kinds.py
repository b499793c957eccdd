"""Which kind of model stands higher at equal strength?

Two kinds of one ladder seldom end at the same strengths, so their mean scores do not answer it. Here a line over
strength with the same slope for both kinds is fitted to rungs whose strengths both kinds reach, and the distance of the
two lines is the answer. A rung's seeds are averaged; the number of rungs is what the interval rests on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import stdtrit

LEAST_RUNGS = 3  # of either kind where their strengths overlap


@dataclass(frozen=True)
class KindDifference:
    """How far one kind stands above another at equal strength.

    Attributes:
        kind: The kind in question.
        reference: The kind that it is compared with.
        difference: Of the scores at equal strength; NaN where `note` says why.
        low: End of its 95 % interval.
        high: The other end.
        n_rungs: Rungs of both kinds that it rests on.
        note: Why there is no difference.
    """

    kind: str
    reference: str
    difference: float
    low: float
    high: float
    n_rungs: int
    note: str = ""


def at_equal_strength(
    strength: ArrayLike, score: ArrayLike, kind: Sequence[str], rung: Sequence[str], *, reference: str
) -> list[KindDifference]:
    """Compare every kind of model with one of them at equal strength.

    With s the mean score of a rung and x its mean strength: s = a + b x + d [kind] + noise, over the rungs of both
    kinds within the strengths that both reach; d is the difference, with an interval by Student's t.

    Where the curve of both bends within these strengths and the two kinds stand at different places, d takes some of
    the bend for a difference.

    Args:
        strength: Of each model.
        score: Of each model; models without one (NaN) are left out.
        kind: Of each model.
        rung: Its configuration; models of one rung are seeds.
        reference: The kind that the others are compared with.

    Returns:
        A difference for each other kind, in their order.

    Example:
        >>> from thalweg.shape.kinds import at_equal_strength
        >>> strength, kind = [1, 2, 3, 4, 1, 2, 3, 4], ["dense"] * 4 + ["sparse"] * 4
        >>> score = [0.61, 0.62, 0.63, 0.64, 0.66, 0.67, 0.68, 0.69]
        >>> sparse = at_equal_strength(strength, score, kind, list("abcdefgh"), reference="dense")[0]
        >>> sparse.kind, round(sparse.difference, 3), sparse.n_rungs
        ('sparse', 0.05, 8)
    """
    x, y = np.asarray(strength, float), np.asarray(score, float)
    kept: list[int] = np.flatnonzero(np.isfinite(x) & np.isfinite(y)).tolist()
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in dict.fromkeys(kind)}
    for name in dict.fromkeys(rung[index] for index in kept):
        of_rung = [index for index in kept if rung[index] == name]
        points[kind[of_rung[0]]].append((float(x[of_rung].mean()), float(y[of_rung].mean())))
    among = points.get(reference, [])
    return [_difference(other, reference, points[other], among) for other in points if other != reference]


def _difference(
    kind: str, reference: str, these: list[tuple[float, float]], those: list[tuple[float, float]]
) -> KindDifference:
    low = max((min(x for x, _ in each) for each in (these, those) if each), default=math.inf)
    high = min((max(x for x, _ in each) for each in (these, those) if each), default=-math.inf)
    mine, others = ([point for point in each if low <= point[0] <= high] for each in (these, those))
    counted = len(mine) + len(others)
    missing = (kind, reference, math.nan, math.nan, math.nan, counted)
    if min(len(mine), len(others)) < LEAST_RUNGS:
        return KindDifference(*missing, f"fewer than {LEAST_RUNGS} rungs of either kind at strengths that both reach")
    points = np.array([*mine, *others])
    design = np.stack([np.ones(counted), points[:, 0], np.repeat([1.0, 0.0], [len(mine), len(others)])], axis=1)
    if np.linalg.matrix_rank(design) < 3:
        return KindDifference(*missing, "all rungs have one strength")
    slopes, error = _fit(design, points[:, 1])
    half = error * float(stdtrit(counted - 3, 0.975))
    return KindDifference(kind, reference, slopes, slopes - half, slopes + half, counted)


def _fit(design: Float[np.ndarray, "rung 3"], score: Float[np.ndarray, " rung"]) -> tuple[float, float]:
    """The last coefficient by least squares, and its standard error."""
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ score
    residuals = score - design @ coefficients
    variance = float(residuals @ residuals) / (len(score) - design.shape[1])
    return float(coefficients[-1]), math.sqrt(variance * float(inverse[-1, -1]))
