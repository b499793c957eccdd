"""What a network is given of a picture that is made for it: its own preprocessing, found out from a few pictures."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.stimuli.showing import View, prepared
from thalweg.synthetic.parametrisation import Size

GREYS = (0, 64, 128, 255)
OFF = 0.02  # of the range from black to white, by which a grey may miss the line between them: pictures have 8 bits


@dataclass(frozen=True, eq=False)
class Preparation:
    """How large pictures are, and how each of their colours is scaled before the network sees it."""

    size: Size
    black: Float[Tensor, " channel"]
    white: Float[Tensor, " channel"]

    def __call__(self, pictures: Float[Tensor, "picture channel height width"]) -> Tensor:
        """What the network is given of pictures whose numbers go from 0 to 1."""
        black, white = (end.to(pictures.device)[:, None, None] for end in (self.black, self.white))
        return black + pictures * (white - black)


def preparation(pool: Any) -> Preparation:
    """The preparation of a network's pool, as it is given to the network.

    Without a view, that is the pixels from 0 to 1. A view must scale each colour by a straight line, as resizing,
    cropping and normalising do: that is seen on grey pictures.

    Raises:
        ThalwegError: the view does something else.
    """
    batch = pool.batch(slice(0, 1))
    size = Size(*batch.shape[1:])
    view: View | None = getattr(pool, "view", None)
    if view is None:
        return Preparation(size, torch.zeros(size.channels), torch.ones(size.channels))
    greys = prepared(view, [Image.new("RGB", (size.width, size.height), (grey,) * 3) for grey in GREYS])
    if greys.shape[1:] != batch.shape[1:]:
        raise _not_straight(f"gives pictures of several sizes, {tuple(greys.shape[1:])} and {tuple(batch.shape[1:])}")
    levels = greys.mean((2, 3))  # (grey, channel)
    black, white = levels[0], levels[-1]
    line = black + torch.tensor(GREYS)[:, None] / 255 * (white - black)
    if ((levels - line).abs() > OFF * (white - black).abs()).any() or (
        greys - levels[:, :, None, None]
    ).abs().max() > 1e-3:
        raise _not_straight("does not scale each colour by a straight line")
    return Preparation(size, black, white)


def _not_straight(what: str) -> ThalwegError:
    return ThalwegError(
        f"the model's `view` {what}; synthetic references need one that resizes, crops and normalises alone"
    )
