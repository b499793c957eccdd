"""The engine `local`: processes of this machine.

They are kept from one call to the next, with what they have in memory. When one dies, all that has not returned is
given up and started again, up to `RESTARTS` times in a row without a task that finishes: what has returned is never
lost, the tasks that other workers were at are done again. A single worker is this process itself, and then its death is
the run's. When this process dies, its workers end within seconds.

Tasks that run on GPUs are no more than the cards have room for, and each is given a card (`cards`).
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from thalweg.compute import processes
from thalweg.compute.cards import Slots
from thalweg.compute.sending import Packed, ends_with, packed, portable, unpacked
from thalweg.compute.workers import EngineConfig, called
from thalweg.errors import ThalwegError

Item = TypeVar("Item")
Result = TypeVar("Result")
# loky starts worker processes that have grown anew, between tasks, and warns of it; nothing is lost.
warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
RESTARTS = 2  # times in a row that the remaining tasks are started again after a worker died
Wanted = tuple[int, int, tuple[tuple[str, str], ...]]  # whose workers, how many, and their environment
_kept: dict[Wanted, ProcessPoolExecutor] = {}  # at most one of this process


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
    """The results of the tasks, as they come; no more than two tasks a worker are in memory as bytes."""
    (wanted, executor), parent = _workers(workers), os.getpid()
    futures = (executor.submit(_call, parent, index, packed((function, item)), slots) for index, item in list(items))
    waiting: set[Future[Any]] = set()
    try:
        while waiting := waiting | set(islice(futures, 2 * workers - len(waiting))):
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: future.exception() is not None):  # results before a death
                yield future.result()
    except BaseException:  # what is under way is of no use
        _kept.pop(wanted, None)
        executor.shutdown(kill_workers=True)
        raise


def _workers(workers: int) -> tuple[Wanted, ProcessPoolExecutor]:
    """The processes of the last call, unless others are wanted or this process is a fork of the one that made it."""
    this = os.getpid()
    wanted = (this, workers, tuple(sorted(os.environ.items())))
    if wanted not in _kept:
        for other in [other for other in _kept if other[0] == this]:
            _kept.pop(other).shutdown(wait=False)
        _kept[wanted] = processes.pool(workers)
    return wanted, _kept[wanted]


def _call(parent: int, index: int, sent: Packed, slots: Slots | None = None) -> tuple[int, Any]:
    """One task, in a worker process."""
    ends_with(parent)
    function, item = unpacked(sent)
    try:
        return index, called(function, item, slots)
    except Exception as wrong:
        raise portable(wrong) from None
