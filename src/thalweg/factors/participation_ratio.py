"""How many directions the activations of a layer fill.

If all units vary independently and by as much, a layer of d units has d dimensions; if one direction carries all the
variance, it has one. The participation ratio counts in between, without a threshold. A layer that packs many features
into few directions and one that has few features both come out low, so it is a description, not a measure of
superposition.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.factors.base import Estimate, factor, mean_of_layers
from thalweg.measures.base import Z

GROUPS = 20  # of stimuli, left out in turn for the interval
LEAST = 4  # stimuli below which tr(C^2) has no unbiased estimate
FLAT = 1e-12  # of the mean square: less variance than this is rounding


@factor(
    version=1,
    unit="dimensions",
    range=(1.0, math.inf),
    higher_is="spread over more directions",
    cite="Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy & Ganguli 2017; estimated as by Himeno & Yamada 2014",
)
def participation_ratio(activations: Mapping[str, Float[Tensor, "stimulus unit"]]) -> Estimate:
    """The effective number of dimensions of a layer's activations: tr(C)^2 / tr(C^2), the mean over layers.

    C is the covariance of the layer's measured units over stimuli, after the nonlinearity. It is estimated from the
    random sample of stimuli that all units share (by default 1,024, half of them from each half of the pool), not from
    sums over the whole pool. Put into the formula as it is, a sample covariance of n stimuli and d units gives about 1
    / (1/PR + 1/n), which is too low. So tr(C)^2 and tr(C^2) are each estimated without bias, for any distribution with
    four moments; the bias of their ratio is of order 1/n. The interval leaves out twenty groups of stimuli in turn
    (jackknife); n counts stimuli.

    Units with values that are not finite are left out. A layer without variance has no number; NaN where no layer has
    one.

    How it can mislead: it can't exceed the number of measured units, so it grows with a layer's width and with
    `max_units`, and of a wide layer's rotated twin it says how many of the sampled directions are filled; one unit of
    large variance takes it to 1, for units are not standardised; units are pooled over places.
    """
    ratios = {name: _ratios(_products(values)) for name, values in activations.items()}
    layers = {name: float(each[0]) for name, each in ratios.items()}
    there = [each[1:] for each in ratios.values() if not each[0].isnan()]
    without = torch.stack(there).mean(0) if there else torch.empty(0)
    without = without[~without.isnan()]
    half = Z * math.sqrt(len(without) - 1) * float(without.std(correction=0)) if len(without) > 1 else math.nan
    count = min((len(values) for values in activations.values()), default=0)
    return mean_of_layers(layers, half, n=count, note="no layer has units that vary", least=1.0)


@dataclass(frozen=True, eq=False)
class _Products:
    """What is needed of the products K of n centred stimuli with each other, in groups of stimuli."""

    own: Float[Tensor, " stimulus"]  # of each stimulus with itself
    by_group: Float[Tensor, "stimulus group"]  # summed over the others of each group
    squares: Float[Tensor, "group group"]  # squared and summed


def _products(values: Float[Tensor, "stimulus unit"]) -> _Products:
    """Products of the stimuli's centred activations, in a scale where their mean square is 1; zeros for a layer without
    variance.
    """
    values = values.double()[:, values.isfinite().all(0)]
    centred = values - values.mean(0)
    power, total = centred.square().mean(), values.square().mean()
    varies = values.numel() > 0 and bool(power > FLAT * total)
    centred = centred / power.sqrt() if varies else torch.zeros(len(values), 1, dtype=torch.float64)
    kernel = centred @ centred.T
    member = _member(len(values))
    return _Products(kernel.diagonal().clone(), kernel @ member, member.T @ kernel.square() @ member)


def _ratios(products: _Products) -> Float[Tensor, " left_out"]:
    """The participation ratio from the products of all stimuli, and then of those outside each group; NaN for few
    stimuli or no variance.

    With S the sample covariance of n stimuli and q = sum |x_i - mean|^4 / (n-1), unbiased estimates are, but for the
    factor (n-1) / (n (n-2) (n-3)) that both share,

        tr(C)^2:  2 tr(S^2) + (n^2 - 3n + 1) tr(S)^2 - n q
        tr(C^2):  (n-1) (n-2) tr(S^2) + tr(S)^2 - n q          (Himeno & Yamada 2014)

    and S is met only in products of centred stimuli: |J K J|^2 = |K|^2 - 2 |K 1|^2 / n + (1 K 1)^2 / n^2.
    """
    member = _member(len(products.own))
    keep = torch.cat([torch.ones_like(member[:, :1]), 1 - member], 1)  # (stimulus, left_out)
    out = nn.functional.pad(products.by_group, (1, 0))
    row = keep * (products.by_group.sum(1, keepdim=True) - out)  # K 1
    n, total = keep.sum(0), row.sum(0)
    powers = keep * (products.own[:, None] - 2 * row / n + total / n**2)  # |x_i - mean|^2
    trace, fourth = powers.sum(0) / (n - 1), powers.square().sum(0) / (n - 1)
    squares = products.squares.sum() - 2 * products.squares.sum(1) + products.squares.diagonal()
    squares = torch.cat([products.squares.sum()[None], squares])  # |K|^2
    square = (squares - 2 * row.square().sum(0) / n + total**2 / n**2) / (n - 1) ** 2
    numerator = 2 * square + (n * n - 3 * n + 1) * trace**2 - n * fourth
    denominator = (n - 1) * (n - 2) * square + trace**2 - n * fourth
    there = (n >= LEAST) & (trace > 0) & (denominator > 0)
    return torch.where(there, numerator / denominator, torch.nan)


def _member(count: int) -> Float[Tensor, "stimulus group"]:
    """Which group each stimulus is in."""
    return nn.functional.one_hot(torch.arange(count) % GROUPS, GROUPS).double()
