"""What the data could have shown, and what it would take to show more.

"Cannot tell" means little without the depth that these models could have shown. The smallest detectable depth is the
depth D of a symmetric valley with its bottom in the middle and both walls D high, straight in rank, that the verdict
calls a valley four times in five with the same number of points, the same variances and the same kind of variance
estimate. It is found by simulation: the same noise for every D, and a bisection.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from thalweg.shape.calibration import nominal_level
from thalweg.shape.order_tests import Basis, Null, gains, null_of, simulate

POWER = 0.8  # Cohen 1988's convention
CURVES = 1000  # simulated valleys: the power is known to .013
DEEPEST = 100.0  # standard deviations; a valley that is missed at this depth is missed at any
MOST_RUNGS = 40  # the most rungs and seeds that a plan will ask for
MOST_SEEDS = 100


def power_of(null: Null, level: float, shape: Float[np.ndarray, " point"]) -> Callable[[float], float]:
    """How often the verdict on points of a null is `valley`, as a function of the depth D of a valley D * shape.

    power(D) = share of curves D * shape + noise with both T / s^2 above their quantiles under a constant curve, at the
    nominal level that is worth `level`.
    """
    nominal, simulated = nominal_level(null, level), simulate(null)
    bars = [float(np.quantile(simulated[i], 1.0 - nominal)) for i in (0, 1)]
    rng = np.random.default_rng([null.seed, 1])
    relative = np.array(null.relative)
    noise = null.noise(CURVES, rng)
    noise_scale = null.variance_draws(noise, np.random.default_rng([null.seed, 2]))

    def power(depth: float) -> float:
        score = noise + depth * shape
        scale = noise_scale
        if null.basis == "residuals":  # the only estimate that sees the curve
            scale = null.variance_draws(score, np.random.default_rng([null.seed, 2]))
        statistics = gains(score, relative)
        return float(((statistics[0] / scale > bars[0]) & (statistics[1] / scale > bars[1])).mean())

    return power


class DepthSearch:
    """The bisection for the smallest depth that is found with power .8, taken only as far as each question needs."""

    def __init__(self, null: Null, level: float) -> None:
        self._power = power_of(null, level, np.abs(np.linspace(-1.0, 1.0, len(null.relative))))
        self._low, self._high = 0.0, math.inf  # missed, found
        if self._power(DEEPEST) >= POWER:
            self._high = 16.0 if self._power(16.0) >= POWER else DEEPEST

    def shows(self, effect: float, sd: float) -> bool:
        """Whether the smallest depth is no more than the effect where points have this standard deviation."""
        while self._low * sd < effect < round(self._high, 3) * sd and self._halve():
            pass
        return round(self._high, 3) * sd <= effect

    def end(self) -> float | None:
        """The smallest depth that is found; None if none is."""
        while self._halve():
            pass
        return None if math.isinf(self._high) else round(self._high, 3)

    def _halve(self) -> bool:
        if math.isinf(self._high) or self._high - self._low <= 0.05:
            return False
        middle = (self._low + self._high) / 2
        if self._power(middle) >= POWER:
            self._high = middle
        else:
            self._low = middle
        return True


@lru_cache(maxsize=128)
def _search(null: Null, level: float) -> DepthSearch:
    return DepthSearch(null, level)


def detectable(null: Null, level: float) -> float | None:
    """Smallest depth found with power .8 at this level, in units of the root mean variance; None if no depth is."""
    return _search(null, level).end()


def first_that(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """Smallest integer in low..high for which a condition holds that stays true once it is; None if there is none."""
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def even_null(n: int, basis: Basis, seeds: float, seed: int) -> Null:
    """n rungs of equal variance, with `seeds` rows each where the basis is replicates."""
    df = math.inf
    if basis == "replicates":
        df = max(1.0, float(round(n * (seeds - 1.0))))
    elif basis == "residuals":
        df = 0.0
    return null_of(np.ones(n), basis=basis, df=df, draws=2000, seed=seed)


def rungs_needed(
    n: int, sd: float, basis: Basis, seeds: float, *, effect: float, level: float, seed: int
) -> int | None:
    """Fewest rungs of this scatter (`sd` of a point) that would show a valley `effect` deep; None if more than 40."""

    def enough(rungs: int) -> bool:
        return _search(even_null(rungs, basis, seeds, seed), level).shows(effect, sd)

    return first_that(enough, max(n, 4), MOST_RUNGS)


def seeds_needed(n: int, sd_of_one: float, seeds: int, *, effect: float, level: float, seed: int) -> int | None:
    """Fewest seeds a rung, if all scatter is between seeds, that would let n rungs show a valley `effect` deep; None if
    more than 100.

    A point of R seeds has the standard deviation `sd_of_one` / sqrt(R), estimated with n (R - 1) degrees of freedom.
    """

    def enough(each: int) -> bool:
        null = even_null(n, "replicates", float(each), seed)
        return _search(null, level).shows(effect, sd_of_one / math.sqrt(each))

    return first_that(enough, max(seeds, 2), MOST_SEEDS)


def seeds_to_decide(
    valley: Float[np.ndarray, " point"], sd_of_one: float, seeds: int, *, level: float, seed: int
) -> int | None:
    """Fewest seeds a rung that would show this valley four times in five, if all scatter is between seeds; None if more
    than 100. A hump is given upside down.
    """

    def enough(each: int) -> bool:
        power = power_of(even_null(len(valley), "replicates", float(each), seed), level, valley)
        return power(math.sqrt(each) / sd_of_one) >= POWER

    return first_that(enough, max(seeds, 2), MOST_SEEDS)
