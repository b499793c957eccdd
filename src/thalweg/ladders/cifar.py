"""Small photographs, from softmax regression to small networks in the style of AlexNet and of Inception.

Here strength comes from more than capacity: a fully connected network of any width stays weak on photographs, so the
strong half of the ladder is convolutional, and the two kinds overlap only a little in strength. Convolutions are
normalised; fully connected networks are given pixels that are centred. Units are a layer's values before its
rectifiers; of an Inception block, those of all four branches together (the narrow convolutions within branches are not
measured).

The stimuli are the user's own files of CIFAR-10 (Krizhevsky 2009): Parquet files, or the official archive in its
python or its binary layout. The 10,000 test images are the pool. Of the 50,000 others a tenth decides when to stop and,
so that the ladder takes well under an hour on two cores, 20,000 train; `cifar:45000` trains on all the rest. The python
layout is a pickle: it is read by an unpickler that knows arrays, dictionaries, lists, texts and numbers, and refuses
all else.
"""

import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.devices import channels_last
from thalweg.errors import ThalwegError, readable
from thalweg.ladder import Ladder, Layer, Rung
from thalweg.ladders.networks import before_rectifiers, convolutional, fully_connected
from thalweg.stimuli import Images, Source, Splits
from thalweg.stimuli.folders import files_below
from thalweg.stimuli.image_readers import read_tables
from thalweg.training import Classifier

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
SHAPE = (3, SIDE)  # colour channels, pixels a side
IMAGE = 3 * SIDE * SIDE  # bytes
RECORD = 1 + IMAGE  # bytes of the binary layout: label, red, green, blue
TRAIN = 20_000  # images
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
WITHIN = ("", "cifar-10-batches-py", "cifar-10-batches-bin")  # where the archive unpacks to
LAYOUTS = (
    "a folder with train and test Parquet files, or with data_batch_1 to data_batch_5 and test_batch (python layout), "
    "or the same names with .bin (binary layout), was expected"
)


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


def read(folder: Path, source: Source = Source()) -> tuple[Images, Images]:  # noqa: B008  (it is frozen)
    """The training and the test images of a folder, whichever layout it has; of Parquet files, by the source's columns.

    Raises:
        ThalwegError: as `splits`.
    """
    if not folder.is_dir():
        found = "is a file, not a folder (unpack an archive first)" if folder.exists() else "there is no such folder"
        raise ThalwegError(f"{folder}: {found}; {LAYOUTS}")
    for ending, reader in (("", _python_batch), (".bin", _binary_batch)):
        for place in (folder / name for name in WITHIN):
            if any((place / f"{name}{ending}").is_file() for name in BATCHES):
                return _from_batches(place, ending, reader)
    tables = [file for file in files_below(folder).files if file.suffix == ".parquet"]
    parts = {part: [one for one in tables if part in one.relative_to(folder).as_posix()] for part in ("train", "test")}
    if not all(parts.values()):
        found = ", ".join(sorted(readable(one.name) for one in folder.iterdir())[:8]) or "nothing"
        raise ThalwegError(f"{folder}: holds {found}; {LAYOUTS}")
    return _from_tables(folder, parts["train"], source), _from_tables(folder, parts["test"], source)


Batch = tuple[Tensor, Tensor]  # pixels (stimulus, 3, 32, 32) and labels


def _from_batches(folder: Path, ending: str, reader: Callable[[Path], Batch]) -> tuple[Images, Images]:
    paths = [folder / f"{name}{ending}" for name in BATCHES]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ThalwegError(f"{folder}: there is no {' and no '.join(missing)}; all six batches were expected")
    batches = [reader(path) for path in paths]
    most = max(len(labels) for _, labels in batches)
    for path, (_, labels) in zip(paths, batches, strict=True):
        if len(labels) < most:
            raise ThalwegError(f"{path}: holds {len(labels)} images; {most} were expected, as in the other batches")
    learning = [torch.cat(parts) for parts in zip(*batches[:-1], strict=True)]
    taken = f"{len(learning[0]):,} images of five batches to train on, {most:,} of the test batch to measure on"
    note = f"{readable(folder)}: read {taken}"
    return Images(learning[0], learning[1], NAMES), Images(*batches[-1], NAMES, notes=(note,))


def _checked(path: Path, pixels: Tensor, labels: Tensor) -> Batch:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(NAMES):
        raise ThalwegError(f"{path}: has labels from {labels.min()} to {labels.max()}; 0 to 9 were expected")
    return pixels.reshape(-1, 3, SIDE, SIDE), labels


def _binary_batch(path: Path) -> Batch:
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % RECORD:
        raise ThalwegError(f"{path}: holds {len(content)} bytes; a multiple of {RECORD} was expected")
    records = torch.from_numpy(content.reshape(-1, RECORD))
    return _checked(path, records[:, 1:].contiguous(), records[:, 0].long())


