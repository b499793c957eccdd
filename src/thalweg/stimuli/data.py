"""Stimuli for a model that exists already: all that the user names is the pool."""

from thalweg.errors import ThalwegError
from thalweg.stimuli import Source, Splits
from thalweg.stimuli.files import FORMS, read_images
from thalweg.trials import LEAST_POOL


def image_splits(source: Source, seed: int = 0, *, skip_bad: bool = False) -> Splits:
    """The user's images as a pool; nothing is left for training, and nothing depends on the seed.

    Raises:
        ThalwegError: no images were named, they cannot be read, or they are too few for trials.
    """
    if source.path is None:
        raise ThalwegError(f"no images were named; {FORMS} was expected")
    images = read_images(source.path, skip_bad=skip_bad)
    if len(images) < LEAST_POOL:
        raise ThalwegError(f"{source.path}: holds {len(images)} images; the trials need at least {LEAST_POOL}")
    return Splits.of_pool(images)
