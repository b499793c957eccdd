"""What training sparse networks needs: the outputs of rectifiers, and weights of which only the largest stay."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def rectified(model: nn.Module) -> Generator[list[Tensor]]:
    """A list that gathers the outputs of the model's rectifiers as it runs, for as long as the context lasts."""
    outputs: list[Tensor] = []
    parts = [part for part in model.modules() if isinstance(part, nn.ReLU)]
    handles = [part.register_forward_hook(lambda _part, _given, output: outputs.append(output)) for part in parts]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def penalised(model: nn.Module, l1: float) -> AbstractContextManager[list[Tensor]]:
    """The outputs of the rectifiers where they have a penalty, else none: watching them costs time in each step."""
    return rectified(model) if l1 else nullcontext([])


@torch.no_grad()
def keep_largest(model: nn.Module, share: float) -> None:
    """Set all but the largest weights of every linear map and convolution to 0, in size; biases stay.

    Done after each step of training, it trains a sparse network: a weight that is 0 still gets a gradient, and comes
    back when it has grown larger than another.

    Args:
        model: Changed in place. Weights without memory (on the device `meta`) have no values, and are passed over.
        share: Of the weights of each map that stay; at least one does.

    Source: Gao et al. 2025, "Weight-sparse transformers have interpretable circuits".
    """
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and not part.weight.is_meta:
            weight: Tensor = part.weight
            kept = max(1, round(share * weight.numel()))
            least = weight.abs().flatten().kthvalue(weight.numel() - kept + 1).values
            weight.mul_((weight.abs() >= least).to(weight))


def sparse_from_start(build: Callable[[], Network], share: float) -> Network:
    """The model that `build` returns with only its largest weights, as `keep_largest` leaves them.

    A network that is trained to be sparse starts so. Then its untrained twin is as sparse: weights are drawn alike, so
    the largest lie at random places. Beside a dense twin, nobody could tell what training did from what sparseness
    does.

    Args:
        build: Returns a model.
        share: Of the weights of each map that stay.
    """
    model = build()
    keep_largest(model, share)
    return model
