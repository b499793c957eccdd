"""The random sample of stimuli that all units share: which stimuli it holds, batch by batch."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from thalweg.recording.keys import Scramble

BLOCK = 1 << 18  # values of a layer that are taken in together; ids that are searched together


def sample_positions(ids: Int[Tensor, " stimulus"], scramble: Scramble, size: int) -> Int64[Tensor, " position"]:
    """The positions in `ids` of the stimuli of the shared sample, those with the smallest scrambled ids, increasing."""
    order, positions = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    for start in range(0, len(ids), BLOCK):  # a block at a time, as memory must not grow with the stimuli
        block = scramble(ids[start : start + BLOCK].long())
        order, positions = torch.cat([order, block]), torch.cat([positions, torch.arange(start, start + len(block))])
        order, least = order.topk(min(size, len(order)), largest=False)
        positions = positions[least]
    return positions.sort().values


def cut_at(positions: Int64[Tensor, " position"], count: int, size: int) -> Iterator[Int64[Tensor, "_"]]:
    """Increasing positions in a range of length `count`, by batches of `size`: those in each batch, from its start."""
    starts = torch.arange(0, count + size, size)
    ends = torch.searchsorted(positions, starts).tolist()
    return (
        positions[first:last] - start for start, (first, last) in zip(starts[:-1].tolist(), pairwise(ends), strict=True)
    )


def scrambled(ids: Int[Tensor, " stimulus"], scramble: Scramble, size: int) -> Iterator[Int64[Tensor, " batch"]]:
    """The scrambled ids of each batch of so many, made for many batches at once."""
    for block in ids.split(max(BLOCK // 32 // size, 1) * size):
        yield from scramble(block.long()).split(size)
