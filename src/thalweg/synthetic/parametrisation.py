"""Pictures as Fourier coefficients with decorrelated colours, and the random views that an optimiser must please.

Gradients of a network's units are full of high frequencies, and of colours that pictures lack. In this parametrisation
all frequencies and the colours' principal axes learn equally fast. Small shifts, turns and changes of scale keep out
patterns that drive a unit at one exact place.

Source: Olah, Mordvintsev & Schubert 2017, "Feature Visualization", Distill; the amounts as in Zimmermann, Klein &
Brendel 2023, relative to the size of the picture.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

EDGE = 1 / 14  # of the picture's size: what is drawn around it, so that shifts bring no empty border in
SHIFTS = (16 / 224, 8 / 224)  # of the size: the two jitters, before and after the turn
SCALES = (1.0, 0.975, 1.025, 0.95, 1.05)
DEGREES = 5.0
START = 0.01  # standard deviation of the coefficients at first
CONTRAST = 4.0  # the picture is divided by it before the sigmoid
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))  # square root of ImageNet's covariance


@dataclass(frozen=True)
class Size:
    """The size of a picture."""

    channels: int
    height: int
    width: int

    @property
    def edge(self) -> int:
        """Pixels that are drawn on each side around it."""
        return max(1, round(EDGE * max(self.height, self.width)))


def coefficients(count: int, size: Size, generator: torch.Generator) -> Float[Tensor, "picture channel row column two"]:
    """Random coefficients of so many pictures, with their edges."""
    height, width = size.height + 2 * size.edge, size.width + 2 * size.edge
    shape = (count, size.channels, height, width // 2 + 1, 2)
    return START * torch.randn(shape, generator=generator)


def drawn(
    spectrum: Float[Tensor, "picture channel row column two"], size: Size
) -> Float[Tensor, "picture channel high wide"]:
    """The pictures of these coefficients, with their edges, from 0 to 1."""
    height, width = size.height + 2 * size.edge, size.width + 2 * size.edge
    rows = torch.fft.fftfreq(height, device=spectrum.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=spectrum.device)[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp_min(1 / max(height, width))
    scaled = torch.view_as_complex(spectrum.contiguous()) * (math.sqrt(height * width) / frequency)
    pictures = torch.fft.irfft2(scaled, s=(height, width), norm="ortho") / CONTRAST
    if size.channels == 3:
        colours = torch.tensor(COLOURS, device=pictures.device)
        pictures = torch.einsum("pchw,dc->pdhw", pictures, colours / colours.norm(dim=1).max())
    return torch.sigmoid(pictures)


def cropped(pictures: Float[Tensor, "picture channel high wide"], size: Size) -> Tensor:
    """The pictures without their edges."""
    edge = size.edge
    return pictures[:, :, edge : edge + size.height, edge : edge + size.width]


def jittered(
    pictures: Float[Tensor, "picture channel high wide"], size: Size, generator: torch.Generator
) -> Float[Tensor, "picture channel height width"]:
    """Each picture shifted, turned and scaled at random, without its edges."""
    count = len(pictures)
    shifts = [_uniform(count, 2, share, generator) for share in SHIFTS]
    angle = torch.deg2rad(_uniform(count, 1, DEGREES, generator))[:, 0]
    which = torch.randint(len(SCALES), (count,), generator=generator)
    scale = torch.tensor(SCALES)[which]
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    moved = 2 * (shifts[0] + shifts[1]) * max(size.height, size.width) / torch.tensor(pictures.shape[:1:-1])
    turn = torch.stack([torch.stack([cosine, -sine, moved[:, 0]], 1), torch.stack([sine, cosine, moved[:, 1]], 1)], 1)
    grid = affine_grid(turn.to(pictures), list(pictures.shape), align_corners=False)
    return cropped(grid_sample(pictures, grid, padding_mode="reflection", align_corners=False), size)


def _uniform(count: int, axes: int, most: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand((count, axes), generator=generator) - 1) * most
