"""What the engines share: their configuration, and the call of one task."""

import ctypes
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch

from thalweg.compute.cards import Slots

Item = TypeVar("Item")
Result = TypeVar("Result")
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # the numbers of settings in glibc's mallopt
NEVER = -1
AS_ONE_PIECE = 1 << 25  # bytes beyond which glibc gets a piece from the system alone, once its own rule has settled


@dataclass(frozen=True)
class EngineConfig:
    """An engine, and how much of it is used.

    `workers` are the tasks that run at once: by default one for each core here, and on a cluster as many as there is
    room for. `cards` are the GPUs of this machine that tasks are given, `tasks_per_card` at once; none where they run
    on the CPU. `gpus` is what a task asks a cluster for that has any, before it is shared by so many tasks.
    """

    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    gpus: int = 0
    cards: tuple[str, ...] = ()
    tasks_per_card: int = 1


@contextmanager
def single_thread() -> Generator[None]:
    """PyTorch on one thread for as long as the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_kept() -> Generator[None]:
    """Memory that is freed stays with this process for as long as the context lasts, for what is made next.

    With glibc, a tensor of more than 32 MiB goes back to the system when it is freed, smaller ones often, and the
    system clears each page before it is used again (measured: up to a sixth of the time of ResNet-50 with 8 photographs
    at once, two fifths with 32). At the end all of it goes back. Elsewhere, and where the user has set glibc's
    allocator, nothing changes.
    """
    library = allocator()
    if library is None:
        yield
        return
    library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:  # as it would be by now without this
        library.mallopt(MMAP_MAX, 1 << 16)
        library.mallopt(MMAP_THRESHOLD, AS_ONE_PIECE)
        library.mallopt(TRIM_THRESHOLD, 2 * AS_ONE_PIECE)
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def allocator() -> Any:
    """The library that has glibc's `mallopt`, or nothing where there is none or it is not to be touched."""
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None


def called(function: Callable[[Item], Result], item: Item, slots: Slots | None = None) -> Result:
    """The function's result, computed on one thread, and on a card where there are slots for some."""
    with single_thread(), memory_kept(), slots.card() if slots else nullcontext():
        return function(item)
