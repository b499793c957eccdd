"""Have two ladders the same shape of score over strength, or different ones, or can't the data tell?

What a shape is here. Ladders seldom overlap on the strength axis they share: a small language model gains a tenth of
the bits there are, an image classifier nearly all. Comparing at equal strength would be extrapolation, so strength is
standardised within each ladder: 0 is its weakest rung, 1 its strongest. How much the score changes on the way depends
on how far the ladder reaches, so two curves have the same *shape* if they differ in level and in size only: f_2 = a + b
f_1, b >= 0. Two hypotheses are tested: that the *curves* are the same but for their level (the plain interaction of
ladder and strength), and the weaker one that the *shapes* are the same, but for level and size.

The test. Each ladder's rung means are summarised by a tilt and a bend (Legendre polynomials of degree 1 and 2) and the
scatter around them. The misfit of a common shape, its least generalised distance over all sizes (each ladder judged by
its own scatter), is compared with that of curves that have the common shape by construction and whose residuals, a
rung's seeds together, have random signs. So what is resampled is the model configuration, never the unit of a network.

Two spacings. Rungs stand where their designer put them, which bends a curve over rank; and one weak rung far from all
others decides a curve over position. So each p is the larger of the two: a difference has to show on both. (Over rank
alone, one curve whose rungs crowd at the strong end of one ladder was called two in up to .54 of the simulations below;
over position alone, in up to .18.)

The answer is `differ` if the shapes differ (p < alpha), or if the curves do while the verdict on one ladder is `flat`
and on the other something else that is decided. It is `same` only by equivalence: equal decided verdicts, class weights
that overlap by .8, and a band around the difference of both curves inside the smallest effect. Everything else is
`cannot tell`: two verdicts with different names are no evidence of a difference, and p > alpha is none of sameness.

Measured at alpha .05, over simulated pairs of 5 to 12 against 10 to 22 rungs, placed evenly, crowded or at random, of
equal scatter or up to threefold, growing, shrinking or heavy-tailed: one curve seen twice (flat, lines, decays,
valleys), or for shapes one at two sizes, was called two in .01 to .04 of pairs on average; the three worst of 144 cases
(.07 to .087 in 150 to 400 pairs) came to .046, .053 and .064 when repeated with 800. The band missed the true
difference in .00 to .035.

Power (200 pairs), for a drop of 3, 4 and 6 standard deviations of a rung's mean:

| | 10 rungs each | 12 rungs each | 12, one ladder scattering twice as much, its rungs crowded |
|---|---|---|---|
| shapes: falling against rising line | .42 .67 .94 | .51 .81 1.0 | .19 .36 .66 |
| shapes: valley against falling line | .44 .70 .94 | .56 .82 1.0 | .18 .31 .63 |
| shapes: valley against decay | .30 .49 .80 | .34 .63 .90 | .14 .17 .24 |
| curves: flat against falling line | .34 .52 .84 | .40 .62 .94 | .16 .24 .49 |

Limits: a difference finer than a tilt and a bend is not seen. Rungs are taken as independent; checkpoints of one run
are not, so their p is too small. A curve that is truly flat is every shape at size 0: it differs in shape from nothing,
unless its verdict is `flat`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.polynomial.legendre import legvander
from numpy.typing import ArrayLike

from thalweg.errors import ThalwegError
from thalweg.shape.judging import judge
from thalweg.shape.rungs import ROUNDING, Rungs, column, distinct, rungs_of
from thalweg.shape.verdict import Name, Verdict, as_record, number, p_text

Answer = Literal["differ", "same", "cannot tell"]

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
    """What is known of one ladder by itself."""

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


@dataclass(frozen=True)
class Pair:
    """The answer for two ladders."""

    ladders: tuple[str, str]
    answer: Answer
    sentence: str
    reason: str  # why it is `cannot tell`; empty otherwise
    overlap: float  # of the class weights: 1 - total variation distance
    p_curves: float  # the larger of both spacings, after Holm over the pairs; NaN where nothing could be tested
    p_shapes: float
    gap: float
    gap_high: float
    spacings: dict[str, Interaction]  # position, rank: p before Holm


@dataclass(frozen=True)
class Comparison:
    """Whether ladders have the same shape: each pair, and each ladder by itself."""

    sentence: str  # one for each pair
    pairs: tuple[Pair, ...]
    ladders: dict[str, LadderShape]
    smallest_effect: float
    alpha: float
    draws: int
    seed: int

    def to_record(self) -> dict[str, Any]:
        """The comparison in plain Python types for JSON: tuples as lists, NaN as null."""
        return as_record(self)


class Trend:
    """Tilt and bend of rung means: y = c_0 + c_1 P_1(u) + c_2 P_2(u) + noise of variance s^2, u from -1 to 1.

    The tilt rises by 2 c_1 from the weakest to the strongest rung; the bend lifts both ends 1.5 c_2 above the middle.
    """

    def __init__(self, place: Float[np.ndarray, " rung"], score: Float[np.ndarray, " rung"]) -> None:
        design = legvander(2 * (place - place.min()) / np.ptp(place) - 1, 2)  # (rung, 3)
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

    one: Float[np.ndarray, "draw 2"]
    other: Float[np.ndarray, "draw 2"]
    one_variance: Float[np.ndarray, "draw 2"]
    other_variance: Float[np.ndarray, "draw 2"]


def estimates(
    trends: tuple[Trend, Trend], scores: tuple[Float[np.ndarray, "draw rung1"], Float[np.ndarray, "draw rung2"]]
) -> Estimates:
    """Turn tilt and bend so that the covariances V_l = s_l^2 spread_l of both ladders are diagonal at once.

    W_1 whitens the first spread, U are the eigenvectors of W_1 spread_2 W_1' and lambda its eigenvalues: with A = W_1'
    U, A' spread_1 A = 1 and A' spread_2 A = diag(lambda), so c A has the variances s_1^2 and s_2^2 lambda.
    """
    one, other = trends
    across = one.whiten @ np.linalg.inv(other.whiten)
    lengths, turn = np.linalg.eigh(across @ across.T)
    axes = one.whiten.T @ turn
    (c1, s1), (c2, s2) = (trend.estimate(each) for trend, each in zip(trends, scores, strict=True))
    v1, v2 = s1[:, None] * np.ones(2), s2[:, None] * np.maximum(lengths, 1e-300)
    return Estimates(c1 @ axes, c2 @ axes, v1, v2)


def misfits(found: Estimates, angles: Float[np.ndarray, "#draw angle"]) -> Float[np.ndarray, "draw angle"]:
    """How far two curves are from one shape g at sizes (cos t, sin t), for each angle t.

    Q(t) = min_g sum_l (c_l - size_l g)' V_l^-1 (c_l - size_l g) = d' (sin^2 t V_1 + cos^2 t V_2)^-1 d, d = sin t c_1 -
    cos t c_2.

    Source: minimum distance; at 45 degrees it is the Welch-James statistic (James 1951, Biometrika 38).
    """
    sine, cosine = np.sin(angles), np.cos(angles)
    total = np.zeros((len(found.one), angles.shape[1]))
    for k in range(2):
        d = sine * found.one[:, k, None] - cosine * found.other[:, k, None]
        total += d**2 / (sine**2 * found.one_variance[:, k, None] + cosine**2 * found.other_variance[:, k, None])
    return total


def least_misfit(
    found: Estimates, angles: Float[np.ndarray, " angle"]
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]:
    """The least misfit of each draw and its angle; among several angles the search zooms in on the best."""
    grid = np.broadcast_to(angles, (len(found.one), len(angles)))
    every, zooms = np.arange(len(grid)), ZOOMS if len(angles) > 1 else 0
    for zoom in range(zooms + 1):
        misfit = misfits(found, grid)
        best = misfit.argmin(axis=1)
        at = grid[every, best]
        if zoom < zooms:
            low, high = grid[every, np.maximum(best - 1, 0)], grid[every, np.minimum(best + 1, grid.shape[1] - 1)]
            grid = np.linspace(low, high, 9, axis=1)
    return misfit[every, best], at


def common_shape(
    found: Estimates, angle: Float[np.ndarray, " draw"]
) -> tuple[Float[np.ndarray, "draw 2"], Float[np.ndarray, "draw 2"]]:
    """Both curves if they are one shape at sizes (cos t, sin t): g by generalised least squares, times its sizes."""
    one, other = np.cos(angle)[:, None], np.sin(angle)[:, None]
    precision = one**2 / found.one_variance + other**2 / found.other_variance
    shape = (one * found.one / found.one_variance + other * found.other / found.other_variance) / precision
    return one * shape, other * shape


def interaction(one: Trend, other: Trend, *, draws: int, rng: np.random.Generator, alpha: float = 0.05) -> Interaction:
    """Test one spacing of the rungs of two ladders, and bound how far their curves are apart.

    p = (1 + how many resampled curves of a common shape misfit it as much) / (1 + draws); for `p_shapes` both misfits
    are the least over the sizes. gap = max_u |f_1(u) - f_2(u)|, levels removed; gap_high adds the 1 - alpha quantile of
    max_u |resampled noise of this difference|, so it is the end of a simultaneous band.
    """
    found = estimates((one, other), (one.score[None], other.score[None]))
    noise = one.noise(draws, rng), other.noise(draws, rng)
    drawn = estimates((one, other), noise)
    least = 1e-9  # of the variances: rarely, random signs leave hardly any residual
    variances = {
        "one_variance": np.maximum(drawn.one_variance, least * found.one_variance),
        "other_variance": np.maximum(drawn.other_variance, least * found.other_variance),
    }

    def p_of(angles: Float[np.ndarray, " angle"]) -> float:
        observed, angle = least_misfit(found, angles)
        first, second = common_shape(found, angle)
        resampled, _ = least_misfit(Estimates(first + drawn.one, second + drawn.other, **variances), angles)
        return float((1 + (resampled >= observed * (1 - ROUNDING)).sum()) / (1 + draws))

    def apart(scores: tuple[np.ndarray, np.ndarray]) -> Float[np.ndarray, " draw"]:
        (c1, _), (c2, _) = one.estimate(scores[0]), other.estimate(scores[1])
        return np.asarray(np.abs((c1 - c2) @ legvander(GRID, 2)[:, 1:].T).max(axis=1))

    gap = float(apart((one.score[None], other.score[None]))[0])
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


def overlap_of(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """1 - total variation distance of two sets of class weights: sum over the classes of the smaller weight."""
    return float(sum(np.minimum(one[shape], other[shape]) for shape in one))


def holm_over(p: Sequence[float]) -> list[float]:
    """Adjust p values for their number; NaN, where nothing was tested, doesn't count.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    adjusted = list(p)
    tested = sorted((i for i in range(len(p)) if not np.isnan(p[i])), key=lambda i: p[i])
    largest = 0.0
    for place, i in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - place) * p[i]))
        adjusted[i] = largest
    return adjusted


