"""How operations are counted: as PyTorch's own counter counts them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from support.tiny import blobs, convnet, network
from thalweg.strength.axes import forward_flops


class Inferring(nn.Module):
    """A model that runs in inference mode, where operators come that consist of others."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.inner(pixels)


def attending() -> nn.Module:
    """A block of a transformer that takes pixels for nine tokens."""
    tokens = (nn.Flatten(), nn.Unflatten(1, (9, 16)))
    return nn.Sequential(*tokens, nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))


@pytest.mark.parametrize("build", [lambda: convnet(3), attending, Inferring], ids=["convnet", "attention", "inference"])
def test_operations_are_counted_as_pytorch_counts_them(build: Callable[[], nn.Module]):
    model, images = build(), blobs(1, seed=0)
    with FlopCounterMode(display=False) as counter:
        model.eval()(images.batch(slice(0, 1)))
    assert forward_flops(model, images) == counter.get_total_flops() > 0
