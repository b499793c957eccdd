"""Order-restricted tests: is the curve more than monotone, and more than flat, whatever its formula?

A valley is a curve that falls up to some point and rises from there; nothing else is assumed of it. Among all such
curves the best one is found exactly by isotonic fits of every beginning and every end of the curve, and compared with
the best curve that only falls and the best one that only rises. The comparison uses the order of the models alone, so
any monotone rescaling of strength (parameters, their logarithm, rank) gives the same p.

"Monotone" is the union of falling and rising, so a valley must beat both: its p is the larger of two. Each p comes from
simulated scores around a *constant* curve, the monotone curve for which the gain of a valley is largest (least
favourable), with the same variances as the data; when the variance is itself an estimate, each simulated curve draws
its own estimate too (an F-like distribution), so that few replicates do not turn into false valleys.

Limits: a least favourable null is conservative for steep monotone curves (`calibration` mends it where the scatter is
read from the curve), and a valley whose shallow wall is one model wide is one model's word.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr

Basis = Literal["known", "replicates", "residuals", "within"]

AT_ONCE = 50_000  # values that are fitted at once: more would not stay in a processor's cache
ROUNDING = 1e-9  # statistics of the order of 1 that differ by less are equal: they come from sums in another order


class PrefixFits(NamedTuple):
    """Isotonic fits of the first k points of each curve, k = 0..n."""

    error: Float[np.ndarray, "draw splits"]  # weighted sum of squared residuals
    first: Float[np.ndarray, "draw splits"]  # fitted value of point 1; 0 at k = 0
    last: Float[np.ndarray, "draw splits"]  # fitted value of point k; 0 at k = 0


def prefix_fits(score: Float[np.ndarray, "draw point"], weight: Float[np.ndarray, "*#draw point"]) -> PrefixFits:
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
    heavy = np.atleast_2d(weight).T  # (point, draw), or one column for all
    sum_w = np.concatenate([np.zeros((1, heavy.shape[1])), np.cumsum(heavy, axis=0)])
    sum_wy, sum_wyy, error, first, last = np.zeros((5, n + 1, draws))
    np.cumsum(heavy * centred, axis=0, out=sum_wy[1:])
    np.cumsum(heavy * centred**2, axis=0, out=sum_wyy[1:])
    every = np.arange(draws)
    for k in range(1, n + 1):
        start, last[k] = _last_block(sum_wy, sum_w, k)
        at = start * draws + every  # in a table that is read as one row: several times faster than by row and column
        start_w = sum_w.take(start if sum_w.shape[1] == 1 else at)
        block = sum_wyy[k] - sum_wyy.take(at) - last[k] ** 2 * (sum_w[k] - start_w)
        error[k] = error.take(at) + np.maximum(block, 0.0)
        first[k] = np.where(start == 0, last[k], first.take(at))
    shift = score.mean(axis=1)
    first[1:] += shift
    last[1:] += shift
    return PrefixFits(error.T, first.T, last.T)


def _last_block(
    sum_wy: Float[np.ndarray, "splits draw"], sum_w: Float[np.ndarray, "splits *#draw"], k: int
) -> tuple[np.ndarray, Float[np.ndarray, " draw"]]:
    """Where the last block of the fit to points 1..k starts in each curve, and its level. Of starts that are equally
    good it is the first. (NumPy's argmax over rows takes several times as long.)
    """
    mean = sum_wy[k] - sum_wy[:k]
    mean /= sum_w[k] - sum_w[:k]
    level = mean.max(axis=0)
    places = np.arange(k, 0, -1, dtype=np.min_scalar_type(k))[:, None]  # small numbers: more of them at once
    first = ((mean == level).view(np.uint8) * places).max(axis=0)
    return k - first.astype(np.intp), level


class ValleyFits(NamedTuple):
    """The best valley of each curve: it falls over the first `split` points and rises over the others."""

    error: Float[np.ndarray, " draw"]
    falling: Float[np.ndarray, " draw"]  # error of the best curve that only falls
    rising: Float[np.ndarray, " draw"]  # error of the best curve that only rises
    split: np.ndarray  # (draw), 0..n
    depth: Float[np.ndarray, " draw"]  # lower wall less bottom; 0 for a monotone curve


def valley_fits(score: Float[np.ndarray, "draw point"], variance: Float[np.ndarray, "*#draw point"]) -> ValleyFits:
    """Fit the best valley, the best falling and the best rising curve to many curves at once.

    error = min_k [ error_falling(1..k) + error_rising(k+1..n) ], weights 1 / variance; depth = min(left end, right end)
    - bottom.

    A hump of y is a valley of -y.
    """
    together = max(1, AT_ONCE // score.shape[1])
    if len(score) > together:
        own = variance.ndim == 2 and len(variance) > 1  # each curve has its own
        parts = [slice(at, at + together) for at in range(0, len(score), together)]
        fits = [valley_fits(score[part], variance[part] if own else variance) for part in parts]
        return ValleyFits(*map(np.concatenate, zip(*fits, strict=True)))
    weight = 1.0 / variance
    left = prefix_fits(-score, weight)  # falling prefixes; levels with their signs changed
    right = prefix_fits(-score[:, ::-1], weight[..., ::-1])  # rising suffixes, read from the right
    errors = left.error + right.error[:, ::-1]  # (draw, splits)
    split = errors.argmin(axis=1)
    every, n = np.arange(len(score)), score.shape[1]
    wall = np.minimum(-left.first[every, split], -right.first[every, n - split])
    bottom = np.minimum(-left.last[every, split], -right.last[every, n - split])
    depth = np.where((split == 0) | (split == n), 0.0, np.maximum(wall - bottom, 0.0))
    return ValleyFits(errors[every, split], left.error[:, n], right.error[:, n], split, depth)


def ordered_curve(
    shape: str,
    score: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    *,
    split: int | None = None,
) -> Float[np.ndarray, " point"]:
    """Levels of the best curve of one shape: `valley`, `hump`, `increasing`, `decreasing` or `flat`; of a valley, the
    split may be given if it is known.
    """
    from scipy.optimize import isotonic_regression  # slow to import, and only needed here

    weight = 1.0 / variance
    if shape == "flat":
        return np.full_like(score, np.average(score, weights=weight))
    if shape == "hump":
        return -ordered_curve("valley", -score, variance)
    n = len(score)
    split = {"increasing": 0, "decreasing": n}.get(shape, split)
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


def gains(score: Float[np.ndarray, "draw point"], variance: Float[np.ndarray, "*#draw point"]) -> Gains:
    """The likelihood-ratio statistics T = error(smaller class) - error(larger class), weights 1 / variance.

    Source: Robertson, Wright & Dykstra 1988, chapter 2 (monotone against flat); for the valley, the same with its peak
    unknown.
    """
    fits = valley_fits(score, variance)
    weight = 1.0 / variance
    if variance.ndim == 1:
        mean = score @ weight / weight.sum()
        flat = ((score - mean[:, None]) ** 2) @ weight
    else:
        mean = (score * weight).sum(axis=1) / weight.sum(axis=1)
        flat = ((score - mean[:, None]) ** 2 * weight).sum(axis=1)
    pairs = (
        (fits.falling, fits.error),
        (fits.rising, fits.error),
        (flat, fits.falling),
        (flat, fits.rising),
    )
    return Gains(*(np.maximum(small - large, 0.0) for small, large in pairs))


def off_line(
    score: Float[np.ndarray, "*draw point"], relative: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "*draw inner"]:
    """Each inner point less the mean of its two neighbours, scaled to unit variance where var(y_i) = relative_i."""
    middle = score[..., 1:-1] - 0.5 * (score[..., :-2] + score[..., 2:])
    return np.asarray(middle / np.sqrt(_inner_variance(relative)))


def _inner_variance(relative: Float[np.ndarray, " point"]) -> Float[np.ndarray, " inner"]:
    return np.asarray(relative[1:-1] + 0.25 * (relative[:-2] + relative[2:]))


def local_variance(
    score: Float[np.ndarray, "draw point"], relative: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " draw"]:
    """Scatter around a smooth curve, from how far each point lies off the line between its neighbours.

    s^2 = mean_i e_i^2, e_i = (y_i - (y_(i-1) + y_(i+1)) / 2) / sqrt(r_i + (r_(i-1) + r_(i+1)) / 4), neighbours in order
    of strength. A straight line (in rank) adds nothing to it and a bend only makes it larger, so it errs towards
    `cannot tell`.

    Source: Gasser, Sroka & Jennen-Steinmetz 1986, Biometrika 73 (pseudo-residuals).
    """
    return np.asarray((off_line(score, relative) ** 2).mean(axis=1))


def local_df(relative: Float[np.ndarray, " point"], tie_df: int) -> float:
    """Degrees of freedom of `local_variance` pooled with `tie_df` from models of equal strength.

    The pseudo-residuals overlap, so they count for less than n - 2: df = m^2 / (tr (A V)^2 + tie_df), m = n - 2 +
    tie_df.

    Source: Satterthwaite 1946, Biometrics Bulletin 2.
    """
    inner = _inner_variance(relative)
    m = len(inner) + tie_df
    next_ = (
        -0.5 * (relative[1:-2] + relative[2:-1]) / np.sqrt(inner[:-1] * inner[1:])
    )  # two neighbours share two points,
    after = 0.25 * relative[2:-2] / np.sqrt(inner[:-2] * inner[2:])  # those two ranks apart share one
    shared = len(inner) + 2 * (next_**2).sum() + 2 * (after**2).sum()  # tr (A V)^2, which is 1 on its diagonal
    return float(m**2 / (shared + tie_df))


@dataclass(frozen=True)
class Null:
    """What it takes to simulate the statistics of a constant curve: hashable, so equal patterns are simulated once."""

    relative: tuple[float, ...]  # variances of the points, divided by their mean
    basis: Basis
    df: float  # replicates: pooled; residuals: of the spread between models of equal strength; else infinite
    draws: int
    seed: int
    uncertain: tuple[
        tuple[float, float], ...
    ] = ()  # (point): share of its variance, and df, that its noise is drawn by

    def noise(self, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw point"]:
        """Simulated distances of the points from a curve: normal, or t where each point has a variance of its own."""
        noise = rng.standard_normal((draws, len(self.relative))) * np.sqrt(self.relative)
        if self.uncertain:
            share, df = np.array(self.uncertain).T
            noise *= np.sqrt(share * df / rng.chisquare(df, noise.shape))
        return noise

    def variance_draws(
        self, score: Float[np.ndarray, "draw point"], rng: np.random.Generator
    ) -> Float[np.ndarray, " draw"]:
        """What each simulated curve would take for its variance, relative to the true one."""
        draws = len(score)
        if self.basis == "replicates" and not self.uncertain:
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
    uncertain: Float[np.ndarray, "point 2"] | None = None,
) -> Null:
    """The null hypothesis for points of these variances; rounding makes equal patterns equal."""
    relative = tuple(float(f"{share:.6g}") for share in variance / variance.mean())
    rows = () if uncertain is None else tuple((float(f"{share:.6g}"), float(f"{df:.6g}")) for share, df in uncertain)
    return Null(relative, basis, float(df), draws, seed, rows)


@lru_cache(maxsize=256)
def simulate(null: Null) -> Gains:
    """Sorted statistics of constant curves, T / s^2 with s^2 drawn as it was estimated."""
    rng = np.random.default_rng(null.seed)
    score = null.noise(null.draws, rng)
    scale = null.variance_draws(score, rng)
    return Gains(*(np.sort(statistic / scale) for statistic in gains(score, np.array(null.relative))))


def tail(simulated: Float[np.ndarray, " sim"], observed: Float[np.ndarray, " draw"]) -> Float[np.ndarray, " draw"]:
    """Monte Carlo p: (1 + how many simulated values reach the observed one) / (1 + how many there are)."""
    below = np.searchsorted(simulated, observed - ROUNDING * (1.0 + observed))
    return np.asarray((1 + len(simulated) - below) / (1 + len(simulated)))


def order_p(
    score: Float[np.ndarray, "draw point"], variance: Float[np.ndarray, "*#draw point"], null: Null
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


def flat_p(
    score: Float[np.ndarray, " point"], variance: Float[np.ndarray, " point"], df: float, effect: float
) -> float:
    """Equivalence: the p of "somewhere on the curve two models differ by `effect` or more".

    p = max over pairs i, j of P(t_df < (|y_i - y_j| - effect) / sqrt(v_i + v_j)). The hypothesis is a union over pairs,
    so each pair may be tested at the full level (two one-sided tests, intersection-union): no assumption on the curve,
    and no correction for many pairs. Rejecting at .05 is the same as every pairwise 90 % interval lying inside
    (-effect, effect). P grows with the statistic.

    Source: Berger & Hsu 1996, Statistical Science 11.
    """
    gap = np.abs(score[:, None] - score)
    statistic = (gap - effect) / np.sqrt(variance[:, None] + variance)
    np.fill_diagonal(statistic, -np.inf)  # a point makes no pair with itself
    return float(stdtr(df, statistic.max()))
