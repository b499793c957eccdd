"""Stimuli: what models are given and observers are shown, as sets of which any part can be taken.

A set knows how to hand a batch to a model and how to show one stimulus to a person. Its content hash names it wherever
a result is kept, so a result is used again exactly when the stimuli are the same.
"""

import hashlib
import io
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels, all of one size, one byte a channel."""

    pixels: UInt8[Tensor, "stimulus channel height width"]
    labels: Int[Tensor, " stimulus"]
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def take(self, which: Int[Tensor, " taken"] | slice) -> "Images":
        """The images at these places, in this order."""
        return replace(self, pixels=self.pixels[which], labels=self.labels[which])

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Float[Tensor, "taken channel height width"]:
        """What a model is given: the pixels as numbers from 0 to 1."""
        return self.pixels[which].float() / 255

    def png(self, which: int) -> bytes:
        """One image as a PNG file, to be shown."""
        pixels = self.pixels[which].movedim(0, -1).contiguous().numpy()  # (height, width, channel)
        file = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, format="PNG", optimize=True)
        return file.getvalue()

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever an image, a label or their order does."""
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.label_names)).encode())
        digest.update(self.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.long().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Splits:
    """The stimuli of a ladder: for training, for deciding when to stop, and the held-out pool that is measured on."""

    train: Images
    validation: Images
    pool: Images

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits for all three together."""
        parts = (self.train, self.validation, self.pool)
        return hashlib.sha256("".join(part.content_hash() for part in parts).encode()).hexdigest()[:16]


def halves(count: int, *, seed: int) -> tuple[Int[Tensor, " reference"], Int[Tensor, " query"]]:
    """The ids of a pool's reference half and query half: a random split, disjoint, each in increasing order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // 2].sort().values, order[count // 2 :].sort().values
