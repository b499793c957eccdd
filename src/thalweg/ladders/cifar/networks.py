"""Convnets in the style of AlexNet and of Inception, and residual ones, for pictures of 32 pixels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.compute.devices import channels_last
from thalweg.ladders.cifar.files import NAMES


def convolution(before: int, width: int, size: int) -> nn.Conv2d:
    """A convolution that keeps the size of the image, to be normalised."""
    return nn.Conv2d(before, width, size, padding=size // 2, bias=False)


def normalised(before: int, width: int, size: int) -> nn.Sequential:
    """A convolution that keeps the size of the image, and its normalisation."""
    return nn.Sequential(convolution(before, width, size), nn.BatchNorm2d(width))


def alexnet(width: int) -> nn.Sequential:
    """Five convolutions, the first of five by five, three times halved, then two fully connected layers (after
    Krizhevsky, Sutskever & Hinton 2012, at the size of these images).
    """
    parts: list[nn.Module] = []
    before = 3
    for size, times, halved in ((5, 1, True), (3, 2, True), (3, 3, False), (3, 3, False), (3, 2, True)):
        parts += [normalised(before, times * width, size), nn.ReLU(), *([nn.MaxPool2d(2)] if halved else [])]
        before = times * width
    hidden = 8 * width
    parts += [nn.Flatten(), nn.Linear(before * 16, hidden), nn.ReLU(), nn.Linear(hidden, len(NAMES))]
    return channels_last(nn.Sequential(*parts))


class Block(nn.Module):
    """Four branches side by side: one by one, three by three and five by five convolutions, and a pooled one.

    The larger convolutions see fewer channels, made by one by one convolutions of their own (after Szegedy et al. 2015,
    with normalisation). What comes out is taken before its rectifier, which is the next module.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        narrow = max(4, width // 2)
        self.conv_1x1 = convolution(before, width, 1)
        self.conv_3x3 = nn.Sequential(normalised(before, narrow, 1), nn.ReLU(), convolution(narrow, 2 * width, 3))
        self.conv_5x5 = nn.Sequential(
            normalised(before, narrow // 2, 1), nn.ReLU(), convolution(narrow // 2, width // 2, 5)
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), convolution(before, width // 2, 1))
        self.normalise = nn.BatchNorm2d(4 * width)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch unit height width"]:
        """The branches' channels, one after another: four times the width."""
        branches = (self.conv_1x1(images), self.conv_3x3(images), self.conv_5x5(images), self.pooled(images))
        side_by_side: Tensor = self.normalise(torch.cat(branches, 1))
        return side_by_side


def inception(width: int) -> nn.Sequential:
    """A convolution and three Inception blocks, twice halved; each channel's maximum over places is read out."""
    network = nn.Sequential(
        normalised(3, 2 * width, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Block(2 * width, width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Block(4 * width, 2 * width),
        nn.ReLU(),
        Block(8 * width, 2 * width),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, len(NAMES)),
    )
    return channels_last(network)


class Residual(nn.Module):
    """Two normalised convolutions whose result is added to what they are given (after He et al. 2016).

    What comes out is taken before its rectifier, which is the next module.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = normalised(width, width, 3)
        self.second = normalised(width, width, 3)

    def forward(self, images: Float[Tensor, "batch unit height width"]) -> Float[Tensor, "batch unit height width"]:
        """The sum, channel by channel."""
        change: Tensor = self.second(torch.relu(self.first(images)))
        return images + change


class Scaled(nn.Module):
    """Numbers an eighth as large: logits of such a size learn well at the rates that the convolutions need."""

    def forward(self, logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The numbers, divided by eight."""
        return logits / 8


def residual(width: int) -> nn.Sequential:
    """Ten convolutions and a linear read-out: a first one, then three times one of twice the channels, a halving and
    two that are added (the plan of the fast networks of the DAWNBench competition, Page 2018).
    """
    parts: list[nn.Module] = [normalised(3, width, 3), nn.ReLU()]
    for times in (1, 2, 4):
        before, after = times * width, 2 * times * width
        parts += [normalised(before, after, 3), nn.ReLU(), nn.MaxPool2d(2), Residual(after), nn.ReLU()]
    read_out = nn.Linear(8 * width, len(NAMES), bias=False)
    return channels_last(nn.Sequential(*parts, nn.AdaptiveMaxPool2d(1), nn.Flatten(), read_out, Scaled()))
