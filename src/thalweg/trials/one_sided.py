"""One-sided trials: what drives a unit, against what it does at rest.

A sparse unit has one informative side: it fires for something, and is silent for all else. Asked about its highest
stimuli against its lowest, it is compared with a random direction, which has two such sides, on unequal terms; and its
lowest stimuli are no lower than most others. So here a side, or *pole*, of a unit is asked about alone. One set of
references are the stimuli at its end, the other are typical ones: those nearest to the unit's median, which for a
sparse unit is the value at which it rests. Queries of a band pair stimuli on the way from the median to the end with
other typical ones.

The *main pole* is the one with the heavier tail: whose end lies further from the median, in what the layer passes on.
The other pole is asked about in the same way, and reported apart.

Which of many equally typical stimuli are taken is drawn for each unit by itself: if all units shared them, a mean over
units would carry their chance likeness.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from thalweg.recording.keys import MASK
from thalweg.recording.result import Recording
from thalweg.trials.building import (
    EXTREME,
    INFINITE,
    MANY_REFERENCES,
    REFERENCES,
    ROUNDING,
    Queries,
    TrialSet,
    candidates,
    ends,
    nearest,
    packed,
    smallest,
    trial_set,
)

GRADES = {"v75": (0.675, 0.75, 0.825), "v50": (0.425, 0.50, 0.575)}  # of the way from the median: edge, middle, edge
BANDS = ("extreme", *GRADES)
TYPICAL = 30  # typical queries a band, at most
STILL_TYPICAL = 0.25  # of the way from the median to the end: what lies further is no typical stimulus
FACTORS = (0x1B873593, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D)  # odd, to mix the bits of whole numbers


@dataclass(frozen=True, eq=False)
class Tails:
    """How far the two ends of each unit's values lie from its median, over both halves, as the layer passes them on."""

    upper: Float[Tensor, " unit"]
    lower: Float[Tensor, " unit"]
    upper_error: Float[Tensor, " unit"]  # standard errors
    lower_error: Float[Tensor, " unit"]

    def units(self, selection: slice) -> "Tails":
        """The tails of some of the units."""
        return Tails(*(getattr(self, part.name)[selection] for part in fields(self)))

    def upper_alone(self) -> "Tails":
        """The same without the lower tails."""
        return replace(self, lower=torch.zeros_like(self.lower), lower_error=torch.zeros_like(self.lower_error))

    @property
    def share(self) -> Float[Tensor, " unit"]:
        """The upper tail's share of both; NaN for a unit that is constant."""
        return self.upper / (self.upper + self.lower)

    @property
    def share_error(self) -> Float[Tensor, " unit"]:
        """The standard error of that share, by the delta method."""
        squares = (self.lower * self.upper_error).square() + (self.upper * self.lower_error).square()
        return squares.sqrt() / (self.upper + self.lower).square()

    @property
    def upper_is_main(self) -> Bool[Tensor, " unit"]:
        """Whether the main pole is the upper one."""
        return self.upper >= self.lower


def tails(reference: Recording, query: Recording, nonlinearity: Callable[[Tensor], Tensor] | None = None) -> Tails:
    """How far the means of the nine highest and of the nine lowest stimuli lie from the median, the mean of the halves:
    of what the layer passes on, if its nonlinearity is given. What a rectifier cuts off is no pole.

    It does not depend on which half is which, so that a unit keeps its main pole when they are exchanged.
    """
    distances: list[Tensor] = []
    errors: list[Tensor] = []
    for half in (reference, query):
        both = torch.stack([half.highest_values(REFERENCES), half.lowest_values(REFERENCES)])  # (end, unit, stimulus)
        median = _median(half)
        if nonlinearity:
            both, median = nonlinearity(both), nonlinearity(median)
        distances.append((both.mean(2) - median).abs())
        errors.append(both.std(2) / REFERENCES**0.5)
    upper, lower = (distances[0] + distances[1]) / 2
    upper_error, lower_error = (errors[0].square() + errors[1].square()).sqrt() / 2
    return Tails(upper, lower, upper_error, lower_error)


def concat_tails(parts: Sequence[Tails]) -> Tails:
    """The tails of several layers' units beside each other."""
    return Tails(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Tails)))


def build_one_sided(reference: Recording, query: Recording, upper: Bool[Tensor, " unit"]) -> TrialSet:
    """The trials about one pole of each unit: the upper one, or the lower.

    In the trial set, `high` are the stimuli at the pole, and `low` the typical ones. A unit whose end does not differ
    from its median (up to rounding), or has non-finite values in either half, makes no trial.
    """
    end_values, end = (part[:, :MANY_REFERENCES] for part in _end(reference, upper))
    median, top = _median(reference), end_values[:, :REFERENCES].mean(1)  # (unit)
    failed = (reference.nonfinite > 0) | (query.nonfinite > 0)
    alive = ((top - median).abs() > ROUNDING * torch.maximum(top.abs(), median.abs())) & ~failed
    typical = _typical(reference, end, reference, MANY_REFERENCES)
    newest = _end(query, upper)[1][:, :EXTREME]
    values, ids = candidates(query)
    fraction = (values - median[:, None]) / (top - median)[:, None]  # (unit, candidate)
    fraction = fraction.masked_fill(_among(ids, newest, query), torch.nan)
    asked = _typical(query, newest, reference, TYPICAL * len(BANDS), most=STILL_TYPICAL * (top - median).abs())
    sides = {"extreme": newest} | {band: nearest(fraction, ids, grade) for band, grade in GRADES.items()}
    queries = {
        band: Queries(driving, asked[:, place :: len(BANDS)]) for place, (band, driving) in enumerate(sides.items())
    }
    return trial_set(end, typical, queries, alive, failed)


