"""What long work says while it runs, and what each of its stages cost."""

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Where a survey says what it does while it works."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """A stage of so many tasks; gives what to call when one is done."""

    def say(self, text: str) -> None:
        """One line for the user."""


class Silent:
    """Progress that says nothing."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Nothing is shown."""
        return nullcontext(lambda: None)

    def say(self, text: str) -> None:
        """Nothing is said."""


class Stages:
    """The seconds that each stage took, told to the progress as they pass."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, total: int) -> Generator[Callable[[], None]]:
        """A stage of so many tasks."""
        start = time.perf_counter()
        with self.progress.stage(name, total) as advance:
            yield advance
        self.seconds[name] = round(self.seconds.get(name, 0) + time.perf_counter() - start, 2)
