"""How stimuli of a task are shown: as discrete tokens, or as small noisy images. The latents are the same.

*Tokens*: each latent has a token of its own, which is in the stimulus where the latent is on.

*Images*: each latent has a stroke of its own at a place of its own; strokes overlap. Where a latent is on, its stroke
is added with a contrast drawn for each stimulus, and Gaussian noise lies over all. The noise is so weak that the
matched filter reads every latent: half of the least contrast is `CERTAIN` standard deviations of what the noise does to
the filter's output. So the chance that any latent of a stimulus is misread is below 1e-6, and the Bayes error is that
of tokens: none.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

MODALITIES = ("tokens", "images")
SIDE = 12  # pixels
STROKE, WIDTH = 2.0, 0.8  # half of a stroke's length, and its standard deviation across, in pixels
CONTRAST = (0.75, 1.25)
CERTAIN = 5.8  # standard deviations from half of the least contrast to an error
SCALE = 1.5  # so that pixels vary about as much as tokens do


@dataclass(frozen=True, eq=False)
class Renderer:
    """Shows the latents of stimuli as what a network takes in.

    Attributes:
        modality: `tokens` or `images`.
        strokes: (latent, pixel), of images.
        noise: Standard deviation of the noise of each pixel, of images.
    """

    modality: str
    strokes: Float[Tensor, "latent pixel"]
    noise: float

    @property
    def n_inputs(self) -> int:
        """How many numbers a network takes in."""
        return len(self.strokes) if self.modality == "tokens" else self.strokes.shape[1]

    def __call__(
        self, latents: Float[Tensor, "stimulus latent"], generator: torch.Generator
    ) -> Float[Tensor, "stimulus input"]:
        """The stimuli as they are shown; contrasts and noise are drawn anew."""
        if self.modality == "tokens":
            return latents
        low, high = CONTRAST
        contrasts = low + (high - low) * torch.rand(latents.shape, generator=generator)
        noise = torch.randn(len(latents), self.strokes.shape[1], generator=generator)
        pixels: Tensor = SCALE * ((latents * contrasts) @ self.strokes + self.noise * noise)
        return pixels

    def read(self, shown: Float[Tensor, "stimulus input"]) -> Float[Tensor, "stimulus latent"]:
        """The latents that the best reader finds in what is shown: the matched filter, for images."""
        if self.modality == "tokens":
            return shown
        amounts: Tensor = shown / SCALE @ torch.linalg.pinv(self.strokes)
        return (amounts > CONTRAST[0] / 2).float()


@lru_cache(maxsize=8)
def make_renderer(modality: str, n_latents: int, seed: int) -> Renderer:
    """The renderer of a modality, with strokes drawn by the seed."""
    strokes = _strokes(n_latents, torch.Generator().manual_seed(seed))
    widest = float(torch.linalg.pinv(strokes).norm(dim=0).max())  # of the matched filters
    return Renderer(modality, strokes, CONTRAST[0] / 2 / (CERTAIN * widest))


def _strokes(count: int, generator: torch.Generator) -> Float[Tensor, "latent pixel"]:
    """Short strokes at random places and angles, each of length 1 as a vector."""
    places = 1.5 + (SIDE - 4) * torch.rand(count, 2, generator=generator)
    angles = pi * torch.rand(count, generator=generator)
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), 2).reshape(-1, 2)
    apart = grid[None] - places[:, None]  # (latent, pixel, axis)
    along = apart[:, :, 0] * angles.cos()[:, None] + apart[:, :, 1] * angles.sin()[:, None]
    across = apart[:, :, 1] * angles.cos()[:, None] - apart[:, :, 0] * angles.sin()[:, None]
    beyond = (along.abs() - STROKE).clamp_min(0)
    blurred: Tensor = (-(across.square() + beyond.square()) / (2 * WIDTH**2)).exp()
    return nn.functional.normalize(blurred, dim=1)
