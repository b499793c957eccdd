"""The stimuli that one model is measured over, read as the model takes them."""

from thalweg.models.records import Subject
from thalweg.stimuli import corpus
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.image_pool import image_splits


def splits_of_source(model: Subject, source: Source, seed: int, *, length: int) -> Splits:
    """The stimuli in a user's files, or the embedded ones, in windows of `length` tokens where they are text.

    Raises:
        ThalwegError: they cannot be read, or do not fit the model.
    """
    if model.modality == "text":
        tokenizer = model.tokenizer() if model.tokenizer else None
        return fitting(model, corpus.splits(source, seed, length=length, tokenizer=tokenizer))
    return image_splits(source, seed)


def fitting(model: Subject, splits: Splits) -> Splits:
    """The same stimuli, if the model says that they fit it.

    Raises:
        ThalwegError: they do not.
    """
    for part in (splits.pool, splits.train, splits.validation) if model.check else ():
        assert model.check is not None
        model.check(part)
    return splits
