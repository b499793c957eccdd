"""Order-restricted tests: is the curve more than monotone, and more than flat, whatever its formula?

A valley is a curve that falls up to some point and rises from there; nothing else is assumed of it. Among all such
curves the best one is found exactly by isotonic fits of every beginning and every end of the curve, and compared with
the best curve that only falls and the best one that only rises. The comparison uses the order of the models alone, so
any monotone rescaling of strength (parameters, their logarithm, rank) gives the same p.

"Monotone" is the union of falling and rising, so a valley must beat both: its p is the larger of two. Each p comes from
simulated scores around a *constant* curve, the monotone curve for which the gain of a valley is largest (least
favourable), with the same variances as the data; when the variance is itself an estimate, each simulated curve draws
its own estimate too (an F-like distribution), so that few replicates do not turn into false valleys.

Limits: a least favourable null is conservative for steep monotone curves, and a valley whose shallow wall is one model
wide is one model's word.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression
from scipy.stats import t

Basis = Literal["known", "replicates", "residuals", "within"]

ROUNDING = 1e-9  # statistics of the order of 1 that differ by less are equal: they come from sums in another order


class PrefixFits(NamedTuple):
    """Isotonic fits of the first k points of each curve, k = 0..n."""

    error: Float[np.ndarray, "draw splits"]  # weighted sum of squared residuals
    first: Float[np.ndarray, "draw splits"]  # fitted value of point 1; 0 at k = 0
    last: Float[np.ndarray, "draw splits"]  # fitted value of point k; 0 at k = 0


def prefix_fits(score: Float[np.ndarray, "draw point"], weight: Float[np.ndarray, " point"]) -> PrefixFits:
    """Fit non-decreasing curves to all prefixes of many curves at once.

    The last block of the fit to points 1..k starts at s = argmax_s mean_w(y_s..y_k) and has that mean as its level;
    what precedes it is the fit to points 1..s-1, already known. So error_k = error_(s-1) + sum_(i=s..k) w_i (y_i -
    level)^2: n^2/2 vector operations.

    Source: the max-min formula of isotonic regression (Robertson, Wright & Dykstra 1988, theorem 1.4.4).
    """
    draws, n = score.shape
    centred = (
        score - score.mean(axis=1, keepdims=True)
    ).T  # (point, draw): sums of squares lose no digits to a large mean
    sum_w = np.concatenate([[0.0], np.cumsum(weight)])  # (splits)
    sum_wy, sum_wyy, error, first, last = np.zeros((5, n + 1, draws))
    np.cumsum(weight[:, None] * centred, axis=0, out=sum_wy[1:])
    np.cumsum(weight[:, None] * centred**2, axis=0, out=sum_wyy[1:])
    every = np.arange(draws)
    for k in range(1, n + 1):
        means = (sum_wy[k] - sum_wy[:k]) / (sum_w[k] - sum_w[:k])[:, None]  # (start, draw)
        start = means.argmax(axis=0)
        last[k] = means[start, every]
        block = sum_wyy[k] - sum_wyy[start, every] - last[k] ** 2 * (sum_w[k] - sum_w[start])
        error[k] = error[start, every] + np.maximum(block, 0.0)
        first[k] = np.where(start == 0, last[k], first[start, every])
    shift = score.mean(axis=1)
    first[1:] += shift
    last[1:] += shift
    return PrefixFits(error.T, first.T, last.T)


class ValleyFits(NamedTuple):
    """The best valley of each curve: it falls over the first `split` points and rises over the others."""

    error: Float[np.ndarray, " draw"]
    falling: Float[np.ndarray, " draw"]  # error of the best curve that only falls
    rising: Float[np.ndarray, " draw"]  # error of the best curve that only rises
    split: np.ndarray  # (draw), 0..n
    depth: Float[np.ndarray, " draw"]  # lower wall less bottom; 0 for a monotone curve


def valley_fits(score: Float[np.ndarray, "draw point"], variance: Float[np.ndarray, " point"]) -> ValleyFits:
    """Fit the best valley, the best falling and the best rising curve to many curves at once.

    error = min_k [ error_falling(1..k) + error_rising(k+1..n) ], weights 1 / variance; depth = min(left end, right end)
    - bottom.

    A hump of y is a valley of -y.
    """
    weight = 1.0 / variance
    left = prefix_fits(-score, weight)  # falling prefixes; levels with their signs changed
    right = prefix_fits(-score[:, ::-1], weight[::-1])  # rising suffixes, read from the right
    errors = left.error + right.error[:, ::-1]  # (draw, splits)
    split = errors.argmin(axis=1)
    every, n = np.arange(len(score)), score.shape[1]
    wall = np.minimum(-left.first[every, split], -right.first[every, n - split])
    bottom = np.minimum(-left.last[every, split], -right.last[every, n - split])
    depth = np.where((split == 0) | (split == n), 0.0, np.maximum(wall - bottom, 0.0))
    return ValleyFits(errors[every, split], left.error[:, n], right.error[:, n], split, depth)


def ordered_curve(
    shape: str, score: Float[np.ndarray, " point"], variance: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " point"]:
    """Levels of the best curve of one shape: `valley`, `hump`, `increasing`, `decreasing` or `flat`."""
    weight = 1.0 / variance
    if shape == "flat":
        return np.full_like(score, np.average(score, weights=weight))
    if shape == "hump":
        return -ordered_curve("valley", -score, variance)
    n = len(score)
    split = {"increasing": 0, "decreasing": n}.get(shape)
    if split is None:
        split = int(valley_fits(score[None], variance).split[0])
    parts = [(slice(0, split), False), (slice(split, n), True)]
    levels = [
        isotonic_regression(score[part], weights=weight[part], increasing=rising).x
        for part, rising in parts
        if part.start < part.stop
    ]
    return np.concatenate(levels)


class Gains(NamedTuple):
    """How much better (in weighted squared error) each larger class of curves fits than the smaller one, per curve."""

    valley_over_falling: Float[np.ndarray, " draw"]
    valley_over_rising: Float[np.ndarray, " draw"]
    falling_over_flat: Float[np.ndarray, " draw"]
    rising_over_flat: Float[np.ndarray, " draw"]


def gains(score: Float[np.ndarray, "draw point"], variance: Float[np.ndarray, " point"]) -> Gains:
    """The likelihood-ratio statistics T = error(smaller class) - error(larger class), weights 1 / variance.

    Source: Robertson, Wright & Dykstra 1988, chapter 2 (monotone against flat); for the valley, the same with its peak
    unknown.
    """
    fits = valley_fits(score, variance)
    weight = 1.0 / variance
    mean = score @ weight / weight.sum()
    flat = ((score - mean[:, None]) ** 2) @ weight
    pairs = (
        (fits.falling, fits.error),
        (fits.rising, fits.error),
        (flat, fits.falling),
        (flat, fits.rising),
    )
    return Gains(*(np.maximum(small - large, 0.0) for small, large in pairs))


def local_contrasts(relative: Float[np.ndarray, " point"]) -> Float[np.ndarray, "inner point"]:
    """Each inner point against the mean of its two neighbours, scaled to unit variance where var(y_i) = relative_i."""
    n = len(relative)
    contrasts = np.zeros((n - 2, n))
    for i in range(n - 2):
        contrasts[i, i : i + 3] = (-0.5, 1.0, -0.5)
    return np.asarray(contrasts / np.sqrt(contrasts**2 @ relative)[:, None])


def local_variance(
    score: Float[np.ndarray, "draw point"], relative: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " draw"]:
    """Scatter around a smooth curve, from how far each point lies off the line between its neighbours.

    s^2 = mean_i e_i^2, e_i = (y_i - (y_(i-1) + y_(i+1)) / 2) / sqrt(r_i + (r_(i-1) + r_(i+1)) / 4), neighbours in order
    of strength. A straight line (in rank) adds nothing to it and a bend only makes it larger, so it errs towards
    `cannot tell`.

    Source: Gasser, Sroka & Jennen-Steinmetz 1986, Biometrika 73 (pseudo-residuals).
    """
    return np.asarray(((score @ local_contrasts(relative).T) ** 2).mean(axis=1))


def local_df(relative: Float[np.ndarray, " point"], tie_df: int) -> float:
    """Degrees of freedom of `local_variance` pooled with `tie_df` from models of equal strength.

    The pseudo-residuals overlap, so they count for less than n - 2: df = m^2 / (tr (A V)^2 + tie_df), m = n - 2 +
    tie_df.

    Source: Satterthwaite 1946, Biometrics Bulletin 2.
    """
    contrasts = local_contrasts(relative)
    shared = contrasts * relative @ contrasts.T  # (inner, inner)
    m = len(contrasts) + tie_df
    return float(m**2 / ((shared**2).sum() + tie_df))


@dataclass(frozen=True)
class Null:
    """What it takes to simulate the statistics of a constant curve: hashable, so equal patterns are simulated once."""

    relative: tuple[float, ...]  # variances of the points, divided by their mean
    basis: Basis
    df: float  # replicates: pooled; residuals: of the spread between models of equal strength; else infinite
    draws: int
    seed: int

    def variance_draws(
        self, score: Float[np.ndarray, "draw point"], rng: np.random.Generator
    ) -> Float[np.ndarray, " draw"]:
        """What each simulated curve would take for its variance, relative to the true one."""
        draws = len(score)
        if self.basis == "replicates":
            return np.asarray(rng.chisquare(self.df, draws) / self.df)
        if self.basis == "residuals":
            inner = score.shape[1] - 2
            ties = rng.chisquare(self.df, draws) if self.df > 0 else np.zeros(draws)
            return np.asarray((inner * local_variance(score, np.array(self.relative)) + ties) / (inner + self.df))
        return np.ones(draws)


def null_of(
    variance: Float[np.ndarray, " point"],
    *,
    basis: Basis = "known",
    df: float = np.inf,
    draws: int = 4000,
    seed: int = 0,
) -> Null:
    """The null hypothesis for points of these variances; rounding makes equal patterns equal."""
    relative = tuple(float(f"{share:.6g}") for share in variance / variance.mean())
    return Null(relative, basis, float(df), draws, seed)


@lru_cache(maxsize=256)
def simulate(null: Null) -> Gains:
    """Sorted statistics of constant curves, T / s^2 with s^2 drawn as it was estimated."""
    rng = np.random.default_rng(null.seed)
    relative = np.array(null.relative)
    score = rng.standard_normal((null.draws, len(relative))) * np.sqrt(relative)
    scale = null.variance_draws(score, rng)
    return Gains(*(np.sort(statistic / scale) for statistic in gains(score, relative)))


def tail(simulated: Float[np.ndarray, " sim"], observed: Float[np.ndarray, " draw"]) -> Float[np.ndarray, " draw"]:
    """Monte Carlo p: (1 + how many simulated values reach the observed one) / (1 + how many there are)."""
    below = np.searchsorted(simulated, observed - ROUNDING * (1.0 + observed))
    return np.asarray((1 + len(simulated) - below) / (1 + len(simulated)))


def order_p(
    score: Float[np.ndarray, "draw point"], variance: Float[np.ndarray, " point"], null: Null
) -> dict[str, Float[np.ndarray, " draw"]]:
    """p of `valley`, `hump`, `increasing` and `decreasing` for curves whose points, in order of strength, have these
    variances.

    p_valley = max(p against falling, p against rising); a hump is a valley of the curve upside down, and the null,
    being symmetric, serves both.
    """
    simulated = simulate(null)
    upright, upturned = gains(score, variance), gains(-score, variance)

    def valley(of: Gains) -> Float[np.ndarray, " draw"]:
        against_falling = tail(simulated.valley_over_falling, of.valley_over_falling)
        against_rising = tail(simulated.valley_over_rising, of.valley_over_rising)
        return np.asarray(np.maximum(against_falling, against_rising))

    return {
        "valley": valley(upright),
        "hump": valley(upturned),
        "increasing": tail(simulated.rising_over_flat, upright.rising_over_flat),
        "decreasing": tail(simulated.falling_over_flat, upright.falling_over_flat),
    }


def order_restricted_p(
    score: Float[np.ndarray, "draw point"], variance: Float[np.ndarray, " point"], *, draws: int = 4000, seed: int = 0
) -> dict[str, Float[np.ndarray, " draw"]]:
    """`order_p` where the variances are known: what the published false-positive and power tables assume."""
    return order_p(score, variance, null_of(variance, draws=draws, seed=seed))


def holm(p: dict[str, float], pair: tuple[str, str]) -> dict[str, float]:
    """Adjust two p values for there being two: the smaller is doubled, the larger is at least that.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    low, high = sorted(pair, key=lambda shape: p[shape])
    adjusted = min(1.0, 2.0 * p[low])
    return {low: adjusted, high: max(adjusted, p[high])}


def flat_p(
    score: Float[np.ndarray, " point"], variance: Float[np.ndarray, " point"], df: float, effect: float
) -> float:
    """Equivalence: the p of "somewhere on the curve two models differ by `effect` or more".

    p = max over pairs i, j of P(t_df < (|y_i - y_j| - effect) / sqrt(v_i + v_j)). The hypothesis is a union over pairs,
    so each pair may be tested at the full level (two one-sided tests, intersection-union): no assumption on the curve,
    and no correction for many pairs. Rejecting at .05 is the same as every pairwise 90 % interval lying inside
    (-effect, effect).

    Source: Berger & Hsu 1996, Statistical Science 11.
    """
    gap = np.abs(score[:, None] - score[None, :])
    upper, lower = np.triu_indices(len(score), k=1)
    error = np.sqrt(variance[upper] + variance[lower])
    return float(t.cdf((gap[upper, lower] - effect) / error, df).max())
