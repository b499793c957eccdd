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

from thalweg.errors import ThalwegError
from thalweg.shape.holm import holm
from thalweg.shape.interaction import (
    LEAST_OVERLAP,
    Interaction,
    LadderShape,
    Models,
    interaction,
    overlap_of,
    spacings_of,
    untestable,
)
from thalweg.shape.judging import judge
from thalweg.shape.points import Rungs, column, rungs_of
from thalweg.shape.sentences import number, p_text
from thalweg.shape.verdict import OPEN, Name, Verdict, as_record

Answer = Literal["differ", "same", "cannot tell"]


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
    2. same: p_curves >= alpha, the same verdict with nothing left open, overlap >= .8, and gap_high < smallest_effect.
    3. else `cannot tell`.
    """
    decided = "cannot tell" not in verdicts
    closed = decided and not set(verdicts) & set(OPEN.values())
    if evidence.p_shapes < alpha or (evidence.p_curves < alpha and decided and verdicts.count("flat") == 1):
        return "differ", ""
    if evidence.p_curves < alpha:
        return "cannot tell", "their curves differ, but perhaps in size only, not in shape"
    if evidence.gap_high >= smallest_effect:
        return "cannot tell", f"no difference stands out, but one of up to {number(evidence.gap_high)} is not excluded"
    if not closed or verdicts[0] != verdicts[1]:
        return "cannot tell", "their curves lie close together, but which shape they have is not decided"
    if overlap < LEAST_OVERLAP:
        return "cannot tell", "their curves lie close together, but their class weights disagree"
    return "same", ""


def called(shape: LadderShape) -> str:
    """A ladder's verdict in words, or where its class weights lean."""
    article = {"valley": "a valley", "hump": "a hump"}
    article |= {still_open: f"{slope} and may turn" for slope, still_open in OPEN.items()}
    if shape.verdict != "cannot tell":
        return article.get(shape.verdict, shape.verdict)
    known = {name: weight for name, weight in shape.class_weights.items() if not np.isnan(weight)}
    if not known:
        return "undecided"
    heaviest = max(known, key=lambda name: known[name])
    return f"undecided (most like {article.get(heaviest, heaviest)}, class weight {known[heaviest]:.2f})"


def sentence_of(names: tuple[str, str], shapes: tuple[LadderShape, LadderShape], pair: Pair) -> str:
    """The answer in one sentence, with its numbers."""
    (a, b), (first, second) = names, shapes
    parts = [f"n = {first.n_rungs} and {second.n_rungs} rungs"]
    if pair.spacings:
        parts.insert(0, f"interaction {p_text(pair.p_curves)}, beyond size {p_text(pair.p_shapes)}")
    if not np.isnan(pair.overlap):
        parts.append(f"class weights overlap by {pair.overlap:.2f}")
    numbers = ", ".join(parts)
    if pair.answer == "same":
        return f"{a} and {b} have the same shape here: both are {called(first)} ({numbers})."
    if pair.answer == "cannot tell":
        return f"The data can't tell whether {a} and {b} have the same shape here: {pair.reason} ({numbers})."
    if first.verdict == second.verdict != "cannot tell":
        return f"{a} and {b} differ in shape here: both are {called(first)}, but not by the same curve ({numbers})."
    return f"{a} and {b} differ in shape here: {a} is {called(first)}, {b} is {called(second)} ({numbers})."


def shape_of(verdict: Verdict, rungs: Rungs) -> LadderShape:
    """The verdict on one ladder and its size, for the record."""
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


def worst(spacings: Mapping[str, Interaction]) -> Interaction:
    """The more doubtful of the spacings in everything; NaN where none was tested.

    Equal curves have equal shapes, so p_shapes is never below p_curves.
    """
    every = tuple(spacings.values()) or (Interaction(*[float("nan")] * 4),)
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
    shapes, rungs = _judged_ladders(ladders, seed=seed, draws=draws, **common)
    reasons = {name: untestable(name, each) for name, each in rungs.items()}
    names = list(combinations(ladders, 2))
    spacings = _tested(names, rungs, reasons, draws=draws, seed=seed, alpha=alpha)
    p_curves = holm([worst(each).p_curves for each in spacings])
    p_shapes = holm([worst(each).p_shapes for each in spacings])
    pairs = []
    for index, (a, b) in enumerate(names):
        evidence = replace(worst(spacings[index]), p_curves=p_curves[index], p_shapes=p_shapes[index])
        reason = " and ".join(filter(None, (reasons[a], reasons[b])))
        pairs.append(_pair((a, b), (shapes[a], shapes[b]), evidence, spacings[index], reason, **common))
    sentence = " ".join(pair.sentence for pair in pairs)
    return Comparison(sentence, tuple(pairs), shapes, draws=draws, seed=seed, **common)


def _judged_ladders(
    ladders: Mapping[str, Models], *, seed: int, draws: int, smallest_effect: float, alpha: float
) -> tuple[dict[str, LadderShape], dict[str, Rungs]]:
    """What each ladder shows by itself, and its rungs."""
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
    return shapes, rungs


def _tested(
    names: Sequence[tuple[str, str]],
    rungs: Mapping[str, Rungs],
    reasons: Mapping[str, str],
    *,
    draws: int,
    seed: int,
    alpha: float,
) -> list[dict[str, Interaction]]:
    """The test of each pair of ladders by each spacing of their rungs; nothing where `reasons` says why not."""
    tested: list[dict[str, Interaction]] = []
    for index, (a, b) in enumerate(names):
        if reasons[a] or reasons[b]:
            tested.append({})
            continue
        rng = np.random.default_rng([seed, 11, index])
        first, second = spacings_of(rungs[a]), spacings_of(rungs[b])
        tested.append({how: interaction(first[how], second[how], draws=draws, rng=rng, alpha=alpha) for how in first})
    return tested


def _pair(
    names: tuple[str, str],
    shapes: tuple[LadderShape, LadderShape],
    evidence: Interaction,
    spacings: dict[str, Interaction],
    reason: str,
    *,
    smallest_effect: float,
    alpha: float,
) -> Pair:
    """The answer for two ladders; `reason` says why they cannot be tested, if they cannot."""
    overlap = overlap_of(shapes[0].class_weights, shapes[1].class_weights)
    answer: Answer = "cannot tell"
    if not reason:
        verdicts = shapes[0].verdict, shapes[1].verdict
        answer, reason = answer_of(verdicts, evidence, overlap, smallest_effect=smallest_effect, alpha=alpha)
    pair = Pair(names, answer, "", reason, overlap, spacings=spacings, **asdict(evidence))
    return replace(pair, sentence=sentence_of(names, shapes, pair))
