"""One streaming pass over stimuli that keeps, of every unit of every layer at once, only what measures need.

Kept are the k highest and k lowest stimuli with their values, the values on one random sample of stimuli that all units
share, the count, mean and variance, the number of non-finite values, and the sums of the values times given
statistics of the stimuli (labels, low-level image statistics). So memory depends on units and k, not on stimuli, and
everything merges: the recordings of disjoint sets of stimuli merge, in any order, into the recording of their union.

The idea that makes it exact is the *key*. A value (float32) and its stimulus are packed into one 64-bit integer whose
order is the order of the values, ties broken by a seeded scrambling of the stimulus's id. The k highest stimuli of a
unit are then the k largest integers, whatever the batches, the shards or their order, and an unpacked key gives back
both value and id. Most values cannot be among the k: a batch is first compared with each unit's k-th value, and the few
that pass are the only ones packed.

Limits: values are compared as float32; ids must lie below 2^32.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor, nn

from thalweg.devices import PRECISIONS, given, in_precision, placed
from thalweg.errors import ThalwegError, unknown, user_code
from thalweg.ladder import Encode, Layer, Pool
from thalweg.stimuli import Stimuli
from thalweg.stimuli.ahead import batches

EMPTY = torch.iinfo(torch.int64).min  # the key of no stimulus: below every other
MASK = 0xFFFFFFFF
REACH = 1 - 1e-6  # of the squared distance of a k-th value: what rounding may take from it, and more
BLOCK = 1 << 18  # values of a layer that wait to be taken in together; ids that are looked at together
MANY = 4  # as one in so many values of a batch being possible newcomers, beyond which all are sorted
FEW = 16  # rows at least to which many places are put together before their maximum is taken; less than twice as many
SPARSE = 8  # units of a layer for each that is measured, beyond which those measured are picked before they are pooled
AT_ONCE = 256  # units whose values are sorted together, which a processor's cache holds
INPUT = ":in"  # after a module's name: what it is given
WIDEST_ROTATION = 4096  # units of a layer that is rotated whole: half a gigabyte and ten seconds
MOST_DIRECTIONS, LEAST_DIRECTIONS = 1024, 64  # of a wider layer: they are a sample, and more would sharpen little
LARGEST_TURN = 1 << 27  # numbers in the directions of a layer: half a gigabyte
NEURONS, RANDOM = "neurons", "random"  # the bases a pass can read; the rotated twin is the random one


@dataclass(frozen=True)
class Scramble:
    """A seeded one-to-one map of 32-bit ids, so that equal values are ordered at random yet the id can be had back."""

    factor: int
    shift: int

    @classmethod
    def seeded(cls, seed: int) -> "Scramble":
        """The scramble of this seed; the factor is odd, which makes the multiplication invertible."""
        generator = torch.Generator().manual_seed(seed)
        factor, shift = torch.randint(1 << 28, 1 << 31, (2,), generator=generator).tolist()
        return cls(factor | 1, shift)

    def __call__(self, ids: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """Scrambled ids."""
        mixed = (ids * self.factor + self.shift) & MASK
        mixed = mixed ^ (mixed >> 16)
        return (mixed * 0x45D9F3B) & MASK

    def invert(self, scrambled: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """The ids that were scrambled."""
        mixed = _multiply(scrambled, pow(0x45D9F3B, -1, 1 << 32))
        mixed = mixed ^ (mixed >> 16)
        return _multiply((mixed - self.shift) & MASK, pow(self.factor, -1, 1 << 32))


def _multiply(numbers: Int64[Tensor, "*shape"], factor: int) -> Int64[Tensor, "*shape"]:
    """Numbers times a factor modulo 2^32, in two steps of 16 bits so that 64 bits are enough."""
    high = (numbers * (factor >> 16)) & MASK
    return ((high << 16) + numbers * (factor & 0xFFFF)) & MASK


def pack(values: Float32[Tensor, "*#shape"], order: Int64[Tensor, "*#shape"]) -> Int64[Tensor, "*#shape"]:
    """Keys whose order is the order of the values, then of the scrambled ids.

    The bits of a float32 grow with it if it is positive and fall if it is negative: flipping the low 31 bits of
    negatives mends that.
    """
    bits = (values + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal 0.0
    ordered = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
    return ordered.long().bitwise_left_shift_(32).bitwise_or_(order)


def unpack(keys: Int64[Tensor, "*shape"]) -> tuple[Float32[Tensor, "*shape"], Int64[Tensor, "*shape"]]:
    """The values and scrambled ids of keys; an empty key gives NaN."""
    ordered = (keys >> 32).int()
    bits = (ordered >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(ordered)  # an empty key's are those of a NaN
    return bits.view(torch.float32), keys & MASK


@dataclass(frozen=True, eq=False)
class Recording:
    """What a pass keeps of the units of one layer in one basis."""

    high_keys: Int64[Tensor, "unit k"]  # largest first
    low_keys: Int64[Tensor, "unit k"]  # keys of the negated values, largest first: lowest value first
    sample_keys: Int64[Tensor, " sample"]  # scrambled ids of the shared random sample, increasing
    sample: Float32[Tensor, "sample unit"]
    count: Int64[Tensor, " unit"]  # finite values only
    nonfinite: Int64[Tensor, " unit"]
    mean: Float64[Tensor, " unit"]  # of the finite values
    deviations: Float64[Tensor, " unit"]  # sum of their squared differences from the mean
    products: Mapping[str, Float64[Tensor, "statistic unit"]]
    places: Int64[Tensor, " unit"]  # of the units in their layer
    scramble: Scramble
    size: int  # how many stimuli the shared sample may hold

    @property
    def k(self) -> int:
        """How many of the highest and of the lowest stimuli are kept."""
        return self.high_keys.shape[1]

    def highest(self) -> tuple[Float32[Tensor, "unit k"], Int64[Tensor, "unit k"]]:
        """Values and ids of the highest stimuli, highest first; NaN and -1 where there are fewer than k."""
        return self._ends(self.high_keys, 1)

    def lowest(self) -> tuple[Float32[Tensor, "unit k"], Int64[Tensor, "unit k"]]:
        """Values and ids of the lowest stimuli, lowest first; NaN and -1 where there are fewer than k."""
        return self._ends(self.low_keys, -1)

    def _ends(self, keys: Tensor, sign: int) -> tuple[Tensor, Tensor]:
        values, order = unpack(keys)
        return values * sign, torch.where(keys == EMPTY, -1, self.scramble.invert(order))

    def sample_ids(self) -> Int64[Tensor, " sample"]:
        """The ids of the shared random sample."""
        return self.scramble.invert(self.sample_keys)

    def units(self, which: slice) -> "Recording":
        """The recording of some of the units."""
        return replace(
            self,
            high_keys=self.high_keys[which],
            low_keys=self.low_keys[which],
            sample=self.sample[:, which],
            count=self.count[which],
            nonfinite=self.nonfinite[which],
            mean=self.mean[which],
            deviations=self.deviations[which],
            products={name: product[:, which] for name, product in self.products.items()},
            places=self.places[which],
        )

    def variance(self) -> Float64[Tensor, " unit"]:
        """The population variance of the finite values; exactly 0 for a constant unit."""
        constant = self.highest()[0][:, 0] == self.lowest()[0][:, 0]
        return torch.where(constant, 0, self.deviations / self.count)


@dataclass(frozen=True, eq=False)
class Indicators:
    """A table of statistics with a column for each code, 1 where a stimulus has that code, else 0. Only the codes are
    held, and rows are made when they are asked for: a whole table grows with the stimuli times the codes.
    """

    codes: Int64[Tensor, " stimulus"]
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        """How many stimuli and codes."""
        return len(self.codes), self.count

    def __getitem__(self, ids: Int64[Tensor, " some"]) -> Float32[Tensor, "some code"]:
        codes = self.codes[ids]
        return torch.zeros(len(codes), self.count, device=codes.device).scatter_(1, codes[:, None], 1)

    def to(self, device: str) -> "Indicators":
        """The same on another device."""
        return Indicators(self.codes.to(device), self.count)


Statistic = Float[Tensor, "all statistic"] | Indicators


def to_tensors(recording: Recording) -> dict[str, Tensor]:
    """The recording as named tensors, to be kept in a file."""
    names = ("high_keys", "low_keys", "sample_keys", "sample", "count", "nonfinite", "mean", "deviations", "places")
    tensors: dict[str, Tensor] = {name: getattr(recording, name) for name in names}
    tensors |= {f"products.{name}": product for name, product in recording.products.items()}
    return tensors | {"settings": torch.tensor([recording.scramble.factor, recording.scramble.shift, recording.size])}


def from_tensors(tensors: Mapping[str, Tensor]) -> Recording:
    """The recording that was kept as named tensors."""
    factor, shift, size = tensors["settings"].tolist()
    fields = {name: tensor for name, tensor in tensors.items() if name != "settings" and "." not in name}
    products = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith("products.")}
    return Recording(**fields, products=products, scramble=Scramble(factor, shift), size=size)


def merge(one: Recording, other: Recording) -> Recording:
    """The recording of the union of two disjoint sets of stimuli.

    Raises:
        ValueError: the two were made with different settings, or of different units.
    """
    if (one.scramble, one.size, one.high_keys.shape) != (other.scramble, other.size, other.high_keys.shape):
        raise ValueError("only recordings of the same units, made with the same seed, k and sample size, can be merged")
    sample_keys = torch.cat([one.sample_keys, other.sample_keys])
    count, mean, deviations = moments_of_union(
        (one.count, one.mean, one.deviations), (other.count, other.mean, other.deviations)
    )
    first = sample_keys.argsort()[: one.size]
    return Recording(
        high_keys=torch.cat([one.high_keys, other.high_keys], 1).topk(one.k, 1).values,
        low_keys=torch.cat([one.low_keys, other.low_keys], 1).topk(one.k, 1).values,
        sample_keys=sample_keys[first],
        sample=torch.cat([one.sample, other.sample])[first],
        count=count,
        nonfinite=one.nonfinite + other.nonfinite,
        mean=mean,
        deviations=deviations,
        products={name: product + other.products[name] for name, product in one.products.items()},
        places=one.places,
        scramble=one.scramble,
        size=one.size,
    )


def beside(recordings: Sequence[Recording]) -> Recording:
    """The units of several recordings of the same stimuli beside each other, as if they were of one layer."""
    first = recordings[0]
    return replace(
        first,
        high_keys=torch.cat([one.high_keys for one in recordings]),
        low_keys=torch.cat([one.low_keys for one in recordings]),
        sample=torch.cat([one.sample for one in recordings], 1),
        count=torch.cat([one.count for one in recordings]),
        nonfinite=torch.cat([one.nonfinite for one in recordings]),
        mean=torch.cat([one.mean for one in recordings]),
        deviations=torch.cat([one.deviations for one in recordings]),
        products={name: torch.cat([one.products[name] for one in recordings], 1) for name in first.products},
        places=torch.cat([one.places for one in recordings]),
    )


Moments = tuple[Int64[Tensor, " unit"], Float64[Tensor, " unit"], Float64[Tensor, " unit"]]  # count, mean, deviations


def moments_of_union(one: Moments, other: Moments) -> Moments:
    """Count, mean and sum of squared deviations of two disjoint sets together, exact however far the values lie from
    zero.

    With d the difference of the means: mean = m1 + d n2 / n and deviations = s1 + s2 + d^2 n1 n2 / n (Chan, Golub &
    LeVeque 1983).
    """
    count = one[0] + other[0]
    share = other[0].double() / count.clamp_min(1)
    difference = other[1] - one[1]
    return count, one[1] + difference * share, one[2] + other[2] + difference.square() * one[0] * share


def places_where(mask: Bool[Tensor, "*shape"]) -> Int64[Tensor, " found"]:
    """The place of each true entry in the flattened mask.

    On a CPU, where PyTorch's own search is slow, eight entries are looked at as one number first: most are zero
    (measured: five times faster where one in a hundred is true).
    """
    flat = mask.flatten()
    if mask.device.type != "cpu":
        return flat.nonzero().flatten()
    if len(flat) % 8:
        flat = nn.functional.pad(flat, (0, 8 - len(flat) % 8))
    eights = flat.numpy().view(np.uint64)
    some = (eights != 0).nonzero()[0]
    entry = eights[some].view(bool).nonzero()[0]
    return torch.from_numpy(some[entry >> 3] * 8 + (entry & 7))


def at_least(values: Float32[Tensor, "batch unit"], bars: Float32[Tensor, "*unit"]) -> Bool[Tensor, "batch unit"]:
    """Where values reach their unit's bar, or the one that all units share; NumPy compares three times faster than
    PyTorch on a CPU.
    """
    if values.device.type != "cpu":
        return values >= bars
    return torch.from_numpy(values.numpy() >= bars.numpy())


def largest(keys: Int64[Tensor, "row key"], k: int) -> Int64[Tensor, "row k"]:
    """The k largest of each row, the least of them first, the others in any order. On a CPU the rows themselves change:
    NumPy's partition is several times faster than a sorted top-k.
    """
    if keys.device.type != "cpu":
        return keys.topk(k, 1).values.flip(1)
    keys.numpy().partition(keys.shape[1] - k, axis=1)
    return keys[:, -k:]


def by_row(row: Int64[Tensor, " entry"], rows: int) -> Int64[Tensor, " entry"]:
    """Places that sort entries by their row; NumPy sorts 16-bit numbers ten times faster than longer ones on a CPU."""
    if row.device.type != "cpu" or rows > 1 << 16:
        return row.argsort(stable=True)
    return torch.from_numpy(row.numpy().astype(np.uint16).argsort(kind="stable"))


class Extremes:
    """The k largest keys of each unit's values and of its negated values, from batches of which most hold little new.

    A unit has two rows, one a side. `middle` and `scale` say which values can be new: those whose distance from the
    middle of the two k-th values, in units of half the distance between these, has a square of at least 1. The test is
    one comparison a value; rounding makes it pass a few too many, never one too few, and those that pass wait to be
    compared exactly. Where the k-th values lie on one another, or are not known, `scale` is 1 and all values pass.

    What lasts is made once and written in place: pieces made anew between the passes of a large model would lie in the
    way of its own.
    """

    def __init__(self, units: int, k: int, rows: int, device: torch.device) -> None:
        """For batches of no more than so many rows."""
        self.units, self.k = units, k
        self.keys = torch.full((2 * units, k), EMPTY, device=device)  # the least first, the others in any order
        self.middle, self.scale = torch.zeros(units, device=device), torch.ones(units, device=device)
        self.moved = False  # whether these are new; who has seen them says so
        self.many = rows * units // MANY  # newcomers of one batch that are too many to wait
        room = max(units * k, self.many)
        self.unit, self.order = (torch.zeros(room, dtype=torch.int64, device=device) for _ in range(2))
        self.value = torch.zeros(room, device=device)  # of possible newcomers, like these; zeros: memory that is there
        self.waiting = 0  # how many they are
        self.full = False  # every row has k keys

    def _aim(self) -> None:
        """Set middle and reach from the k-th values; a row with fewer than k lets all pass."""
        least = self.keys[:, 0]
        self.full = not bool((least == EMPTY).any())
        if not self.full:  # the least of those that there are: some unit's lowest value and its highest
            least = self.keys.where(self.keys != EMPTY, torch.iinfo(torch.int64).max).amin(1)
        bars = unpack(least)[0]
        high, low = bars.nan_to_num(-torch.inf).split(self.units)
        middle = high / 2 - low / 2  # the low side's values are negated
        slack = 1e-6 * (middle.abs() + high.abs() + low.abs())
        half = (high / 2 + low / 2 - slack).clamp_min(0)
        known = middle.abs() < 1e18  # not where fewer than k are finite; larger ones are left to be summed exactly
        apart = known & (half > 0)
        self.middle.copy_(middle.where(known, 0))
        self.scale.copy_(half.reciprocal().where(apart, 1))
        self.moved = True
        self.crossed = not bool(apart.all())  # some unit's values can be among the highest and the lowest
        self.reach = apart * REACH if self.crossed else torch.tensor(REACH, device=high.device)

    def offer(
        self, values: Float32[Tensor, "batch unit"], order: Int64[Tensor, " batch"], far: Bool[Tensor, "batch unit"]
    ) -> None:
        """Let those values of a batch compete that are marked as far enough; none of these may be NaN."""
        found = places_where(far)
        if len(found) > self.many:
            self.offer_all(values, order)
            return
        if self.waiting + len(found) > len(self.value):
            self.settle()
        stimulus = found.div(self.units, rounding_mode="floor")
        room = slice(self.waiting, self.waiting + len(found))
        self.unit[room] = found - stimulus * self.units
        self.value[room], self.order[room] = values.take(found), order.take(stimulus)
        self.waiting += len(found)

    def offer_all(self, values: Float32[Tensor, "batch unit"], order: Int64[Tensor, " batch"]) -> None:
        """Let all finite values of a batch compete: where many are newcomers, sorting them all costs less than finding
        these.
        """
        for start in range(0, self.units, AT_ONCE):
            some = values[:, start : start + AT_ONCE].T.contiguous()
            missing = None if some.sum().isfinite() else ~some.isfinite()
            for signed, first in ((some, start), (-some, start + self.units)):
                keys = pack(signed, order)
                if missing is not None:
                    keys[missing] = EMPTY
                kept = self.keys[first : first + len(some)]
                kept.copy_(largest(torch.cat([kept, keys], 1), self.k))
        self._aim()

    def settle(self) -> None:
        """Let the newcomers that wait take their places."""
        if not self.waiting:
            return
        unit, value, order = (held[: self.waiting] for held in (self.unit, self.value, self.order))
        self.waiting = 0
        low = value < self.middle.take(unit)
        row, signed = unit + self.units * low, torch.where(low, -value, value)
        if self.crossed:
            row, signed = torch.cat([row, unit + self.units * ~low]), torch.cat([signed, -signed])
            order = order.repeat(2)
        self._take(row, pack(signed, order))

    def _take(self, row: Int64[Tensor, " newcomer"], keys: Int64[Tensor, " newcomer"]) -> None:
        """Keep the k largest of each row's keys and its newcomers, set beside each other in a table."""
        count = row.bincount(minlength=len(self.keys))
        if int(count.max()) > 4 * self.k:  # values tie, and most do not enter: the table would be wide for nothing
            new = places_where(keys > self.keys[:, 0].take(row))
            row, keys = row.take(new), keys.take(new)
            count = row.bincount(minlength=len(self.keys))
        width = self.k + int(count.max())
        table = torch.full((len(self.keys), width), EMPTY, device=row.device)
        table[:, : self.k] = self.keys
        sort = by_row(row, len(self.keys))
        start = torch.arange(len(table), device=row.device) * width + self.k - (count.cumsum(0) - count)
        place = start.repeat_interleave(count) + torch.arange(len(row), device=row.device)
        self.keys.copy_(largest(table.put_(place, keys.take(sort)), self.k))
        self._aim()


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


