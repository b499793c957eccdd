"""What was recorded of a unit: its values, its most extreme stimuli, and those along the way.

All comes from the run's recordings: the highest and the lowest stimuli of both halves of the pool, and a random sample
of each half.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg.recording.result import Recording, concat_units, merge
from thalweg.runs.recordings import RecordedHalves
from thalweg.trials.building import REFERENCES, TrialSet

MOST_SHOWN = 24  # of the highest and of the lowest stimuli
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
AT_A_QUANTILE = 3
BINS = 40


@dataclass(frozen=True, eq=False)
class UnitValues:
    """The values of one unit that were kept."""

    sample_ids: NDArray[np.int64]
    sample: NDArray[np.float64]  # of both halves, in this order; NaN where it was not finite
    highest: tuple[int, ...]  # of both halves
    lowest: tuple[int, ...]
    known: dict[int, float]  # the value of each stimulus that was kept
    count: int
    nonfinite: int
    mean: float
    deviation: float

    @cached_property
    def ordered(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The sample by increasing value."""
        order = np.argsort(self.sample, kind="stable")
        order = order[np.isfinite(self.sample[order])]
        return self.sample_ids[order], self.sample[order]

    @property
    def median(self) -> float:
        """The middle of the sample."""
        values = self.ordered[1]
        return float(values[len(values) // 2]) if len(values) else float("nan")

    def at_quantiles(self) -> list[tuple[float, list[int]]]:
        """For each quantile, a few stimuli of the sample whose values lie there."""
        ids, values = self.ordered
        shown = []
        for quantile in QUANTILES if len(values) else ():
            middle = round(quantile * (len(values) - 1))
            first = max(0, min(middle - AT_A_QUANTILE // 2, len(values) - AT_A_QUANTILE))
            shown.append((quantile, ids[first : first + AT_A_QUANTILE].tolist()))
        return shown

    def histogram(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """How the sample spreads from the least to the greatest value that is known: counts, and the edges of bins."""
        values = self.ordered[1]
        every = [value for value in self.known.values() if np.isfinite(value)]
        low, high = (min(every), max(every)) if every else (0.0, 1.0)
        high = high if high > low else low + (abs(low) or 1) * 1e-3
        counts, edges = np.histogram(values, BINS, (low, high))
        return counts, edges


def unit_values(halves: RecordedHalves) -> Iterator[UnitValues]:
    """What was kept of each of some units, one after another."""
    both = merge(*halves)
    sample_ids = torch.cat([half.sample_ids() for half in halves]).numpy()
    sample = torch.cat([half.sample for half in halves]).double().numpy()
    deviations = both.variance().sqrt()
    highest, lowest = both.highest(), both.lowest()
    ends = [half_end for half in halves for half_end in (half.highest(), half.lowest())]
    for unit in range(len(both.unit_ids)):
        known = dict(zip(sample_ids.tolist(), sample[:, unit].tolist(), strict=True))
        for values, ids in ends:
            known.update(zip(ids[unit].tolist(), values[unit].tolist(), strict=True))
        known.pop(-1, None)
        yield UnitValues(
            sample_ids=sample_ids,
            sample=sample[:, unit],
            highest=_there(highest[1][unit]),
            lowest=_there(lowest[1][unit]),
            known=known,
            count=int(both.count[unit]),
            nonfinite=int(both.nonfinite[unit]),
            mean=float(both.mean[unit]),
            deviation=float(deviations[unit]),
        )


def _there(ids: Tensor) -> tuple[int, ...]:
    return tuple(each for each in ids[:MOST_SHOWN].tolist() if each >= 0)


def side_by_side(halves: RecordedHalves, positions: Sequence[int]) -> RecordedHalves:
    """Some of the units of recordings."""

    def some(half: Recording) -> Recording:
        return concat_units([half.units(slice(each, each + 1)) for each in positions])

    return RecordedHalves(some(halves.reference), some(halves.query))


def marks(trials: TrialSet, unit: int, values: UnitValues) -> list[tuple[str, float, float]]:
    """Where a unit's references and bands of queries lie among its values: what it is, the least, the greatest."""
    sides = [
        ("driving references", trials.high[unit, :REFERENCES]),
        ("typical references", trials.low[unit, :REFERENCES]),
    ]
    sides += [(f"queries, {band}", queries.high[unit]) for band, queries in trials.queries.items()]
    found = []
    for name, ids in sides:
        own = [values.known[each] for each in ids.tolist() if each >= 0]
        if own:
            found.append((name, min(own), max(own)))
    return found
