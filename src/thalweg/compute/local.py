"""The engine `local`: processes of this machine, through joblib.

When a worker process dies, joblib gives up all that has not returned. Here the tasks that remain are started again, up
to `RESTARTS` times in a row without one that finishes: what has returned is never lost, the tasks that other workers
were at are done again. A single worker is this process itself, and then its death is the run's. When this process dies,
its workers end within seconds.

Tasks that run on GPUs are no more than the cards have room for, and each is given a card (`cards`).
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from thalweg.compute.cards import Slots
from thalweg.compute.sending import Packed, ends_with, packed, portable, unpacked
from thalweg.compute.workers import EngineConfig, called
from thalweg.errors import ThalwegError

Item = TypeVar("Item")
Result = TypeVar("Result")
# joblib starts worker processes that have grown anew, between tasks, and warns of it; nothing is lost.
warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
RESTARTS = 2  # times in a row that the remaining tasks are started again after a worker died


def default_workers() -> int:
    """As many workers as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ready(_where: EngineConfig) -> None:
    """Nothing can be missing."""


def run(function: Callable[[Item], Result], items: Sequence[Item], where: EngineConfig) -> Iterator[tuple[int, Result]]:
    """Call the function on every item and yield (index, result) as they come.

    Raises:
        ThalwegError: a worker died again after the last restart.
    """
    with tempfile.TemporaryDirectory(prefix="thalweg-cards-") if where.cards else nullcontext("") as folder:
        slots = Slots(Path(folder), where.cards, where.tasks_per_card) if where.cards else None
        workers = min(where.workers or default_workers(), len(slots) if slots else sys.maxsize)
        if workers == 1 or len(items) <= 1:
            for index, item in enumerate(items):
                yield index, called(function, item, slots)
            return
        yield from _in_processes(function, items, workers, slots)


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, slots: Slots | None
) -> Iterator[tuple[int, Result]]:
    """What `run` yields, from several processes.

    Raises:
        ThalwegError: a worker died again after the last restart.
    """
    remaining = dict(enumerate(items))
    deaths = 0
    while remaining:
        try:
            for index, result in _parallel(function, remaining.items(), workers, slots):
                del remaining[index]
                deaths = 0
                yield index, result
        except TerminatedWorkerError as death:
            deaths += 1
            if deaths > RESTARTS:
                raise ThalwegError(
                    f"worker processes died {deaths} times in a row with {len(remaining)} tasks to go; most often "
                    "memory ran out: try fewer --workers. What is done is kept"
                ) from death


def _parallel(
    function: Callable[[Any], Any], items: Iterable[tuple[int, Any]], workers: int, slots: Slots | None
) -> Iterator[Any]:
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
    parent, task = os.getpid(), joblib.delayed(_call)
    return iter(parallel(task(parent, index, packed((function, item)), slots) for index, item in list(items)))


def _call(parent: int, index: int, sent: Packed, slots: Slots | None = None) -> tuple[int, Any]:
    """One task, in a worker process."""
    ends_with(parent)
    function, item = unpacked(sent)
    try:
        return index, called(function, item, slots)
    except Exception as wrong:
        raise portable(wrong) from None
