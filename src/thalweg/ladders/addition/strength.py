"""How strong a network is that adds modulo p: bits above the label entropy, over all pairs."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.ladders.addition.networks import Adder
from thalweg.ladders.addition.pairs import all_pairs
from thalweg.stimuli.pairs import NumberPairs
from thalweg.strength import axes as strength


def evaluate(model: nn.Module, stimuli: NumberPairs, *, device: str = "cpu") -> dict[str, float]:
    """How well a model adds: `loss` (nats), `bits` above guessing, their `share` of all, and `accuracy`.

    bits = log2 p - loss / ln 2, for over all pairs every sum is as frequent as every other; share = bits / log2 p. The
    loss is computed in float64. A memoriser's bits on new pairs are negative.

    Raises:
        ThalwegError: logits that are not finite, or not of shape (pair, p).
    """
    summary = strength.evaluate(model, stimuli, device=device)
    bits = math.log2(stimuli.p) - summary["loss"] / math.log(2)
    return {**summary, "bits": bits, strength.SHARE: bits / math.log2(stimuli.p)}


def over_all_pairs(model: Adder, p: int) -> tuple[Float[Tensor, "p p unit"], Float[Tensor, "p p answer"]]:
    """A model's neurons, before the rectifier, and its logits for all pairs, on the CPU."""
    pairs = all_pairs(p).to(next(model.parameters()).device)
    with torch.inference_mode():
        outputs = model.neurons(pairs), model(pairs)
    neurons, logits = (values.cpu().unflatten(0, (p, p)) for values in outputs)
    return neurons, logits
