"""Untrained twins: a network as it is initialised, with the statistics that its normalisation layers go by.

Batch normalisation in use goes by running statistics, which begin as mean 0 and variance 1 and are learned with the
weights. An untrained network that keeps these beginnings does not normalise at all: its values grow or vanish with
depth, its logits reach thousands, and it stands below what it is to be a control for, a network of the same design that
has learned nothing. So the statistics are estimated on stimuli, and weights are left as they were initialised.
"""

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from thalweg.compute.devices import placed
from thalweg.stimuli.base import Stimuli

MOST_STIMULI = 1000  # a variance over so many is known to 4 % where a stimulus has one place, better where it has more
BATCH = 50
VERSION = 1  # rises when untrained twins change


def normalisations(model: nn.Module) -> dict[str, _NormBase]:
    """The layers that go by running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.track_running_stats and module.running_mean is not None
    }


def chosen(ids: Int[Tensor, " stimulus"]) -> Int[Tensor, " chosen"]:
    """At most so many of the stimuli, at random but always the same, in whole batches where there are several."""
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))[:MOST_STIMULI]
    whole = len(order) - len(order) % BATCH if len(order) > BATCH else len(order)
    return ids[order[:whole].sort().values]


def statistics(model: nn.Module, stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str) -> dict[str, Tensor]:
    """What the running statistics of the model's normalisation layers are on these stimuli, as tensors of its state.

    The mean over batches of each batch's mean and variance, as PyTorch takes it with `momentum=None`; each layer is
    given what the layers before it make when they normalise by the batch, as in training. Dropout is off.
    """
    model = placed(model.eval(), device)
    normalising = normalisations(model)
    momenta = {name: module.momentum for name, module in normalising.items()}
    for module in normalising.values():
        module.reset_running_stats()
        module.momentum = None
        module.train()
    with torch.no_grad():
        for batch in ids.split(BATCH):
            model(stimuli.batch(batch).to(device))
    for name, module in normalising.items():
        module.momentum = momenta[name]
        module.eval()
    return {
        f"{name}.{what}".removeprefix("."): value.detach().cpu().clone()
        for name, module in normalising.items()
        for what, value in module.named_buffers(recurse=False)
    }
