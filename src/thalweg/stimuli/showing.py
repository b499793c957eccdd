"""What a person is shown of one stimulus, and how a model is given a picture."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

View = Callable[[Image.Image], Float[Tensor, "channel height width"]]  # a model's own preprocessing


@dataclass(frozen=True)
class Shown:
    """A stimulus as a picture or as text, text in the pieces that a model takes in."""

    label: str
    png: bytes = b""
    pieces: tuple[str, ...] = ()