Entering = tuple[Int64[Tensor, " entering"], Int64[Tensor, " entering"]]  # places in a batch, and scrambled ids


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

    def offer(
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
            places = places_where(order <= self.bar)
            entering = places, order.take(places)
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
            self.extremes.offer_all(values, order)
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
            self.extremes.offer(values, order, at_least(squares, self.extremes.reach))

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
        self.shift.copy_(self.extremes.middle)
        self.scale.copy_(self.extremes.scale)
        torch.mul(self.shift, -self.scale, out=self.offset)
        self.extremes.moved = False

    def _count(self, count: Tensor, mean: Tensor, deviations: Tensor) -> None:
        sums = (self.count, self.mean, self.deviations)
        for kept, new in zip(sums, moments_of_union(sums, (count, mean, deviations)), strict=True):
            kept.copy_(new)

    def _keep_sample(self, values: Tensor, places: Tensor, order: Tensor) -> None:
        """Keep the stimuli whose scrambled ids are the smallest of all: a random sample that merges."""
        count = places.shape[0]
        if not count:
            return
        if count > self.size:
            order, first = order.topk(self.size, largest=False)
            places, count = places.take(first), self.size
        if self.sampled + count > self.sample.shape[0]:
            self._settle_sample()
        room = slice(self.sampled, self.sampled + count)
        self.sample_order[room], self.sample[room] = order, values.index_select(0, places)
        self.sampled += count

    def _settle_sample(self) -> None:
        """Let go of all but the stimuli with the smallest scrambled ids, and put these in order."""
        first = self.sample_order[: self.sampled].argsort()[: self.size]
        self.sampled = len(first)
        self.sample_order[: self.sampled] = self.sample_order[first]
        self.sample[: self.sampled] = self.sample[first]
        if self.sampled == self.size:
            self.bar = int(self.sample_order[self.sampled - 1])

    def finish(self) -> Recording:
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
            places=torch.arange(self.extremes.units),
            scramble=self.scramble,
            size=self.size,
        )


