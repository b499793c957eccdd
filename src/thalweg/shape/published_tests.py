"""Tests that the literature knows, reported beside the verdict and never deciding it, each with its known fault.

The contrast of thirds is sound but coarse. The quadratic test (Lind & Mehlum 2010) takes any bend for a valley: on a
fast exponential decay, which only falls, it finds one in up to three of four cases. The two-lines test (Simonsohn 2018)
needs some twenty points; with two points in a segment its standard errors vanish and so does its meaning.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit

Shape = Literal["valley", "hump"]


@dataclass(frozen=True)
class Effect:
    """An estimate and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Thirds:
    """The middle third of the models against the outer ones."""

    low_mean: float
    middle_mean: float
    high_mean: float
    depth: Effect  # lower outer mean less the middle one; > 0 is a valley
    height: Effect  # middle mean less the higher outer one; > 0 is a hump
    p_valley: float
    p_hump: float
    caution: str = "assumes no formula, but sees only a valley whose bottom lies in the middle third"


@dataclass(frozen=True)
class Quadratic:
    """Slopes of a parabola at both ends of the strengths."""

    p_valley: float
    p_hump: float
    extremum: float  # strength where the parabola turns; NaN if it does not
    extremum_low: float  # Fieller interval; NaN where it is unbounded
    extremum_high: float
    located: bool  # whether the interval is bounded and inside the strengths
    caution: str = (
        "false positives of .28 to .76 on an exponential decay: any bend in a falling curve looks like a valley to it"
    )


@dataclass(frozen=True)
class TwoLines:
    """Two straight lines with a break, sloping opposite ways."""

    applicable: bool
    valley: bool
    hump: bool
    p_low: float  # of the slope below the break, two-sided
    p_high: float  # of the slope above it
    slope_low: float
    slope_high: float
    break_at: float
    points_low: int
    points_high: int
    caution: str = (
        "usable from some 20 models on; not applicable with fewer than 4 in a segment, where it is weak and invalid"
    )


@dataclass(frozen=True)
class Companions:
    """The tests that other papers report."""

    quadratic: Quadratic
    two_lines: TwoLines


def thirds(
    score: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    *,
    df: float = np.inf,
    alpha: float = 0.05,
) -> Thirds:
    """Contrast the middle third with the lower and the upper third of the points, in order of strength.

    p_valley = max over outer thirds O of P(t_df < -(m_O - m_M) / se), weighted means m, se^2 = 1 / W_O + 1 / W_M: both
    must lie above, so the larger p holds the level under any monotone curve. The interval is [min of the lower ends,
    min of the upper ends] of both differences at 1 - alpha. Outer thirds have round(n / 3) points, the middle one the
    rest.

    Source: intersection-union test, Berger 1982, Technometrics 24.
    """
    n, outer = len(score), round(len(score) / 3)
    weight = 1.0 / variance
    parts = (slice(0, outer), slice(outer, n - outer), slice(n - outer, n))
    low, middle, high = (float(np.average(score[part], weights=weight[part])) for part in parts)
    total = [float(weight[part].sum()) for part in parts]
    error = np.sqrt(1 / np.array([total[0], total[2]]) + 1 / total[1])
    gap = np.array([low, high]) - middle
    reach = float(stdtrit(df, 1 - alpha / 2)) * error

    def effect(gap: Float[np.ndarray, " side"]) -> Effect:
        return Effect(float(gap.min()), float((gap - reach).min()), float((gap + reach).min()))

    return Thirds(
        low_mean=low,
        middle_mean=middle,
        high_mean=high,
        depth=effect(gap),
        height=effect(-gap),
        p_valley=float(stdtr(df, -gap / error).max()),
        p_hump=float(stdtr(df, gap / error).max()),
    )


