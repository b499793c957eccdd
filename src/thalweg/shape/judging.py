"""From a column of strengths and a column of scores to a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from thalweg.errors import ThalwegError
from thalweg.shape import planning
from thalweg.shape.companions import Companions, quadratic, thirds, two_lines
from thalweg.shape.families import CLASSES, Weighing, weigh
from thalweg.shape.orders import Basis, Null, flat_p, holm, null_of, order_p, ordered_curve, valley_fits
from thalweg.shape.rungs import Points, Rungs, bases, column, distinct, points_of, rungs_of
from thalweg.shape.verdict import (
    Depth,
    Fit,
    Name,
    Scatter,
    Sensitivity,
    Verdict,
    decide,
    flat_sentence,
    manner,
    models,
    monotone_sentence,
    turning_sentence,
    uncertain_sentence,
)

LEAST_POINTS = 4  # three points always make a line, a valley or a hump
DEPTH_DRAWS = 1000
DELETION_DRAWS = 1000  # a deletion asks for the class of a verdict, not for digits of p


@dataclass(frozen=True)
class Settings:
    """What was fixed beforehand."""

    seed: int
    draws: int
    smallest_effect: float
    alpha: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one scatter assumption says, before any model is left out."""

    points: Points
    p: dict[str, float]
    p_holm: dict[str, float]
    depth: Depth | None  # None where no turn had to be measured
    weighing: Weighing | None
    verdict: Name


def null_for(points: Points, draws: int, seed: int) -> Null:
    """The null hypothesis that these points are tested against."""
    return null_of(points.variance, basis=points.basis, df=points.null_df, draws=draws, seed=seed)


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
    fitted = ordered_curve("valley", score, points.variance)
    raw = float(valley_fits(score[None], points.variance).depth[0])
    rng = np.random.default_rng([settings.seed, 3])
    draws = min(settings.draws, DEPTH_DRAWS)
    noise = rng.standard_normal((draws, len(points))) * np.sqrt(points.variance)
    if np.isfinite(points.df):
        noise *= np.sqrt(points.df / rng.chisquare(points.df, draws))[:, None]
    again = valley_fits(fitted + noise, points.variance).depth
    far = float(np.quantile(again, 1 - settings.alpha / 2))
    at = points.strength[np.isclose(fitted, fitted.min(), rtol=0, atol=1e-12 * (1 + np.abs(fitted).max()))]
    return Depth(
        shape="valley" if shape == "valley" else "hump",
        value=max(0.0, 2 * raw - float(again.mean())),
        low=max(0.0, 2 * raw - far),
        high=far,
        strength_at_extremum=float((at[0] + at[-1]) / 2),
    )


def examine(points: Points, settings: Settings, *, complete: bool) -> Evidence:
    """Test the points and apply the rule as if no single model mattered.

    Depth and families, the slow parts, are found only where the rule asks for them, unless `complete`.
    """
    null = null_for(points, settings.draws, settings.seed)
    p = {shape: float(values[0]) for shape, values in order_p(points.score[None], points.variance, null).items()}
    p["flat"] = flat_p(points.score, points.variance, points.df, settings.smallest_effect)
    p_holm = holm(p, ("valley", "hump")) | holm(p, ("increasing", "decreasing"))
    turn = min(("valley", "hump"), key=lambda shape: p[shape])
    depth, weighing = None, None
    if complete or p_holm[turn] < settings.alpha:
        depth = depth_of(points, turn, settings)
        weighing = weigh(points.strength, points.score, points.known, observations=points.observations)
    verdict, _ = decide(
        p_holm=p_holm,
        p_flat=p["flat"],
        depth_low=depth.low if depth else 0.0,
        class_weights=weighing.class_weights if weighing else dict.fromkeys(CLASSES, 0.0),
        stable=True,
        alpha=settings.alpha,
    )
    return Evidence(points, p, p_holm, depth, weighing, verdict)


