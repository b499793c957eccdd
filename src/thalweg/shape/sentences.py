"""Verdicts as sentences."""

import math
from collections.abc import Mapping

from thalweg.shape.verdict import Depth


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
    """What is said of a valley or a hump."""
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
    """What is said of an increase or a decrease, with the turn that it leaves possible."""
    kind = f" ({how})" if how else ""
    size = "deep" if turn.shape == "valley" else "high"
    possible = f", though a {turn.shape} up to {number(turn.high)} {size} is not excluded" if turn.high > 0 else ""
    return (
        f"{shape.capitalize()}{kind}: over {models(n)} the fitted score goes from {number(ends[0])} to "
        f"{number(ends[1])} (monotone against flat, {p_text(p)} after Holm); no turn is supported ({turn.shape} "
        f"{p_text(p_turn)} after Holm){possible}."
    )


def flat_sentence(p: float, effect: str, n: int) -> str:
    """What is said of a flat curve."""
    return f"Flat: no two of {models(n)} differ by {effect} or more (equivalence test, {p_text(p)})."


def uncertain_sentence(
    reason: str,
    n: int,
    p: Mapping[str, float],
    *,
    detectable: float | None,
    effect: float,
    effect_text: str,
    rungs: int | None,
    seeds: int | None,
    replicated: bool,
) -> str:
    """What is said when the data cannot tell: what they could have shown, and what would show the smallest effect."""
    seen = ", ".join(f"{shape} {p_text(p[shape])}" for shape in ("valley", "hump")) + ", after Holm"
    start = f"Cannot tell from {models(n)}: {reason}"
    could = (
        "no valley of any depth" if detectable is None else f"a valley {number(detectable)} deep, four times in five"
    )
    wanted = []
    if rungs is not None:
        wanted.append(f"{rungs} rungs")
    if seeds is not None:
        wanted.append(f"{seeds} seeds a rung{'' if replicated else ' (if seeds scatter as these models do)'}")
    plan = (
        f"would take about {' or '.join(wanted)}"
        if wanted
        else f"would take more than {max(40, n)} rungs or 100 seeds a rung"
    )
    if detectable is not None and detectable <= effect:
        return f"{start} ({seen}); these models could have shown {could}."
    return f"{start} ({seen}); these models could have shown {could}, and to see one of {effect_text} {plan}."