def quadratic(
    strength: Float[np.ndarray, " point"],
    score: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    *,
    known: bool = False,
    alpha: float = 0.05,
) -> Quadratic:
    """Test whether a fitted parabola falls at the weakest model and rises at the strongest.

    y = b0 + b1 x + b2 x^2, weights 1 / variance; t(x) = (b1 + 2 b2 x) / sqrt(s11 + 4 x s12 + 4 x^2 s22); p_valley =
    max(P(T < t(x_min)), P(T > t(x_max))). `known` takes the variances as they are (normal), otherwise only their ratios
    (t with n - 3 degrees of freedom, residual variance). The turn is x* = -b1 / (2 b2), with Fieller's interval: -r / 2
    for the roots r of r^2 (b2^2 - t^2 s22) - 2 r (b1 b2 - t^2 s12) + (b1^2 - t^2 s11) = 0, unbounded where b2^2 < t^2
    s22. All NaN where the strengths cannot tell a parabola from a line.

    Source: Lind & Mehlum 2010, Oxford Bulletin of Economics and Statistics 72; Fieller 1954.
    """
    low, width = float(strength[0]), float(np.ptp(strength))
    parabola = _parabola((strength - low) / width, score, variance, known=known)
    if parabola is None:
        nan = float("nan")
        return Quadratic(nan, nan, nan, nan, nan, False)
    b, covariance, df = parabola
    slope = [float(b[1] + 2 * b[2] * end) for end in (0.0, 1.0)]
    error = [
        float(np.sqrt(max(covariance[1, 1] + 4 * end * covariance[1, 2] + 4 * end**2 * covariance[2, 2], 1e-300)))
        for end in (0.0, 1.0)
    ]
    falls, rises = (float(stdtr(df, slope[0] / error[0])), float(stdtr(df, -slope[1] / error[1])))
    turn, ends = float("nan"), (float("nan"), float("nan"))
    if b[2] != 0:
        turn = low + width * float(-b[1] / (2 * b[2]))
        ends = fieller(b, covariance, float(stdtrit(df, 1 - alpha / 2)))
    first, last = low + width * ends[0], low + width * ends[1]
    located = bool(first > strength[0] and last < strength[-1])
    return Quadratic(max(falls, rises), max(1 - falls, 1 - rises), turn, first, last, located)


