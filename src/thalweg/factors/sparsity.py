"""How rarely the units of a model are active.

Sparse units are easier to describe, for their highest stimuli are few and alike; and activation sparsity is what the
theory of superposition needs. It therefore goes with many scores, and belongs beside them.

Hoyer's index is taken rather than the share of zeros or the Treves-Rolls sparseness. It needs no threshold, which GELU
would ask for, and no positive rates, which residual streams do not have; and it does not change with a unit's scale.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.factors.base import Estimate, factor, mean_of_units


@factor(
    version=1,
    unit="Hoyer's index",
    range=(0.0, 1.0),
    higher_is="active on fewer stimuli",
    cite="Hoyer 2004, section 3.1",
)
def activation_sparsity(activations: Mapping[str, Float[Tensor, "stimulus unit"]]) -> Estimate:
    """How few stimuli a unit is active on, by Hoyer's index over stimuli; the mean over layers of the mean over units.

    With x a unit's values on n stimuli, index = (sqrt(n) - sum |x| / sqrt(sum x^2)) / (sqrt(n) - 1): 1 if the unit is
    active on one stimulus alone, 0 if it is as far from zero on all. Gaussian values around zero have 0.2. The values
    are those of the shared random sample, after the nonlinearity. The interval comes from the scatter of units within
    layers; n counts units.

    Units that are zero everywhere or have values that are not finite have no index and are left out; NaN where all are.

    How it can mislead: maxima over places are less sparse than the places; where a layer's values are pooled by their
    mean, the nonlinearity is applied to the mean; what has no nonlinearity (a residual stream) has an arbitrary zero.
    """
    indices = {name: hoyer(values) for name, values in activations.items()}
    return mean_of_units(indices, note="no unit is ever active", least=0.0, most=1.0)


def hoyer(values: Float[Tensor, "stimulus unit"]) -> Float[Tensor, " unit"]:
    """Hoyer's index of each unit over stimuli; NaN for a unit that is zero everywhere or has values that are not
    finite, and where there is one stimulus only.
    """
    values = values.double()
    values = values / values.abs().amax(0)  # so that no square overflows; 0 / 0 is NaN
    root = math.sqrt(len(values))
    norm = values.square().sum(0).sqrt()
    index = (root - values.abs().sum(0) / norm) / (root - 1) if len(values) > 1 else norm * torch.nan
    return index.clamp(0, 1)