def changes_without(
    rungs: Rungs, basis: Basis, verdict: Name, settings: Settings, *, at_most: int | None = None
) -> tuple[str, ...]:
    """Names of the models without which the verdict would be another; stops looking after `at_most` of them."""
    fewer = Settings(settings.seed, min(settings.draws, DELETION_DRAWS), settings.smallest_effect, settings.alpha)
    changed = []
    for i, name in enumerate(rungs.names):
        rest = rungs.keep(np.arange(len(rungs)) != i)
        points = points_of(rest, basis) if distinct(rest) >= LEAST_POINTS and basis in bases(rest) else None
        other = examine(points, fewer, complete=False).verdict if points else "cannot tell"
        if other != verdict:
            changed.append(name)
        if len(changed) == at_most:
            break
    return tuple(changed)


def verdict_under(rungs: Rungs, points: Points, settings: Settings) -> tuple[Evidence, Name]:
    """Evidence and verdict under the scatter assumption of the points; models are left out only where the rule asks."""
    evidence = examine(points, settings, complete=False)
    verdict = evidence.verdict
    if verdict in {"valley", "hump"} and len(changes_without(rungs, points.basis, verdict, settings, at_most=2)) > 1:
        verdict = "cannot tell"
    return evidence, verdict


def sensitivity_of(evidence: Evidence, verdict: Name) -> Sensitivity:
    """What is told of one scatter assumption."""
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
    smallest_effect: float = 0.05,
    alpha: float = 0.05,
) -> Verdict:
    """Decide which shape the scores of a family of models have over their strength.

    One row a model. `group` names each row's configuration; rows of one configuration are seeds of it and are averaged,
    and n is the number of configurations. `se` is the standard error of each score within its model, in score units,
    NaN where unknown; it can make the scatter larger, never smaller. Rows with NaN in strength or score are dropped and
    counted. The tests of order use the order of strength only; class weights and the quadratic test also use its
    spacing.

    Fewer than 4 distinct strengths, or scores without any scatter, give `cannot tell` with the reason.

    Raises:
        ThalwegError: columns of different lengths, an infinity, a negative standard error, or a setting out of its
        range.

    Source: the rule is `verdict.decide`; the tests and their sources are in `orders`, `families` and `companions`.
    """
    strengths = column("strength", strength)
    scores = column("score", score, len(strengths))
    errors = np.full(len(strengths), np.nan) if se is None else column("se", se, len(strengths))
    settings = checked(Settings(seed, draws, float(smallest_effect), float(alpha)))
    if (errors < 0).any():
        raise ThalwegError(
            f"se is negative in row {np.flatnonzero(errors < 0)[0]}; a standard error is 0 or more, or NaN for unknown"
        )
    if group is not None and len(group) != len(strengths):
        raise ThalwegError(
            f"group has {len(group)} rows and strength has {len(strengths)}; name one configuration a model"
        )
    missing = [i for i, label in enumerate(group if group is not None else ()) if label is None]
    if missing:
        raise ThalwegError(f"group is missing in row {missing[0]}; name the configuration of every model")
    rungs, dropped = rungs_of(strengths, scores, errors, group)
    n = distinct(rungs)
    if n < LEAST_POINTS:
        return speechless(
            f"a shape needs {LEAST_POINTS} distinct strengths, and there are {n}",
            rungs,
            len(strengths),
            dropped,
            settings,
        )
    found = {basis: points for basis in bases(rungs) if (points := points_of(rungs, basis)) is not None}
    primary = next((basis for basis in ("replicates", "residuals") if basis in found), None)
    if primary is None:
        why = "the scores lie on a line without any scatter, so nothing says how far chance moves them; add seeds"
        return speechless(why, rungs, len(strengths), dropped, settings)
    return judged(rungs, found, primary, len(strengths), dropped, settings)


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
    rungs: Rungs, found: dict[Basis, Points], primary: Basis, n_rows: int, dropped: int, settings: Settings
) -> Verdict:
    """The verdict on data that can be tested."""
    points = found[primary]
    evidence = examine(points, settings, complete=True)
    depth, weighing = evidence.depth, evidence.weighing
    assert depth is not None  # `complete`
    assert weighing is not None
    changed = changes_without(rungs, primary, evidence.verdict, settings)
    stable = len(changed) <= 1
    verdict, reason = decide(
        p_holm=evidence.p_holm,
        p_flat=evidence.p["flat"],
        depth_low=depth.low,
        class_weights=weighing.class_weights,
        stable=stable,
        alpha=settings.alpha,
    )
    sd, level = rms(points), settings.alpha / 2  # half: Holm over valley and hump
    least = planning.detectable(null_for(points, settings.draws, settings.seed), level)
    detectable = None if least is None else least * sd
    rungs_more, seeds_more = plan(rungs, points, settings) if verdict == "cannot tell" else (None, None)
    drawn = verdict if verdict != "cannot tell" else min(evidence.p_holm, key=lambda shape: evidence.p[shape])
    levels = ordered_curve(drawn, points.score, points.variance)
    how = manner(verdict, weighing.families)
    n = len(rungs)
    if verdict in {"valley", "hump"}:
        sentence = turning_sentence(depth, evidence.p_holm[verdict], weighing.class_weights[verdict], n, settings.alpha)
    elif verdict in {"increasing", "decreasing"}:
        ends = (float(levels[0]), float(levels[-1]))
        sentence = monotone_sentence(
            verdict, evidence.p_holm[verdict], ends, n, how=how, turn=depth, p_turn=evidence.p[depth.shape]
        )
    elif verdict == "flat":
        sentence = flat_sentence(evidence.p["flat"], settings.smallest_effect, n)
    else:
        sentence = uncertain_sentence(
            reason,
            n,
            evidence.p,
            detectable=detectable,
            effect=settings.smallest_effect,
            rungs=rungs_more,
            seeds=seeds_more,
            replicated=primary == "replicates",
        )
    return Verdict(
        verdict=verdict,
        sentence=sentence,
        reason=reason,
        p=evidence.p,
        p_holm=evidence.p_holm,
        class_weights=weighing.class_weights,
        depth=depth,
        minimum_detectable_depth=detectable,
        rungs_needed=rungs_more,
        seeds_needed=seeds_more,
        n_models=n,
        n_points=len(points),
        n_rows=n_rows,
        n_dropped=dropped,
        stable_without_each=stable,
        changes_without=changed,
        sensitivity={
            str(basis): sensitivity_of(
                *((evidence, verdict) if basis == primary else verdict_under(rungs, other, settings))
            )
            for basis, other in found.items()
        },
        thirds=thirds(points.score, points.variance, df=points.df, alpha=settings.alpha),
        companions=Companions(
            quadratic(points.strength, points.score, points.variance, alpha=settings.alpha),
            two_lines(points.strength, points.score, alpha=settings.alpha),
        ),
        scatter=Scatter(points.basis, sd, points.df),
        best_family=weighing.families[0] if weighing.families else None,
        families_left_out=weighing.left_out,
        manner=how,
        fit=Fit(drawn, tuple(points.strength.tolist()), tuple(levels.tolist())),
        smallest_effect=settings.smallest_effect,
        alpha=settings.alpha,
        draws=settings.draws,
        seed=settings.seed,
    )


