"""The ladders that ship."""

from thalweg.errors import unknown
from thalweg.ladder import Ladder
from thalweg.ladders import mnist

LADDERS = {ladder.name: ladder for ladder in (mnist.LADDER,)}


def find(name: str) -> Ladder:
    """The ladder of this name.

    Raises:
        ThalwegError: there is none; near names are offered.
    """
    if name not in LADDERS:
        raise unknown("ladder", name, LADDERS)
    return LADDERS[name]
