"""Stimuli for a model that exists already: all that the user names is the pool."""

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import LEAST_POOL, Source, Splits
from thalweg.stimuli.files import ImageFiles
from thalweg.stimuli.image_readers import FORMS, images_of


def image_splits(source: Source, seed: int = 0) -> Splits:
    """The user's images as a pool; nothing is left for training, and nothing depends on the seed.

    Raises:
        ThalwegError: no images were named, they cannot be read, or too few for trials are there or differ.
    """
    if source.path is None:
        raise ThalwegError(f"no images were named; {FORMS} was expected")
    images = images_of(source)
    if len(images) < LEAST_POOL:
        raise ThalwegError(
            f"{source.path}: holds {len(images)} image{'s' * (len(images) != 1)}; the trials need at least {LEAST_POOL}"
        )
    if isinstance(images, ImageFiles) and (different := len(images.digests.unique(dim=0))) < LEAST_POOL:
        raise ThalwegError(
            f"{source.path}: of its {len(images)} images only {different} differ, the others are copies of them; the "
            f"trials need at least {LEAST_POOL} different ones"
        )
    return Splits.of_pool(images)
