"""What a person is shown of one stimulus."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A stimulus as a picture or as text, text in the pieces that a model takes in."""

    label: str
    png: bytes = b""
    pieces: tuple[str, ...] = ()
