"""What the p of a turn is worth where the scatter is read from the curve itself.

A turn must beat the best falling *and* the best rising curve, each against a constant one, and a curve that falls lifts
the scatter that is read from it. So at 9 models a nominal .05 is a false valley or hump in .03 of the worst monotone
curves, and at 6 in .01: power that is given away. Here the nominal p is replaced by the rate at which monotone curves
reach it, the largest over curves that fall over their first one, two or three steps and then stay, from 1 to 6 standard
deviations high, and the constant one. Search among steps, decays, logistic curves and lines found none worse
(docs/shape-power.md). With the scatter of seeds the nominal p is exact to within .01 and stands as it is.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from thalweg.shape.order_tests import Null, local_variance, null_of, order_p

CALIBRATED = 24  # points: with more, the nominal p is nearly exact, and simulating it takes seconds
STEPS = (1, 2, 3)
HEIGHTS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)  # in standard deviations of a point
DRAWS = 4000


@lru_cache(maxsize=64)
def _false_turns(null: Null) -> Float[np.ndarray, "curve draw"]:
    """The smaller nominal p of valley and hump of simulated monotone curves, sorted: a row for each true curve."""
    n, rng = len(null.relative), np.random.default_rng([null.seed, 5])
    noise = rng.standard_normal((null.draws, n))
    ties = rng.chisquare(null.df, null.draws) if null.df > 0 else np.zeros(null.draws)
    truths = [np.zeros(n)]
    truths += [height * np.maximum(0.0, 1 - np.arange(n) / steps) for steps in STEPS for height in HEIGHTS]
    score = (noise + np.stack(truths)[:, None]).reshape(-1, n)  # (curve and draw, point)
    variance = ((n - 2) * local_variance(score, np.ones(n)) + np.tile(ties, len(truths))) / (n - 2 + null.df)
    p = order_p(score / np.sqrt(variance)[:, None], np.ones(n), null)
    return np.sort(np.minimum(p["valley"], p["hump"]).reshape(len(truths), null.draws), axis=1)


def _even(null: Null) -> Null | None:
    """The null of as many points of equal variance; None where the nominal p stands."""
    n = len(null.relative)
    if null.basis != "residuals" or n > CALIBRATED:
        return None
    return null_of(np.ones(n), basis=null.basis, df=null.df, draws=DRAWS)  # of one seed: the same for every curve


def turn_p(nominal: Float[np.ndarray, " draw"], null: Null) -> Float[np.ndarray, " draw"]:
    """The p of a valley or hump, both allowed for: how often the worst monotone curve has a turn of this nominal p.

    p = max over true curves of (1 + number of simulated curves with min(p_valley, p_hump) <= nominal) / (1 + draws).
    """
    even = _even(null)
    if even is None:
        return nominal
    simulated = _false_turns(even)
    reached = np.stack([np.searchsorted(row, nominal * (1 + 1e-9), side="right") for row in simulated]).max(axis=0)
    return np.asarray((1 + reached) / (1 + simulated.shape[1]))


def nominal_level(null: Null, alpha: float) -> float:
    """The nominal level whose turns are false at a rate of alpha."""
    even = _even(null)
    if even is None:
        return alpha
    simulated = _false_turns(even)
    allowed = int(alpha * (1 + simulated.shape[1])) - 1  # so many may reach it
    return float(simulated[:, allowed].min()) if allowed >= 0 else 0.0
