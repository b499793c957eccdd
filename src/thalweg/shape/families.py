"""Named curves, weighed by how well they predict: flat, linear, exponential, logistic, valley, hump.

Each family is y_i = f(x_i) + noise of variance s_i^2 + tau^2. The variance s_i^2 of a point is given; tau, the scatter
that strength does not explain, is found by maximum likelihood inside each fit and counts as a parameter. The corrected
Akaike criterion compares the fits, and the weights are shared out with one equal prior for each *class* of curves
(flat, decreasing, increasing, valley, hump), not for each family, so that a class does not gain by having many members.

A curve is linear in all but one or two of its parameters, so those are searched on a grid that zooms in, and the others
are solved exactly for every grid point (variable projection, Golub & Pereyra 1973): deterministic, no starting values.
Rising families and humps are falling families and valleys of -y.

Limits: unlike the order-restricted test the families see the spacing of strength, so they are weighed over its ranks
(the named curve of a verdict is fitted over strength as given); they are fitted on the scale that the scores come in,
without bounds. At few observations the correction is
severe: with 6, a valley must beat a flat curve by 40. Two straight walls imitate a decay that levels off, so the weight
of `valley` is no evidence by itself, and class weights decide nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float

CLASSES = ("flat", "decreasing", "increasing", "valley", "hump")
HINGE_FROM = 10  # points: with fewer, a valley is a parabola (3 parameters), from here on two straight walls (4)
CURVE_POINTS = 101
ZOOMS = 4

Scale = Literal["linear", "log"]


@dataclass(frozen=True)
class Searched:
    """A parameter that enters a curve nonlinearly, and the grid it is first looked for on (x runs from 0 to 1)."""

    name: str
    low: float
    high: float
    count: int
    scale: Scale


@dataclass(frozen=True)
class Family:
    """A falling or valley-shaped family: a + sum_j b_j g_j(x; theta), all b_j >= 0, x from 0 to 1."""

    name: str
    shape_parameters: int
    searched: tuple[Searched, ...]
    basis: Callable[..., np.ndarray]  # x (point), theta (candidate parameter) -> (candidate term point)


@dataclass(frozen=True)
class FittedFamily:
    """The best curve of a family and its criterion.

    linear: intercept + slope x. exponential: level + drop exp(-rate (x - x_min)). logistic: level + drop / (1 +
    exp((x - midpoint) / width)). parabola: level + curvature (x - turn)^2. hinge: level + left_slope (x - turn) below
    the turn, level + right_slope (x - turn) above it.
    """

    name: str
    shape: str  # its class
    params: dict[str, float]  # in the units of strength and score
    tau: float
    k: int  # shape parameters + 1 for tau
    aicc: float
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Weighing:
    """What the families say together."""

    class_weights: dict[str, float]  # sum to 1; a class without a usable family has 0
    families: tuple[FittedFamily, ...]  # best first
    left_out: tuple[str, ...]  # families with too many parameters for this many points


def _linear(x: Float[np.ndarray, " point"], theta: Float[np.ndarray, "candidate none"]) -> np.ndarray:
    return np.broadcast_to(-x, (len(theta), 1, len(x)))


def _exponential(x: Float[np.ndarray, " point"], theta: Float[np.ndarray, "candidate 1"]) -> np.ndarray:
    return np.asarray(np.exp(-theta[:, :1, None] * x))


def _logistic(x: Float[np.ndarray, " point"], theta: Float[np.ndarray, "candidate 2"]) -> np.ndarray:
    steps = (x - theta[:, :1, None]) / theta[:, 1:, None]
    return np.asarray(0.5 - 0.5 * np.tanh(steps / 2))


def _parabola(x: Float[np.ndarray, " point"], theta: Float[np.ndarray, "candidate 1"]) -> np.ndarray:
    return np.asarray((x - theta[:, :1, None]) ** 2)


def _hinge(x: Float[np.ndarray, " point"], theta: Float[np.ndarray, "candidate 1"]) -> np.ndarray:
    off = x - theta[:, :1]
    return np.stack([np.maximum(-off, 0.0), np.maximum(off, 0.0)], axis=1)


FALLING = (
    Family("linear", 2, (), _linear),
    Family("exponential", 3, (Searched("rate", 0.1, 100.0, 40, "log"),), _exponential),
    Family(
        "logistic",
        4,
        (Searched("midpoint", 0.0, 1.0, 21, "linear"), Searched("width", 0.01, 1.0, 12, "log")),
        _logistic,
    ),
)
PARABOLA = Family("parabola", 3, (Searched("turn", 0.0, 1.0, 41, "linear"),), _parabola)
HINGE = Family("hinge", 4, (Searched("turn", 0.0, 1.0, 41, "linear"),), _hinge)


@lru_cache(maxsize=64)
def _axis(low: float, high: float, count: int, scale: Scale) -> Float[np.ndarray, " value"]:
    return np.geomspace(low, high, count) if scale == "log" else np.linspace(low, high, count)


def _solve(
    terms: Float[np.ndarray, "candidate term point"],
    y: Float[np.ndarray, " point"],
    weight: Float[np.ndarray, " point"],
) -> tuple[Float[np.ndarray, " candidate"], Float[np.ndarray, "candidate term"]]:
    """How much each candidate curve lowers the weighted squared error of the mean, and its coefficients, none negative.

    One term: b = max(0, s_gy / s_gg). Two: the unrestricted solution if it is positive, else the better of the two
    single terms.
    """
    share = weight / weight.sum()
    centred = terms - (terms @ share)[..., None]
    weighted = centred * weight
    with_y = weighted @ (y - share @ y)  # (candidate, term)
    squares = np.maximum((weighted * centred).sum(axis=2), 1e-300)  # (candidate, term)
    single = np.maximum(with_y, 0.0) / squares
    gain = single * with_y  # of each term alone
    if terms.shape[1] == 1:
        return gain[:, 0], single
    best = gain.argmax(axis=1)
    coefficients = np.where(np.arange(2) == best[:, None], single, 0.0)
    total = gain.max(axis=1)
    cross = (weighted[:, 0] * centred[:, 1]).sum(axis=1)
    determinant = squares[:, 0] * squares[:, 1] - cross**2
    usable = determinant > 1e-12 * squares[:, 0] * squares[:, 1]
    flipped = squares[:, ::-1] * with_y - cross[:, None] * with_y[:, ::-1]
    both = flipped / np.where(usable, determinant, 1.0)[:, None]
    usable &= (both > 0).all(axis=1)
    coefficients = np.where(usable[:, None], both, coefficients)
    return np.where(usable, (both * with_y).sum(axis=1), total), coefficients


def _search(
    family: Family,
    x: Float[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    weight: Float[np.ndarray, " point"],
    within: tuple[float, float],
) -> tuple[Float[np.ndarray, " parameter"], Float[np.ndarray, " term"]]:
    """Best searched parameters and coefficients, on a grid that zooms in; a turn stays among the inner points."""
    limits = [within if s.name == "turn" else (s.low, s.high) for s in family.searched]
    axes = [_axis(*limit, s.count, s.scale) for limit, s in zip(limits, family.searched, strict=True)]
    theta, coefficients = np.zeros(0), np.zeros(0)
    for _ in range(ZOOMS if axes else 1):
        mesh = (
            np.stack([*np.meshgrid(*axes, indexing="ij")], axis=-1).reshape(-1, len(axes)) if axes else np.zeros((1, 0))
        )
        gain, solved = _solve(family.basis(x, mesh), y, weight)
        best = int(gain.argmax())
        theta, coefficients = mesh[best], solved[best]
        around = []
        for values, centre, s in zip(axes, theta, family.searched, strict=True):
            at = int(np.abs(values - centre).argmin())
            low, high = values[max(at - 1, 0)], values[min(at + 1, len(values) - 1)]
            around.append(_axis(float(low), float(high), 9, s.scale))
        axes = around
    return theta, coefficients


def _criterion(residual: Float[np.ndarray, " point"], variance: Float[np.ndarray, "*tau point"]) -> np.ndarray:
    """-2 ln L = sum_i ln(2 pi v_i) + r_i^2 / v_i."""
    return np.asarray((np.log(2 * np.pi * variance) + residual**2 / variance).sum(axis=-1))


def _tau2(residual: Float[np.ndarray, " point"], variance: Float[np.ndarray, " point"]) -> float:
    """The tau^2 >= 0 of the highest likelihood: in closed form for equal variances, else on a grid that zooms in."""
    if np.ptp(variance) <= 1e-9 * variance.max():
        return max(0.0, float((residual**2).mean() - variance[0]))
    high = max(float((residual**2).max()), 1e-300)
    taus = np.concatenate([[0.0], np.geomspace(1e-6 * high, high, 40)])
    for _ in range(2):
        best = int(_criterion(residual, variance + taus[:, None]).argmin())
        taus = np.linspace(taus[max(best - 1, 0)], taus[min(best + 1, len(taus) - 1)], 21)
    return float(taus[_criterion(residual, variance + taus[:, None]).argmin()])


def _fit(
    family: Family | None,
    x: Float[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
) -> tuple[float, float, float, Float[np.ndarray, " parameter"], Float[np.ndarray, " term"]]:
    """-2 ln L, tau^2, a, searched parameters and coefficients of the best curve; `None` is the flat family.

    Curve and tau are improved in turn; with equal variances the best curve does not depend on tau, and one turn is
    enough.
    """
    tau2 = 0.0
    equal = np.ptp(variance) <= 1e-9 * variance.max()
    theta, coefficients = np.zeros(0), np.zeros(0)
    curve, constant = np.zeros_like(y), 0.0
    for _ in range(1 if equal else 3):
        weight = 1.0 / (variance + tau2)
        curve = np.zeros_like(y)
        if family is not None:
            theta, coefficients = _search(family, x, y, weight, (float(x[1]), float(x[-2])))
            curve = coefficients @ family.basis(x, theta[None])[0]
        constant = float(np.average(y - curve, weights=weight))
        tau2 = _tau2(y - curve - constant, variance)
    return float(_criterion(y - curve - constant, variance + tau2)), tau2, constant, theta, coefficients


def _described(
    family: Family | None,
    theta: Float[np.ndarray, " parameter"],
    coefficients: Float[np.ndarray, " term"],
    constant: float,
    sign: float,
    ends: tuple[float, float],
) -> dict[str, float]:
    """Parameters in the units of strength and score, from those fitted to x between 0 and 1 and to sign * y."""
    low, width = ends[0], ends[1] - ends[0]
    params = {"level": sign * constant}
    if family is None:
        return params
    if family.name == "linear":
        return {
            "intercept": sign * (constant + coefficients[0] * low / width),
            "slope": -sign * coefficients[0] / width,
        }
    for s, value in zip(family.searched, theta, strict=True):
        params[s.name] = {"rate": value / width, "width": value * width}.get(s.name, low + value * width)
    if family.name in {"exponential", "logistic"}:
        return params | {"drop": sign * coefficients[0]}
    if family.name == "parabola":
        return params | {"curvature": sign * coefficients[0] / width**2}
    return params | {"left_slope": -sign * coefficients[0] / width, "right_slope": sign * coefficients[1] / width}


Member = tuple[str, Family | None, str, float]  # label, what is fitted, its class, and whether to y (1) or to -y (-1)


def members(n: int) -> list[Member]:
    """Every family at n points."""
    bottom = PARABOLA if n < HINGE_FROM else HINGE
    falling = [
        (f"{f.name} {way}", f, way, sign) for f in FALLING for way, sign in (("decreasing", 1.0), ("increasing", -1.0))
    ]
    return [
        ("flat", None, "flat", 1.0),
        *falling,
        (f"{bottom.name} valley", bottom, "valley", 1.0),
        (f"{bottom.name} hump", bottom, "hump", -1.0),
    ]


def weigh(
    strength: Float[np.ndarray, " point"],
    score: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    *,
    observations: int | None = None,
) -> Weighing:
    """Fit every family and share the weight among the classes.

    AICc = -2 ln L + 2 k + 2 k (k + 1) / (N - k - 1), undefined for N <= k + 1: such families are left out and listed,
    as are those with as many shape parameters as there are points. N is the number of independent `observations` behind
    the points (by default, the points): where the points are means of seeds and the scatter between seeds gives the
    variance, every seed is one. W(class) is proportional to the mean over its families of exp(-(AICc - min AICc) / 2).
    `variance` is s_i^2; zeros are allowed and leave everything to tau.

    Source: Burnham & Anderson 2002, sections 2.4, 2.9 and 6.4.
    """
    n = len(score)
    count = n if observations is None else observations
    floored = np.maximum(variance, 1e-12 * max(float(score.var()), 1e-300))  # a perfect fit keeps a finite likelihood
    fitted: list[FittedFamily] = []
    left_out: list[str] = []
    for member in members(n):
        k = _parameters(member[1])
        if n < k or count <= k + 1:
            left_out.append(member[0])
        else:
            fitted.append(_fitted(member, strength, score, floored, count))
    fitted.sort(key=lambda f: f.aicc)
    return Weighing(class_weights(fitted), tuple(fitted), tuple(left_out))


def _parameters(family: Family | None) -> int:
    """Shape parameters, and one for tau."""
    return (family.shape_parameters if family else 1) + 1


def _fitted(
    member: Member,
    strength: Float[np.ndarray, " point"],
    score: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    count: int,
) -> FittedFamily:
    """The best curve of a family in the units of strength and score; `count` observations are behind the points."""
    label, family, shape, sign = member
    ends = (float(strength[0]), float(strength[-1]))
    fine = np.linspace(0.0, 1.0, CURVE_POINTS)
    x = (strength - ends[0]) / (ends[1] - ends[0])
    deviance, tau2, constant, theta, coefficients = _fit(family, x, sign * score, variance)
    curve = np.full(CURVE_POINTS, constant)
    if family is not None:
        curve = curve + coefficients @ family.basis(fine, theta[None])[0]
    params = _described(family, theta, coefficients, constant, sign, ends)
    k = _parameters(family)
    return FittedFamily(
        name=label,
        shape=shape,
        params={name: float(value) for name, value in params.items()},
        tau=float(np.sqrt(tau2)),
        k=k,
        aicc=deviance + 2 * k + 2 * k * (k + 1) / (count - k - 1),
        x=tuple((ends[0] + fine * (ends[1] - ends[0])).tolist()),
        y=tuple((sign * curve).tolist()),
    )


def class_weights(fitted: list[FittedFamily]) -> dict[str, float]:
    """Akaike weights with one equal prior a class; NaN where no family can be fitted."""
    if not fitted:
        return dict.fromkeys(CLASSES, float("nan"))
    best = min(f.aicc for f in fitted)
    evidence = {shape: [np.exp(-(f.aicc - best) / 2) for f in fitted if f.shape == shape] for shape in CLASSES}
    means = {shape: float(np.mean(values)) if values else 0.0 for shape, values in evidence.items()}
    return {shape: mean / sum(means.values()) for shape, mean in means.items()}
