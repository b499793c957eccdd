"""Numbers over the models of a ladder: rank correlations of a factor and a score, means, and differences of means, with
intervals in which rungs count more than their seeds.

Seeds of one rung are alike, so they say less than as many rungs would. Ladders have few rungs, where percentiles of
drawing rungs again are far too narrow: of a partial correlation over six rungs of one model each they held the truth in
six to eight of ten simulations. `benchmarks.intervals_over_rungs` simulates all intervals of this module.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from thalweg.measures.base import Z

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]

LEAST_RUNGS = 5  # fewer leave no interval worth the name
DRAWS = 2000
PERCENTILES = (2.5, 97.5)
ROUNDING = 1e-9
NONE = "no model has all the numbers"
UNEVEN = "one rung has most of the models: no interval"
TOO_FEW = f"fewer than {LEAST_RUNGS} rungs: no interval"


@dataclass(frozen=True)
class Relation:
    """Spearman's correlation of a factor and a score over models, its 95 % interval, and over how many models of how
    many rungs it is; `note` says why a number is missing.
    """

    rho: float
    low: float
    high: float
    n_models: int
    n_rungs: int
    note: str = ""


def relation(factor: Sequence[float], score: Sequence[float], rungs: Sequence[str]) -> Relation:
    """Spearman's rank correlation over models, with a 95 % interval.

    Fisher's z = artanh(rho) has the standard error sqrt((1 + rho^2 / 2) / (n - 3)) for ranks (Bonett & Wright 2000). N
    models are worth n = N / (1 + (m - 1) r_x r_y) independent ones (Moulton 1986): m models of a rung, of whose ranks
    the rungs explain the shares r_x and r_y. So n is the number of rungs where their seeds are all alike. A perfect
    order of so many rungs counts as half an exchange of neighbours. Models without a factor or a score are left out.

    Args:
        factor: of each model.
        score: of each model.
        rungs: the rung of each model.
    """
    return _correlated((factor, score), rungs, "the factor or the score does not vary over models")


def partial_relation(
    factor: Sequence[float], score: Sequence[float], held: Sequence[float], rungs: Sequence[str]
) -> Relation:
    """The same with a third number of each model held: whether the factor goes with the score beyond it.

    (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)), of Spearman's correlations. Its standard error has n - 4 for
    n - 3, and r_x and r_y are of what the third number leaves of the ranks.

    Args:
        factor: of each model.
        score: of each model.
        held: of each model, as its strength.
        rungs: the rung of each model.
    """
    return _correlated(
        (factor, score, held), rungs, "a number does not vary over models, or what is held says all of another"
    )


def mean_over_rungs(values: Sequence[float], rungs: Sequence[str], *, seed: int = 0) -> Relation:
    """The mean of a number over models, in place of a correlation; the interval is that of drawing rungs again,
    stretched as Student's t of so many rungs asks.

    Args:
        values: of each model.
        rungs: the rung of each model.
        seed: of the draws.
    """
    return _mean_of(_mean, (values,), rungs, "no model has the number", seed)


def difference_of_means(
    first: Sequence[float],
    second: Sequence[float],
    first_rungs: Sequence[str],
    second_rungs: Sequence[str],
    *,
    seed: int = 0,
) -> Relation:
    """The mean of a number over some models less that over others, with the same interval, stretched as Welch's t
    asks. Where both have a rung of the same name, it is drawn for both.

    Args:
        first: of each of these models.
        second: of each of the others.
        first_rungs: the rung of each of these.
        second_rungs: the rung of each of the others.
        seed: of the draws.
    """
    group = [1.0] * len(first) + [0.0] * len(second)
    names = [*first_rungs, *second_rungs]
    return _mean_of(_difference, ([*first, *second], group), names, "no model of a side has the number", seed)


def _correlated(numbers: Sequence[Sequence[float]], rungs: Sequence[str], empty: str) -> Relation:
    """Spearman's correlation of the first two numbers of each model, with the third held if there is one."""
    (x, y, *held), names, index = _known(numbers, rungs)
    counts = len(index), len(names)
    value = float((_partial(x, y, held[0]) if held else spearman(x, y, _once(x)))[0])
    if math.isnan(value) or len(names) < LEAST_RUNGS:
        why = NONE if not len(index) else empty if math.isnan(value) else TOO_FEW
        return Relation(value, math.nan, math.nan, *counts, why)
    first, second, *third = (_centred_ranks(values, _once(x))[0] for values in (x, y, *held))
    if third:
        first, second = (_rest(each, third[0]) for each in (first, second))
    error = _error(value, _worth(first, second, index), len(held))
    if math.isinf(error):
        return Relation(value, math.nan, math.nan, *counts, UNEVEN)
    most = 1 - 6 / (len(names) * (len(names) ** 2 - 1))
    z = math.atanh(max(-most, min(most, value)))
    return Relation(value, min(value, math.tanh(z - Z * error)), max(value, math.tanh(z + Z * error)), *counts)


