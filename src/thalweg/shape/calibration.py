"""What the p of a turn is worth where the scatter is read from the curve itself.

A turn must beat the best falling *and* the best rising curve, each against a constant one, and a curve that falls lifts
the scatter that is read from it. So at 9 models a nominal .05 is a false valley or hump in .03 of the worst monotone
curves, and at 6 in .01: power that is given away. Here the nominal p is replaced by the rate at which monotone curves
reach it, the largest over curves that fall over their first one, two or three steps and then stay, from 1 to 6 standard
deviations high, and the constant one. Search among steps, decays, logistic curves and lines found none worse
(docs/shape-power.md). With the scatter of seeds the nominal p is exact to within .01 and stands as it is.

Where no two models are equally strong the rate depends on the number of points alone. Those of 4 to 24 points are
shipped as a table, which `write_table` makes: to simulate them takes up to a second and a half.
"""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from thalweg.shape.order_tests import Null, local_variance, null_of, order_p

FEWEST, CALIBRATED = 4, 24  # points: with more, the nominal p is nearly exact
STEPS = (1, 2, 3)
HEIGHTS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)  # in standard deviations of a point
DRAWS = 4000
TABLE = Path(__file__).with_name("false_turns.npz")


@lru_cache(maxsize=64)
def _false_turns(null: Null) -> Int[np.ndarray, " level"]:
    """How many curves around the worst monotone one have a turn of a nominal p of j / (1 + draws) or less, j = 0..1 +
    draws.
    """
    points = len(null.relative)
    if points in shipped() and null == _null_of(points, 0.0):
        return shipped()[points]
    return simulated(null)


@cache
def shipped() -> dict[int, Int[np.ndarray, " level"]]:
    """The table, by the number of points."""
    with np.load(TABLE) as table:
        return {int(points): table[points].astype(int) for points in table.files}


def simulated(null: Null) -> Int[np.ndarray, " level"]:
    """Count the false turns of simulated monotone curves: the most of any true curve at each level."""
    n, rng = len(null.relative), np.random.default_rng([null.seed, 5])
    noise = rng.standard_normal((null.draws, n))
    ties = rng.chisquare(null.df, null.draws) if null.df > 0 else np.zeros(null.draws)
    truths = [np.zeros(n)]
    truths += [height * np.maximum(0.0, 1 - np.arange(n) / steps) for steps in STEPS for height in HEIGHTS]
    score = (noise + np.stack(truths)[:, None]).reshape(-1, n)  # (curve and draw, point)
    variance = ((n - 2) * local_variance(score, np.ones(n)) + np.tile(ties, len(truths))) / (n - 2 + null.df)
    p = order_p(score / np.sqrt(variance)[:, None], np.ones(n), null)
    level = np.rint(np.minimum(p["valley"], p["hump"]) * (1 + null.draws)).astype(int)
    turns = [np.bincount(row, minlength=null.draws + 2).cumsum() for row in level.reshape(len(truths), -1)]
    return np.asarray(np.max(turns, axis=0))


def _null_of(points: int, df: float) -> Null:
    """So many points of equal variance; always of one seed: the same for every curve."""
    return null_of(np.ones(points), basis="residuals", df=df, draws=DRAWS)


def _even(null: Null) -> Null | None:
    """The null of as many points of equal variance; None where the nominal p stands."""
    n = len(null.relative)
    return None if null.basis != "residuals" or n > CALIBRATED else _null_of(n, null.df)


def turn_p(nominal: Float[np.ndarray, " draw"], null: Null) -> Float[np.ndarray, " draw"]:
    """The p of a valley or hump, both allowed for: how often the worst monotone curve has a turn of this nominal p.

    p = max over true curves of (1 + number of simulated curves with min(p_valley, p_hump) <= nominal) / (1 + draws).
    """
    even = _even(null)
    if even is None:
        return nominal
    level = np.floor(nominal * (1 + 1e-9) * (1 + even.draws)).astype(int)
    reached = _false_turns(even)[np.minimum(level, 1 + even.draws)]
    return np.asarray((1 + reached) / (1 + even.draws))


def nominal_level(null: Null, alpha: float) -> float:
    """The nominal level whose turns are false at a rate of alpha."""
    even = _even(null)
    if even is None:
        return alpha
    allowed = int(alpha * (1 + even.draws)) - 1  # so many may reach it
    if allowed < 0:
        return 0.0
    return float(np.searchsorted(_false_turns(even), allowed + 1) / (1 + even.draws))


def write_table() -> None:
    """Simulate the table that is shipped."""
    points = range(FEWEST, CALIBRATED + 1)
    table = {str(n): simulated(_null_of(n, 0.0)).astype(np.int16) for n in points}
    np.savez_compressed(TABLE, **table)  # pyrefly: ignore[bad-argument-type]  # of a keyword that table has not
