"""How much a unit prefers one class of stimuli to all others.

A unit that answers to one class is easy to name, so selectivity is often read as interpretability. It is only a
correlate: selective units need not matter to the network (Morcos et al. 2018), and pushing selectivity down can leave
accuracy unharmed (Leavitt & Morcos 2020). Report it beside `two_choice_matched`, never instead of it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.measures.base import Score, Z, measure


@measure(
    version=1,
    unit="ratio",
    range=(0.0, 1.0),
    chance=None,  # depends on the number of classes and stimuli: see the untrained twin
    higher_is="more selective",
    cite="Morcos, Barrett, Rabinowitz & Botvinick 2018, eq. 1",
)
def class_selectivity(class_means: Float[Tensor, "label unit"], class_errors: Float[Tensor, "label unit"]) -> Score:
    """Contrast between a unit's favourite class and the mean of the others.

    With mu_c the unit's mean over the stimuli of class c, shifted so that the smallest is zero, selectivity = (mu_max -
    mu_rest) / (mu_max + mu_rest), where mu_rest averages all classes but the favourite. The interval comes from the
    class means' standard errors by the delta method; n counts the classes.

    Equal means (a dead or constant unit) have no favourite: NaN.

    How it can mislead: values before the nonlinearity have no natural zero, so the smallest class mean is taken as
    zero; with few stimuli a class, the largest of noisy means looks selective.

    Raises:
        ValueError: fewer than two classes.
    """
    if class_means.shape[0] < 2:
        raise ValueError(f"class selectivity compares classes, and there is only {class_means.shape[0]}")
    count = class_means.shape[0]
    floor, least = class_means.min(dim=0)
    means = class_means - floor  # (label, unit), >= 0: the ratio needs a floor of zero
    favourite, best = means.max(dim=0)  # (unit)
    rest = (means.sum(dim=0) - favourite) / (count - 1)  # (unit)
    total = favourite + rest
    value = torch.where(favourite > 0, (favourite - rest) / total, torch.nan)
    slopes = torch.full_like(means, 1) * (-2 * favourite / total**2 / (count - 1))  # d value / d mean of each class
    slopes.scatter_(0, best[None], (2 * rest / total**2)[None])
    slopes.scatter_add_(0, least[None], -(2 * (rest - favourite) / total**2)[None])
    half = Z * (slopes * class_errors).square().sum(dim=0).sqrt()
    n = torch.where(value.isnan(), 0, count)
    return Score(value, (value - half).clamp_min(0), (value + half).clamp_max(1), n)
