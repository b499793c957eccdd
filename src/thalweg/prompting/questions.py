"""What a language model is asked: one question about one unit, and what its reply should look like."""

from collections.abc import Callable
from dataclasses import dataclass, field

LETTER, LIST, SENTENCE, NUMBERS = "letter", "list", "sentence", "numbers"
LETTERS = "ABCDE"


@dataclass(frozen=True)
class Picture:
    """A picture in a prompt, as the bytes of a PNG file."""

    png: bytes


Prompt = tuple[str | Picture, ...]  # texts and pictures in their order


@dataclass(frozen=True)
class Unit:
    """A unit of a model or twin of a run."""

    ladder: str
    rung: str
    seed: int
    control: str
    layer: str
    unit: int
    made_from: str = field(default="", compare=False)  # a hash of what the model is made from


@dataclass(frozen=True)
class Question:
    """One question about one unit.

    Attributes:
        id: Sixteen hexadecimal digits, a hash of all that is asked.
        form: The form, as `2afc` or `detection`.
        about: The unit.
        band: How far apart the queries are, of a two-alternative trial; else empty.
        shown: The ids of all stimuli in the prompt, references first.
        queries: The ids of the stimuli that are asked about, in their order.
        right: Which of the queries are the right answer: their positions. Empty where there is none to be right.
        reply: What is expected: a `letter` (one of the queries), a `list` (any number of them), a `sentence`, or
            `numbers` (one for each token of the only query).
        build: Makes the prompt.
        truth: What the numbers of a reply are compared with: the unit's values at the tokens.
        pieces: The tokens that numbers are asked for.
        trial: The id of the run's trial that it is, if it is one.
    """

    id: str
    form: str
    about: Unit
    band: str
    shown: tuple[int, ...]
    queries: tuple[int, ...]
    right: tuple[int, ...]
    reply: str
    build: Callable[[], Prompt] = field(repr=False, compare=False)
    truth: tuple[float, ...] = ()
    pieces: tuple[str, ...] = ()
    trial: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """What the queries are called in the prompt."""
        if self.reply == LETTER:
            return tuple(LETTERS[: len(self.queries)])
        return tuple(str(number) for number in range(1, len(self.queries) + 1))


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: The raw text; what a local model gives probabilities to is written out as text, too.
        numbers: The probability of each option (`letter`, `list`), or the number for each token (`numbers`).
        prompt_tokens: Tokens of the prompt, as the endpoint counts them.
        reply_tokens: Tokens of the reply, likewise.
        refused: Whether the endpoint says that it refused.
    """

    text: str
    numbers: tuple[float, ...] = ()
    prompt_tokens: int = 0
    reply_tokens: int = 0
    refused: bool = False
