"""Collects the values of one layer while the stimuli stream by."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from thalweg.recording.extremes import Extremes, Scratch, at_least, positions_where
from thalweg.recording.keys import MASK, Scramble
from thalweg.recording.moments import moments_of_union
from thalweg.recording.result import Recording
from thalweg.recording.sample import BLOCK
from thalweg.recording.statistics import Statistic

Entering = tuple[Int64[Tensor, " entering"], Int64[Tensor, " entering"]]  # positions in a batch, and scrambled ids


class Recorder:
    """Collects the values of one layer's units, batch by batch, into a recording.

    What a batch costs beside the work on its values is paid once a block: small batches are copied and wait until they
    fill one. Sums are of the values as distances from the middle of their extremes, and settled whenever that moves.
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
    def _make_room(self, values: Float[Tensor, "batch unit"], sample: int) -> None:
        """Make all that lasts, for values like these and so many stimuli that may be in the sample at once."""
        units, device = values.shape[1], values.device
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
        self.sample_order = torch.empty(sample, dtype=torch.int64, device=device)
        self.sample = torch.empty(sample, units, device=device)
        self.sampled = 0  # how many stimuli these hold; small pieces kept in a list would leave holes in the memory
        self.bar = MASK  # the largest scrambled id that may still enter the sample
        room = max(BLOCK // units, 4 * self.k)  # so many that the first block's k-th values bar most
        self.extremes = Extremes(units, self.k, room, device)
        self.block = torch.empty(room, units, device=device)
        self.ones = torch.ones(room, device=device)
        self.waiting: list[tuple[Tensor, Tensor]] = []  # ids, scrambled too, of the stimuli that wait in the block
        self.filled = 0  # how many they are
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
            self._make_room(values, 2 * self.size if entering is None else self.size)
        if entering is None:
            positions = positions_where(order <= self.bar)
            entering = positions, order.take(positions)
        self._keep_sample(values, *entering)
        self._collect(values, ids, order)

    def _collect(
        self, values: Float[Tensor, "batch unit"], ids: Int64[Tensor, " batch"], order: Int64[Tensor, " batch"]
    ) -> None:
        """Take in the values in pieces of the size of a block, or have them wait until they fill one."""
        room, rows = self.block.shape[0], values.shape[0]  # a tensor's `len` takes ten times as long
        if rows > room:
            for part in zip(values.split(room), ids.split(room), order.split(room), strict=True):
                self._collect(*part)
            return
        if self.filled + rows > room:
            self._empty_block()
        if 2 * rows > room:
            self._take_in(values.float().contiguous(), ids, order)
        else:
            self.block[self.filled : self.filled + rows] = values
            self.filled += rows
            self.waiting.append((ids, order))

    def _empty_block(self) -> None:
        if self.waiting:
            ids, order = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
            self._take_in(self.block[: self.filled], ids, order)
            self.waiting, self.filled = [], 0

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
        count = finite.sum(0)
        self.nonfinite += len(values) - count
        exact = values.where(finite, 0).double()
        mean = exact.sum(0) / count.clamp_min(1).double()
        self._count(count, mean, ((exact - mean) * finite).square().sum(0))
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
        """The recording of all that was offered, on the CPU."""
        self._empty_block()
        self._settle_sums()
        self._settle_sample()
        self.extremes.settle()
        keys = torch.from_numpy(np.sort(self.extremes.keys.cpu().numpy())).flip(1)  # faster than PyTorch's sort
        high, low = keys.split(self.extremes.units)
        return Recording(
            high_keys=high.contiguous(),
            low_keys=low.contiguous(),
            sample_keys=self.sample_order[: self.sampled].to("cpu", copy=True),
            sample=self.sample[: self.sampled].to("cpu", copy=True),
            count=self.count.cpu(),
            nonfinite=self.nonfinite.cpu(),
            mean=self.mean.cpu(),
            deviations=self.deviations.cpu(),
            products={name: product.cpu() for name, product in self.products.items()},
            unit_ids=torch.arange(self.extremes.units),
            scramble=self.scramble,
            size=self.size,
        )
