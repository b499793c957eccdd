"""From a column of strengths and a column of scores to a verdict.

The tests of order and the class weights use the order of strength only; the named curve and the tests of other papers
also use its spacing. More than 60 distinct strengths are pooled (see `points`), so 1,500 models take a few seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from thalweg.errors import ThalwegError
from thalweg.progress import Progress
from thalweg.shape import planning
from thalweg.shape.deletions import LEAST_POINTS, changes_without
from thalweg.shape.evidence import Evidence, Settings, depth_of, examine, null_for
from thalweg.shape.exclusion import SHARE
from thalweg.shape.families import CLASSES, FittedFamily, weigh
from thalweg.shape.order_tests import Basis, ordered_curve, valley_fits
from thalweg.shape.points import Points, Rungs, column, distinct, noise_sources, points_of, rungs_of
from thalweg.shape.published_tests import Companions, quadratic, thirds, two_lines
from thalweg.shape.sentences import (
    Prospects,
    by_the_curve,
    flat_sentence,
    models,
    monotone_sentence,
    number,
    open_sentence,
    resting_on,
    rival,
    turning_sentence,
    uncertain_sentence,
)
from thalweg.shape.verdict import SLOPES, TURNS, Depth, Fit, Name, Scatter, Sensitivity, Verdict, manner, says

FRACTION, PERCENT = 0.05, 5.0  # the smallest effect by default, where scores run from 0 to 1 and where to 100
CLEARLY_PERCENT = 10.0  # a score above this, and none outside 0 to 100: no scale from 0 to 1, and no few units of one
TINY = 1e-60  # powers of smaller differences vanish


@dataclass(frozen=True, eq=False)
class Sample:
    """The rungs to be judged, and how many rows they come from."""

    rungs: Rungs
    n_rows: int
    n_dropped: int  # strength or score is NaN


@dataclass(frozen=True, eq=False)
class Weighed:
    """What stands beside the tests and qualifies the verdict."""

    depth: Depth  # of the turn of smaller p
    class_weights: dict[str, float]
    families: tuple[FittedFamily, ...]  # best first, on the axis as given
    left_out: tuple[str, ...]
    changes_without: dict[str, Name]
    prospects: Prospects


def sensitivity_of(evidence: Evidence) -> Sensitivity:
    """The verdict and the p values under one scatter assumption, for the record."""
    return Sensitivity(
        verdict=evidence.verdict,
        p_valley=evidence.p["valley"],
        p_hump=evidence.p["hump"],
        p_decreasing=evidence.p["decreasing"],
        p_increasing=evidence.p["increasing"],
        sd=rms(evidence.points),
        df=evidence.points.df,
        valid=evidence.points.basis != "within",
    )


def rms(points: Points) -> float:
    """Root mean variance of a point."""
    return float(np.sqrt(points.variance.mean()))


def judge(
    strength: ArrayLike,
    score: ArrayLike,
    *,
    se: ArrayLike | None = None,
    group: Sequence[object] | None = None,
    seed: int = 0,
    draws: int = 4000,
    smallest_effect: float | None = None,
    alpha: float = 0.05,
    progress: Progress | None = None,
) -> Verdict:
    """Decide which shape the scores of a family of models have over their strength.

    Each row is a model. Rows with NaN in strength or score are dropped and counted. Fewer than 4 distinct strengths, or
    scores without any scatter, give `cannot tell` with the reason.

    Args:
        strength: (row), on any increasing scale.
        score: (row), in any unit.
        se: (row), the standard error of each score within its model, in score units, NaN where unknown. It can make the
            scatter larger, never smaller.
        group: (row), the configuration of each model. Rows of one configuration are its seeds and are averaged; n is
            the number of configurations.
        seed: Of the simulated null curves.
        draws: How many null curves are simulated.
        smallest_effect: The least difference that matters, in score units; a curve is flat if all differences are shown
            to be smaller. By default .05, and 5 for percentages (all scores from 0 to 100, one above 10).
        alpha: The level of the tests.
        progress: What is told of the steps.

    Returns:
        The verdict, with its sentence and all numbers that it rests on.

    Raises:
        ThalwegError: Columns of different lengths, an infinity, a number too large or too small to calculate with, a
            negative standard error, or a setting out of its range.

    Example:
        >>> from thalweg.shape import judge
        >>> verdict = judge([1, 2, 3, 4, 5, 6], [0.61, 0.64, 0.71, 0.78, 0.80, 0.86])
        >>> verdict.verdict, verdict.n_models
        ('increasing', 6)

    Source: the rule is `verdict.decide`; the tests are in `order_tests`, `families` and `published_tests`.
    """
    strengths = column("strength", strength)
    scores = column("score", score, len(strengths))
    errors = np.full(len(strengths), np.nan) if se is None else column("se", se, len(strengths))
    effect, percent = effect_of(scores, smallest_effect)
    settings = checked(Settings(seed, draws, effect, float(alpha), percent))
    _check_rows(strengths, scores, errors, group)
    rungs, dropped = rungs_of(strengths, scores, errors, group)
    return _judge_sample(Sample(rungs, len(strengths), dropped), settings, progress)


def _check_rows(
    strengths: Float[np.ndarray, " row"],
    scores: Float[np.ndarray, " row"],
    errors: Float[np.ndarray, " row"],
    group: Sequence[object] | None,
) -> None:
    """Refuse rows that cannot be judged.

    Raises:
        ThalwegError: differences too small to calculate with, a negative standard error, or a missing configuration.
    """
    _spread_out("strength", strengths)
    _spread_out("score", scores)
    if (errors < 0).any():
        row = np.flatnonzero(errors < 0)[0] + 1
        raise ThalwegError(f"se is negative in row {row}; a standard error is 0 or more, or NaN for unknown")
    if group is not None and len(group) != len(strengths):
        raise ThalwegError(
            f"group has {len(group)} rows and strength has {len(strengths)}; name one configuration a model"
        )
    missing = [i for i, label in enumerate(group if group is not None else ()) if label is None]
    if missing:
        raise ThalwegError(f"group is missing in row {missing[0] + 1}; name the configuration of every model")


def _judge_sample(sample: Sample, settings: Settings, progress: Progress | None) -> Verdict:
    """The verdict, or why nothing can be tested."""
    rungs, n = sample.rungs, distinct(sample.rungs)
    if n < LEAST_POINTS:
        return speechless(f"a shape needs {LEAST_POINTS} distinct strengths, and there are {n}", sample, settings)
    by_basis = {basis: points for basis in noise_sources(rungs) if (points := points_of(rungs, basis)) is not None}
    wanted: tuple[Basis, ...] = ("replicates", "residuals")
    primary = next((basis for basis in wanted if basis in by_basis), None)
    if primary is None:
        why = "the scores lie on a line without any scatter, so nothing says how far chance moves them; add seeds"
        return speechless(why, sample, settings)
    return judged(sample, by_basis, primary, settings, progress)


def effect_of(score: Float[np.ndarray, " row"], wanted: float | None) -> tuple[float, bool]:
    """The smallest effect in units of the score, and whether the scores were taken for percentages to find it."""
    if wanted is not None:
        return float(wanted), False
    known = score[np.isfinite(score)]
    percent = len(known) > 0 and bool(known.min() >= 0 and CLEARLY_PERCENT < known.max() <= 100)
    return (PERCENT if percent else FRACTION), percent


def _spread_out(name: str, values: Float[np.ndarray, " row"]) -> None:
    """Check that the powers of differences do not vanish.

    Raises:
        ThalwegError: all differences are too small.
    """
    known = values[~np.isnan(values)]
    apart = float(np.ptp(known)) if len(known) else 0.0
    if 0 < apart < TINY:
        raise ThalwegError(
            f"{name} differs by {apart:g} at most, too little to be calculated with; give it in a smaller unit"
        )


def checked(settings: Settings) -> Settings:
    """The settings, if they make sense.

    Raises:
        ThalwegError: one of them is out of its range.
    """
    if not 0 < settings.alpha < 1:
        raise ThalwegError(f"alpha is {settings.alpha}; give a level between 0 and 1, such as 0.05")
    if settings.draws < 100:
        raise ThalwegError(f"draws is {settings.draws}; give at least 100 simulated curves (the default is 4000)")
    if settings.seed < 0:
        raise ThalwegError(f"seed is {settings.seed}; give 0 or more")
    if not (settings.smallest_effect > 0 and np.isfinite(settings.smallest_effect)):
        raise ThalwegError(
            f"smallest_effect is {settings.smallest_effect}; give a positive number in units of the score"
        )
    return settings


def judged(
    sample: Sample,
    by_basis: dict[Basis, Points],
    primary: Basis,
    settings: Settings,
    progress: Progress | None,
) -> Verdict:
    """The verdict on data that can be tested; `primary` is the scatter assumption that it rests on."""
    every = {basis: examine(points, settings) for basis, points in by_basis.items()}
    evidence, points = every[primary], by_basis[primary]
    weighed = _weighed(sample.rungs, primary, evidence, settings, progress)
    how = manner(evidence.verdict, weighed.families)
    fit = _fit(evidence)
    return Verdict(
        verdict=evidence.verdict,
        sentence=_sentence(evidence, weighed, fit, how, len(sample.rungs), settings)
        + by_the_curve(evidence.verdict, every.get("residuals", evidence).verdict),
        reason=evidence.reason,
        p=evidence.p,
        class_weights=weighed.class_weights,
        depth=weighed.depth,
        minimum_detectable_depth=weighed.prospects.detectable,
        rungs_needed=weighed.prospects.rungs,
        seeds_needed=weighed.prospects.seeds,
        seeds_to_decide=weighed.prospects.seeds_to_decide,
        n_models=len(sample.rungs),
        n_points=distinct(sample.rungs),
        n_rows=sample.n_rows,
        n_dropped=sample.n_dropped,
        stable_without_each=not weighed.changes_without,
        changes_without=weighed.changes_without,
        sensitivity={str(basis): sensitivity_of(each) for basis, each in every.items()},
        thirds=thirds(points.score, points.variance, df=points.df, alpha=settings.alpha),
        companions=_companions(points, settings.alpha),
        scatter=Scatter(points.basis, rms(points), points.df),
        best_family=weighed.families[0] if weighed.families else None,
        families_left_out=weighed.left_out,
        manner=how,
        fit=fit,
        smallest_effect=settings.smallest_effect,
        alpha=settings.alpha,
        draws=settings.draws,
        seed=settings.seed,
    )


def _weighed(rungs: Rungs, basis: Basis, evidence: Evidence, settings: Settings, progress: Progress | None) -> Weighed:
    """Depth, class weights, single models and prospects."""
    points, p = evidence.points, evidence.p
    depth = depth_of(points, min(TURNS, key=lambda shape: p[shape]), settings)
    ranks = np.arange(len(points), dtype=float)
    by_rank = weigh(ranks, points.score, points.known, observations=points.observations)
    by_strength = weigh(points.strength, points.score, points.known, observations=points.observations)
    changed = changes_without(rungs, basis, evidence, settings, progress=progress)
    return Weighed(
        depth,
        by_rank.class_weights,
        by_strength.families,
        by_strength.left_out,
        changed,
        _prospects(rungs, evidence, depth, settings),
    )


def _prospects(rungs: Rungs, evidence: Evidence, depth: Depth, settings: Settings) -> Prospects:
    """What the models could have shown; and, where the verdict is open, what would decide."""
    points, seeds = evidence.points, float(rungs.seeds.mean())
    least = planning.detectable(null_for(points, settings.draws, settings.seed), settings.alpha)
    detectable = None if least is None else least * rms(points)
    replicated = points.basis == "replicates"
    if evidence.verdict in {*TURNS, *SLOPES, "flat"}:
        return Prospects(detectable, None, None, None, replicated)
    sd_of_one = rms(points) * float(np.sqrt(seeds))
    level, seed, effect = settings.alpha, settings.seed, settings.smallest_effect
    more_rungs = planning.rungs_needed(
        len(points), rms(points), points.basis, seeds, effect=effect, level=level, seed=seed
    )
    few = min(len(points), planning.MOST_RUNGS)  # of many points, means of neighbours
    sd_of_few = sd_of_one * (few / len(points)) ** 0.5
    more_seeds = planning.seeds_needed(few, sd_of_few, int(seeds), effect=effect, level=level, seed=seed)
    turn = _likely_turn(points, depth)
    decisive = None if turn is None else planning.seeds_to_decide(turn, sd_of_one, int(seeds), level=level, seed=seed)
    return Prospects(detectable, more_rungs, more_seeds, decisive, replicated)


def _likely_turn(points: Points, depth: Depth) -> Float[np.ndarray, " point"] | None:
    """The turn that fits best, as a valley, made as deep as it is without the bias of its depth; None if that is 0."""
    score = points.score if depth.shape == "valley" else -points.score
    raw = float(valley_fits(score[None], points.variance).depth[0])
    if not depth.value > 0 or not raw > 0:
        return None
    return ordered_curve("valley", score, points.variance) * (depth.value / raw)


def _fit(evidence: Evidence) -> Fit:
    """The curve of the verdict's shape; of `cannot tell`, of the shape of smallest p."""
    points, p = evidence.points, evidence.p
    shape = says(evidence.verdict)
    if shape == "cannot tell":
        shape = min((*TURNS, *SLOPES), key=lambda each: p[each])
    levels = ordered_curve(shape, points.score, points.variance)
    return Fit(shape, tuple(points.strength.tolist()), tuple(levels.tolist()))


