"""The ladders that ship. Some take a number after a colon: `words:32` has windows of 32 tokens, `addition:113` adds
modulo 113, `cifar:45000` trains on so many images.
"""

from collections.abc import Callable

from thalweg.errors import ThalwegError, unknown
from thalweg.ladder import Ladder
from thalweg.ladders import addition, cifar, mnist, words

LADDERS = {
    ladder.name: ladder
    for ladder in (mnist.LADDER, cifar.LADDER, words.LADDER, words.TRAINING, addition.LADDER, addition.TRAINING)
}
NUMBERED: dict[str, Callable[[int], Ladder]] = {
    "cifar": cifar.ladder,
    "words": words.ladder,
    "words-training": words.training_ladder,
    "addition": addition.ladder,
    "addition-training": addition.training_ladder,
}


def find(name: str) -> Ladder:
    """The ladder of this name, or of this name and number.

    Raises:
        ThalwegError: there is none; near names are offered. Or the ladder takes no number, or not this one.
    """
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


def ships(name: str) -> bool:
    """Whether a ladder of this name ships."""
    return name.partition(":")[0] in LADDERS
