"""What engines have in common: which one is meant, and how one task is called."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Where:
    """An engine, and how much of it is used.

    `workers` are the tasks that run at once: by default one for each core here, and on a cluster as many as there is
    room for. `gpus` is what a task asks a cluster for that has any.
    """

    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    gpus: int = 0


@contextmanager
def single_thread() -> Iterator[None]:
    """PyTorch on one thread for as long as the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def called(function: Callable[[Item], Result], item: Item) -> Result:
    """The function's result, computed on one thread."""
    with single_thread():
        return function(item)
