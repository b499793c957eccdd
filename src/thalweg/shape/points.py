"""From rows to what a test of shape sees: one point a rung, in order of strength, with a variance it can defend.

A row is a model. Rows of one configuration differ only in their seed, so they are averaged: n counts configurations,
and the scatter between seeds, pooled over configurations, says how far a point may lie from the curve. Where no
configuration has two seeds, the standard error *within* a model (over its units) is no substitute: it says nothing of
how models differ, and taking it for the scatter turns noise into valleys. Then the scatter is read from the curve
itself, from how far each point lies off the line between its neighbours.

Why not from the residuals of the best-fitting order-restricted curve, counting its levels? Because a clean curve has as
many levels as points: it leaves no residual and no degree of freedom, and the clearest data would be the ones nothing
can be said about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from thalweg.errors import ThalwegError
from thalweg.shape.order_tests import Basis, local_df, off_line
from thalweg.shape.scatter import seed_scatter

ROUNDING = 1e-10  # of the scores: a smaller scatter is that of floating-point numbers, not of models
LEAST_SHARE = 1e-8  # of the largest variance: weights further apart than this lose the digits of their sums
HUGE = 1e60  # the fourth power of larger numbers, which a test needs, overflows
MOST_POINTS = 60  # more distinct strengths are pooled with their neighbours
SAME_STRENGTH = 1e-12  # of the range of strengths: averages of equal strengths may differ in their last digit


@dataclass(frozen=True, eq=False)
class Rungs:
    """One entry a configuration, in order of strength."""

    names: tuple[str, ...]
    strength: Float[np.ndarray, " rung"]
    score: Float[np.ndarray, " rung"]
    seeds: Int[np.ndarray, " rung"]  # rows averaged
    spread: Float[np.ndarray, " rung"]  # sum of squared deviations of the rows from their mean
    floor: Float[np.ndarray, " rung"]  # mean squared standard error / seeds; 0 where no standard error is known

    def __len__(self) -> int:
        return len(self.names)

    def keep(self, mask: Bool[np.ndarray, " rung"]) -> "Rungs":
        """Only the rungs of the mask."""
        names = tuple(compress(self.names, mask))
        arrays = (self.strength, self.score, self.seeds, self.spread, self.floor)
        return Rungs(names, *(values[mask] for values in arrays))


@dataclass(frozen=True, eq=False)
class Points:
    """What the tests see: distinct strengths in order, a score and a variance each, and the variance's origin."""

    strength: Float[np.ndarray, " point"]
    score: Float[np.ndarray, " point"]
    variance: Float[np.ndarray, " point"]
    known: Float[np.ndarray, " point"]  # the part of the variance that is measured, not read from the curve
    basis: Basis
    null_df: float  # what the null must draw again: see `order_tests.Null`
    df: float  # degrees of freedom of the variance, for t distributions
    observations: int  # independent values behind the points: seeds where they give the variance, else configurations
    uncertain: Float[np.ndarray, "point 2"] | None = None  # see `order_tests.Null`: where rungs scatter unequally

    def __len__(self) -> int:
        return len(self.strength)


def column(name: str, values: object, n: int | None = None) -> Float[np.ndarray, " row"]:
    """A one-dimensional column of floats.

    Raises:
        ThalwegError: it is not one-dimensional, not numeric, not `n` long, or holds an infinity or a number beyond
        `HUGE`.
    """
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ThalwegError(f"{name} holds something that is no number ({error}); give one number a model") from error
    if array.ndim != 1:
        raise ThalwegError(f"{name} has shape {array.shape}; give a one-dimensional array, one number a model")
    if n is not None and len(array) != n:
        raise ThalwegError(f"{name} has {len(array)} rows and strength has {n}; give one of each a model")
    infinite = np.flatnonzero(np.isinf(array))
    if len(infinite):
        raise ThalwegError(
            f"{name} is infinite in row {infinite[0] + 1}; give a finite number, or NaN for a missing one"
        )
    huge = np.flatnonzero(np.abs(array) > HUGE)
    if len(huge):
        raise ThalwegError(f"{name} is {array[huge[0]]:g} in row {huge[0] + 1}; {too_large(name)}")
    return array


def too_large(name: str) -> str:
    """Advice on a number whose powers overflow."""
    return f"a number beyond {HUGE:g} cannot be calculated with: give {name} in a larger unit, or its logarithm"


