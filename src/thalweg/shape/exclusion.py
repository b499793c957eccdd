"""Is a curve that falls known to fall all the way? A rise worth speaking of must be excluded.

A deep valley with a lower right wall falls for sure, and a test of monotone against flat says no more than that. So a
curve is called decreasing only where no valley with straight walls (straight in rank), whose rise is worth speaking of,
fits it nearly as well as the best falling curve; and no such hump either. Worth speaking of is a rise of at least half
of the fall, and of at least the smallest effect.

Limits: a rise that the last model alone shows has nearly no weight in a straight wall, and may pass.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from thalweg.shape.order_tests import valley_fits
from thalweg.shape.points import Points

SHARE = 0.5  # of the fall
MARGIN = 0.5  # of squared error in units of the scatter: holds falls of 6 with rises of 3.6 to .05 at 6 to 12 models


@lru_cache(maxsize=64)
def _walls(n: int) -> tuple[Float[np.ndarray, "bottom point"], Float[np.ndarray, "bottom point"]]:
    """The left and the right wall, 1 high, of valleys whose bottom lies at or half-way between inner points."""
    at, bottom = np.arange(n, dtype=float), np.arange(0.5, n - 1.0, 0.5)[:, None]
    left = np.maximum(0.0, bottom - at) / bottom
    right = np.maximum(0.0, at - bottom) / (n - 1 - bottom)
    return left, right


def straight_error(
    score: Float[np.ndarray, " point"], variance: Float[np.ndarray, " point"], least: float, share: float = SHARE
) -> float:
    """Least squared error, weights 1 / variance, of a level + fall * left wall + rise * right wall over all bottoms,
    with fall >= 0, rise >= share * fall and rise >= least.

    For each bottom the error is a parabola in (fall, rise), so its least value lies at the free minimum, if that is
    allowed, or on one of the two borders.
    """
    weight = 1.0 / variance
    share_of = weight / weight.sum()
    left, right = (wall - (wall @ share_of)[:, None] for wall in _walls(len(score)))
    centred = score - share_of @ score
    ll, lr, rr = ((a * b) @ weight for a, b in ((left, left), (left, right), (right, right)))
    ly, ry = left @ (weight * centred), right @ (weight * centred)

    def gained(fall: np.ndarray, rise: np.ndarray) -> np.ndarray:
        return np.asarray(2 * (fall * ly + rise * ry - fall * rise * lr) - fall**2 * ll - rise**2 * rr)

    determinant = ll * rr - lr * lr
    sure = determinant > 1e-12 * ll * rr
    fall = np.where(sure, rr * ly - lr * ry, 0.0) / np.where(sure, determinant, 1.0)
    rise = np.where(sure, ll * ry - lr * ly, 0.0) / np.where(sure, determinant, 1.0)
    free = sure & (fall >= 0) & (rise >= np.maximum(share * fall, least))
    along = np.maximum((ly + share * ry) / (ll + 2 * share * lr + share**2 * rr), least / share)
    beside = np.clip((ly - least * lr) / ll, 0.0, least / share)
    borders = [gained(along, share * along), gained(beside, np.full_like(ll, least))]
    borders.append(gained(np.zeros_like(ll), np.maximum(ry / rr, least)))  # a rise alone
    inside = np.where(free, gained(fall, rise), -np.inf)
    return float(weight @ centred**2 - np.max([inside, *borders]))


def turn_excluded(points: Points, slope: str, smallest_effect: float) -> bool:
    """Whether a curve that is `decreasing` (`increasing`) has no rise (fall) worth speaking of, at either end."""
    score = points.score if slope == "decreasing" else -points.score
    monotone = float(valley_fits(score[None], points.variance).falling[0])
    valley = straight_error(score, points.variance, smallest_effect)
    hump = straight_error(-score[::-1], points.variance[::-1], smallest_effect)  # rises by half of its fall first
    return min(valley, hump) - monotone > MARGIN
