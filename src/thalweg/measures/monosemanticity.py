"""How alike the stimuli are that drive a unit."""

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.measures import Score, Z, measure


@measure(
    version=1,
    unit="similarity",
    range=(-1.0, 1.0),
    chance=0.0,  # centred similarities average 0 over random pairs
    higher_is="more alike",
    cite="Pach, Karthik, Bouniot, Belongie & Akata 2025, Monosemanticity Score",
)
def monosemanticity(
    activations: Float[Tensor, "stimulus unit"], embeddings: Float[Tensor, "stimulus feature"]
) -> Score:
    """The mean similarity of pairs of stimuli, each pair weighted by the product of the unit's activations.

    With activations a in [0, 1] (shifted and scaled by the unit's smallest and largest value) and embeddings e of
    length 1, sum_{i<j} a_i a_j e_i.e_j / sum_{i<j} a_i a_j. No pairs are formed: with g = sum a_i e_i, the numerator is
    (|g|^2 - sum a^2) / 2 and the denominator ((sum a)^2 - sum a^2) / 2. Computed over the shared random sample. The
    interval is the jackknife's over stimuli.

    A constant unit is NaN.

    How it can mislead: a unit whose values are spread evenly weighs all pairs alike and scores 0 however clear it is;
    one that answers to two unlike things scores between.
    """
    floor, top = activations.amin(0), activations.amax(0)
    weight = (activations - floor) / (top - floor)  # (stimulus, unit); 0 / 0 is NaN for a constant unit
    product = weight.T @ embeddings  # (unit, feature)
    total, square = weight.sum(0), weight.square().sum(0)
    numerator, denominator = product.square().sum(1) - square, total.square() - square
    value = numerator / denominator
    # without stimulus i: both sums lose the pairs that i is in
    lost = 2 * weight * (embeddings @ product.T - weight)  # (stimulus, unit)
    left = (numerator - lost) / (denominator - 2 * weight * (total - weight))
    count = len(activations)
    spread = ((left - left.mean(0)).square().sum(0) * (count - 1) / count).sqrt()
    n = torch.full(value.shape, count).where(~value.isnan(), 0)
    return Score(value, value - Z * spread, value + Z * spread, n)