def _parabola(
    x: Float[np.ndarray, " point"],
    score: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    *,
    known: bool,
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 3"], float] | None:
    """Coefficients, their covariance and its degrees of freedom; None where x cannot tell a parabola from a line."""
    design = np.stack([np.ones_like(x), x, x**2], axis=1)  # (point, 3)
    root = 1.0 / np.sqrt(variance)
    try:
        inverse = np.linalg.inv((design * root[:, None]).T @ (design * root[:, None]))
    except np.linalg.LinAlgError:  # all but two of the strengths are equal to the precision of floats
        return None
    b = inverse @ (design * (root**2)[:, None]).T @ score
    df = np.inf if known else float(len(x) - 3)
    residual = float((((score - design @ b) * root) ** 2).sum())
    return b, inverse * (1.0 if known else max(residual / df, 1e-300)), df


def fieller(b: Float[np.ndarray, " 3"], covariance: Float[np.ndarray, "3 3"], t: float) -> tuple[float, float]:
    """Interval of -b1 / (2 b2); NaN where it is unbounded."""
    square = b[2] ** 2 - t**2 * covariance[2, 2]
    middle = b[1] * b[2] - t**2 * covariance[1, 2]
    constant = b[1] ** 2 - t**2 * covariance[1, 1]
    inside = middle**2 - square * constant
    if square <= 0 or inside < 0:
        return float("nan"), float("nan")
    roots = [float(-(middle + sign * np.sqrt(inside)) / square / 2) for sign in (1.0, -1.0)]
    return min(roots), max(roots)


def smooth(
    x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"], knots: int = 10
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Penalised natural cubic regression spline and its standard error, the penalty chosen by generalised
    cross-validation.

    f = X b with b the values at quantile knots; minimise |y - X b|^2 + lambda b' S b, S = D' B^-1 D (integrated squared
    second derivative).

    Source: Wood 2017, Generalized Additive Models, section 5.3.1 (basis) and 6.2 (criterion).
    """
    from scipy.interpolate import CubicSpline  # slow to import, and only needed here

    at = np.quantile(np.unique(x), np.linspace(0, 1, min(knots, len(np.unique(x)))))
    gap = np.diff(at)
    k = len(at)
    second, band = np.zeros((k - 2, k)), np.zeros((k - 2, k - 2))
    for i in range(k - 2):
        second[i, i : i + 3] = 1 / gap[i], -1 / gap[i] - 1 / gap[i + 1], 1 / gap[i + 1]
        band[i, i] = (gap[i] + gap[i + 1]) / 3
        if i + 1 < k - 2:
            band[i, i + 1] = band[i + 1, i] = gap[i + 1] / 6
    penalty = second.T @ np.linalg.solve(band, second)
    basis = np.asarray(CubicSpline(at, np.eye(k), bc_type="natural")(x))  # (point, knot)
    scale = float(np.trace(basis.T @ basis) / np.trace(penalty))
    n, best = len(x), (np.inf, y, y)
    for strength in scale * np.geomspace(1e-6, 1e6, 25):
        posterior = np.linalg.inv(basis.T @ basis + strength * penalty)
        half = basis @ posterior  # the hat matrix is half @ basis.T; of it, its diagonal is needed alone
        diagonal = (half * basis).sum(axis=1)
        left = n - float(diagonal.sum())
        if left < 1e-6 * n:  # an interpolating curve has no residual to be judged by
            continue
        fit = half @ (basis.T @ y)
        error = float(((y - fit) ** 2).sum())
        if n * error / left**2 < best[0]:
            best = (n * error / left**2, fit, np.sqrt(error / left * diagonal))
    return best[1], best[2]


def interrupted(
    x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"], at: float, *, break_is_low: bool
) -> list[tuple[float, float]]:
    """Slope and two-sided p of the lines below and above a break, with standard errors that allow unequal variances.

    y = a + b (x - c)[low] + g (x - c)[high] + d [high]; HC3 errors, or HC1 where a point alone fixes its fit (leverage
    1) and HC3 is undefined; t with n - 4 degrees of freedom.

    Source: Simonsohn 2018; MacKinnon & White 1985 (HC3).
    """
    low = x <= at if break_is_low else x < at
    design = np.stack([np.ones_like(x), np.where(low, x - at, 0.0), np.where(low, 0.0, x - at), 1.0 - low], axis=1)
    inverse = np.linalg.pinv(design, rcond=1e-15)  # (coefficient, point)
    coefficients = inverse @ y
    residual = y - design @ coefficients
    leverage = np.einsum("ij,ji->i", design, inverse)
    free = len(x) - int(np.linalg.matrix_rank(design))
    with np.errstate(all="ignore"):  # a segment of one point has no slope: its p is NaN or 1, and no valley follows
        hc1, hc3 = residual**2 * len(x) / free, (residual / (1 - leverage)) ** 2
        variance = hc1 if leverage.max() > 1 - 1e-9 else hc3
        ratio = coefficients / np.sqrt(inverse**2 @ variance)
        return [(float(coefficients[i]), float(2 * stdtr(free, -abs(ratio[i])))) for i in (1, 2)]


def two_lines(
    strength: Float[np.ndarray, " point"], score: Float[np.ndarray, " point"], *, least: int = 4, alpha: float = 0.05
) -> TwoLines:
    """Simonsohn's test: one line below a break, one above, each significant and of opposite signs.

    The break starts at the median of the strengths where a smooth curve is within one standard error of its extreme,
    and moves within them towards the stronger line, to the quantile |z_high| / (|z_low| + |z_high|) ("Robin Hood").
    Not applicable, all NaN, where a segment has fewer than `least` points.

    Source: Simonsohn 2018, Advances in Methods and Practices in Psychological Science 1, doi 10.1177/2515245918805755.
    """
    x = (strength - strength[0]) / np.ptp(strength)
    if len(x) < max(2 * least, 5):
        return _not_applicable(float("nan"), 0, 0)
    _, tilt, bend = np.linalg.lstsq(np.stack([np.ones_like(x), x, x**2], axis=1), score, rcond=None)[0]
    sign = 1.0 if tilt + 2 * bend * x.min() <= 0 else -1.0  # -1: look for a hump, as a valley of -y
    fit, error = smooth(x, sign * score)
    inner = (x > np.quantile(x, 0.1)) & (x < np.quantile(x, 0.9))
    bottom = x[inner & (fit - error < fit[inner].min())]
    first = interrupted(x, score, float(np.median(bottom)), break_is_low=True)
    pull = [float(abs(stdtrit(max(len(x) - 4, 1), max(p, 1e-300) / 2))) for _, p in first]  # |z| of each line
    moved = float(np.quantile(bottom, pull[1] / sum(pull))) if sum(pull) > 0 else float(np.median(bottom))
    sides = int((x <= moved).sum()), int((x >= moved).sum())
    at = float(strength[0]) + moved * float(np.ptp(strength))
    if min(sides) < least:
        return _not_applicable(at, *sides)
    slope_low, p_low = interrupted(x, score, moved, break_is_low=True)[0]
    slope_high, p_high = interrupted(x, score, moved, break_is_low=False)[1]
    opposite = slope_low * slope_high < 0 and p_low < alpha and p_high < alpha
    width = float(np.ptp(strength))
    return TwoLines(
        applicable=True,
        valley=bool(opposite and slope_low < 0),
        hump=bool(opposite and slope_low > 0),
        p_low=p_low,
        p_high=p_high,
        slope_low=slope_low / width,
        slope_high=slope_high / width,
        break_at=at,
        points_low=sides[0],
        points_high=sides[1],
    )


def _not_applicable(at: float, low: int, high: int) -> TwoLines:
    nan = float("nan")
    return TwoLines(False, False, False, nan, nan, nan, nan, at, low, high)