def answer_of(
    verdicts: tuple[Name, Name],
    evidence: Interaction,
    overlap: float,
    *,
    smallest_effect: float,
    alpha: float,
) -> tuple[Answer, str]:
    """The rule, in order; also says why where it cannot tell.

    1. differ: p_shapes < alpha; or p_curves < alpha and one verdict is `flat`, the other any other that is decided.
    2. same: p_curves >= alpha, the same decided verdict, overlap >= .8, and gap_high < smallest_effect.
    3. else `cannot tell`.
    """
    decided = "cannot tell" not in verdicts
    if evidence.p_shapes < alpha or (evidence.p_curves < alpha and decided and verdicts.count("flat") == 1):
        return "differ", ""
    if evidence.p_curves < alpha:
        return "cannot tell", "their curves differ, but perhaps in size only, not in shape"
    if evidence.gap_high >= smallest_effect:
        return "cannot tell", f"no difference stands out, but one of up to {number(evidence.gap_high)} is not excluded"
    if not decided or verdicts[0] != verdicts[1]:
        return "cannot tell", "their curves lie close together, but which shape they have is not decided"
    if overlap < LEAST_OVERLAP:
        return "cannot tell", "their curves lie close together, but their class weights disagree"
    return "same", ""


def called(shape: LadderShape) -> str:
    """A ladder's verdict in words, or where its class weights lean."""
    article = {"valley": "a valley", "hump": "a hump"}
    if shape.verdict != "cannot tell":
        return article.get(shape.verdict, shape.verdict)
    known = {name: weight for name, weight in shape.class_weights.items() if not np.isnan(weight)}
    if not known:
        return "undecided"
    heaviest = max(known, key=lambda name: known[name])
    return f"undecided (most like {article.get(heaviest, heaviest)}, class weight {known[heaviest]:.2f})"


