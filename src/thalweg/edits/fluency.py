"""Continuations of prompts, and how varied they are: an edit that breaks a model makes it repeat itself."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from thalweg.edits.requests import Tokens, logits_of, padded

LIKELIEST = 5  # tokens that are drawn from, as published
WEIGHTS = {2: 2 / 3, 3: 4 / 3}  # of n-grams, as published


@torch.inference_mode()
def continuations(model: nn.Module, prompts: Sequence[Tokens], length: int, *, seed: int = 0) -> list[Tokens]:
    """So many tokens after each prompt, each drawn from the likeliest five by the model's probabilities."""
    generator = torch.Generator().manual_seed(seed)
    rows: list[Tokens] = [*prompts]
    for _ in range(length):
        batch = padded(rows, [()] * len(rows))
        logits = logits_of(model, batch.tokens)[torch.arange(len(rows)), batch.starts - 1]
        best = logits.topk(min(LIKELIEST, logits.shape[1]))
        drawn = torch.multinomial(best.values.softmax(1), 1, generator=generator)
        following = best.indices.gather(1, drawn)[:, 0].tolist()
        rows = [(*row, token) for row, token in zip(rows, following, strict=True)]
    return [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]


def ngram_entropy(tokens: Tokens) -> float:
    """The weighted mean of the entropies of 2-grams and 3-grams, bits: (2/3 H2 + 4/3 H3) / 2.

    The n-grams are of tokens; the published measure takes words. NaN where there is no 3-gram.

    Args:
        tokens: A continuation.

    Source:
        Zhang et al. 2018, Generating Informative and Diverse Conversational Responses; weights of Meng et al. 2022.
    """
    if len(tokens) < 3:
        return float("nan")
    return sum(weight * _entropy(tokens, size) for size, weight in WEIGHTS.items()) / len(WEIGHTS)


def _entropy(tokens: Tokens, size: int) -> float:
    counts = np.array(list(Counter(zip(*(tokens[start:] for start in range(size)), strict=False)).values()), float)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
