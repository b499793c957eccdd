"""The random sample of stimuli that all units share: which stimuli it holds, batch by batch."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from thalweg.recording.keys import Scramble

BLOCK = 1 << 18  # values of a layer that wait to be taken in together; ids that are looked at together


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
