"""The stimuli that one model is measured over, read as the model takes them."""

from tokenizers import Tokenizer

from thalweg.errors import ThalwegError, user_code
from thalweg.models.records import Subject
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.checks import check_splits


def splits_of_source(model: Subject, source: Source, seed: int, *, length: int) -> Splits:
    """The stimuli in a user's files, or the embedded ones, in windows of `length` tokens where they are text.

    Raises:
        ThalwegError: they cannot be read, or do not fit the model.
    """
    modality = modalities.of(model)
    if modality.read is None:
        raise ThalwegError(
            f"subject {model.name!r} takes stimuli of modality {modality.name!r}, which has no `read` to make them of "
            "a file; give a set of stimuli"
        )
    if modality.tokens:
        tokenizer = tokenizer_of(model) if model.tokenizer else None
        return fitting(model, modality.read(source, seed, length=length, tokenizer=tokenizer))
    if modalities.ships(modality):
        shipped: Splits = modality.read(source, seed)
        return shipped
    with user_code(f"the function `read` of modality {modality.name!r}"):
        splits = modality.read(source, seed)
    return fitting(model, check_splits(splits, model.name, modality))


def tokenizer_of(model: Subject) -> Tokenizer:
    """The tokenizer that a language model reads text with; of one of transformers, the one that it wraps.

    Raises:
        ThalwegError: the user's function fails, or returns something else.
    """
    assert model.tokenizer is not None
    what = f"the function `tokenizer` of subject {model.name!r}"
    with user_code(what):
        made = model.tokenizer()
    made = getattr(made, "backend_tokenizer", made)
    if not isinstance(made, Tokenizer):
        raise ThalwegError(f"{what} returned {type(made).__name__}; a tokenizers.Tokenizer was expected")
    return made


def fitting(model: Subject, splits: Splits) -> Splits:
    """The same stimuli, if the model says that they fit it.

    Raises:
        ThalwegError: they do not.
    """
    for part in (splits.pool, splits.train, splits.validation) if model.check else ():
        assert model.check is not None
        model.check(part)
    return splits
