"""What a person is shown of one stimulus, and how a model is given a picture."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from thalweg.errors import ThalwegError, user_code
from thalweg.markup import Fragment, element

View = Callable[[Image.Image], Float[Tensor, "channel height width"]]  # a model's own preprocessing


@dataclass(frozen=True)
class Shown:
    """One stimulus for a person to look at: as a picture, as text, or as HTML.

    Attributes:
        label: What it is, in words: its class.
        png: A picture, as the bytes of a PNG file.
        pieces: Text, in the pieces that a model takes in; each is shaded by a unit's value there, where it has one.
        html: HTML or SVG. The report shows it in a frame of its own, where no script runs and nothing is fetched.

    Example:
        >>> import thalweg
        >>> thalweg.Shown("a square", html='<svg viewBox="0 0 9 9"><rect width="5" height="5"/></svg>').label
        'a square'
    """

    label: str
    png: bytes = b""
    pieces: tuple[str, ...] = ()
    html: str = ""

    def _repr_html_(self) -> Fragment:
        """How a notebook shows it: HTML that a user made stands in a frame, where no script runs."""
        if self.png:
            source = "data:image/png;base64," + base64.b64encode(self.png).decode()
            style = "image-rendering:pixelated;min-width:56px;max-width:160px"
            return element("img", src=source, alt=self.label, title=self.label, style=style)
        if self.html:
            return element("iframe", sandbox="", srcdoc=self.html, title=self.label, width="160", height="120")
        return element("span", "".join(self.pieces) or self.label)


def png_of(picture: Image.Image) -> bytes:
    """The bytes of a PNG file; a hundredth larger than the smallest, and made in a third of the time."""
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=4)
    return file.getvalue()


def prepared(view: View, pictures: Iterable[Image.Image]) -> Float[Tensor, "picture channel height width"]:
    """What a model with this preprocessing is given of some pictures.

    A view may give a NumPy array for a tensor, what a processor of transformers returns (`pixel_values`), and a batch
    of one picture.

    Raises:
        ThalwegError: the view fails, gives something else, or gives pictures of several sizes.
    """
    made = []
    for picture in pictures:
        with user_code("the model's `view`"):
            given = view(picture)
        made.append(_as_tensor(given))
        if made[-1].shape != made[0].shape:
            raise ThalwegError(
                f"the model's `view` gives tensors of different shapes, {tuple(made[0].shape)} and "
                f"{tuple(made[-1].shape)}, of two pictures; all must be of one size: end it with a crop, or resize to "
                "(height, width), as Resize(64) keeps a picture's proportions"
            )
    return torch.stack(made)


def _as_tensor(given: object) -> Float[Tensor, "channel height width"]:
    """What a view gave for one picture, as a tensor.

    Raises:
        ThalwegError: it is no array of numbers for one picture.
    """
    what = f"an object of type {type(given).__name__}"
    pixels: Any = given
    if isinstance(pixels, Mapping) or hasattr(pixels, "pixel_values"):
        pixels = pixels.get("pixel_values") if isinstance(pixels, Mapping) else pixels.pixel_values
    if isinstance(pixels, list) and len(pixels) == 1:  # as processors return it unless they are asked for tensors
        (pixels,) = pixels
    if isinstance(pixels, np.ndarray) and pixels.dtype.kind in "fiub":
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    if not isinstance(pixels, Tensor):
        hint = "; end it with torchvision's ToTensor()" if isinstance(given, Image.Image) else ""
        raise ThalwegError(
            f"the model's `view` gives {what} for a picture; a tensor (channel, height, width) of its numbers was "
            f"expected{hint}"
        )
    return pixels[0] if pixels.ndim == 4 and len(pixels) == 1 else pixels
