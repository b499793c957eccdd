"""Verdicts as sentences."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.shape.verdict import Depth, Name

FEW = 3  # models that a sentence names
ENOUGH = 10  # observations, for class weights to be worth a sentence


@dataclass(frozen=True)
class Prospects:
    """What the models could have shown, and what it would take to show the smallest effect."""

    detectable: float | None  # the least depth of a valley; None: of any depth, none
    rungs: int | None  # None: more than a plan asks for
    seeds: int | None  # a rung
    seeds_to_decide: int | None  # a rung, if the turn that fits best is the truth
    replicated: bool  # the scatter comes from seeds


def number(value: float) -> str:
    """Two significant digits, without an exponent unless the number is very large or very small."""
    if value == 0 or not math.isfinite(value) or not 1e-6 <= abs(value) < 1e15:
        return f"{value:.2g}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f}"


def p_text(p: float) -> str:
    """A p value to three digits."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def models(n: int) -> str:
    """`1 model`, `2 models`."""
    return f"{n} model{'' if n == 1 else 's'}"


def turning_sentence(depth: Depth, p: float, n: int, alpha: float) -> str:
    """The sentence for a valley or a hump."""
    way, size = "falls to a lowest point and rises again", "depth"
    if depth.shape == "hump":
        way, size = "rises to a highest point and falls again", "height"
    return (
        f"A {depth.shape}: over {models(n)} the score {way} near strength {number(depth.strength_at_extremum)} "
        f"(order-restricted {p_text(p)}); {size} {number(depth.value)} "
        f"({100 * (1 - alpha):g} % interval {number(depth.low)} to {number(depth.high)})."
    )


def rival(verdict: Name, class_weights: Mapping[str, float], observations: int) -> str:
    """A sentence more where usual curves of another shape, but a flat one, fit a turn better, by their class weights.

    The tests have excluded a flat curve; and with few observations the criterion prefers few parameters whatever the
    data say.
    """
    rivals = {shape: weight for shape, weight in class_weights.items() if shape != "flat" and not math.isnan(weight)}
    best = max(rivals, key=lambda shape: rivals[shape], default=verdict)
    if best == verdict or observations < ENOUGH:
        return ""
    curve = {"valley": "a valley", "hump": "a hump"}.get(best, f"{'an' if best == 'increasing' else 'a'} {best} curve")
    return (
        f" Of the usual formulas, {curve} fits better (class weight {rivals[best]:.2f}; of a {verdict} "
        f"{rivals.get(verdict, 0.0):.2f})."
    )


def resting_on(changes: Mapping[str, Name], n: int, *, sure: bool) -> str:
    """A sentence more where single models decide."""
    if not changes:
        return ""
    if len(changes) > FEW:
        return f" Leaving out one model changes this for {len(changes)} of the {n}."
    listed = " and ".join(f"without {name} it is {verdict!r}" for name, verdict in changes.items())
    return f" {'It rests on single models' if sure else 'Single models matter'}: {listed}."


def by_the_curve(verdict: Name, other: Name) -> str:
    """A sentence more where seeds give one verdict, and the models' scatter about their own curve another one."""
    if verdict == other:
        return ""
    return f" If the models' own scatter about their curve stood for that of their seeds, it would be {other!r}."


def monotone_sentence(
    shape: Name,
    p: Mapping[str, float],
    ends: tuple[float, float],
    n: int,
    *,
    how: str | None,
    turn: Depth,
    least: float,
) -> str:
    """The sentence for an increase or a decrease: the turn that it excludes, and the one that it leaves possible."""
    kind = f" ({how})" if how else ""
    back = "rise" if shape == "decreasing" else "fall"
    size = "deep" if turn.shape == "valley" else "high"
    possible = f"; a narrow {turn.shape} up to {number(turn.high)} {size} is not" if turn.high > 0 else ""
    return (
        f"{shape.capitalize()}{kind}: over {models(n)} the fitted score goes from {number(ends[0])} to "
        f"{number(ends[1])} (monotone against flat, {p_text(p[shape])}). A steady {back} of {number(least)} or more is "
        f"excluded{possible} ({turn.shape} {p_text(p[turn.shape])})."
    )


def open_sentence(
    slope: Name, p: Mapping[str, float], ends: tuple[float, float], n: int, *, turn: Depth, prospects: Prospects
) -> str:
    """The sentence where a slope is sure and whether the curve also turns is not."""
    falls, rises = ("Falls", "rises") if slope == "decreasing" else ("Rises", "falls")
    when = "again" if (turn.shape == "valley") == (slope == "decreasing") else "first"
    size = "deep" if turn.shape == "valley" else "high"
    return (
        f"{falls} for sure: over {models(n)} the fitted score goes from {number(ends[0])} to {number(ends[1])} "
        f"(monotone against flat, {p_text(p[slope])}). Whether it {rises} {when}, these models cannot tell: a "
        f"{turn.shape} up to {number(turn.high)} {size} is not excluded ({turn.shape} {p_text(p[turn.shape])})."
        f"{_decisive(turn, prospects)}"
    )


def _decisive(turn: Depth, prospects: Prospects) -> str:
    """How many seeds would show the turn that fits best."""
    if prospects.seeds_to_decide is None:
        return ""
    return (
        f" If the {turn.shape} that fits best is the truth, about {prospects.seeds_to_decide} seeds a rung would "
        f"show it{_as_these(prospects)}."
    )


def _as_these(prospects: Prospects) -> str:
    return "" if prospects.replicated else " (if seeds scatter as these models do)"


def flat_sentence(p: float, effect: str, n: int) -> str:
    """The sentence for a flat curve."""
    return f"Flat: no two of {models(n)} differ by {effect} or more (equivalence test, {p_text(p)})."


def uncertain_sentence(
    reason: str, n: int, p: Mapping[str, float], prospects: Prospects, *, effect: float, effect_text: str
) -> str:
    """The sentence where the data cannot tell: what they could have shown, and what would show the smallest effect."""
    seen = ", ".join(f"{shape} {p_text(p[shape])}" for shape in ("valley", "hump"))
    start = f"Cannot tell from {models(n)}: {reason}"
    depth = prospects.detectable
    could = "no valley of any depth" if depth is None else f"a valley {number(depth)} deep, four times in five"
    if depth is not None and depth <= effect:
        return f"{start} ({seen}); these models could have shown {could}."
    plan = f"to see one of {effect_text} would take {_wanted(n, prospects)}"
    return f"{start} ({seen}); these models could have shown {could}, and {plan}."


def _wanted(n: int, prospects: Prospects) -> str:
    """The rungs or seeds that would be enough."""
    wanted = []
    if prospects.rungs is not None:
        wanted.append(f"{prospects.rungs} rungs")
    if prospects.seeds is not None:
        wanted.append(f"{prospects.seeds} seeds a rung{_as_these(prospects)}")
    return f"about {' or '.join(wanted)}" if wanted else f"more than {max(40, n)} rungs or 100 seeds a rung"
