"""The ladders that ship. Some take a number after a colon: `words:32` has windows of 32 tokens, `addition:113` adds
modulo 113, `cifar:45000` trains on so many images, `pythia:410` ends at the model of 410 million parameters. Those of
published models are listed without their models, which are looked for when the ladder is.
"""

from collections.abc import Callable

from thalweg.errors import ThalwegError, unknown
from thalweg.ladders import addition, bilingual, causal, cifar, mnist, parallel, published, readable, scoped, words
from thalweg.models.records import Ladder
from thalweg.stimuli.base import Source, Splits

LADDERS = {
    ladder.name: ladder
    for ladder in (
        mnist.LADDER,
        cifar.LADDER,
        cifar.STRONG_LADDER,
        words.LADDER,
        words.TRAINING,
        parallel.LADDER,
        readable.DIGITS,
        readable.TEXT,
        addition.LADDER,
        addition.TRAINING,
        bilingual.LADDER,
        bilingual.WIDE_LADDER,
        causal.GPT2,
        causal.PYTHIA,
        causal.PYTHIA_TRAINING,
        scoped.GEMMA_SCOPE_2,
        scoped.PYTHIA_SPARSIFY,
        published.EFFICIENTNET_LITE,
        published.NINE_MODELS,
    )
}
PUBLISHED: dict[str, Callable[[], Ladder]] = {
    "efficientnet-lite": published.efficientnet_lite,
    "imagenet": published.imagenet,
}
NUMBERED: dict[str, Callable[[int], Ladder]] = {
    "cifar": cifar.ladder,
    "words": words.ladder,
    "words-training": words.training_ladder,
    "addition": addition.ladder,
    "addition-training": addition.training_ladder,
    "gpt2": causal.gpt2,
    "pythia": causal.pythia,
    "pythia-training": causal.pythia_training,
    "gemma-scope-2": scoped.gemma_scope_2,
    "pythia-sparsify": scoped.pythia_sparsify,
}


def find(name: str) -> Ladder:
    """The ladder of this name, or of this name and number.

    Raises:
        ThalwegError: there is none; near names are offered. Or the ladder takes no number, or not this one. Or the
            models of a ladder of published ones are not on this machine.
    """
    if not isinstance(name, str):
        raise ThalwegError(f"{name!r} is no ladder; a thalweg.Ladder or the name of one was expected")
    if name in PUBLISHED:
        return PUBLISHED[name]()
    if name in LADDERS:
        return LADDERS[name]
    stem, colon, number = name.partition(":")
    if stem not in LADDERS:
        raise unknown("ladder", stem, LADDERS)
    if stem not in NUMBERED:
        raise ThalwegError(f"ladder {stem!r} takes no number, and {colon}{number} was given")
    if not number.isdigit():
        raise ThalwegError(f"ladder {stem!r} takes a whole number after the colon, and {number!r} was given")
    return NUMBERED[stem](int(number))


def find_stimuli(name: str) -> Callable[[Source, int], Splits]:
    """What makes the stimuli of the ladder of this name, without looking for any model.

    Raises:
        ThalwegError: as `find` does of names.
    """
    return (LADDERS[name] if name in LADDERS else find(name)).splits


def ships(name: str) -> bool:
    """Whether a ladder of this name ships."""
    return name.partition(":")[0] in LADDERS
