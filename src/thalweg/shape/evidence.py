"""What the tests say of some points under one assumption on their scatter, and the verdict by the rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.shape.calibration import turn_p
from thalweg.shape.exclusion import turn_excluded
from thalweg.shape.holm import holm
from thalweg.shape.order_tests import Null, flat_p, null_of, order_p, ordered_curve, valley_fits
from thalweg.shape.points import Points
from thalweg.shape.verdict import SLOPES, TURNS, Depth, Name, decide

DEPTH_DRAWS = 1000


@dataclass(frozen=True)
class Settings:
    """What was fixed beforehand."""

    seed: int
    draws: int
    smallest_effect: float  # in units of the score
    alpha: float
    percent: bool = False  # the scores are taken for percentages


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one scatter assumption says."""

    points: Points
    p: dict[str, float]  # valley, hump, increasing, decreasing, flat: those that the rule compares with alpha
    verdict: Name
    reason: str  # why it is `cannot tell`; empty otherwise


def null_for(points: Points, draws: int, seed: int) -> Null:
    """The null hypothesis that these points are tested against."""
    return null_of(
        points.variance, basis=points.basis, df=points.null_df, draws=draws, seed=seed, uncertain=points.uncertain
    )


def depth_of(points: Points, shape: str, settings: Settings) -> Depth:
    """Depth of the best valley (height of the best hump) with its bias removed, and its interval.

    d = min(left end, right end) - bottom of the order-restricted fit. Refits to the fit plus noise (its size drawn as
    uncertain as its estimate is) give d*; value = 2 d - mean d*, interval = d -+ (q(1 - alpha / 2) of d* - d), all cut
    at 0.
    The raw d is usually too large, since the ends and the bottom are chosen for being extreme: in simulated valleys its
    bias was -.2 to 1.0 standard deviations of a point. Refits repeat that bias, so the value and the lower end take it
    off; where one model marks a sharp bottom they take off too much (bias of the value -.5 to .3), so the upper end
    does not. At nominal 95 % the lower end lay above the truth in .01 to .06 of ladders, the upper end below it in .01
    or fewer.

    Source: basic bootstrap (lower end) and percentile bootstrap (upper end), Davison & Hinkley 1997, section 5.2 and
    5.3.
    """
    sign = 1.0 if shape == "valley" else -1.0
    score = sign * points.score
    fit = valley_fits(score[None], points.variance)
    fitted, raw = ordered_curve("valley", score, points.variance, split=int(fit.split[0])), float(fit.depth[0])
    rng = np.random.default_rng([settings.seed, 3])
    draws = min(settings.draws, DEPTH_DRAWS)
    noise = rng.standard_normal((draws, len(points))) * np.sqrt(points.variance)
    if np.isfinite(points.df):
        noise *= np.sqrt(points.df / rng.chisquare(points.df, draws))[:, None]
    again = valley_fits(fitted + noise, points.variance).depth
    far = float(np.quantile(again, 1 - settings.alpha / 2))
    at = points.strength[np.isclose(fitted, fitted.min(), rtol=0, atol=1e-12 * np.abs(fitted).max())]
    return Depth(
        shape="valley" if shape == "valley" else "hump",
        value=max(0.0, 2 * raw - float(again.mean())),
        low=max(0.0, 2 * raw - far),
        high=far,
        strength_at_extremum=float((at[0] + at[-1]) / 2),
    )


def examine(points: Points, settings: Settings) -> Evidence:
    """Test the points and apply the rule."""
    return examine_all([points], settings)[0]


def examine_all(every: Sequence[Points], settings: Settings) -> list[Evidence]:
    """Test several curves of equally many points, and apply the rule to each.

    Curves whose rungs scatter alike are tested together, against the null of the middle one; each of the others against
    its own.
    """
    alike = [i for i, points in enumerate(every) if points.uncertain is None]
    apart = [[i] for i, points in enumerate(every) if points.uncertain is not None]
    evidence: dict[int, Evidence] = {}
    for group in [alike, *apart] if alike else apart:
        null = null_for(every[group[len(group) // 2]], settings.draws, settings.seed)
        evidence |= zip(group, _examined([every[i] for i in group], null, settings), strict=True)
    return [evidence[i] for i in range(len(every))]


def _examined(every: Sequence[Points], null: Null, settings: Settings) -> list[Evidence]:
    """Test curves against one null.

    The p of a turn is calibrated (`calibration`), those of the two slopes are after Holm.
    """
    variance = np.stack([points.variance for points in every])
    p = order_p(np.stack([points.score for points in every]), variance, null)
    p |= {shape: turn_p(p[shape], null) for shape in TURNS}
    evidence = []
    for row, points in enumerate(every):
        own = {shape: float(values[row]) for shape, values in p.items()}
        own |= zip(SLOPES, holm([own[slope] for slope in SLOPES]), strict=True)
        own["flat"] = flat_p(points.score, points.variance, points.df, settings.smallest_effect)
        evidence.append(_judged(points, own, settings))
    return evidence


def _judged(points: Points, p: dict[str, float], settings: Settings) -> Evidence:
    """The verdict by the rule; whether a slope excludes a turn is looked at only where the rule asks."""

    def excluded(slope: str) -> bool:
        return turn_excluded(points, slope, settings.smallest_effect)

    return Evidence(points, p, *decide(p, excluded, settings.alpha))