def sentence_of(names: tuple[str, str], shapes: tuple[LadderShape, LadderShape], pair: Pair) -> str:
    """The answer in one sentence, with its numbers."""
    (a, b), (one, other) = names, shapes
    told = [f"n = {one.n_rungs} and {other.n_rungs} rungs"]
    if pair.spacings:
        told.insert(0, f"interaction {p_text(pair.p_curves)}, beyond size {p_text(pair.p_shapes)}")
    if not np.isnan(pair.overlap):
        told.append(f"class weights overlap by {pair.overlap:.2f}")
    numbers = ", ".join(told)
    if pair.answer == "same":
        return f"{a} and {b} have the same shape here: both are {called(one)} ({numbers})."
    if pair.answer == "cannot tell":
        return f"The data can't tell whether {a} and {b} have the same shape here: {pair.reason} ({numbers})."
    if one.verdict == other.verdict != "cannot tell":
        return f"{a} and {b} differ in shape here: both are {called(one)}, but not by the same curve ({numbers})."
    return f"{a} and {b} differ in shape here: {a} is {called(one)}, {b} is {called(other)} ({numbers})."


def shape_of(verdict: Verdict, rungs: Rungs) -> LadderShape:
    """What is told of one ladder."""
    ends = (float(rungs.strength[0]), float(rungs.strength[-1])) if len(rungs) else (float("nan"), float("nan"))
    return LadderShape(
        verdict=verdict.verdict,
        sentence=verdict.sentence,
        class_weights=verdict.class_weights,
        strengths=ends,
        n_rungs=len(rungs),
        n_models=verdict.n_rows - verdict.n_dropped,
        n_dropped=verdict.n_dropped,
    )


