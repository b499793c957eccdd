"""From a column of strengths and a column of scores to a verdict.

The tests of order use the order of strength only; class weights and the quadratic test also use its spacing. The time
grows with the number of models: with more than 60, what is left out one at a time is bounded (see `deletions`); with
more than 500, at most 1,000 null curves are simulated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from thalweg.errors import ThalwegError
from thalweg.progress import Progress
from thalweg.shape import planning
from thalweg.shape.deletions import LEAST_POINTS, changes_without
from thalweg.shape.evidence import Evidence, Settings, examine, null_for
from thalweg.shape.families import CLASSES
from thalweg.shape.order_tests import MANY, Basis, null_of, ordered_curve
from thalweg.shape.points import Points, Rungs, column, distinct, noise_sources, points_of, rungs_of
from thalweg.shape.published_tests import Companions, quadratic, thirds, two_lines
from thalweg.shape.sentences import (
    Prospects,
    flat_sentence,
    models,
    monotone_sentence,
    number,
    turning_sentence,
    uncertain_sentence,
)
from thalweg.shape.verdict import Fit, Name, Scatter, Sensitivity, Verdict, decide, manner

FRACTION, PERCENT = 0.05, 5.0  # the smallest effect by default, where scores run from 0 to 1 and where to 100
CLEARLY_PERCENT = 10.0  # a score above this, and none outside 0 to 100: no scale from 0 to 1, and no few units of one
TINY = 1e-60  # powers of smaller differences vanish
MOST_POINTS = 500  # with more, fewer null curves are simulated
DRAWS_OF_MANY = 1000


@dataclass(frozen=True, eq=False)
class Sample:
    """The rungs to be judged, and how many rows they come from."""

    rungs: Rungs
    n_rows: int
    n_dropped: int  # strength or score is NaN


@dataclass(frozen=True, eq=False)
class Decision:
    """The verdict by the rule, and what was derived on the way to it."""

    verdict: Name
    reason: str  # why it is `cannot tell`; empty otherwise
    changes_without: tuple[str, ...]  # the models without which the rule says something else
    prospects: Prospects
    manner: str | None
    fit: Fit


def verdict_under(rungs: Rungs, points: Points, settings: Settings) -> tuple[Evidence, Name]:
    """Evidence and verdict under the scatter assumption of the points; models are left out only where the rule asks."""
    evidence = examine(points, settings, complete=False)
    verdict = evidence.verdict
    if verdict in {"valley", "hump"} and len(changes_without(rungs, points.basis, evidence, settings, at_most=2)) > 1:
        verdict = "cannot tell"
    return evidence, verdict


def sensitivity_of(evidence: Evidence, verdict: Name) -> Sensitivity:
    """The verdict and the p values under one scatter assumption, for the record."""
    return Sensitivity(
        verdict=verdict,
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
    if n > MOST_POINTS:
        settings = replace(settings, draws=min(settings.draws, DRAWS_OF_MANY))
    primary = next((basis for basis in ("replicates", "residuals") if basis in by_basis), None)
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
    points = by_basis[primary]
    evidence = examine(points, settings, complete=True)
    depth, weighing = evidence.depth, evidence.weighing
    assert depth is not None  # `complete`
    assert weighing is not None
    decision = _decision(sample.rungs, primary, evidence, settings, progress)
    return Verdict(
        verdict=decision.verdict,
        sentence=_sentence(decision, evidence, len(sample.rungs), settings),
        reason=decision.reason,
        p=evidence.p,
        p_holm=evidence.p_holm,
        class_weights=weighing.class_weights,
        depth=depth,
        minimum_detectable_depth=decision.prospects.detectable,
        rungs_needed=decision.prospects.rungs,
        seeds_needed=decision.prospects.seeds,
        n_models=len(sample.rungs),
        n_points=len(points),
        n_rows=sample.n_rows,
        n_dropped=sample.n_dropped,
        stable_without_each=len(decision.changes_without) <= 1,
        changes_without=decision.changes_without,
        sensitivity=_sensitivities(sample.rungs, by_basis, {primary: (evidence, decision.verdict)}, settings),
        thirds=thirds(points.score, points.variance, df=points.df, alpha=settings.alpha),
        companions=_companions(points, settings.alpha),
        scatter=Scatter(points.basis, rms(points), points.df),
        best_family=weighing.families[0] if weighing.families else None,
        families_left_out=weighing.left_out,
        manner=decision.manner,
        fit=decision.fit,
        smallest_effect=settings.smallest_effect,
        alpha=settings.alpha,
        draws=settings.draws,
        seed=settings.seed,
    )


def _decision(
    rungs: Rungs, basis: Basis, evidence: Evidence, settings: Settings, progress: Progress | None
) -> Decision:
    """Apply the rule to complete evidence."""
    points, depth, weighing = evidence.points, evidence.depth, evidence.weighing
    assert depth is not None
    assert weighing is not None
    changed = changes_without(rungs, basis, evidence, settings, progress=progress)
    verdict, reason = decide(
        p_holm=evidence.p_holm,
        p_flat=evidence.p["flat"],
        depth_low=depth.low,
        class_weights=weighing.class_weights,
        stable=len(changed) <= 1,
        alpha=settings.alpha,
    )
    detectable = least_depth(points, settings)
    more_rungs, more_seeds = plan(rungs, points, settings) if verdict == "cannot tell" else (None, None)
    drawn = verdict if verdict != "cannot tell" else min(evidence.p_holm, key=lambda shape: evidence.p[shape])
    levels = ordered_curve(drawn, points.score, points.variance)
    return Decision(
        verdict,
        reason,
        changed,
        Prospects(detectable, more_rungs, more_seeds, replicated=basis == "replicates"),
        manner(verdict, weighing.families),
        Fit(drawn, tuple(points.strength.tolist()), tuple(levels.tolist())),
    )


def _sentence(decision: Decision, evidence: Evidence, n: int, settings: Settings) -> str:
    """The verdict on n models in one sentence."""
    verdict, depth, weighing = decision.verdict, evidence.depth, evidence.weighing
    assert depth is not None
    assert weighing is not None
    if verdict in {"valley", "hump"}:
        return turning_sentence(depth, evidence.p_holm[verdict], weighing.class_weights[verdict], n, settings.alpha)
    if verdict in {"increasing", "decreasing"}:
        ends = decision.fit.y[0], decision.fit.y[-1]
        p, p_turn = evidence.p_holm[verdict], evidence.p_holm[depth.shape]
        return monotone_sentence(verdict, p, ends, n, how=decision.manner, turn=depth, p_turn=p_turn)
    if verdict == "flat":
        return flat_sentence(evidence.p["flat"], effect_text(settings), n)
    return uncertain_sentence(
        decision.reason,
        n,
        evidence.p_holm,
        decision.prospects,
        effect=settings.smallest_effect,
        effect_text=effect_text(settings),
    )


def _sensitivities(
    rungs: Rungs, by_basis: dict[Basis, Points], known: dict[Basis, tuple[Evidence, Name]], settings: Settings
) -> dict[str, Sensitivity]:
    """The verdict under each scatter assumption; `known` ones are not derived again."""
    return {
        str(basis): sensitivity_of(*(known.get(basis) or verdict_under(rungs, points, settings)))
        for basis, points in by_basis.items()
    }


def _companions(points: Points, alpha: float) -> Companions:
    """The tests of other papers."""
    return Companions(
        quadratic(points.strength, points.score, points.variance, alpha=alpha),
        two_lines(points.strength, points.score, alpha=alpha),
    )


def effect_text(settings: Settings) -> str:
    """The smallest effect as a sentence says it."""
    return f"{number(settings.smallest_effect)}{' percentage points' if settings.percent else ''}"


def least_depth(points: Points, settings: Settings) -> float | None:
    """The smallest depth that these points could have shown; of many points, what `MANY` means of neighbours could."""
    level = settings.alpha / 2  # half: Holm over valley and hump
    if len(points) <= MANY:
        least = planning.detectable(null_for(points, settings.draws, settings.seed), level)
        return None if least is None else least * rms(points)
    starts = np.linspace(0, len(points), MANY, endpoint=False).astype(int)
    variance = 1.0 / np.add.reduceat(1.0 / points.variance, starts)
    basis: Basis = "replicates" if np.isfinite(points.df) else "known"  # the estimate stays as sure as it is
    null = null_of(variance, basis=basis, df=points.df, draws=settings.draws, seed=settings.seed)
    least = planning.detectable(null, level)
    return None if least is None else least * float(np.sqrt(variance.mean()))


def plan(rungs: Rungs, points: Points, settings: Settings) -> tuple[int | None, int | None]:
    """Rungs, or seeds a rung, that would show a valley of the smallest effect."""
    seeds = float(rungs.seeds.mean())
    sd, level = rms(points), settings.alpha / 2
    common = {"effect": settings.smallest_effect, "level": level}
    more_rungs = planning.rungs_needed(len(points), sd, points.basis, seeds, **common, seed=settings.seed)
    few = min(len(points), MANY)  # of many points, means of neighbours
    sd_of_one = sd * float(np.sqrt(seeds)) * (few / len(points)) ** 0.5
    more_seeds = planning.seeds_needed(few, sd_of_one, int(seeds), **common, seed=settings.seed)
    return more_rungs, more_seeds


def speechless(reason: str, sample: Sample, settings: Settings) -> Verdict:
    """`cannot tell` where nothing can be tested at all."""
    nan = float("nan")
    p = dict.fromkeys(("valley", "hump", "increasing", "decreasing", "flat"), nan)
    return Verdict(
        verdict="cannot tell",
        sentence=f"Cannot tell from {models(len(sample.rungs))}: {reason}.",
        reason=reason,
        p=p,
        p_holm={shape: nan for shape in p if shape != "flat"},
        class_weights=dict.fromkeys(CLASSES, nan),
        depth=None,
        minimum_detectable_depth=None,
        rungs_needed=None,
        seeds_needed=None,
        n_models=len(sample.rungs),
        n_points=distinct(sample.rungs),
        n_rows=sample.n_rows,
        n_dropped=sample.n_dropped,
        stable_without_each=False,
        changes_without=(),
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
