"""Images of one size."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.stimuli.showing import Shown, View, png_of, prepared

CHANNELS = (1, 3)


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels, all of one size.

    Attributes:
        pixels: (stimulus, channel, height, width), one byte a channel, from 0 to 255; 1 or 3 channels.
        labels: (stimulus), each image's class as an index into `label_names`.
        label_names: The names of the classes.
        view: From a PIL picture to what a model is given. Without it, that is the pixels divided by 255.
        modality: `image`.
        notes: Lines about what the reader took, and what it passed over and why.

    Raises:
        ThalwegError: The pixels have another type or shape; says how to convert them.

    Example:
        >>> import torch, thalweg
        >>> pixels = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
        >>> images = thalweg.Images(pixels, torch.arange(200) % 2, ("even", "odd"))
        >>> len(images), images.batch(slice(0, 3)).shape
        (200, torch.Size([3, 1, 8, 8]))
    """

    pixels: UInt8[Tensor, "stimulus channel height width"]
    labels: Int[Tensor, " stimulus"]
    label_names: tuple[str, ...]
    view: View | None = None
    modality: str = "image"
    notes: tuple[str, ...] = ()  # what the reader took, and what it passed over and why: one line each

    def __post_init__(self) -> None:
        if found := _unlike_pixels(self.pixels):
            raise ThalwegError(
                f"thalweg.Images: `pixels` is {found[0]}; a tensor of bytes (torch.uint8) from 0 to 255, of shape "
                f"(stimulus, channel, height, width) with 1 or 3 channels, was expected{found[1]}"
            )

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def take(self, which: Int[Tensor, " taken"] | slice) -> "Images":
        """The images at these places, in this order."""
        return replace(self, pixels=self.pixels[which], labels=self.labels[which])

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Float[Tensor, "taken channel height width"]:
        """What a model is given: the pixels as numbers from 0 to 1, or what the view makes of each picture."""
        if self.view is None:
            return self.pixels[which].float() / 255
        return prepared(self.view, map(self.picture, torch.arange(len(self))[which].tolist()))

    def viewed(self, view: View) -> "Images":
        """The same images as a model with this preprocessing is given them."""
        return replace(self, view=view)

    def picture(self, which: int) -> Image.Image:
        """One image in the three colours that published models expect."""
        pixels = self.pixels[which].movedim(0, -1).contiguous().numpy()  # (height, width, channel)
        return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")

    def low_level(self) -> Float[Tensor, "stimulus statistic"]:
        """Mean and contrast of each colour channel, and mean gradients along both axes."""
        return low_level(self.pixels)

    def last_token(self) -> None:
        """An image has no tokens."""

    def groups(self) -> None:
        """Images stand for themselves."""

    def show(self, which: int) -> Shown:
        """One image as a PNG file."""
        pixels = self.pixels[which].movedim(0, -1).contiguous().numpy()  # (height, width, channel)
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return Shown(self.label_names[int(self.labels[which])], png=png_of(picture))

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever an image, a label or their order does."""
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.label_names)).encode())
        digest.update(self.pixels.contiguous().numpy().tobytes())
        digest.update(self.labels.long().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _unlike_pixels(pixels: object) -> tuple[str, str] | None:
    """What is given in place of pixels and how it is converted, if they are none."""
    if not isinstance(pixels, Tensor):
        array = isinstance(pixels, np.ndarray)
        return f"of type {type(pixels).__name__}", ": torch.from_numpy(pixels)" if array else ""
    found = f"a tensor of shape {tuple(pixels.shape)} and {str(pixels.dtype).removeprefix('torch.')}"
    mends = []
    if pixels.ndim == 3:
        mends.append("pixels[:, None] adds the channel")
    elif pixels.ndim == 4 and pixels.shape[1] not in CHANNELS and pixels.shape[3] in CHANNELS:
        mends.append("pixels.movedim(-1, 1) puts the channels in the second place")
    if pixels.is_floating_point():
        small = not pixels.numel() or float(pixels.max()) <= 1
        mends.append(f"{'(255 * pixels)' if small else 'pixels'}.round().byte() makes bytes of them")
    elif pixels.dtype != torch.uint8:
        mends.append("pixels.byte() makes bytes of them")
    if not mends and pixels.ndim == 4 and pixels.shape[1] in CHANNELS:
        return None
    return found, f": {', '.join(mends)}" if mends else ""


def low_level(pixels: UInt8[Tensor, "stimulus channel height width"]) -> Float[Tensor, "stimulus statistic"]:
    """Mean and contrast of each colour channel, and mean gradients along both axes."""
    image = pixels.float() / 255
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).abs().mean((1, 2, 3))
    down = (image[:, :, 1:] - image[:, :, :-1]).abs().mean((1, 2, 3))
    return torch.cat([image.mean((2, 3)), image.std((2, 3)), across[:, None], down[:, None]], 1)
