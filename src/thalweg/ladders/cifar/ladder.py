"""Small photographs, from softmax regression to small networks in the style of AlexNet and of Inception.

Here strength comes from more than capacity: a fully connected network of any width stays weak on photographs, so the
strong half of the ladder is convolutional, and the two kinds overlap only a little in strength. Convolutions are
normalised; fully connected networks are given pixels that are centred. Units are a layer's values before its
rectifiers; of an Inception block, those of all four branches together (the narrow convolutions within branches are not
measured).

The stimuli are the user's own files of CIFAR-10 (Krizhevsky 2009): Parquet files, or the official archive in its
python or its binary layout. The 10,000 test images are the pool. Of the 50,000 others a tenth decides when to stop and,
so that the ladder takes well under an hour on two cores, 20,000 train; `cifar:45000` trains on all the rest.

`cifar-strong` adds residual networks at the right-hand end, and trains all models on all the rest. The residual ones
have a recipe of their own, with augmentation, which for published CIFAR-10 reaches about 90, 94 and 96 % of right
answers. Training them takes some 4e14, 4e15 and 3e16 floating-point operations: minutes on a GPU, but on two cores an
hour, half a day and several days. One that is interrupted goes on after the last epoch that it finished.

The python layout is a pickle: it is read by an unpickler that knows arrays, dictionaries, lists, texts and numbers, and
refuses all else.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from thalweg.errors import ThalwegError
from thalweg.ladders.cifar.files import LAYOUTS, SIDE, read
from thalweg.ladders.cifar.networks import alexnet, inception, residual
from thalweg.models.records import Ladder, Rung, Trainer
from thalweg.networks.vision import convolutional, fully_connected, hidden_layers
from thalweg.stimuli.base import Source, Splits
from thalweg.training.classifier import Classifier
from thalweg.training.one_cycle import OneCycle

SHAPE = (3, SIDE)  # colour channels, pixels a side
TRAIN = 20_000  # images
ALL = 50_000  # images that are not for testing: all but a tenth train
SEEDS = 2  # as many models again would take well over an hour on two cores


def splits(train: int, source: Source, seed: int) -> Splits:
    """So many training images, a tenth of all that are not test images for deciding when to stop, and the test images.

    Raises:
        ThalwegError: no folder was named, a file is missing, or one is not what it should be.
    """
    if source.path is None:
        raise ThalwegError(f"the ladder 'cifar' needs the files of CIFAR-10: --data FOLDER; {LAYOUTS}")
    learning, test = read(source.path, source)
    order = torch.randperm(len(learning), generator=torch.Generator().manual_seed(seed))
    rest = len(learning) - len(learning) // 10
    return Splits(learning.take(order[: min(train, rest)]), learning.take(order[rest:]), test)


def _dense(*widths: int, quick: bool = True) -> Rung:
    name = f"mlp-{'-'.join(map(str, widths))}" if widths else "softmax"
    return _rung(name, "fully connected", partial(fully_connected, *widths, shape=SHAPE, centred=True), quick)


def _conv(*widths: int | str, deep: bool = False, quick: bool = True) -> Rung:
    channels = "-".join(str(width) for width in widths if not isinstance(width, str))
    build = partial(convolutional, *widths, everywhere=deep, shape=SHAPE)
    return _rung(f"{'deep' if deep else 'conv'}-{channels}", "convolutional", build, quick)


def _rung(
    name: str, kind: str, build: Callable[[], nn.Sequential], quick: bool = True, train: Trainer | None = None
) -> Rung:
    return Rung(name, kind, build, hidden_layers(build), quick, train)


SHIFTED = Classifier(shift=2, patience=4)
RUNGS = (
    _dense(),
    _dense(8, quick=False),
    _dense(32),
    _dense(128, quick=False),
    _dense(512),
    _dense(128, 128, quick=False),
    _conv(4, "pool", "pool"),
    _conv(8, "pool", 16, "pool"),
    _conv(8, "pool", 16, "pool", 32, "pool", quick=False),
    _conv(16, "pool", 32, "pool", 64, deep=True),
    _rung("alexnet-8", "convolutional", partial(alexnet, 8), quick=False),
    _rung("alexnet-16", "convolutional", partial(alexnet, 16), train=SHIFTED),
    _rung("inception-8", "convolutional", partial(inception, 8), quick=False),
    _rung("inception-16", "convolutional", partial(inception, 16), train=SHIFTED),
)
STRONG = (
    _rung("residual-24", "convolutional", partial(residual, 24), train=OneCycle(epochs=16)),
    _rung("residual-64", "convolutional", partial(residual, 64), quick=False, train=OneCycle(epochs=24)),
    _rung("residual-128", "convolutional", partial(residual, 128), quick=False, train=OneCycle(epochs=48, cutout=8)),
)


def ladder(train: int) -> Ladder:
    """The ladder whose models are trained on so many images.

    Raises:
        ThalwegError: too few to train on.
    """
    if train < 100:
        raise ThalwegError(f"'cifar' with {train} training images; at least 100 were expected")
    return Ladder(
        name="cifar" if train == TRAIN else f"cifar:{train}",
        rungs=RUNGS,
        splits=partial(splits, train),
        train=Classifier(),
        seeds=SEEDS,
        description="small photographs, from softmax regression to networks in the style of AlexNet and of Inception",
    )


LADDER = ladder(TRAIN)
STRONG_LADDER = Ladder(
    name="cifar-strong",
    rungs=(*RUNGS, *STRONG),
    splits=partial(splits, ALL),
    train=Classifier(),
    seeds=SEEDS,
    description="`cifar` on all training images, and residual networks up to about 96 %: for a GPU, days on two cores",
)
