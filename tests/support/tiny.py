"""Images of bright corners, networks that learn them, and a ladder that trains in a second."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg import Classifier, Images, Ladder, Layer, Rung, Splits


def blobs(count: int, *, seed: int) -> Images:
    """Images of 12 by 12 pixels with a bright square in one of four corners, the class, over noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    pixels = torch.rand(count, 1, 12, 12, generator=generator) * 60
    bright = 60 + 120 * torch.rand(count, generator=generator)
    for label, (row, column) in enumerate([(1, 1), (1, 7), (7, 1), (7, 7)]):
        mine = labels == label
        pixels[mine, :, row : row + 4, column : column + 4] += bright[mine][:, None, None, None]
    return Images(pixels.byte(), labels, ("nw", "ne", "sw", "se"))


def corners(data: Path | None, seed: int) -> Splits:
    return Splits(blobs(200, seed=seed), blobs(80, seed=seed + 1), blobs(400, seed=seed + 2))


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, width), nn.ReLU(), nn.Linear(width, 4))


def convnet(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(25 * width, 4))


def tiny_ladder() -> Ladder:
    """Six rungs of two kinds that train in moments."""
    dense = [Rung(f"dense-{n}", "dense", partial(network, n), (Layer("1", "max", torch.relu),)) for n in (2, 4, 8)]
    convs = [Rung(f"conv-{n}", "conv", partial(convnet, n), (Layer("0", "max", torch.relu),)) for n in (2, 3, 4)]
    train = Classifier(learning_rate=0.02, patience=3, most_epochs=12)
    return Ladder("tiny", (*dense, *convs), corners, train, "bright corners")


def short_ladder() -> Ladder:
    """A rung of each kind."""
    return replace(tiny_ladder(), rungs=(tiny_ladder().rungs[1], tiny_ladder().rungs[3]))


def features_of_corners(stimuli: Images) -> Tensor:
    """The mean of each corner, in a finer grid than the classes: an observer for the tiny ladder."""
    return nn.functional.adaptive_avg_pool2d(stimuli.pixels.float(), 4).flatten(1)
