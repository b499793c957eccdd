"""Whether the curves of two ladders have the same shape: fits on a common axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike

from thalweg.shape.points import ROUNDING, Rungs, distinct
from thalweg.shape.verdict import Name

LEAST_RUNGS = 5  # a parabola and two rungs more to see the scatter around it
LEAST_OVERLAP = 0.8  # of class weights, for `same`
SIZES = np.linspace(0.0, np.pi / 2, 17)  # angles t of the sizes (cos t, sin t) at which two ladders share a shape
EQUAL = np.array([np.pi / 4])
ZOOMS = 6  # into the best of them: to 2e-5, so that clean curves of other sizes still fit exactly
LEVERAGE = 0.75  # residuals are divided by (1 - h)^.75: .5 (HC2) gives more false positives, 1 (HC3) less power
GRID = np.linspace(-1.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class Models:
    """The models of one ladder, one row a model; `group` names each row's rung, whose rows are its seeds."""

    strength: ArrayLike
    score: ArrayLike
    group: Sequence[object] | None = None


@dataclass(frozen=True)
class LadderShape:
    """What one ladder shows by itself."""

    verdict: Name
    sentence: str
    class_weights: dict[str, float]
    strengths: tuple[float, float]  # of its weakest and strongest rung; NaN without rungs
    n_rungs: int
    n_models: int  # rungs and seeds, without those dropped
    n_dropped: int  # strength or score is NaN


@dataclass(frozen=True)
class Interaction:
    """How the curves of two ladders differ, by one spacing of the rungs or by the more doubtful of both."""

    p_curves: float  # null: the same curve but for its level
    p_shapes: float  # null: the same curve but for its level and size
    gap: float  # largest difference of both fitted curves, levels removed, in score units
    gap_high: float  # upper end of its band