def _python_batch(path: Path) -> Batch:
    try:
        found = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except ThalwegError as refused:
        raise ThalwegError(f"{path}: {refused}") from refused
    except Exception as damage:  # a damaged pickle raises whatever its bytes happen to ask for
        raise ThalwegError(
            f"{path}: cannot be unpickled ({type(damage).__name__}: {damage}); a batch of CIFAR-10 in the python "
            "layout was expected"
        ) from damage
    batch = {_text(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    pixels, labels = batch.get("data"), batch.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (IMAGE,):
        shown = f"{pixels.dtype}, {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ThalwegError(f"{path}: 'data' is {shown}; uint8 of shape (images, {IMAGE}) was expected")
    if not isinstance(labels, list) or len(labels) != len(pixels) or not all(type(one) is int for one in labels):
        shown = f"{len(labels)} entries" if isinstance(labels, list) else type(labels).__name__
        raise ThalwegError(f"{path}: 'labels' is {shown}; a list of {len(pixels)} whole numbers was expected")
    return _checked(path, torch.from_numpy(pixels.copy()), torch.tensor(labels))


def _text(key: object) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _bytes(text: str, _encoding: str) -> bytes:
    """What Python 3 asks for when it unpickles bytes that were written for Python 2."""
    return text.encode("latin1")


_ARRAY, _BUFFER = np.empty(0).__reduce__()[0], np.empty(0).__reduce_ex__(5)[0]
KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy.core.numeric", "_frombuffer"): _BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _BUFFER,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _bytes,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes arrays, and what needs no name: dictionaries, lists, texts, bytes and numbers."""

    def find_class(self, module: str, name: str) -> Any:
        """The thing of this name, if it is one of a few that run no code of the file's."""
        if (module, name) not in KNOWN:
            raise ThalwegError(
                f"asks for {module}.{name}, which no batch of CIFAR-10 needs, and was not read any further; get the "
                "file from where the data set is published"
            )
        return KNOWN[module, name]


def _from_tables(folder: Path, paths: list[Path], source: Source) -> Images:
    images = read_tables(folder, paths, image=source.image, label=source.label, skip_bad=source.skip_bad)
    if images.label_names == ("",):
        raise ThalwegError(
            f"{paths[0]}: has no classes; a column 'label' with numbers from 0 to 9 was expected, or one that "
            "--label-column names"
        )
    pixels = torch.empty(len(images), 3, SIDE, SIDE, dtype=torch.uint8)
    for which in range(len(images)):
        picture = images.picture(which)
        if picture.size != (SIDE, SIDE):
            width, height = picture.size
            raise ThalwegError(f"{images.name(which)}: is {width} x {height} pixels; {SIDE} x {SIDE} was expected")
        pixels[which] = torch.from_numpy(np.array(picture)).movedim(-1, 0)
    return Images(*_checked(paths[0], pixels, images.labels), NAMES, notes=images.notes)


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
        self.one = convolution(before, width, 1)
        self.three = nn.Sequential(normalised(before, narrow, 1), nn.ReLU(), convolution(narrow, 2 * width, 3))
        self.five = nn.Sequential(
            normalised(before, narrow // 2, 1), nn.ReLU(), convolution(narrow // 2, width // 2, 5)
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), convolution(before, width // 2, 1))
        self.normalise = nn.BatchNorm2d(4 * width)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch unit height width"]:
        """The branches' channels, one after another: four times the width."""
        branches = (self.one(images), self.three(images), self.five(images), self.pooled(images))
        return self.normalise(torch.cat(branches, 1))  # type: ignore[no-any-return]


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


def _dense(*widths: int, quick: bool = True) -> Rung:
    name = f"mlp-{'-'.join(map(str, widths))}" if widths else "softmax"
    return _rung(name, "fully connected", partial(fully_connected, *widths, shape=SHAPE, centred=True), quick)


def _conv(*widths: int | str, deep: bool = False, quick: bool = True) -> Rung:
    channels = "-".join(str(width) for width in widths if not isinstance(width, str))
    build = partial(convolutional, *widths, everywhere=deep, shape=SHAPE)
    return _rung(f"{'deep' if deep else 'conv'}-{channels}", "convolutional", build, quick)


def _rung(
    name: str, kind: str, build: Callable[[], nn.Sequential], quick: bool = True, train: Classifier | None = None
) -> Rung:
    model = build()
    return Rung(name, kind, build, before_rectifiers(model) or (Layer(str(len(model) - 1)),), quick, train)


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
        seeds=2,  # as many models again would take well over an hour on two cores
        description="small photographs, from softmax regression to networks in the style of AlexNet and of Inception",
    )


LADDER = ladder(TRAIN)