def rotation(units: int, *, seed: int) -> Float[Tensor, "unit unit"]:
    """A fixed random rotation: the orthogonal factor of a Gaussian matrix, signs set so that it is uniform (Mezzadri
    2007).
    """
    gaussian = torch.randn(units, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orthogonal, upper = torch.linalg.qr(gaussian)
    uniform: Tensor = orthogonal * upper.diagonal().sign()
    return uniform.float()


def directions(units: int, measured: int) -> int:
    """How many random directions a layer of so many units is given, of which so many are measured: as many as these, of
    a layer that is rotated whole; of a wider one no more than make a sample and fit into memory.
    """
    if units <= WIDEST_ROTATION:
        return measured
    return min(measured, MOST_DIRECTIONS, max(LEAST_DIRECTIONS, LARGEST_TURN // units))


@lru_cache(maxsize=1)  # both halves and all shards of a model ask for the same, and one can be half a gigabyte
def random_directions(units: int, count: int, *, seed: int) -> Float[Tensor, "unit direction"]:
    """So many random directions at right angles to each other: the columns that a rotation would begin with, without
    the rest of it.

    The thin QR factor of a Gaussian matrix G by way of Cholesky, Q = G R^-1 with R'R = G'G, which is accurate as such a
    matrix has a condition number near 1, and is nothing but matrix products.
    """
    gaussian = torch.randn(units, count, generator=torch.Generator().manual_seed(seed))
    upper = torch.linalg.cholesky((gaussian.T @ gaussian).double(), upper=True)
    directions: Tensor = gaussian @ torch.linalg.inv(upper).float()
    return directions


def pooled(output: Float[Tensor, "batch unit *place"], pool: Pool) -> Float[Tensor, "batch unit"]:
    """One value a unit: the maximum, the mean or the last over the places, if the output has any."""
    if output.ndim == 2:
        return output
    flat = output.flatten(2)
    return highest(flat) if pool == "max" else flat.mean(2) if pool == "mean" else flat[:, :, -1]


def highest(values: Float[Tensor, "batch unit place"]) -> Float[Tensor, "batch unit"]:
    """The maximum over the places.

    On a CPU PyTorch is slow where the units of a place lie beside each other in memory and there are many places: then
    it is given a few long rows, each of many places, and what is left of these (measured on channels-last ResNet-50: 7
    to 12 GB/s).
    """
    batch, units, places = values.shape
    rows = few(places)
    if not rows or values.stride(1) != 1 or values.stride(2) != units or values.device.type != "cpu":
        return values.amax(2)
    long = values.mT.reshape(batch, rows, -1)
    return long.amax(1).view(batch, -1, units).amax(1)


@lru_cache
def few(places: int) -> int:
    """The most rows, of more than one place each, into which so many places divide: at least `FEW` and fewer than twice
    as many, or 0 where no such number divides them.
    """
    return max((rows for rows in range(FEW, 2 * FEW) if places % rows == 0 and places > rows), default=0)


class Reader:
    """From a layer's output to one value for each measured unit, in one basis.

    `encode` makes a basis of its own from the layer's values, both on the last axis.
    """

    def __init__(self, layer: Layer, basis: str, *, seed: int, place: int, encode: Encode | None = None) -> None:
        self.layer, self.basis, self.seed, self.place, self.encode = layer, basis, seed, place, encode
        self.places: Tensor | None = None  # of the measured units, when the first output has been seen
        self.turned: Tensor | None = None  # what the rotation gives these units, (unit, measured)

    def __call__(self, output: Float[Tensor, "..."]) -> Float[Tensor, "batch measured"]:
        """The values of the units that are measured."""
        laid, places = self._in_basis(output)
        pool, units, measured = self.layer.pool, laid.shape[1], places.shape[0]
        if self.turned is not None or measured == units:
            return pooled(laid, pool)
        if SPARSE * measured < units:
            return pooled(laid[:, places], pool)
        return pooled(laid, pool)[:, places]

    def along(self, output: Float[Tensor, "..."], unit: int) -> Float[Tensor, "batch *place"]:
        """The values of one of these units before they are pooled.

        Raises:
            ValueError: a unit that is not measured.
        """
        laid, places = self._in_basis(output)
        return laid[:, unit if self.turned is None else places.tolist().index(unit)]

    def _in_basis(
        self, output: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "batch unit *place"], Int64[Tensor, " measured"]]:
        """The layer's values in the basis, of rotated ones those measured alone; and which units are measured."""
        laid = laid_out(output, self.layer)
        if self.encode is not None:
            laid = self.encode(laid.movedim(1, -1)).movedim(-1, 1)
        if self.places is None:
            self.places = self._start(laid.shape[1], laid.device)
        if self.turned is not None:
            passed_on = self.layer.nonlinearity(laid) if self.layer.nonlinearity else laid
            laid = torch.einsum("bu...,uv->bv...", passed_on.float(), self.turned)
        return laid, self.places

    def _start(self, units: int, device: torch.device) -> Int64[Tensor, " measured"]:
        """Which units are measured: those named, or as many as the layer says, drawn at random, or all."""
        seed, most = self.seed + 7919 * (self.place + 1), self.layer.most
        places = torch.arange(units, device=device)
        if self.layer.only:
            if max(self.layer.only) >= units or min(self.layer.only) < 0:
                wrong = max(self.layer.only) if max(self.layer.only) >= units else min(self.layer.only)
                raise ThalwegError(f"layer {self.layer.name!r} has units 0 to {units - 1}; unit {wrong} was asked for")
            places = torch.tensor(sorted(self.layer.only), device=device)
        elif most and most < units:
            order = torch.randperm(units, generator=torch.Generator().manual_seed(seed))
            places = order[:most].sort().values.to(device)
        if self.basis == RANDOM and units > WIDEST_ROTATION:
            count = directions(units, len(places))
            self.turned = random_directions(units, count, seed=seed).to(device)
            return torch.arange(count, device=device)
        if self.basis == RANDOM:
            self.turned = rotation(units, seed=seed).to(device)[:, places]
        return places


def laid_out(output: Float[Tensor, "..."], layer: Layer) -> Float[Tensor, "batch neuron *place"]:
    """A layer's output with its neurons on axis 1 and its places after them; the last place alone where it is all that
    is looked at.
    """
    laid = output.movedim(layer.units, 1)[:, :, layer.skip :] if output.ndim > 2 else output
    return pooled(laid, "last") if layer.pool == "last" else laid


class Enough(BaseException):
    """Ends a forward pass: all that is wanted of it has been seen. Not an `Exception`, which a model may catch."""


def run(model: nn.Module, inputs: Tensor) -> None:
    """A forward pass, whole or as far as those who watch it want it."""
    with suppress(Enough):
        model(inputs)


@contextmanager
def watching(
    model: nn.Module,
    layers: Sequence[Layer],
    *,
    read: Callable[[str, Tensor], Any] | None = None,
    short: bool = False,
) -> Iterator[dict[str, Any]]:
    """A dictionary that holds what each layer gave in the last forward pass, for as long as the context lasts.

    Of a layer that returns several things, the first tensor counts. With `read`, what that makes of it is held instead,
    and it is called at once: the output itself can be freed or changed in place by what runs next. With `short`, `run`
    goes through the whole model once, which shows whether a layer runs twice, and from then on no further than the last
    of the layers; a model that is spread over devices runs whole, as it puts its weights back only then.

    Raises:
        ThalwegError: a layer that the model does not have, that ran twice in one pass, or whose output is no tensor of
            shape (batch, unit, ...).
    """
    modules = dict(model.named_modules())
    outputs: dict[str, Any] = {}
    passes = 0
    short = short and not getattr(model, "hf_device_map", None)
    in_place = any(getattr(module, "inplace", False) for module in modules.values())  # a later one would alter them

    def keep(name: str, output: object) -> None:
        if name in outputs:
            raise ThalwegError(f"layer {name!r} ran twice in one pass; name layers that run once")
        found = first_tensor(output)
        if found is None or found.ndim < 2:
            got = type(output).__name__ if found is None else f"a tensor of shape {tuple(found.shape)}"
            raise ThalwegError(f"layer {name!r} gave {got}; units need a tensor of shape (batch, unit, ...)")
        outputs[name] = read(name, found) if read else found.clone() if in_place else found
        if short and passes > 1 and len(outputs) == len(layers):
            raise Enough

    def forget(_module: nn.Module, _inputs: object) -> None:
        nonlocal passes
        passes += 1
        outputs.clear()

    handles = [model.register_forward_pre_hook(forget)]
    try:
        for layer in layers:
            module, at_input = module_at(layer.name, modules)
            if at_input:
                handles.append(module.register_forward_pre_hook(lambda _m, given, name=layer.name: keep(name, given)))
            else:
                handles.append(
                    module.register_forward_hook(lambda _m, _given, output, name=layer.name: keep(name, output))
                )
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def module_at(layer: str, modules: Mapping[str, nn.Module]) -> tuple[nn.Module, bool]:
    """The module that a layer's name means, and whether its input is meant; a module's own name may end in ":in".

    Raises:
        ThalwegError: the model has no such module.
    """
    if layer in modules and layer:
        return modules[layer], False
    name = layer.removesuffix(INPUT)
    if name not in modules or not name:
        raise unknown("layer of the model", layer, (known for known in modules if known))
    return modules[name], name != layer


def places_of_sample(ids: Int[Tensor, " stimulus"], scramble: Scramble, size: int) -> Int64[Tensor, " place"]:
    """Where the stimuli of the shared sample stand: those with the smallest scrambled ids, in increasing order."""
    order, places = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    for start in range(0, len(ids), BLOCK):  # a block at a time, as memory must not grow with the stimuli
        some = scramble(ids[start : start + BLOCK].long())
        order, places = torch.cat([order, some]), torch.cat([places, torch.arange(start, start + len(some))])
        order, least = order.topk(min(size, len(order)), largest=False)
        places = places[least]
    return places.sort().values


def cut_at(places: Int64[Tensor, " place"], count: int, size: int) -> Iterator[Int64[Tensor, "_"]]:
    """Increasing places in a range of this length, cut into batches of so many: those in each batch, from its start."""
    starts = torch.arange(0, count + size, size)
    ends = torch.searchsorted(places, starts).tolist()
    return (
        places[first:last] - start for start, (first, last) in zip(starts[:-1].tolist(), pairwise(ends), strict=True)
    )


def scrambled(ids: Int[Tensor, " stimulus"], scramble: Scramble, size: int) -> Iterator[Int64[Tensor, " batch"]]:
    """The scrambled ids of each batch of so many, made for many batches at once."""
    for some in ids.split(max(BLOCK // 32 // size, 1) * size):
        yield from scramble(some.long()).split(size)


@contextmanager
def unread(model: nn.Module, layers: Sequence[Layer]) -> Iterator[None]:
    """Leave out what nobody reads, for as long as the context lasts, in a model that can.

    A language model that has `logits_unread` need not compute its logits, which with a large vocabulary cost more than
    the layers; unless one of the layers is the module that computes them, its `read_out`.
    """
    read_out = getattr(model, "read_out", "")
    able = (
        bool(read_out) and hasattr(model, "logits_unread") and not any(one.name.startswith(read_out) for one in layers)
    )
    if able:
        model.logits_unread = True  # type: ignore[assignment]
    try:
        yield
    finally:
        if able:
            model.logits_unread = False  # type: ignore[assignment]


def first_tensor(output: object) -> Tensor | None:
    """The output, or the first tensor in it where a module returns several things: in a mapping, a sequence or a
    dataclass, however deep.
    """
    if isinstance(output, Tensor):
        return output
    if is_dataclass(output) and not isinstance(output, Mapping):
        output = tuple(getattr(output, field.name) for field in fields(output))
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, Sequence) and not isinstance(output, str):
        return next((found for part in output if (found := first_tensor(part)) is not None), None)
    return None


def answer_in(output: object) -> Tensor | None:
    """What a model says in the end: its `logits` where it returns several things by name, else the first tensor."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else first_tensor(output)


def record(
    model: nn.Module,
    layers: Sequence[Layer],
    stimuli: Stimuli,
    ids: Int[Tensor, " stimulus"],
    *,
    bases: Sequence[str] = (NEURONS,),
    encoders: Mapping[tuple[str, str], Encode] | None = None,
    k: int = 64,
    sample: int = 512,
    seed: int = 0,
    statistics: Mapping[str, Statistic] | None = None,
    batch_size: int = 250,
    device: str = "cpu",
    precision: str = "float32",
    workers: int = 1,
) -> dict[tuple[str, str], Recording]:
    """Record every unit of every layer, in each basis, over the stimuli with these ids in one pass: {(layer, basis):
    recording}. But for the first batch, the pass goes no further than the last of the layers.

    `statistics` holds tables with a row for each stimulus of the whole set, whose products with the values are summed.
    The basis "random" is the layer's output after its nonlinearity, rotated at random over the units, then pooled
    (of a layer of more than `WIDEST_ROTATION` units along a sample of random directions, numbered from 0);
    every basis but it and "neurons" has `encoders`, a function for each layer: {(layer, basis): function}. Pictures are
    decoded ahead by so many `workers`.

    Raises:
        ThalwegError: an unknown layer, one that did not run, or an output that does not fit the batch.
    """
    scramble = Scramble.seeded(seed)
    tables = {name: table.to(device) for name, table in (statistics or {}).items()}
    readers = {
        (layer.name, basis): Reader(
            layer, basis, seed=seed, place=place, encode=(encoders or {}).get((layer.name, basis))
        )
        for place, layer in enumerate(layers)
        for basis in bases
    }
    scratch = Scratch()
    recorders = {
        name: Recorder(k=k, sample=sample, scramble=scramble, statistics=tables, scratch=scratch) for name in readers
    }
    model = in_precision(placed(model.eval(), device), PRECISIONS[precision])

    orders = scrambled(ids, scramble, batch_size)
    sampled = cut_at(places_of_sample(ids, scramble, sample), len(ids), batch_size)
    which = order = places = torch.empty(0, dtype=torch.int64)  # of the batch under way: ids, scrambled, in the sample
    entering = places, order

    held: dict[tuple[str, str], Tensor] = {}  # values that are taken in after the pass

    def read(layer: str, output: Tensor) -> None:
        """Read a layer's values where they arise, while they are at hand and before anything alters them.

        Those that lie in the output itself are taken in at once. The others wait until the pass is over, as taking them
        in costs half then; so do all in the first pass, for what lasts is not made between what does not last.
        """
        for basis in bases:
            values = readers[layer, basis](output).to(device)
            if values.shape[0] != which.shape[0]:
                raise ThalwegError(
                    f"layer {layer!r} returned {len(values)} rows for a batch of {len(which)} stimuli; axis 0 must be "
                    "the batch"
                )
            recorder = recorders[layer, basis]
            apart = values.untyped_storage().data_ptr() != output.untyped_storage().data_ptr()
            if recorder.started and not apart:
                recorder.offer(values, which, order, entering)
            else:
                held[layer, basis] = values if apart else values.clone()

    with torch.inference_mode(), watching(model, layers, read=read, short=True) as ran, unread(model, layers):
        for batch, inputs in batches(stimuli, ids, batch_size, workers=workers):
            which, order, places = (one.to(device) for one in (batch, next(orders), next(sampled)))
            entering = places, order.take(places)
            with user_code("the model"):
                run(model, given(inputs, device, PRECISIONS[precision]))
            for layer in layers:
                if layer.name not in ran:
                    raise ThalwegError(
                        f"layer {layer.name!r} did not run for a batch; name layers that every stimulus uses"
                    )
            for name in [*held]:
                recorders[name].offer(held.pop(name), which, order, entering)
    return {
        name: replace(recorder.finish(), places=readers[name].places.cpu())  # type: ignore[union-attr]
        for name, recorder in recorders.items()
    }