def driving(
    half: Recording,
    upper: Bool[Tensor, " unit"],
    nonlinearity: Callable[[Tensor], Tensor] | None = None,
    *,
    count: int = MANY_REFERENCES,
) -> Int64[Tensor, "unit stimulus"]:
    """The ids of the stimuli of a half that drive each unit most, at one pole: at most so many, and -1 for those on
    which the unit rests, in what the layer passes on, if its nonlinearity is given. A unit with values that are not
    finite has none.
    """
    values, ids = (part[:, :count] for part in _end(half, upper))
    median = _median(half)[:, None]
    if nonlinearity:
        values, median = nonlinearity(values), nonlinearity(median)
    away = (values - median).abs() > ROUNDING * torch.maximum(values.abs(), median.abs())
    return torch.where(away & (half.nonfinite == 0)[:, None], ids, -1)


@lru_cache(maxsize=2)  # both poles ask for it, and both orders of the halves
def _median(half: Recording) -> Float[Tensor, " unit"]:
    """The median of each unit's values on the random sample that all units share, the lower of two in the middle; NaN
    where one of them is. NumPy's partition is several times faster than PyTorch's median.
    """
    values = half.sample.numpy()  # (stimulus, unit)
    middle = (len(values) - 1) // 2
    found = np.partition(np.ascontiguousarray(values.T), middle, axis=1)[:, middle]
    found[np.isnan(values).any(0)] = np.nan
    return torch.from_numpy(found)


def _end(half: Recording, upper: Bool[Tensor, " unit"]) -> tuple[Float[Tensor, "unit k"], Int64[Tensor, "unit k"]]:
    """Values and ids of the stimuli at one end of each unit, the most extreme first."""
    (high_values, high), (low_values, low) = ends(half)
    return torch.where(upper[:, None], high_values, low_values), torch.where(upper[:, None], high, low)


def _typical(
    half: Recording,
    taken: Int64[Tensor, "unit taken"],
    resting: Recording,
    count: int,
    *,
    most: Float[Tensor, " unit"] | None = None,
) -> Int64[Tensor, "unit typical"]:
    """So many stimuli of the half's sample whose values lie nearest to the median of the half `resting`, none of those
    that are taken; -1 beyond a distance. Ties are broken anew for each unit.
    """
    ids = half.sample_ids()
    keys = np.where(_in_sample(half, taken).numpy(), INFINITE, _from_median(half, resting))
    nearest_keys = torch.from_numpy(smallest(keys, min(count, len(ids))))
    distance, rank = (nearest_keys >> 32).int().view(torch.float32), nearest_keys & MASK
    limit = torch.full((len(taken),), torch.finfo(torch.float32).max) if most is None else most
    chosen = _shuffled(half)[0].gather(1, rank)
    return torch.where(distance <= limit[:, None], ids[chosen], -1)


@lru_cache(maxsize=4)  # both poles ask for it, each half with both medians
def _from_median(half: Recording, resting: Recording) -> NDArray[np.int64]:
    """How far each value of the half's sample lies from the median of the half `resting`, (unit, sample), as numbers in
    the order of the distances, then of the sample's own order for the unit.
    """
    distance = (half.sample.T.contiguous() - _median(resting)[:, None]).abs_()
    return packed(distance.numpy(), _shuffled(half)[1].numpy())


def _in_sample(half: Recording, taken: Int64[Tensor, "unit taken"]) -> Bool[Tensor, "unit sample"]:
    """Which stimuli of the half's sample each unit has taken."""
    ids = half.sample_ids()
    columns = torch.full((max(int(ids.max()), int(taken.max())) + 2,), len(ids))  # ids are positions in a pool
    columns[ids] = torch.arange(len(ids))  # all others, and -1, have the last column: of none
    column = columns[taken]
    marked = torch.zeros(len(taken), len(ids) + 1, dtype=torch.bool)
    return marked.scatter_(1, column, torch.ones_like(column, dtype=torch.bool))[:, :-1]


def _among(
    ids: Int64[Tensor, "unit candidate"], taken: Int64[Tensor, "unit taken"], half: Recording
) -> Bool[Tensor, "unit candidate"]:
    """Which of a half's candidates, which end with its sample, each unit has taken."""
    ends = ids[:, : ids.shape[1] - len(half.sample_keys)]
    return torch.cat([(ends[:, :, None] == taken[:, None, :]).any(2), _in_sample(half, taken)], 1)


@lru_cache(maxsize=2)
def _shuffled(half: Recording) -> tuple[Int64[Tensor, "unit sample"], Int64[Tensor, "unit sample"]]:
    """The positions of the sample in an order of its own for each unit, known by its number in the layer; and the rank
    of each position in it.
    """
    mixed = half.sample_keys[None, :] * FACTORS[0] + (half.unit_ids[:, None] + 1) * FACTORS[1]
    for factor in FACTORS[1:]:
        mixed = (mixed ^ (mixed >> 29)) * factor
    shuffled = torch.from_numpy(np.argsort(mixed.numpy(), axis=1))
    ranks = torch.empty_like(shuffled).scatter_(1, shuffled, torch.arange(shuffled.shape[1]).expand_as(shuffled))
    return shuffled, ranks
