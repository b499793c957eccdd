"""CIFAR-10 as it is published: binary or pickled batches, or Parquet files."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import ThalwegError, readable
from thalweg.stimuli.base import Source
from thalweg.stimuli.folders import files_below
from thalweg.stimuli.image_readers import read_tables
from thalweg.stimuli.images import Images

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
IMAGE = 3 * SIDE * SIDE  # bytes
RECORD = 1 + IMAGE  # bytes of the binary layout: label, red, green, blue
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
WITHIN = ("", "cifar-10-batches-py", "cifar-10-batches-bin")  # where the archive unpacks to
LAYOUTS = (
    "a folder with train and test Parquet files, or with data_batch_1 to data_batch_5 and test_batch (python layout), "
    "or the same names with .bin (binary layout), was expected"
)


def read(folder: Path, source: Source = Source()) -> tuple[Images, Images]:  # noqa: B008  (it is frozen)
    """The training and the test images of a folder, whichever layout it has; of Parquet files, by the source's columns.

    Raises:
        ThalwegError: as `splits`.
    """
    if not folder.is_dir():
        problem = "is a file, not a folder (unpack an archive first)" if folder.exists() else "there is no such folder"
        raise ThalwegError(f"{folder}: {problem}; {LAYOUTS}")
    for ending, reader in (("", _python_batch), (".bin", _binary_batch)):
        for subfolder in (folder / name for name in WITHIN):
            if any((subfolder / f"{name}{ending}").is_file() for name in BATCHES):
                return _from_batches(subfolder, ending, reader)
    tables = [file for file in files_below(folder).files if file.suffix == ".parquet"]
    parts = {
        part: [table for table in tables if part in table.relative_to(folder).as_posix()] for part in ("train", "test")
    }
    if not all(parts.values()):
        names = ", ".join(sorted(readable(path.name) for path in folder.iterdir())[:8]) or "nothing"
        raise ThalwegError(f"{folder}: holds {names}; {LAYOUTS}")
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
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except ThalwegError as refused:
        raise ThalwegError(f"{path}: {refused}") from refused
    except Exception as damage:  # a damaged pickle raises whatever its bytes happen to ask for
        raise ThalwegError(
            f"{path}: cannot be unpickled ({type(damage).__name__}: {damage}); a batch of CIFAR-10 in the python "
            "layout was expected"
        ) from damage
    batch = {_text(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    pixels, labels = batch.get("data"), batch.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (IMAGE,):
        shown = f"{pixels.dtype}, {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ThalwegError(f"{path}: 'data' is {shown}; uint8 of shape (images, {IMAGE}) was expected")
    if not isinstance(labels, list) or len(labels) != len(pixels) or not all(type(label) is int for label in labels):
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