def rungs_of(
    strength: Float[np.ndarray, " row"],
    score: Float[np.ndarray, " row"],
    se: Float[np.ndarray, " row"],
    group: Sequence[object] | None,
) -> tuple[Rungs, int]:
    """Average the rows of each configuration; also says how many rows were dropped because strength or score is NaN.

    Without `group` every row is its own configuration and is named by its index. A NaN standard error is an unknown
    one.
    """
    labels = [str(label) for label in (range(len(strength)) if group is None else group)]
    rows = [i for i in range(len(strength)) if not (np.isnan(strength[i]) or np.isnan(score[i]))]
    rows.sort(
        key=lambda i: (strength[i], score[i], labels[i])
    )  # sums, and so results, do not depend on the order of rows
    members: dict[str, list[int]] = {}
    for i in rows:
        members.setdefault(labels[i], []).append(i)

    seeds = np.array([len(ids) for ids in members.values()], dtype=int)

    def each(of: Callable[[np.ndarray], Any], values: Float[np.ndarray, " row"]) -> Float[np.ndarray, " rung"]:
        """A number of each configuration from its values, of all those with as many rows at once: (rung, row)."""
        numbers = np.zeros(len(members))
        for count in set(seeds.tolist()):
            rows = [ids for ids in members.values() if len(ids) == count]
            numbers[seeds == count] = of(values[rows])
        return numbers

    rungs = Rungs(
        names=tuple(members),
        strength=each(lambda rows: rows.mean(axis=1), strength),
        score=each(lambda rows: rows.mean(axis=1), score),
        seeds=seeds,
        spread=each(lambda rows: ((rows - rows.mean(axis=1, keepdims=True)) ** 2).sum(axis=1), score),
        floor=np.zeros(len(members)) if np.isnan(se).all() else each(_floors, se),
    )
    order = sorted(range(len(rungs)), key=lambda i: (rungs.strength[i], rungs.score[i], rungs.names[i]))
    ordered = Rungs(
        tuple(rungs.names[i] for i in order),
        *(values[order] for values in (rungs.strength, rungs.score, rungs.seeds, rungs.spread, rungs.floor)),
    )
    return ordered, len(strength) - len(rows)


def _floors(errors: Float[np.ndarray, "rung row"]) -> list[float]:
    """The mean squared standard error of each configuration, over the number of its rows; 0 where none is known."""
    known = [row[~np.isnan(row)] for row in errors]
    return [float((row**2).mean() / errors.shape[1]) if len(row) else 0.0 for row in known]


def tie_starts(strength: Float[np.ndarray, " rung"]) -> Int[np.ndarray, " point"]:
    """Where each run of equal strengths begins."""
    step = SAME_STRENGTH * max(float(np.ptp(strength)), float(np.abs(strength).max()))
    return np.flatnonzero(np.diff(strength, prepend=-np.inf) > step)


def distinct(rungs: Rungs) -> int:
    """How many distinct strengths there are: what a curve can be fitted to."""
    return len(tie_starts(rungs.strength)) if len(rungs) else 0


def noise_sources(rungs: Rungs) -> list[Basis]:
    """The scatter assumptions that these data allow, the best first: seeds, else the curve's own residuals.

    `within` (standard errors alone) comes last and is no valid basis for a verdict: it says nothing of the scatter
    between models.
    """
    bases: list[Basis] = []
    if rungs.spread.sum() > 0:
        bases.append("replicates")
    bases.append("residuals")
    if (rungs.floor > 0).all():
        bases.append("within")
    return bases


def points_of(rungs: Rungs, basis: Basis) -> Points | None:
    """Average rungs of equal strength and give each point its variance; None where the data hold no scatter at all.

    More than `MOST_POINTS` distinct strengths are pooled into so many points of neighbours: a narrower valley than that
    is not looked for, and a thousand models take no longer than sixty.

    replicates: v_i = max(s^2 / R_i, floor_i), s^2 = sum of the rungs' spreads / sum (R_i - 1); where the rungs' spreads
    differ by more than chance (`scatter`), v_i = max(s^2, s_i^2) / R_i with the rung's own s_i^2, and at least floor_i.
    residuals: v_i = max(s^2, floor_i), s^2 = `order_tests.local_variance`, pooled with the spread between models of
    equal strength (not of pooled neighbours, which differ by more than chance).
    within: v_i = floor_i, floor_i = mean squared standard error / R_i.
    Tied points: weights 1 / v, v = 1 / sum (1 / v_i). A floor can only make the variance larger than the null assumes:
    p errs upwards.
    """
    seeds = seed_scatter(rungs.spread, rungs.seeds) if basis == "replicates" else None
    given = {"replicates": seeds.variance if seeds else None, "within": rungs.floor}.get(basis)
    weight = np.ones(len(rungs)) if given is None else 1.0 / given
    starts = tie_starts(rungs.strength)
    pooled = len(starts) > MOST_POINTS
    if pooled:
        starts = starts[np.linspace(0, len(starts), MOST_POINTS, endpoint=False).astype(int)]
    sizes = np.diff(starts, append=len(rungs))
    total = np.add.reduceat(weight, starts)
    relative = 1.0 / total
    share = weight / np.repeat(total, sizes)  # of a rung in its point

    strength, score = np.add.reduceat(rungs.strength * share, starts), np.add.reduceat(rungs.score * share, starts)
    floor = np.add.reduceat(share**2 * rungs.floor, starts)
    null_df = df = np.inf
    unit = 1.0
    if seeds:
        null_df = df = float((rungs.seeds - 1).sum())
    elif basis == "residuals":
        null_df = 0 if pooled else len(rungs) - len(starts)
        df = local_df(relative, int(null_df))
        apart = 0.0 if pooled else ((rungs.score - np.repeat(score, sizes)) ** 2).sum()  # models of equal strength
        unit = float(((off_line(score, relative) ** 2).sum() + apart) / (len(starts) - 2 + null_df))
    variance = np.maximum(unit * relative, floor)
    if variance.max() <= (ROUNDING * max(1e-300, float(np.abs(score).max()))) ** 2:
        return None
    variance = np.maximum(variance, LEAST_SHARE * variance.max())
    known = floor if basis == "residuals" else variance
    observations = int(rungs.seeds.sum()) if seeds else len(rungs)
    uncertain = seeds.uncertain(share, starts, floor, variance) if seeds else None
    return Points(strength, score, variance, known, basis, float(null_df), df, observations, uncertain)
