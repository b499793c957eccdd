"""How alike the stimuli are that drive a unit."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from thalweg.measures.base import Score, Z, measure


@measure(
    version=2,
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

    A constant unit is NaN, and so is one that a single stimulus drives, all others leaving it at its lowest value:
    there is no pair. Where all pairs have one stimulus in common, the interval is the whole range.

    How it can mislead: a unit whose values are spread evenly weighs all pairs alike and scores 0 however clear it is;
    one that answers to two unlike things scores between.
    """
    floor, top = activations.amin(0), activations.amax(0)
    weight = ((activations - floor) / (top - floor)).double()  # (stimulus, unit); 0 / 0 is NaN for a constant unit
    vectors = embeddings.double()
    length = vectors.square().sum(1, keepdim=True)  # (stimulus, 1): 1 but for rounding, which has to cancel
    product = weight.T @ vectors  # (unit, feature)
    total, square = weight.sum(0), weight.square()
    numerator = product.square().sum(1) - (square * length).sum(0)
    denominator = total.square() - square.sum(0)
    value = _over(numerator, denominator, total)
    # without stimulus i: both sums lose the pairs that i is in
    lost = 2 * weight * (vectors @ product.T - weight * length)  # (stimulus, unit)
    left = _over(numerator - lost, denominator - 2 * weight * (total - weight), total)
    count = len(activations)
    spread = ((left - left.mean(0)).square().sum(0) * (count - 1) / count).sqrt()
    low, high = value - Z * spread, value + Z * spread
    unknown = spread.isnan() & ~value.isnan()  # all pairs have one stimulus in common
    low, high = low.masked_fill(unknown, -1), high.masked_fill(unknown, 1)
    n = torch.full(value.shape, count).where(~value.isnan(), 0)
    return Score(value.float(), low.float(), high.float(), n, "a single stimulus drives it")


def _over(
    numerator: Float64[Tensor, "*stimulus unit"],
    denominator: Float64[Tensor, "*stimulus unit"],
    total: Float64[Tensor, " unit"],
) -> Float64[Tensor, "*stimulus unit"]:
    """The quotient; NaN where the pairs weigh nothing beside rounding."""
    return (numerator / denominator).where(denominator > 1e-9 * total.square(), torch.nan)
