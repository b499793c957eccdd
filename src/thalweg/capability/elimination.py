"""The positive control: units chosen by what they do for the loss, which no score of interpretability knows.

If even these keep no more than random units, a network's units cannot be told apart in this way, and no score could
have shown an excess. Greedy forward selection by loss would do, but starts where nothing can be seen: with every unit
of a later layer replaced, an earlier one changes nothing. So units are taken away instead, in fourteen steps from all
of them to the smallest cut. Before each step the first-order effect of every unit is estimated anew, in the network
that is left: minus the derivative of the loss by how much of the unit's distance from its mean is kept (Molchanov et
al. 2017; Nanda 2023 calls it attribution patching). Those with the least effect go, in each layer as many as its cut
says. The loss is that of one half; what is left is weighed on the other.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from thalweg.capability.masked import MaskedModel
from thalweg.capability.refit import fit
from thalweg.capability.sets import UnitSets
from thalweg.stimuli.windows import NO_TARGET

SHARES = (0.9, 0.82, 0.75, 0.66, 0.58, 0.5, 0.42, 0.35, 0.3, 0.25, 0.2, 0.16, 0.13, 0.1)


def by_elimination(model: MaskedModel, sets: UnitSets, fold: Tensor) -> Mapping[float, Bool[Tensor, "1 unit"]]:
    """The units that are left at each share, chosen by the loss on the stimuli of one half."""
    keep = sets.all()
    left = {}
    for share in SHARES:
        effect = _effects(model, keep[0], fold)
        effect = torch.where(keep[0], effect, -torch.inf)
        ranking = [effect[ids].argsort(descending=True, stable=True) for ids in sets.eligible]
        left[share] = keep = sets.first(ranking, share)
    return left


def _effects(model: MaskedModel, keep: Bool[Tensor, " unit"], fold: Tensor) -> Float[Tensor, " unit"]:
    """How much the loss would rise without each unit, by its first derivative."""
    parts = keep.to(model.device, torch.float32).requires_grad_()
    targets = model.answers.targets[fold]
    with torch.enable_grad():
        logits = model.soft_logits(parts, fold)
        placed = logits[None].unflatten(1, (len(fold), -1)) if logits.ndim == 2 else logits[None]
        prior = model.answers.log_prior.to(logits)
        says = fit(placed.detach(), targets, prior).line(placed, prior)
        loss = cross_entropy(says.flatten(0, -2), targets.to(says.device).flatten(), ignore_index=NO_TARGET)
        (slope,) = torch.autograd.grad(loss, parts)
    return -slope.cpu()
