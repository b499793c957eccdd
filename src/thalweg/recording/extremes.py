"""The k highest and k lowest values of each unit, from batches of which most hold little new."""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from thalweg.recording.keys import EMPTY, pack, unpack

SLACK = 1 - 1e-6  # of the squared distance of a k-th value: what rounding may take from it, and more
MANY = 4  # as one in so many values of a batch being possible newcomers, beyond which all are sorted
AT_ONCE = 256  # units whose values are sorted together, which a processor's cache holds
SORTED_KEYS = 1 << 24  # keys that an accelerator sorts together: 128 MB


def positions_where(mask: Bool[Tensor, "*shape"]) -> Int64[Tensor, " entry"]:
    """The position of each true entry in the flattened mask.

    PyTorch's own search is slow on a CPU, so eight entries are looked at as one number first: most are zero (measured:
    five times faster where one in a hundred is true).
    """
    flat = mask.flatten()
    if len(flat) % 8:
        flat = nn.functional.pad(flat, (0, 8 - len(flat) % 8))
    eights = flat.numpy().view(np.uint64)
    nonzero = (eights != 0).nonzero()[0]
    entry = eights[nonzero].view(bool).nonzero()[0]
    return torch.from_numpy(nonzero[entry >> 3] * 8 + (entry & 7))


def at_least(values: Float32[Tensor, "batch unit"], bars: Float32[Tensor, "*unit"]) -> Bool[Tensor, "batch unit"]:
    """Where values reach their unit's bar, or the one that all units share; NumPy compares three times faster than
    PyTorch on a CPU.
    """
    return torch.from_numpy(values.numpy() >= bars.numpy())


def largest(keys: Int64[Tensor, "row key"], k: int) -> Int64[Tensor, "row k"]:
    """The k largest of each row, the least of them first, the others in any order. The rows themselves change: on a CPU
    NumPy's partition is several times faster than a sorted top-k.
    """
    keys.numpy().partition(keys.shape[1] - k, axis=1)
    return keys[:, -k:]


