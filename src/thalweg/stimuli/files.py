"""Images that stay on disk: a folder of picture files, or Parquet files with a column of pictures.

Fifty thousand photographs do not fit into memory as pixels, so only their names, labels and digests are held; an image
is decoded whenever a model is given it or an observer looks at it, and forgotten again. `image_readers` reads them;
what shows only in full decoding is an error when it does.

A model with a `view`, its published preprocessing, is given what that makes of the whole picture. A model without, and
every observer, is given the middle square, resized to `side` pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from thalweg.errors import ThalwegError, readable
from thalweg.stimuli import parquet
from thalweg.stimuli.decoding import WHITE, decoded, square
from thalweg.stimuli.folders import regular_bytes
from thalweg.stimuli.images import low_level
from thalweg.stimuli.showing import Shown, View, png_of, prepared

SIDE = 224  # pixels that pictures are resized to for a model without a view, and for observers
PIECE = 25  # images decoded at once for their statistics
SHOWN_SIDE = 112  # pixels of an image in the report
DIGEST = 16  # bytes


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images on disk with their labels, decoded when they are asked for.

    `file` is the place of each image in `files`, and `row` its row where that is a Parquet file, else -1. `left_out`
    names the files that were left out because they do not decode, with the reasons. `white` is the white of all grey
    pictures of more than eight bits.
    """

    files: tuple[str, ...]
    file: Int[Tensor, " stimulus"]
    row: Int[Tensor, " stimulus"]
    digests: UInt8[Tensor, "stimulus byte"]  # of the bytes that hold each image
    labels: Int[Tensor, " stimulus"]
    label_names: tuple[str, ...]
    columns: tuple[str, ...] = ()  # of the Parquet files, the one with the images
    side: int = SIDE
    view: View | None = None
    left_out: tuple[str, ...] = ()
    white: int = WHITE
    modality: str = "image"
    notes: tuple[str, ...] = ()  # what the reader took, and what it passed over and why: one line each

    def __len__(self) -> int:
        return len(self.file)

    def take(self, which: Int[Tensor, " taken"] | slice) -> "ImageFiles":
        """The images at these places, in this order."""
        used, file = self.file[which].unique(return_inverse=True)
        return replace(
            self,
            files=tuple(self.files[index] for index in used.tolist()),
            columns=tuple(self.columns[index] for index in used.tolist()) if self.columns else (),
            file=file,
            row=self.row[which],
            digests=self.digests[which],
            labels=self.labels[which],
        )

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Float[Tensor, "taken channel height width"]:
        """What a model is given: what the view makes of each picture, or the middle squares as numbers from 0 to 1.

        Raises:
            ThalwegError: an image that does not decode; it is named.
        """
        indices = torch.arange(len(self))[which].tolist()
        if self.view is None or not indices:
            return self._squares(indices, self.side).float() / 255
        return prepared(self.view, map(self.picture, indices))

    def viewed(self, view: View) -> "ImageFiles":
        """The same images as a model with this preprocessing is given them."""
        return replace(self, view=view)

    @property
    def pixels(self) -> UInt8[Tensor, "stimulus 3 side side"]:
        """The middle squares of all images, decoded anew: take some before asking for them."""
        return self._squares(range(len(self)), self.side)

    def _squares(self, indices: Sequence[int], side: int) -> UInt8[Tensor, "taken 3 side side"]:
        squares = torch.empty(len(indices), 3, side, side, dtype=torch.uint8)
        for at, index in enumerate(indices):
            squares[at] = torch.from_numpy(np.array(square(self.picture(index), side))).movedim(-1, 0)
        return squares

    def name(self, which: int) -> str:
        """Where one image lies."""
        row = int(self.row[which])
        return readable(self.files[int(self.file[which])]) + ("" if row < 0 else f", row {row + 1}")

    def picture(self, which: int) -> Image.Image:
        """One image, whole, upright and in three colours.

        Raises:
            ThalwegError: it cannot be read or decoded; the file is named.
        """
        index, row = int(self.file[which]), int(self.row[which])
        file = self.files[index]
        try:
            if row < 0:
                content = regular_bytes(Path(file))
            else:
                content = parquet.picture_bytes(parquet.entry(file, self.columns[index], row), file)
        except (OSError, ValueError) as wrong:
            raise ThalwegError(
                f"{self.name(which)}: {why_unread(wrong)}; it was there when the images were read"
            ) from wrong
        if digest_of(content) != self.digests[which].numpy().tobytes():
            raise ThalwegError(f"{self.name(which)}: was altered since the images were read; start again")
        return decoded(content, self.name(which), self.white)

    def low_level(self) -> Float[Tensor, "stimulus statistic"]:
        """Mean and contrast of each colour channel, and mean gradients along both axes, of the middle squares."""
        statistics: Tensor | None = None  # written in place: small pieces that last would fragment freed memory
        for piece in torch.arange(len(self)).split(PIECE):
            rows = low_level(self.take(piece).pixels)
            statistics = torch.empty(len(self), rows.shape[1]) if statistics is None else statistics
            statistics[piece[0] : piece[0] + len(rows)] = rows
        return torch.empty(0, 8) if statistics is None else statistics

    def last_token(self) -> None:
        """An image has no tokens."""

    def groups(self) -> None:
        """Images stand for themselves."""

    def show(self, which: int) -> Shown:
        """The middle square of one image as a small PNG file."""
        picture = square(self.picture(which), min(self.side, SHOWN_SIDE))
        return Shown(self.label_names[int(self.labels[which])], png=png_of(picture))

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever the bytes of an image, a label or their order does."""
        shape = (len(self), self.side, self.label_names, *([] if self.white == WHITE else [self.white]))
        digest = hashlib.sha256(repr(shape).encode())
        digest.update(self.digests.contiguous().numpy().tobytes())
        digest.update(self.labels.long().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def digest_of(content: bytes) -> bytes:
    """The digest of an image's bytes."""
    return hashlib.sha256(content).digest()[:DIGEST]


def why_unread(wrong: Exception) -> str:
    """Why the bytes of an image could not be read."""
    if isinstance(wrong, OSError):
        return f"cannot be read ({wrong.strerror or wrong})"
    return str(wrong)
