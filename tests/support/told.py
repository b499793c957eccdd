"""What long work says of its stages, kept."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thalweg.progress import Silent


class Told(Silent):
    """Progress that keeps the stages in their order: how much there was to do in each, and how much was done.

    Attributes:
        total: By stage, how many tasks it was said to have.
        done: By stage, how many of them were done.
    """

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.done: Counter[str] = Counter()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """A stage of so many tasks."""
        self.total[name] = self.total.get(name, 0) + total
        yield lambda: self.done.update([name])
