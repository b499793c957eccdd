"""All pairs of numbers below p, split once."""

import torch
from jaxtyping import Int
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.pairs import NumberPairs

P = 53
PUBLISHED = 113  # the prime of Nanda et al. 2023
LARGE = 100  # from here on the settings are the published ones; p = 53 needs more weight decay and more pairs
VALIDATED = 0.1  # of all pairs: they say when a network has grokked


def all_pairs(p: int) -> Int[Tensor, "pair 2"]:
    """All pairs of numbers below p, in order: pair (a, b) stands at place a p + b."""
    return torch.cartesian_prod(torch.arange(p), torch.arange(p))


def splits(source: Source, seed: int, *, p: int = P) -> Splits:
    """All pairs of numbers below p: a random part for training, a tenth for validation, the rest as the pool.

    Raises:
        ThalwegError: the user named a file; this task has no other stimuli than all pairs.
    """
    if source.path is not None:
        raise ThalwegError(f"{source.path}: the ladder 'addition' takes no data; its stimuli are all pairs below {p}")
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))
    pairs = NumberPairs(all_pairs(p)[order], p)
    train = round(_fraction(p) * p * p)
    pool = train + round(VALIDATED * p * p)
    return Splits(pairs.take(slice(0, train)), pairs.take(slice(train, pool)), pairs.take(slice(pool, None)))


def _fraction(p: int) -> float:
    """Of all pairs, those trained on: 30 % as published, and 40 % for small p, where 30 % are too few to grok soon."""
    return 0.3 if p >= LARGE else 0.4
