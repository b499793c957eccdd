"""Stimuli for a model that exists already: all that the user names is the pool."""

from thalweg.errors import ThalwegError, readable
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
    images, name = images_of(source), readable(source.path)
    if len(images) < LEAST_POOL:
        read = "; ".join(note.removeprefix(f"{name}: ") for note in images.notes)
        counted = f"{len(images)} image{'s' * (len(images) != 1)}"
        raise ThalwegError(f"{name}: holds {counted}; the trials need at least {LEAST_POOL} ({read})")
    if isinstance(images, ImageFiles) and (different := len(images.digests.unique(dim=0))) < LEAST_POOL:
        raise ThalwegError(
            f"{name}: of its {len(images)} images only {different} differ, the others are copies of them; the trials "
            f"need at least {LEAST_POOL} different ones"
        )
    return Splits.of_pool(images)