def _error(rho: float, n: float, held: int) -> float:
    """The standard error of Fisher's z of Spearman's correlation of n models, with so many numbers held; infinite where
    these leave nothing.
    """
    return math.sqrt((1 + rho**2 / 2) / (n - 3 - held)) if n > 3 + held + ROUNDING else math.inf


def _worth(x: Numbers, y: Numbers, rung: Places) -> float:
    """How many independent models these are worth for a correlation (Moulton 1986)."""
    sizes = np.bincount(rung)
    alike = _share_of_rungs(x, rung) * _share_of_rungs(y, rung)
    return float(sizes.sum() / (1 + ((sizes**2).sum() / sizes.sum() - 1) * alike))


def _share_of_rungs(values: Numbers, rung: Places) -> float:
    """The intraclass correlation: the share of the variance that lies between rungs."""
    sizes = np.bincount(rung)
    n, groups = len(values), len(sizes)
    if n == groups:
        return 1.0
    means = np.bincount(rung, values) / sizes
    between = (sizes * (means - values.mean()) ** 2).sum() / (groups - 1)
    within = ((values - means[rung]) ** 2).sum() / (n - groups)
    size = (n - (sizes**2).sum() / n) / (groups - 1)
    whole = between + (size - 1) * within
    return float(np.clip((between - within) / whole, 0, 1)) if whole > ROUNDING else 1.0


def _rest(ranks: Numbers, held: Numbers) -> Numbers:
    """What a straight line of the held ranks leaves of others; all of mean 0."""
    return ranks - held * (ranks @ held) / (held @ held)


def _mean_of(
    statistic: Callable[..., Numbers], numbers: Sequence[Sequence[float]], rungs: Sequence[str], empty: str, seed: int
) -> Relation:
    """A mean, or a difference of two, with the interval of drawing rungs again.

    Of n rungs, such an interval shows (n - 1) / n of the variance, and takes the normal distribution for Student's t,
    whose degrees of freedom are n - 1, or Welch's for two sides that are different rungs.
    """
    columns, names, index = _known(numbers, rungs)
    counts = len(index), len(names)
    value = float(statistic(*columns, np.ones((1, len(index))))[0])
    if math.isnan(value) or len(names) < LEAST_RUNGS:
        return Relation(value, math.nan, math.nan, *counts, empty if math.isnan(value) else TOO_FEW)
    share = np.full(len(names), 1 / len(names))
    times = np.random.default_rng(seed).multinomial(len(names), share, DRAWS)[:, index]  # (draw, model)
    ends = np.nanpercentile(statistic(*columns, times.astype(float)), PERCENTILES)
    sides = [columns[1] == side for side in (0, 1)] if len(columns) > 1 else [np.full(len(index), fill_value=True)]
    of_rungs = [_means_of_rungs(columns[0][side], index[side]) for side in sides]
    few = min(map(len, of_rungs))
    if few < 2:
        return Relation(value, math.nan, math.nan, *counts, "a side has a single rung: no interval")
    apart = len(sides) > 1 and sum(map(len, of_rungs)) == len(names)
    degrees = _welch(*of_rungs) if apart else few - 1
    stretched = float(stdtrit(degrees, 0.975)) / Z * math.sqrt(few / (few - 1))
    low, high = (value + stretched * (float(end) - value) for end in ends)
    return Relation(value, min(value, low), max(value, high), *counts)