class Trend:
    """Tilt and bend of rung means: y = c_0 + c_1 P_1(u) + c_2 P_2(u) + noise of variance s^2, u from -1 to 1.

    The tilt rises by 2 c_1 from the weakest to the strongest rung; the bend lifts both ends 1.5 c_2 above the middle.
    """

    def __init__(self, position: Float[np.ndarray, " rung"], score: Float[np.ndarray, " rung"]) -> None:
        design = legvander(2 * (position - position.min()) / np.ptp(position) - 1, 2)  # (rung, 3)
        orthogonal, triangle = np.linalg.qr(design)
        self.hat: Float[np.ndarray, "rung rung"] = orthogonal @ orthogonal.T
        self.solve: Float[np.ndarray, "2 rung"] = np.linalg.inv(triangle)[1:] @ orthogonal.T
        self.whiten: Float[np.ndarray, "2 2"] = triangle[1:, 1:]  # (tilt, bend) to independent errors of variance s^2
        self.score = score

    def estimate(
        self, scores: Float[np.ndarray, "draw rung"]
    ) -> tuple[Float[np.ndarray, "draw 2"], Float[np.ndarray, " draw"]]:
        """(c_1, c_2) and s^2 of many curves over the same rungs, s^2 = residual sum of squares / (n - 3)."""
        residual = scores - scores @ self.hat
        return scores @ self.solve.T, (residual**2).sum(axis=1) / (scores.shape[1] - 3)

    def noise(self, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw rung"]:
        """Resampled noise: each rung's residual, undone of its leverage h, with a random sign.

        e*_i = +-(y_i - fit_i) / (1 - h_i)^.75.

        Source: wild bootstrap, Davidson & Flachaire 2008, Journal of Econometrics 146.
        """
        left = np.maximum(1 - np.diag(self.hat), 0.05)
        residual = (self.score - self.hat @ self.score) / left**LEVERAGE
        return np.asarray(residual * rng.choice([-1.0, 1.0], (draws, len(self.score))))


@dataclass(frozen=True, eq=False)
class Estimates:
    """Many draws of a pair of curves: two coefficients whose errors are independent, the same two for both curves."""

    first: Float[np.ndarray, "draw 2"]
    second: Float[np.ndarray, "draw 2"]
    first_variance: Float[np.ndarray, "draw 2"]
    second_variance: Float[np.ndarray, "draw 2"]


def estimates(
    trends: tuple[Trend, Trend], scores: tuple[Float[np.ndarray, "draw rung1"], Float[np.ndarray, "draw rung2"]]
) -> Estimates:
    """Turn tilt and bend so that the covariances V_l = s_l^2 spread_l of both ladders are diagonal at once.

    W_1 whitens the first spread, U are the eigenvectors of W_1 spread_2 W_1' and lambda its eigenvalues: with A = W_1'
    U, A' spread_1 A = 1 and A' spread_2 A = diag(lambda), so c A has the variances s_1^2 and s_2^2 lambda.
    """
    first, second = trends
    across = first.whiten @ np.linalg.inv(second.whiten)
    lengths, turn = np.linalg.eigh(across @ across.T)
    axes = first.whiten.T @ turn
    (c1, s1), (c2, s2) = (trend.estimate(each) for trend, each in zip(trends, scores, strict=True))
    v1, v2 = s1[:, None] * np.ones(2), s2[:, None] * np.maximum(lengths, 1e-300)
    return Estimates(c1 @ axes, c2 @ axes, v1, v2)


def misfits(curves: Estimates, angles: Float[np.ndarray, "#draw angle"]) -> Float[np.ndarray, "draw angle"]:
    """How far two curves are from one shape g at sizes (cos t, sin t), for each angle t.

    Q(t) = min_g sum_l (c_l - size_l g)' V_l^-1 (c_l - size_l g) = d' (sin^2 t V_1 + cos^2 t V_2)^-1 d, d = sin t c_1 -
    cos t c_2.

    Source: minimum distance; at 45 degrees it is the Welch-James statistic (James 1951, Biometrika 38).
    """
    sine, cosine = np.sin(angles), np.cos(angles)
    total = np.zeros((len(curves.first), angles.shape[1]))
    for k in range(2):
        d = sine * curves.first[:, k, None] - cosine * curves.second[:, k, None]
        total += d**2 / (sine**2 * curves.first_variance[:, k, None] + cosine**2 * curves.second_variance[:, k, None])
    return total


def least_misfit(
    curves: Estimates, angles: Float[np.ndarray, " angle"]
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]:
    """The least misfit of each draw and its angle; among several angles the search zooms in on the best."""
    grid = np.broadcast_to(angles, (len(curves.first), len(angles)))
    every, misfit = np.arange(len(grid)), misfits(curves, grid)
    best = misfit.argmin(axis=1)
    for _ in range(ZOOMS if len(angles) > 1 else 0):
        low, high = grid[every, np.maximum(best - 1, 0)], grid[every, np.minimum(best + 1, grid.shape[1] - 1)]
        grid = np.linspace(low, high, 9, axis=1)
        misfit = misfits(curves, grid)
        best = misfit.argmin(axis=1)
    return misfit[every, best], grid[every, best]


def common_shape(
    curves: Estimates, angle: Float[np.ndarray, " draw"]
) -> tuple[Float[np.ndarray, "draw 2"], Float[np.ndarray, "draw 2"]]:
    """Both curves if they are one shape at sizes (cos t, sin t): g by generalised least squares, times its sizes."""
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    precision = cosine**2 / curves.first_variance + sine**2 / curves.second_variance
    shape = (cosine * curves.first / curves.first_variance + sine * curves.second / curves.second_variance) / precision
    return cosine * shape, sine * shape


def interaction(
    first_trend: Trend, second_trend: Trend, *, draws: int, rng: np.random.Generator, alpha: float = 0.05
) -> Interaction:
    """Test one spacing of the rungs of two ladders, and bound how far their curves are apart.

    p = (1 + how many resampled curves of a common shape misfit it as much) / (1 + draws); for `p_shapes` both misfits
    are the least over the sizes. gap = max_u |f_1(u) - f_2(u)|, levels removed; gap_high adds the 1 - alpha quantile of
    max_u |resampled noise of this difference|, so it is the end of a simultaneous band.
    """
    fitted = estimates((first_trend, second_trend), (first_trend.score[None], second_trend.score[None]))
    noise = first_trend.noise(draws, rng), second_trend.noise(draws, rng)
    drawn = estimates((first_trend, second_trend), noise)
    least = 1e-9  # of the variances: rarely, random signs leave hardly any residual
    variances = {
        "first_variance": np.maximum(drawn.first_variance, least * fitted.first_variance),
        "second_variance": np.maximum(drawn.second_variance, least * fitted.second_variance),
    }

    def p_of(angles: Float[np.ndarray, " angle"]) -> float:
        observed, angle = least_misfit(fitted, angles)
        first, second = common_shape(fitted, angle)
        resampled, _ = least_misfit(Estimates(first + drawn.first, second + drawn.second, **variances), angles)
        return float((1 + (resampled >= observed * (1 - ROUNDING)).sum()) / (1 + draws))

    def apart(scores: tuple[np.ndarray, np.ndarray]) -> Float[np.ndarray, " draw"]:
        (c1, _), (c2, _) = first_trend.estimate(scores[0]), second_trend.estimate(scores[1])
        return np.asarray(np.abs((c1 - c2) @ legvander(GRID, 2)[:, 1:].T).max(axis=1))

    gap = float(apart((first_trend.score[None], second_trend.score[None]))[0])
    return Interaction(p_of(EQUAL), p_of(SIZES), gap, gap + float(np.quantile(apart(noise), 1 - alpha)))


def spacings_of(rungs: Rungs) -> dict[str, Trend]:
    """The rungs by their position between the weakest and the strongest, and by their rank."""
    from scipy.stats import rankdata  # slow to import, and only needed here

    return {
        "position": Trend(rungs.strength, rungs.score),
        "rank": Trend(rankdata(rungs.strength), rungs.score),
    }


def untestable(name: str, rungs: Rungs) -> str:
    """Why a ladder can't be compared; empty if it can."""
    n = distinct(rungs)
    if n < LEAST_RUNGS:
        return f"{name} has {n} rungs of distinct strength, and a comparison needs {LEAST_RUNGS}"
    largest = max(1e-300, float(np.abs(rungs.score).max()))
    for trend in spacings_of(rungs).values():
        if trend.estimate(rungs.score[None])[1][0] <= (ROUNDING * largest) ** 2:
            return f"the scores of {name} lie on a smooth curve without any scatter, so nothing says what chance does"
    return ""


def overlap_of(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """1 - total variation distance of two sets of class weights: sum over the classes of the smaller weight."""
    return float(sum(np.minimum(first[shape], second[shape]) for shape in first))
