"""Verdicts as sentences."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.shape.verdict import Depth


@dataclass(frozen=True)
class Prospects:
    """What the models could have shown, and what it would take to show the smallest effect."""

    detectable: float | None  # the least depth of a valley; None: of any depth, none
    rungs: int | None  # None: more than a plan asks for
    seeds: int | None  # a rung
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


def turning_sentence(depth: Depth, p: float, weight: float, n: int, alpha: float) -> str:
    """The sentence for a valley or a hump."""
    way, size = "falls to a lowest point and rises again", "depth"
    if depth.shape == "hump":
        way, size = "rises to a highest point and falls again", "height"
    return (
        f"A {depth.shape}: over {models(n)} the score {way} near strength {number(depth.strength_at_extremum)}; "
        f"{size} {number(depth.value)} ({100 * (1 - alpha):g} % interval {number(depth.low)} to {number(depth.high)}), "
        f"order-restricted {p_text(p)} after Holm, class weight {weight:.2f}."
    )


def monotone_sentence(
    shape: str, p: float, ends: tuple[float, float], n: int, *, how: str | None, turn: Depth, p_turn: float
) -> str:
    """The sentence for an increase or a decrease, with the turn that it leaves possible."""
    kind = f" ({how})" if how else ""
    size = "deep" if turn.shape == "valley" else "high"
    possible = f", though a {turn.shape} up to {number(turn.high)} {size} is not excluded" if turn.high > 0 else ""
    return (
        f"{shape.capitalize()}{kind}: over {models(n)} the fitted score goes from {number(ends[0])} to "
        f"{number(ends[1])} (monotone against flat, {p_text(p)} after Holm); no turn is supported ({turn.shape} "
        f"{p_text(p_turn)} after Holm){possible}."
    )


def flat_sentence(p: float, effect: str, n: int) -> str:
    """The sentence for a flat curve."""
    return f"Flat: no two of {models(n)} differ by {effect} or more (equivalence test, {p_text(p)})."


def uncertain_sentence(
    reason: str, n: int, p: Mapping[str, float], prospects: Prospects, *, effect: float, effect_text: str
) -> str:
    """The sentence where the data cannot tell: what they could have shown, and what would show the smallest effect."""
    seen = ", ".join(f"{shape} {p_text(p[shape])}" for shape in ("valley", "hump")) + ", after Holm"
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
        scatter = "" if prospects.replicated else " (if seeds scatter as these models do)"
        wanted.append(f"{prospects.seeds} seeds a rung{scatter}")
    return f"about {' or '.join(wanted)}" if wanted else f"more than {max(40, n)} rungs or 100 seeds a rung"
