"""The verdict: the rule fixed beforehand, the record of everything it rests on, and the sentence that says it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from thalweg.markup import bullets, element
from thalweg.shape.families import FittedFamily
from thalweg.shape.published_tests import Companions, Thirds

Name = Literal[
    "valley", "hump", "increasing", "decreasing", "rises, may turn", "falls, may turn", "flat", "cannot tell"
]
TURNS: tuple[Name, Name] = ("valley", "hump")
SLOPES: tuple[Name, Name] = ("increasing", "decreasing")
OPEN: dict[Name, Name] = {"increasing": "rises, may turn", "decreasing": "falls, may turn"}  # what is sure of a slope
TELLING_APART = 4.0  # in AICc, "considerably less support" (Burnham & Anderson 2002, section 2.6)


@dataclass(frozen=True)
class Depth:
    """How deep the fitted valley is, or how high the hump, with a 95 % interval (at alpha .05)."""

    shape: Literal["valley", "hump"]
    value: float
    low: float
    high: float
    strength_at_extremum: float


@dataclass(frozen=True)
class Scatter:
    """How far a point lies from the curve by chance."""

    name: str
    sd: float  # root mean variance of a point, in score units
    df: float  # degrees of freedom of its estimate; infinite where it is taken as known


@dataclass(frozen=True)
class Sensitivity:
    """The verdict under one assumption on the scatter."""

    verdict: Name
    p_valley: float
    p_hump: float
    p_decreasing: float
    p_increasing: float
    sd: float
    df: float
    valid: bool  # False: shown for comparison, no basis for a verdict


@dataclass(frozen=True)
class Fit:
    """The best order-restricted curve of one shape: a level at each distinct strength."""

    shape: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """What the shape of a curve is, and everything that was weighed."""

    verdict: Name
    sentence: str
    reason: str  # why it is `cannot tell`; empty otherwise
    p: dict[
        str, float
    ]  # valley and hump (both allowed for), increasing and decreasing (after Holm), flat (equivalence)
    class_weights: dict[str, float]  # on the ranks of strength, so that no rescaling of it changes them
    depth: Depth | None  # of the valley or the hump, whichever has the smaller p, whatever the verdict
    minimum_detectable_depth: float | None  # by this verdict, power .8; None: no depth could have been detected
    rungs_needed: int | None  # to detect `smallest_effect`; None: more than 40, or not asked: the verdict is clear
    seeds_needed: int | None  # likewise; None: more than 100, or not asked
    seeds_to_decide: int | None  # a rung, that would show the turn that fits best, were it the truth; None likewise
    n_models: int  # configurations
    n_points: int  # distinct strengths among them
    n_rows: int
    n_dropped: int
    stable_without_each: bool  # the rule says the same without any one model
    changes_without: dict[str, Name]  # the models without which it says something else, and what
    sensitivity: dict[str, Sensitivity]
    thirds: Thirds | None
    companions: Companions | None
    scatter: Scatter | None
    best_family: FittedFamily | None
    families_left_out: tuple[str, ...]
    manner: str | None  # of a monotone verdict: exponential or logistic, where AICc tells it from a straight line
    fit: Fit | None
    smallest_effect: float
    alpha: float
    draws: int
    seed: int

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        p = ", ".join(f"{shape} {value:.3f}" for shape, value in self.p.items())
        lost = "; ".join(f"without {name}: {other}" for name, other in self.changes_without.items())
        lines = [f"p values: {p}", f"models: {self.n_models}", f"changes: {lost or 'without no single model'}"]
        return element("p", element("b", self.verdict), f": {self.sentence}") + bullets(lines)

    def to_record(self) -> dict[str, Any]:
        """The verdict in plain Python types for JSON: tuples as lists, NaN and infinity as null."""
        return as_record(self)


def as_record(value: object) -> dict[str, Any]:
    """A dataclass in the types that JSON has."""
    record = plain(value)
    assert isinstance(record, dict)
    return record


def plain(value: object) -> Any:
    """A value in the types that JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def says(verdict: Name) -> Name:
    """A verdict without what it leaves open."""
    return next((slope for slope, still_open in OPEN.items() if still_open == verdict), verdict)


def decide(p: Mapping[str, float], excluded: Callable[[Name], bool], alpha: float) -> tuple[Name, str]:
    """The rule, in order; also says why where it cannot tell.

    1. valley, hump: order-restricted p < alpha, for one of the two only.
    2. decreasing, increasing: monotone against flat, p < alpha after Holm, for one of the two only, and a turn worth
       speaking of is excluded (`exclusion`); else `falls, may turn`, `rises, may turn`.
    3. flat: equivalence, p < alpha.
    4. else `cannot tell`.

    Args:
        p: Of valley, hump, increasing, decreasing and flat.
        excluded: Whether a slope excludes a turn; asked only if the slope is sure.
        alpha: The level.
    """
    turning = [shape for shape in TURNS if p[shape] < alpha]
    if len(turning) == 2:
        return "cannot tell", "the order test finds both a valley and a hump: the curve turns more than once"
    if turning:
        return turning[0], ""
    sloping = [shape for shape in SLOPES if p[shape] < alpha]
    if len(sloping) == 2:
        return "cannot tell", "both a decrease and an increase stand out against flat, and no turn between them is sure"
    if sloping:
        return (sloping[0] if excluded(sloping[0]) else OPEN[sloping[0]]), ""
    if p["flat"] < alpha:
        return "flat", ""
    return "cannot tell", "no shape stands out, and the models scatter too much to call the curve flat"


def manner(shape: str, families: tuple[FittedFamily, ...]) -> str | None:
    """How a monotone curve bends: the best family of its class, if it beats the straight line by 4 in AICc.

    A straight line that wins proves nothing, since with few models it wins by having fewer parameters: then None.
    """
    fits = [f for f in families if f.shape == shape]
    straight = [f for f in fits if f.name.startswith("linear")]
    if shape not in {"increasing", "decreasing"} or not straight or straight[0].aicc - fits[0].aicc < TELLING_APART:
        return None
    return fits[0].name.split()[0]