def _means_of_rungs(values: Numbers, rung: Places) -> Numbers:
    _, place = np.unique(rung, return_inverse=True)
    return np.bincount(place, values) / np.bincount(place)


def _welch(first: Numbers, second: Numbers) -> float:
    """The degrees of freedom of a difference of two means (Welch 1947)."""
    errors = [float(side.var(ddof=1)) / len(side) for side in (first, second)]
    parts = sum(error**2 / (len(side) - 1) for error, side in zip(errors, (first, second), strict=True))
    return sum(errors) ** 2 / parts if parts else math.inf


def _known(numbers: Sequence[Sequence[float]], rungs: Sequence[str]) -> tuple[list[Numbers], Sequence[str], Places]:
    """The numbers of the models that have all of them, the names of their rungs, and which of these each is of."""
    columns = [np.asarray(values, float) for values in numbers]
    keep = np.logical_and.reduce([np.isfinite(values) for values in columns])
    names, index = np.unique(np.asarray(rungs)[keep], return_inverse=True)
    return [values[keep] for values in columns], names.tolist(), index


def spearman(x: Numbers, y: Numbers, times: Numbers) -> Numbers:
    """Spearman's correlation over models of which each occurs so many times, ties at their mean rank; NaN where nothing
    varies, or a model without a number occurs.

    Args:
        x: (model).
        y: (model).
        times: how often each model occurs, a row for each correlation: (draw, model).

    Returns:
        The correlations: (draw).
    """
    first, second = (_centred_ranks(values, times) for values in (x, y))
    with np.errstate(invalid="ignore"):
        products = (times * first * second).sum(1)
        rho: Numbers = products / np.sqrt((times * first**2).sum(1) * (times * second**2).sum(1))
    rho[(times[:, np.isnan(x) | np.isnan(y)] > 0).any(1)] = np.nan
    return rho


def _partial(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    """Spearman's correlation of x and y with z held; NaN where z says all of x or y."""
    xy, xz, yz = (spearman(first, second, _once(x)) for first, second in ((x, y), (x, z), (y, z)))
    left = (1 - xz**2) * (1 - yz**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(left > ROUNDING, (xy - xz * yz) / np.sqrt(left), np.nan)


def _once(values: Numbers) -> Numbers:
    """Each model occurs once."""
    return np.ones((1, len(values)))


def _mean(x: Numbers, times: Numbers) -> Numbers:
    """The mean over models of which each occurs so many times; NaN where there are none."""
    with np.errstate(invalid="ignore"):
        mean: Numbers = (times @ x) / times.sum(1)
    return mean


def _difference(x: Numbers, group: Numbers, times: Numbers) -> Numbers:
    """The mean over the models whose group is 1, less that over the others."""
    return _mean(x, times * group) - _mean(x, times * (1 - group))


def _centred_ranks(values: Numbers, times: Numbers) -> Numbers:
    _, level, size = np.unique(values, return_inverse=True, return_counts=True)
    count = np.add.reduceat(times[:, level.argsort()], size.cumsum() - size, axis=1)  # (draw, different value)
    ranks = (count.cumsum(1) - count / 2)[:, level]
    mean = (times * ranks).sum(1, keepdims=True) / np.maximum(1, times.sum(1, keepdims=True))
    centred: Numbers = ranks - mean
    return centred