def plan(rungs: Rungs, points: Points, settings: Settings) -> tuple[int | None, int | None]:
    """Rungs, or seeds a rung, that would show a valley of the smallest effect."""
    seeds = float(rungs.seeds.mean())
    sd, level = rms(points), settings.alpha / 2
    common = {"effect": settings.smallest_effect, "level": level}
    more_rungs = planning.rungs_needed(len(points), sd, points.basis, seeds, **common, seed=settings.seed)
    more_seeds = planning.seeds_needed(
        len(points), sd * float(np.sqrt(seeds)), int(seeds), **common, seed=settings.seed
    )
    return more_rungs, more_seeds


def speechless(reason: str, rungs: Rungs, n_rows: int, dropped: int, settings: Settings) -> Verdict:
    """`cannot tell` where nothing can be tested at all."""
    nan = float("nan")
    p = dict.fromkeys(("valley", "hump", "increasing", "decreasing", "flat"), nan)
    return Verdict(
        verdict="cannot tell",
        sentence=f"Cannot tell from {models(len(rungs))}: {reason}.",
        reason=reason,
        p=p,
        p_holm={shape: nan for shape in p if shape != "flat"},
        class_weights=dict.fromkeys(CLASSES, nan),
        depth=None,
        minimum_detectable_depth=None,
        rungs_needed=None,
        seeds_needed=None,
        n_models=len(rungs),
        n_points=distinct(rungs),
        n_rows=n_rows,
        n_dropped=dropped,
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
