"""Keys: a value and its stimulus in one 64-bit integer, whose order is the order of the values."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).min  # the key of no stimulus: below every other
MASK = 0xFFFFFFFF


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
