"""Measures: functions from a unit's data to one number, each declaring what the number means.

A measure is a plain function; the decorator lists it and returns it unchanged. It asks for its inputs by naming its
parameters:

- `evidence`: answers of the observer, by band: comparing whole stimuli if it does
- `cosines`: the same of observers that compare whole stimuli only
- `single`: answers of the observer with capacity 1, by band
- `by_capacity`: answers for each capacity
- `matched_pairs`: by band, the pairs of queries that low-level statistics can't decide
- `one_sided_evidence`, `one_sided_single`, `one_sided_matched_pairs`, ...: each of these from trials that ask about the
  unit's main pole alone; `other_pole_evidence`, ... about its other pole
- `matched_pairs_by_token`, `token_share`: the pairs that the identity of the last token can't decide, and the share of
  each unit's variance that it explains; for stimuli that are made of tokens
- `activations`, `embeddings`: values on the shared random sample, and the observer's embedding of its stimuli
- `tail_share`, `tail_share_error`: the share of the unit's spread that lies above its median, and its standard error
- `class_means`, `class_errors`: the mean value for each class, and its standard error

and returns a `Score`, or several by band (`Scores`) where `MEAN` is the headline. Measures that ask for nothing an
observer makes are computed once.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from torch import Tensor

from thalweg.errors import unknown
from thalweg.observers.answers import Evidence

MEAN = "mean"  # the band that stands for the mean over a measure's bands
ALPHA = 0.05
Z = float(ndtri(1 - ALPHA / 2))
STUDENT = torch.from_numpy(stdtrit(np.arange(100).clip(1), 1 - ALPHA / 2)).float()  # by degrees of freedom
NO_QUERIES = "no queries in the band"
DECIDED = "decided by low-level statistics"


@dataclass(frozen=True, eq=False)
class Score:
    """A number for each unit, with its 95 % interval and what it rests on.

    Attributes:
        value: (unit), in the unit and range that the measure declares; NaN where it is missing.
        low: (unit), the lower end of the interval.
        high: (unit), the upper end.
        n: (unit), how many queries or stimuli the value rests on.
        note: Why a value is missing, where one is.
    """

    value: Float[Tensor, " unit"]
    low: Float[Tensor, " unit"]
    high: Float[Tensor, " unit"]
    n: Int[Tensor, " unit"]
    note: str = ""  # the reason of a missing value


Scores = Mapping[tuple[str, str], Score]  # by (band, capacity)


def first_sentence(function: Callable[..., Any]) -> str:
    """The first paragraph of a function's docstring, on one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


@cache
def parameters_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters; they take a while to find out, and every chunk of units asks for them."""
    return tuple(inspect.signature(function).parameters)


@dataclass(frozen=True)
class Declared:
    """What a reader must know before reading a number: its name is the function's name."""

    function: Callable[..., Any]
    _: KW_ONLY
    version: int  # goes up when values change, not when code does
    unit: str
    range: tuple[float, float]
    higher_is: str
    cite: str

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def needs(self) -> tuple[str, ...]:
        """The inputs it asks for."""
        return parameters_of(self.function)

    @property
    def meaning(self) -> str:
        """The first sentence of the function's docstring."""
        return first_sentence(self.function).replace("`", "")


@dataclass(frozen=True, kw_only=True)
class Measure(Declared):
    """A function from a unit's data to one number."""

    chance: float | None
    essential: bool = False  # asked of control observers and of exchanged halves too
    headline: str = ""  # the word that the report uses for it, if it is a headline


MEASURES: dict[str, Measure] = {}


