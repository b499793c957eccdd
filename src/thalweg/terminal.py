"""What the command line shows: progress, and text that steers no terminal."""

import os
import sys
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


def examples(*commands: str) -> str:
    """What stands below a command's help: a line for each example."""
    return "\n\n".join(("Examples:", *map(escape, commands)))


class Terminal(Console):
    """A console that shows text as it is: nothing in it moves the cursor, sets colours or turns into a picture."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, highlight=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, texts with their control characters escaped."""
        super().print(*(printable(item) if isinstance(item, str) else item for item in objects), **options)

    def on_broken_pipe(self) -> None:
        """Whoever reads the output has left: end without a word. (An OSError would be given another exit status.)"""
        close_output()
        raise SystemExit(CLOSED)


def printable(text: str) -> str:
    """A text as it can be shown on a terminal: control characters, half characters and marks that turn the direction of
    writing as escapes.
    """
    return "".join(
        character if character == "\n" or not _steers(character) else _escaped(character) for character in text
    )


def _steers(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in TURNING
    )


def _escaped(character: str) -> str:
    return "  " if character == "\t" else character.encode("unicode_escape").decode("ascii")


TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
out, err = Terminal(), Terminal(stderr=True)
CLOSED, INTERRUPTED, UNEXPECTED, MISTAKE = 141, 130, 1, 2  # exit statuses; docs/errors.md says when each comes
STAGES = {
    "embed": "observers look at the stimuli",
    "strength": "strength is evaluated",
    "settle": "statistics of untrained twins are estimated",
    "train": "models are trained",
    "dictionaries": "dictionaries are trained",
    "record": "shards of stimuli are recorded",
    "score": "pieces of units are scored",
    "measure": "units are recorded and scored",
    "factors": "factors are computed",
    "validate": "planted units are recorded and scored",
    "networks": "networks are trained and measured",
    "causes": "hypotheses are judged",
    "stimuli": "stimuli are made again",
    "trials": "trials are drawn",
    "questions": "questions are made",
    "ask": "questions are asked",
    "answers": "trials are answered",
    "analysis": "answers are analysed",
    "tables": "tables are put together",
    "shape": "curves are judged",
    "report": "the report is written",
    "explore": "pages of units are written",
    "participants": "participants take part",
    "dictionary": "the dictionary is trained",
}


class Shown:
    """A survey's progress as bars on the terminal."""

    @contextmanager
    def stage(self, name: str, total: int) -> Generator[Callable[[], None]]:
        """A stage of so many tasks: yields what to call when one is done."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=err, disable=total == 0) as bars:
            task = bars.add_task(STAGES.get(name, name), total=total)
            yield lambda: bars.advance(task)

    def say(self, text: str) -> None:
        """One line for the user."""
        err.print(text, markup=False)


def close_output() -> None:
    """What is left to be written would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