def worst(found: Mapping[str, Interaction]) -> Interaction:
    """The more doubtful of the spacings in everything; NaN where none was tested.

    Equal curves have equal shapes: whoever doubts the shapes must doubt the curves, so p_shapes is not below p_curves.
    """
    every = tuple(found.values()) or (Interaction(*[float("nan")] * 4),)
    return Interaction(
        p_curves=max(each.p_curves for each in every),
        p_shapes=max(max(each.p_curves, each.p_shapes) for each in every),
        gap=max(each.gap for each in every),
        gap_high=max(each.gap_high for each in every),
    )


def compare(
    ladders: Mapping[str, Models],
    *,
    seed: int = 0,
    draws: int = 1999,
    smallest_effect: float = 0.05,
    alpha: float = 0.05,
) -> Comparison:
    """Decide for each pair of ladders whether they have the same shape of score over strength.

    The keys name the ladders in the sentences. Strength is to be in a unit that the ladders share (the share of all
    bits there are to gain); the tests depend on it through each ladder's order and spacing only. Rows with NaN are
    dropped and counted; rows of one group are seeds and are averaged; n is the number of rungs. With more than two
    ladders the p values are adjusted for the number of pairs. Fewer than 5 distinct strengths, or scores without any
    scatter, give `cannot tell` with the reason.

    Raises:
        ThalwegError: fewer than two ladders, or one that `judge` cannot use.

    Source: the rule is `answer_of`, the test `interaction`; verdicts and class weights are `judge`'s.
    """
    if len(ladders) < 2:
        raise ThalwegError(f"a comparison needs two ladders or more, and got {len(ladders)}; add another")
    common = {"smallest_effect": smallest_effect, "alpha": alpha}
    shapes: dict[str, LadderShape] = {}
    rungs: dict[str, Rungs] = {}
    for name, models in ladders.items():
        try:
            verdict = judge(
                models.strength,
                models.score,
                group=models.group,
                seed=seed,
                draws=draws,
                smallest_effect=smallest_effect,
                alpha=alpha,
            )
        except ThalwegError as error:
            raise ThalwegError(f"ladder {name!r}: {error}") from error
        strength, score = column("strength", models.strength), column("score", models.score)
        rungs[name], _ = rungs_of(strength, score, np.full(len(strength), np.nan), models.group)
        shapes[name] = shape_of(verdict, rungs[name])
    reasons = {name: untestable(name, each) for name, each in rungs.items()}

    def tested(place: int, a: str, b: str) -> dict[str, Interaction]:
        if reasons[a] or reasons[b]:
            return {}
        rng = np.random.default_rng([seed, 11, place])
        one, other = spacings_of(rungs[a]), spacings_of(rungs[b])
        return {how: interaction(one[how], other[how], draws=draws, rng=rng, alpha=alpha) for how in one}

    names = list(combinations(ladders, 2))
    found = [tested(place, a, b) for place, (a, b) in enumerate(names)]
    p_curves = holm_over([worst(each).p_curves for each in found])
    p_shapes = holm_over([worst(each).p_shapes for each in found])
    pairs = []
    for place, (a, b) in enumerate(names):
        evidence = replace(worst(found[place]), p_curves=p_curves[place], p_shapes=p_shapes[place])
        overlap = overlap_of(shapes[a].class_weights, shapes[b].class_weights)
        reason = " and ".join(filter(None, (reasons[a], reasons[b])))
        answer: Answer = "cannot tell"
        if not reason:
            answer, reason = answer_of((shapes[a].verdict, shapes[b].verdict), evidence, overlap, **common)
        pair = Pair((a, b), answer, "", reason, overlap, spacings=found[place], **asdict(evidence))
        pairs.append(replace(pair, sentence=sentence_of((a, b), (shapes[a], shapes[b]), pair)))
    told = " ".join(pair.sentence for pair in pairs)
    return Comparison(told, tuple(pairs), shapes, draws=draws, seed=seed, **common)