def measure(**declaration: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function as a measure of its name and list it; the function itself is returned unchanged.

    The function asks for its inputs by naming its parameters, and returns a `Score` or a mapping of scores by (band,
    capacity). The tutorial "A measure of your own" lists the inputs.

    Args:
        **declaration: `version` (raised when values change), `unit`, `range` (least and greatest value), `chance` (or
            None), `higher_is`, `cite`, and `essential` if control observers and exchanged halves are asked too.

    Raises:
        ValueError: Another measure has this name.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        if function.__name__ in MEASURES:
            raise ValueError(f"two measures are called {function.__name__!r}")
        MEASURES[function.__name__] = Measure(function, **declaration)
        return function

    return declare


def register_only(measures: Sequence[Measure]) -> None:
    """Make these all the measures that there are: those of the process that sent a task."""
    MEASURES.clear()
    MEASURES.update({measure.name: measure for measure in measures})


def find(name: str) -> Measure:
    """The measure of this name.

    Raises:
        ThalwegError: there is none; near names are offered.
    """
    if name not in MEASURES:
        raise unknown("measure", name, MEASURES)
    return MEASURES[name]


def wilson(
    share: Float[Tensor, "*unit"], n: Float[Tensor, "*unit"], z: Float[Tensor, "*unit"] | float = Z
) -> tuple[Float[Tensor, "*unit"], Float[Tensor, "*unit"]]:
    """Wilson's 95 % interval of a proportion seen in n independent trials.

    Centre (p + z^2/2n) / (1 + z^2/n), half-width z / (1 + z^2/n) sqrt(p(1-p)/n + z^2/4n^2) (Wilson 1927).
    """
    scale = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z / scale * (share * (1 - share) / n + z**2 / (4 * n**2)).clamp_min(0).sqrt()
    return torch.minimum(centre - half, share).clamp_min(0), torch.maximum(centre + half, share).clamp_max(1)


def proportion_correct(
    evidence: Evidence, pairs: Bool[Tensor, "unit high low"] | None = None, *, least: int = 1, note: str = NO_QUERIES
) -> Score:
    """The share of pairs (one high, one low query) in which the high query has the larger evidence; ties count half.

    Over all pairs this is the area under the ROC curve. `pairs` restricts it to some; fewer than `least` give NaN. The
    variance is DeLong's (DeLong, DeLong & Clarke-Pearson 1988), in the form that also covers a subset of pairs: with
    psi = 1, 1/2 or 0 for a pair and M pairs, a query's influence is the sum of (psi - value) over its pairs / M, and
    the variance is the sum over both sides of m/(m-1) times the squared influences. The interval is Wilson's with the
    effective number of trials value (1 - value) / variance, or the smaller side's number m of queries where the
    variance is 0, and with Student's quantile for m - 1 in place of z: so it stays inside [0, 1] and is no point at 1.
    Over other queries, the references given, it holds the truth in .93 to .98 of cases; over other references too, in
    fewer (docs/intervals.md).
    """
    by_query = won_by_query(evidence, pairs)
    count = by_query[0][0].sum(1)
    value = by_query[0][1].sum(1) / count
    variance = torch.zeros_like(value)
    sides: list[Tensor] = []
    for partners, won in by_query:
        taking_part = partners.clamp_max(1).sum(1).long()  # those that are in any pair
        influence = (won - value[:, None] * partners) / count[:, None]
        variance += influence.square().sum(1) * taking_part / (taking_part - 1).clamp_min(1)
        sides.append(taking_part)
    smaller = torch.minimum(*sides).float()
    trials = torch.where(variance > 1e-9, value * (1 - value) / variance, smaller).clamp(min=1)
    lower, upper = wilson(value, trials, STUDENT[(smaller.long() - 1).clamp(1, len(STUDENT) - 1)])
    keep = count >= least
    value, lower, upper = (torch.where(keep, number, torch.nan) for number in (value, lower, upper))
    return Score(value, lower, upper, torch.where(keep, sides[0] + sides[1], 0), note)


def won_by_query(
    evidence: Evidence, pairs: Bool[Tensor, "unit high low"] | None = None
) -> list[tuple[Float[Tensor, "unit query"], Float[Tensor, "unit query"]]]:
    """How many pairs each high query is in, and how many of these are right, ties counting half; the same of each low
    query.

    Counted in whole bytes, with the units beside each other in memory: many times faster than sums of numbers.
    """
    high, low = (np.ascontiguousarray(side.numpy().T) for side in (evidence.high, evidence.low))  # (query, unit)
    there = ~np.isnan(high)[:, None] & ~np.isnan(low)[None]  # (high, low, unit)
    twice_won = (high[:, None] > low[None]).view(np.uint8)  # a sum over 127 queries still fits; NaN wins nothing
    twice_won += (high[:, None] >= low[None]).view(np.uint8)
    if pairs is not None:
        there &= pairs.numpy().transpose(1, 2, 0)
        twice_won *= there.view(np.uint8)
    return [(_sums(there.view(np.uint8), axis), _sums(twice_won, axis) / 2) for axis in (1, 0)]


def _sums(counts: NDArray[np.uint8], axis: int) -> Float[Tensor, "unit query"]:
    sums = counts.sum(axis, dtype=np.uint8 if counts.shape[axis] < 128 else np.uint32)
    return torch.from_numpy(np.ascontiguousarray(sums.T, dtype=np.float32))


def mean_of(*scores: Score) -> Score:
    """The mean of several bands' scores; NaN where any is. Bands share no query, so their variances add.

    Each side of the interval is combined by itself (the method of variance estimates recovery, Zou & Donner 2008).
    """
    value = torch.stack([score.value for score in scores]).mean(0)
    below = torch.stack([score.value - score.low for score in scores]).square().sum(0).sqrt() / len(scores)
    above = torch.stack([score.high - score.value for score in scores]).square().sum(0).sqrt() / len(scores)
    there = ~value.isnan()
    n = torch.stack([score.n for score in scores]).sum(0)
    return Score(value, value - below, value + above, torch.where(there, n, 0), scores[0].note)


def mean_of_present(*scores: Score) -> Score:
    """The mean of those bands' scores that are there; NaN where none is. The interval is that of `mean_of`."""
    values = torch.stack([score.value for score in scores])
    there = ~values.isnan()
    count = there.sum(0)
    value = values.nan_to_num().sum(0) / count
    below = torch.stack([(score.value - score.low).nan_to_num().square() for score in scores]).sum(0).sqrt() / count
    above = torch.stack([(score.high - score.value).nan_to_num().square() for score in scores]).sum(0).sqrt() / count
    n = torch.stack([score.n for score in scores]).where(there, 0).sum(0)
    return Score(value, value - below, value + above, n, scores[0].note)
