"""Collects the values of layers while the stimuli stream by.

Batches are copied into a block and wait until they fill it. What a full block costs differs with the device, what is
kept does not. On a CPU a block holds one layer, in its cache; few values can be new, and these are searched for. On an
accelerator a block holds all layers and many batches, and is sorted whole: that is a few calls a block, none of which
sends a number back, so nothing waits for anything.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from thalweg.recording.extremes import Extremes, Scratch, at_least, largest_first, positions_where
from thalweg.recording.keys import MASK, Scramble
from thalweg.recording.moments import Moments, moments_of_union
from thalweg.recording.result import Recording
from thalweg.recording.sample import BLOCK
from thalweg.recording.statistics import Statistic

SORTED_BLOCK, SORTED_ROWS = 1 << 25, 2048  # values and stimuli of a block that is sorted whole
Entering = tuple[Int64[Tensor, " entering"], Int64[Tensor, " entering"]]  # positions in a batch, and scrambled ids


def sorts_blocks(device: str | torch.device) -> bool:
    """Whether blocks are sorted whole on a device, and hold all layers."""
    return torch.device(device).type != "cpu"


Waiting = tuple[Int64[Tensor, " batch"], Int64[Tensor, " batch"], Entering | None, int]  # ids, scrambled; their start
NONE: Entering = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)


class Recorder:
    """Collects the values of units, of one layer or of several beside each other, batch by batch, into a recording.

    Searched blocks are summed as distances from the middle of the extremes, settled whenever that moves; sorted ones in
    double precision.
    """

    def __init__(
        self,
        *,
        k: int,
        sample: int,
        scramble: Scramble,
        statistics: Mapping[str, Statistic],
        scratch: Scratch | None = None,
    ) -> None:
        self.k, self.size, self.scramble, self.statistics = k, sample, scramble, statistics
        self.scratch = scratch or Scratch()
        self.started = False

    @torch.inference_mode(False)  # what is written in place must not be bound to inference mode
    def start(self, units: int, device: torch.device, *, rows: int = 1, sample: int = 0) -> None:
        """Make all that lasts, for so many units, batches of so many stimuli, and so many of these that may be in the
        sample at once (0: which ones enter is not known beforehand).
        """
        self.sorts = sorts_blocks(device)
        self.count, self.nonfinite = (torch.zeros(units, dtype=torch.int64, device=device) for _ in range(2))
        self.mean, self.deviations, self.total, self.square = (
            torch.zeros(units, dtype=torch.float64, device=device) for _ in range(4)
        )
        self.summed = 0  # how many stimuli are in the sums that are not settled
        self.shift = torch.zeros(units, device=device)  # what was subtracted from them
        self.scale = torch.ones(units, device=device)  # what they were multiplied by then
        self.offset = torch.zeros(units, device=device)  # both in one: distance = value * scale + offset
        self.products = {
            name: torch.zeros(table.shape[1], units, dtype=torch.float64, device=device)
            for name, table in self.statistics.items()
        }
        held = sample or 2 * self.size
        self.sample_order = torch.empty(held, dtype=torch.int64, device=device)
        self.sample = torch.empty(held, units, device=device)
        self.sampled = 0  # how many stimuli these hold; small pieces kept in a list would leave holes in the memory
        self.bar = MASK  # the largest scrambled id that may still enter the sample
        if self.sorts:
            room = max(min(SORTED_BLOCK // units, SORTED_ROWS), rows)
        else:
            room = max(BLOCK // units, 4 * self.k, rows)  # so many that the first block's k-th values bar most
        self.extremes = Extremes(units, self.k, room, device, sorts=self.sorts)
        self.block = torch.empty(room, units, device=device)
        self.ones = torch.ones(room, device=device)
        self.waiting: list[Waiting] = []
        self.filled = 0  # stimuli that wait in the block
        self.started = True

    def update(
        self,
        values: Float[Tensor, "batch unit"],
        ids: Int64[Tensor, " batch"],
        order: Int64[Tensor, " batch"] | None = None,
        entering: Entering | None = None,
    ) -> None:
        """Take in the values of one batch of stimuli; they may change afterwards. `order` is the scrambled ids, and
        `entering` tells which may enter the sample, where these are known already.
        """
        values = values.detach()
        order = self.scramble(ids) if order is None else order
        if not self.started:
            self.start(values.shape[1], values.device, sample=0 if entering is None else self.size)
        if entering is not None:
            self._keep_sample(values, *entering)
        room = self.block.shape[0]
        for part, part_ids, part_order in zip(values.split(room), ids.split(room), order.split(room), strict=True):
            self.make_way(len(part))
            self.place(part, slice(None))
            self.add(part_ids, part_order, None if entering is None else NONE)

    def make_way(self, rows: int) -> None:
        """Take in what waits, if a batch of so many stimuli has no room beside it."""
        if self.filled + rows > self.block.shape[0]:
            self._empty_block()

    def place(self, values: Float[Tensor, "part unit"], columns: slice, first: int = 0) -> None:
        """Write the values of some units, for a part of the batch that starts so far in, where they wait; what was
        written there is forgotten.
        """
        start = self.filled + first
        self.block[start : start + values.shape[0], columns] = values

    def add(self, ids: Int64[Tensor, " batch"], order: Int64[Tensor, " batch"], entering: Entering | None) -> None:
        """The batch whose values were placed is whole, of stimuli with these ids, as in `update`."""
        self.waiting.append((ids, order, entering, self.filled))
        self.filled += ids.shape[0]

    def _empty_block(self) -> None:
        if not self.waiting:
            return
        values, (ids, order) = self.block[: self.filled], self.waiting[0][:2]
        if len(self.waiting) > 1:
            ids, order = (
                torch.cat([batch[0] for batch in self.waiting]),
                torch.cat([batch[1] for batch in self.waiting]),
            )
        self._keep_sample(values, *self._entering(order))
        (self._sort_in if self.sorts else self._take_in)(values, ids, order)
        self.waiting.clear()
        self.filled = 0

    def _entering(self, order: Int64[Tensor, " stimulus"]) -> Entering:
        """The positions in the block of the stimuli that may enter the sample, and their scrambled ids."""
        if self.waiting[0][2] is None:
            positions = positions_where(order <= self.bar)
            return positions, order.take(positions)
        each = [
            (found[0] + first, found[1]) for _, _, found, first in self.waiting if found is not None and len(found[1])
        ]
        if not each:
            return NONE
        places, entered = zip(*each, strict=True)
        return torch.cat(places), torch.cat(entered)

    def _sort_in(
        self, values: Float32[Tensor, "block unit"], ids: Int64[Tensor, " block"], order: Int64[Tensor, " block"]
    ) -> None:
        """Take in a block without a look at its values, a few units at a time as memory allows."""
        many = self.extremes.at_once
        sums: list[tuple[Tensor, Tensor, Tensor]] = []
        rows = {name: table[ids].double() for name, table in self.statistics.items()}
        for start in range(0, self.extremes.units, many):
            columns = slice(start, start + many)
            finite = values[:, columns].isfinite()
            exact = values[:, columns].where(finite, 0).double()
            sums.append(_sums_of(exact, finite))
            for name, table in rows.items():
                self.products[name][:, columns] += table.T @ exact
        count, mean, deviations = (torch.cat(parts) for parts in zip(*sums, strict=True))
        self.nonfinite += values.shape[0] - count
        self._count(count, mean, deviations)
        self.extremes.update_all(values, order)

    def _take_in(
        self, values: Float32[Tensor, "batch unit"], ids: Int64[Tensor, " batch"], order: Int64[Tensor, " batch"]
    ) -> None:
        """A few passes over the values, as matrix products where possible."""
        first = not self.extremes.full
        if first:
            self.extremes.update_all(values, order)
        if self.extremes.moved:
            self._settle_sums()
        distances = torch.addcmul(self.offset, values, self.scale, out=self.scratch(values))
        ones = self.ones[: len(values)]
        total = ones @ distances
        squares = distances.square_()
        square = ones @ squares
        if math.isfinite(square.sum()):
            self.total += total
            self.square += square
            self.summed += len(values)
            for name, table in self.statistics.items():
                self.products[name] += table[ids].T @ values
        else:
            finite = values.isfinite()
            self._sum_exactly(values, finite, ids)
            squares = squares.where(finite, torch.nan)
        if not first:
            self.extremes.update(values, order, at_least(squares, self.extremes.slack))

    def _sum_exactly(
        self, values: Float32[Tensor, "batch unit"], finite: Bool[Tensor, "batch unit"], ids: Int64[Tensor, " batch"]
    ) -> None:
        """Sums of a batch some of whose values are not finite, or too large to be squared."""
        exact = values.where(finite, 0).double()
        count, mean, deviations = _sums_of(exact, finite)
        self.nonfinite += len(values) - count
        self._count(count, mean, deviations)
        for name, table in self.statistics.items():
            self.products[name] += table[ids].double().T @ exact

    def _settle_sums(self) -> None:
        """Count the stimuli that were summed, and take the distances of those to come from the new middle."""
        if self.summed:
            mean = self.total / self.summed
            deviations = (self.square - self.total * mean).clamp_min(0)
            scale = self.scale.double()
            counted = torch.full_like(self.count, self.summed)
            self._count(counted, mean / scale + self.shift.double(), deviations / scale.square())
            self.total.zero_()
            self.square.zero_()
            self.summed = 0
        self.shift.copy_(self.extremes.centre)
        self.scale.copy_(self.extremes.scale)
        torch.mul(self.shift, -self.scale, out=self.offset)
        self.extremes.moved = False

    def _count(self, count: Tensor, mean: Tensor, deviations: Tensor) -> None:
        sums = (self.count, self.mean, self.deviations)
        for kept, new in zip(sums, moments_of_union(sums, (count, mean, deviations)), strict=True):
            kept.copy_(new)

    def _keep_sample(self, values: Tensor, positions: Tensor, order: Tensor) -> None:
        """Keep the stimuli whose scrambled ids are the smallest of all: a random sample that merges."""
        count = positions.shape[0]
        if not count:
            return
        if count > self.size:
            order, first = order.topk(self.size, largest=False)
            positions, count = positions.take(first), self.size
        if self.sampled + count > self.sample.shape[0]:
            self._settle_sample()
        room = slice(self.sampled, self.sampled + count)
        self.sample_order[room], self.sample[room] = order, values.index_select(0, positions)
        self.sampled += count

    def _settle_sample(self) -> None:
        """Keep only the stimuli with the smallest scrambled ids, in order."""
        first = self.sample_order[: self.sampled].argsort()[: self.size]
        self.sampled = len(first)
        self.sample_order[: self.sampled] = self.sample_order[first]
        self.sample[: self.sampled] = self.sample[first]
        if self.sampled == self.size:
            self.bar = int(self.sample_order[self.sampled - 1])

    def compute(self) -> Recording:
        """The recording of all that was offered, where it was recorded."""
        self._empty_block()
        if not self.sorts:
            self._settle_sums()
        self._settle_sample()
        self.extremes.settle()
        high, low = largest_first(self.extremes.keys).split(self.extremes.units)
        return Recording(
            high_keys=high.contiguous(),
            low_keys=low.contiguous(),
            sample_keys=self.sample_order[: self.sampled].clone(),
            sample=self.sample[: self.sampled].clone(),
            count=self.count,
            nonfinite=self.nonfinite,
            mean=self.mean,
            deviations=self.deviations,
            products=self.products,
            unit_ids=torch.arange(self.extremes.units),
            scramble=self.scramble,
            size=self.size,
        )


def _sums_of(exact: Float64[Tensor, "batch unit"], finite: Bool[Tensor, "batch unit"]) -> Moments:
    """Count, mean and sum of squared deviations of the values that are finite; the others are given as 0."""
    count = finite.sum(0)
    mean = exact.sum(0) / count.clamp_min(1).double()
    return count, mean, ((exact - mean) * finite).square().sum(0)
