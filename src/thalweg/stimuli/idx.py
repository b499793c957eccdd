"""IDX files, in which MNIST and the sets that look like it are handed around: a header of sizes, then bytes."""

import gzip
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.stimuli.images import Images

IDX_TYPE = 0x08  # unsigned bytes
FILES = {
    "training images": ("train-images-idx3-ubyte", 3),
    "training labels": ("train-labels-idx1-ubyte", 1),
    "test images": ("t10k-images-idx3-ubyte", 3),
    "test labels": ("t10k-labels-idx1-ubyte", 1),
}


def read_idx_folder(folder: Path) -> tuple[Images, Images]:
    """The training images and the test images of the four IDX files in a folder, with labels named by their numbers.

    Raises:
        ThalwegError: a file is missing or not what it should be, or images and labels do not agree in number.
    """
    arrays = {what: read_idx(folder, name, axes) for what, (name, axes) in FILES.items()}
    most = int(torch.cat([torch.zeros(1, dtype=torch.uint8), arrays["training labels"], arrays["test labels"]]).max())
    sets = []
    for part in ("training", "test"):
        pixels, labels = arrays[f"{part} images"], arrays[f"{part} labels"]
        if len(pixels) != len(labels):
            raise ThalwegError(f"{folder}: there are {len(pixels)} {part} images but {len(labels)} {part} labels")
        sets.append(Images(pixels[:, None], labels.long(), tuple(map(str, range(most + 1)))))
    return sets[0], sets[1]


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
        beginning = content[:4].hex(" ") or "nothing"
        kind = f"IDX, unsigned bytes, {axes} ax{'is' if axes == 1 else 'es'}"
        raise ThalwegError(f"{path}: starts with {beginning}; 00 00 08 {axes:02x} was expected ({kind})")
    shape = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != int(np.prod(shape, dtype=np.int64)):
        raise ThalwegError(
            f"{path}: holds {len(content) - header} bytes after its header; {' x '.join(map(str, shape))} = "
            f"{int(np.prod(shape, dtype=np.int64))} were expected"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
