"""Several networks of one build trained as one: their weights lie in one stack, and each step is one step of all.

On a GPU a small network leaves most of the card idle, and three seeds cost as much as one. On a CPU they do not: the
stacked convolutions are slower than one after another (benchmarks/stacked.py).
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from thalweg.compute.adam import Adam

CHANCE = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def stackable(models: Sequence[nn.Module]) -> bool:
    """Whether these can be trained as one: alike, and without chance of their own (dropout), which a stack shares."""
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in models]
    chance = any(isinstance(part, CHANCE) for model in models for part in model.modules())
    return len(models) > 1 and not chance and all(each == shapes[0] for each in shapes)


class Stack:
    """Networks of one build as one, with Adam; each keeps its own weights, statistics and moments."""

    def __init__(self, models: Sequence[nn.Module], learning_rate: float) -> None:
        self.models = list(models)
        stacked, self.buffers = stack_module_state(self.models)
        self.parameters = {name: value.detach().clone().requires_grad_() for name, value in stacked.items()}
        self.optimiser = Adam(self.parameters.values(), learning_rate)
        self._plan = deepcopy(self.models[0]).to("meta").train()

    def step(
        self, batches: Float[Tensor, "model batch *rest"], labels: Int[Tensor, "model batch"]
    ) -> Float[Tensor, " model"]:
        """One step of every network on its own batch; returns the losses before it."""
        self.optimiser.zero_grad()
        logits: Tensor = vmap(self._forward)(self.parameters, self.buffers, batches)
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        losses = losses.reshape(labels.shape).mean(1)
        losses.sum().backward()  # the networks share no weight: each gets the gradient of its own loss
        self.optimiser.step()
        return losses.detach()

    def _forward(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Tensor) -> Tensor:
        logits: Tensor = functional_call(self._plan, (parameters, buffers), (batch,))
        return logits

    def unstack(self) -> None:
        """Give every network its weights and statistics."""
        for number, model in enumerate(self.models):
            model.load_state_dict({name: value[number] for name, value in {**self.parameters, **self.buffers}.items()})

    def keep(self, numbers: Sequence[int]) -> None:
        """Go on with these networks alone."""
        chosen = torch.tensor(numbers, device=next(iter(self.parameters.values())).device)
        self.models = [self.models[number] for number in numbers]
        self.parameters = {
            name: value.detach()[chosen].clone().requires_grad_() for name, value in self.parameters.items()
        }
        self.buffers = {name: value[chosen].clone() for name, value in self.buffers.items()}
        self.optimiser = self.optimiser.keep(chosen, list(self.parameters.values()))
