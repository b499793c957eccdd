"""Images of one size."""

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from thalweg.stimuli.showing import Shown, View, png_of, prepared


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


def low_level(pixels: UInt8[Tensor, "stimulus channel height width"]) -> Float[Tensor, "stimulus statistic"]:
    """Mean and contrast of each colour channel, and mean gradients along both axes."""
    image = pixels.float() / 255
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).abs().mean((1, 2, 3))
    down = (image[:, :, 1:] - image[:, :, :-1]).abs().mean((1, 2, 3))
    return torch.cat([image.mean((2, 3)), image.std((2, 3)), across[:, None], down[:, None]], 1)