def largest_first(keys: Int64[Tensor, "row key"]) -> Int64[Tensor, "row key"]:
    """Each row in falling order; on a CPU NumPy sorts faster than PyTorch."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy())).flip(1)
    return keys.sort(1, descending=True).values


def by_row(row: Int64[Tensor, " entry"], rows: int) -> Int64[Tensor, " entry"]:
    """Indices that sort entries by their row; NumPy sorts 16-bit numbers ten times faster than longer ones on a CPU."""
    if rows > 1 << 16:
        return row.argsort(stable=True)
    return torch.from_numpy(row.numpy().astype(np.uint16).argsort(kind="stable"))


class Extremes:
    """The k largest keys of each unit's values and of its negated values, from batches of which most hold little new.

    A unit has two rows, one a side. `middle` and `scale` say which values can be new: those whose distance from the
    middle of the two k-th values, in units of half the distance between these, has a square of at least 1. The test is
    one comparison a value; rounding makes it pass a few too many, never one too few, and those that pass wait to be
    compared exactly. Where the k-th values lie on one another, or are not known, `scale` is 1 and all values pass.

    What lasts is made once and written in place: pieces made anew between the passes of a large model would lie in the
    way of its own. Where blocks are sorted whole (`sorts`), none of this is looked at.
    """

    def __init__(self, units: int, k: int, rows: int, device: torch.device, *, sorts: bool = False) -> None:
        """For batches of no more than so many rows."""
        self.units, self.k, self.sorts = units, k, sorts
        self.at_once = max(1, SORTED_KEYS // (2 * (rows + k))) if sorts else AT_ONCE
        self.keys = torch.full((2 * units, k), EMPTY, device=device)  # the least first, the others in any order
        self.centre, self.scale = torch.zeros(units, device=device), torch.ones(units, device=device)
        self.moved = False  # whether centre and scale have changed since the recorder took them
        self.many = rows * units // MANY  # newcomers of one batch that are too many to wait
        room = 0 if sorts else max(units * k, self.many)
        self.unit, self.order = (torch.zeros(room, dtype=torch.int64, device=device) for _ in range(2))
        self.value = torch.zeros(room, device=device)  # of possible newcomers, like these; zeros: memory that is there
        self.waiting = 0  # how many they are
        self.full = False  # every row has k keys

    def _update_thresholds(self) -> None:
        """Set middle and reach from the k-th values; a row with fewer than k lets all pass."""
        least = self.keys[:, 0]
        self.full = not bool((least == EMPTY).any())
        if not self.full:  # the least of those that there are: some unit's lowest value and its highest
            least = self.keys.where(self.keys != EMPTY, torch.iinfo(torch.int64).max).amin(1)
        bars = unpack(least)[0]
        high, low = bars.nan_to_num(-torch.inf).split(self.units)
        centre = high / 2 - low / 2  # the low side's values are negated
        rounding = 1e-6 * (centre.abs() + high.abs() + low.abs())
        half = (high / 2 + low / 2 - rounding).clamp_min(0)
        known = centre.abs() < 1e18  # not where fewer than k are finite; larger ones are left to be summed exactly
        apart = known & (half > 0)
        self.centre.copy_(centre.where(known, 0))
        self.scale.copy_(half.reciprocal().where(apart, 1))
        self.moved = True
        self.crossed = not bool(apart.all())  # some unit's values can be among the highest and the lowest
        self.slack = apart * SLACK if self.crossed else torch.tensor(SLACK, device=high.device)

    def update(
        self, values: Float32[Tensor, "batch unit"], order: Int64[Tensor, " batch"], far: Bool[Tensor, "batch unit"]
    ) -> None:
        """Consider the values of a batch that are marked as far enough; none of these may be NaN."""
        newcomers = positions_where(far)
        if len(newcomers) > self.many:
            self.update_all(values, order)
            return
        if self.waiting + len(newcomers) > len(self.value):
            self.settle()
        stimulus = newcomers.div(self.units, rounding_mode="floor")
        room = slice(self.waiting, self.waiting + len(newcomers))
        self.unit[room] = newcomers - stimulus * self.units
        self.value[room], self.order[room] = values.take(newcomers), order.take(stimulus)
        self.waiting += len(newcomers)

    def update_all(self, values: Float32[Tensor, "batch unit"], order: Int64[Tensor, " batch"]) -> None:
        """Consider all finite values of a batch: with many newcomers, sorting all costs less than finding these."""
        for start in range(0, self.units, self.at_once):
            block = values[:, start : start + self.at_once].T.contiguous()
            if self.sorts:
                self._sort(block, order, start)
                continue
            missing = None if block.sum().isfinite() else ~block.isfinite()
            for signed, first in ((block, start), (-block, start + self.units)):
                keys = pack(signed, order)
                if missing is not None:
                    keys[missing] = EMPTY
                kept = self.keys[first : first + len(block)]
                kept.copy_(largest(torch.cat([kept, keys], 1), self.k))
        if not self.sorts:
            self._update_thresholds()

    def _sort(self, block: Float32[Tensor, "unit batch"], order: Int64[Tensor, " batch"], start: int) -> None:
        """Keep the largest keys of some units, the first of them this one, by one top-k for both sides."""
        sides = [(block, start), (-block, start + self.units)]
        missing = ~block.isfinite()
        table = torch.cat(
            [
                torch.cat([self.keys[first : first + len(block)], pack(signed, order).masked_fill_(missing, EMPTY)], 1)
                for signed, first in sides
            ]
        )
        high, low = table.topk(self.k, 1, sorted=False).values.split(len(block))
        self.keys[start : start + len(block)] = high
        self.keys[start + self.units : start + self.units + len(block)] = low

    def settle(self) -> None:
        """Merge the newcomers that wait into the keys."""
        if not self.waiting:
            return
        unit, value, order = (held[: self.waiting] for held in (self.unit, self.value, self.order))
        self.waiting = 0
        low = value < self.centre.take(unit)
        row, signed = unit + self.units * low, torch.where(low, -value, value)
        if self.crossed:
            row, signed = torch.cat([row, unit + self.units * ~low]), torch.cat([signed, -signed])
            order = order.repeat(2)
        self._take(row, pack(signed, order))

    def _take(self, row: Int64[Tensor, " newcomer"], keys: Int64[Tensor, " newcomer"]) -> None:
        """Keep the k largest of each row's keys and its newcomers, set beside each other in a table."""
        count = row.bincount(minlength=len(self.keys))
        if int(count.max()) > 4 * self.k:  # values tie, and most do not enter: the table would be wide for nothing
            new = positions_where(keys > self.keys[:, 0].take(row))
            row, keys = row.take(new), keys.take(new)
            count = row.bincount(minlength=len(self.keys))
        width = self.k + int(count.max())
        table = torch.full((len(self.keys), width), EMPTY, device=row.device)
        table[:, : self.k] = self.keys
        sort = by_row(row, len(self.keys))
        start = torch.arange(len(table), device=row.device) * width + self.k - (count.cumsum(0) - count)
        position = start.repeat_interleave(count) + torch.arange(len(row), device=row.device)
        self.keys.copy_(largest(table.put_(position, keys.take(sort)), self.k))
        self._update_thresholds()


class Scratch:
    """Room for what is made of the values of one batch and then forgotten; those who work in turn can share it."""

    def __init__(self) -> None:
        self.room = torch.empty(0)

    def __call__(self, values: Float32[Tensor, "batch unit"]) -> Float32[Tensor, "batch unit"]:
        """Room for as many numbers, in the same shape."""
        if len(self.room) < values.numel() or self.room.device != values.device:
            with torch.inference_mode(False):
                self.room = torch.empty(values.numel(), device=values.device)
        return self.room[: values.numel()].view(values.shape)
