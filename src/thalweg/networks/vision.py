"""Plain networks that ladders of images are made of: fully connected ones and convnets, for ten classes."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.compute.devices import channels_last
from thalweg.models.records import Layer
from thalweg.networks.activations import SoftmaxLinear, softmax_linear

DIGITS = (1, 28)  # colour channels, pixels a side


class Centred(nn.Module):
    """Pixels from -1 to 1 instead of from 0 to 1."""

    def forward(self, images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The pixels, moved and stretched."""
        return 2 * images - 1


def fully_connected(
    *widths: int, shape: tuple[int, int] = DIGITS, centred: bool = False, soft: bool = False
) -> nn.Sequential:
    """Hidden layers of these widths, each a linear map and a rectifier; none makes softmax regression. With `soft`,
    softmax linear units and a layer norm take the place of the rectifiers.

    Photographs should be `centred`: where all pixels lie far from zero, narrow layers lose their units in training, for
    a rectifier that gives zero to all of them learns no more. Digits are mostly zero as they are.
    """
    parts: list[nn.Module] = [Centred(), nn.Flatten()] if centred else [nn.Flatten()]
    channels, side = shape
    before = channels * side * side
    for width in widths:
        parts += [nn.Linear(before, width), softmax_linear(width) if soft else nn.ReLU()]
        before = width
    return nn.Sequential(*parts, nn.Linear(before, 10))


def convolutional(*widths: int | str, everywhere: bool = False, shape: tuple[int, int] = DIGITS) -> nn.Sequential:
    """Normalised convolutions of three by three with these many channels, rectified; "pool" halves the image.

    The read-out is linear in the last channels' values at every place or, with `everywhere`, in each channel's maximum
    over places, which is the value that is recorded of a unit.
    """
    parts: list[nn.Module] = []
    before, side = shape
    for width in widths:
        if isinstance(width, str):
            parts.append(nn.MaxPool2d(2))
            side //= 2
        else:
            parts += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
    if everywhere:
        parts.append(nn.AdaptiveMaxPool2d(1))
        side = 1
    return channels_last(nn.Sequential(*parts, nn.Flatten(), nn.Linear(before * side * side, 10)))


def hidden_layers(build: Callable[[], nn.Sequential]) -> tuple[Layer, ...]:
    """The modules whose outputs the rectifiers take in, and softmax linear units themselves; the last module where
    there are neither.

    The architecture is built without memory for its weights.
    """
    with torch.device("meta"):
        model = build()
    names = [name for name, _ in model.named_children()]
    layers = []
    for at, part in enumerate(model):
        if isinstance(part, nn.ReLU):
            layers.append(Layer(names[at - 1], "max", torch.relu))
        elif isinstance(part, nn.Sequential) and isinstance(part[0], SoftmaxLinear):
            layers.append(Layer(f"{names[at]}.0"))
    return tuple(layers) or (Layer(names[-1]),)