def _sentence(evidence: Evidence, weighed: Weighed, fit: Fit, how: str | None, n: int, settings: Settings) -> str:
    """The verdict on n models in words, with what qualifies it."""
    verdict, p, depth = evidence.verdict, evidence.p, weighed.depth
    ends = fit.y[0], fit.y[-1]
    if verdict in TURNS:
        sentence = turning_sentence(depth, p[verdict], n, settings.alpha)
        sentence += rival(verdict, weighed.class_weights, evidence.points.observations)
    elif verdict in SLOPES:
        least = max(settings.smallest_effect, SHARE * abs(ends[1] - ends[0]))
        sentence = monotone_sentence(verdict, p, ends, n, how=how, turn=depth, least=least)
    elif verdict == "flat":
        sentence = flat_sentence(p["flat"], effect_text(settings), n)
    elif verdict == "cannot tell":
        sentence = uncertain_sentence(
            evidence.reason,
            n,
            p,
            weighed.prospects,
            effect=settings.smallest_effect,
            effect_text=effect_text(settings),
        )
    else:
        sentence = open_sentence(says(verdict), p, ends, n, turn=depth, prospects=weighed.prospects)
    return sentence + resting_on(weighed.changes_without, n, sure=verdict != "cannot tell")


def _companions(points: Points, alpha: float) -> Companions:
    """The tests of other papers."""
    return Companions(
        quadratic(points.strength, points.score, points.variance, alpha=alpha),
        two_lines(points.strength, points.score, alpha=alpha),
    )


def effect_text(settings: Settings) -> str:
    """The smallest effect as a sentence says it."""
    return f"{number(settings.smallest_effect)}{' percentage points' if settings.percent else ''}"


def speechless(reason: str, sample: Sample, settings: Settings) -> Verdict:
    """`cannot tell` where nothing can be tested at all."""
    nan = float("nan")
    p = dict.fromkeys(("valley", "hump", "increasing", "decreasing", "flat"), nan)
    return Verdict(
        verdict="cannot tell",
        sentence=f"Cannot tell from {models(len(sample.rungs))}: {reason}.",
        reason=reason,
        p=p,
        class_weights=dict.fromkeys(CLASSES, nan),
        depth=None,
        minimum_detectable_depth=None,
        rungs_needed=None,
        seeds_needed=None,
        seeds_to_decide=None,
        n_models=len(sample.rungs),
        n_points=distinct(sample.rungs),
        n_rows=sample.n_rows,
        n_dropped=sample.n_dropped,
        stable_without_each=False,
        changes_without={},
        sensitivity={},
        thirds=None,
        companions=None,
        scatter=None,
        best_family=None,
        families_left_out=(),
        manner=None,
        fit=None,
        smallest_effect=settings.smallest_effect,
        alpha=settings.alpha,
        draws=settings.draws,
        seed=settings.seed,
    )
