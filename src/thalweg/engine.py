"""Where work runs: local processes, one thread each, so that one worker and many compute the same bytes.

A task is a call of a function that leaves its result in the run directory and can be called again. When a worker
process dies, the tasks that have not returned are started again.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

Item = TypeVar("Item")
Result = TypeVar("Result")
RESTARTS = 2  # times that the remaining tasks are started again after a worker died


def default_workers() -> int:
    """As many workers as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def single_thread() -> Iterator[None]:
    """PyTorch on one thread for as long as the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None
) -> Iterator[tuple[int, Result]]:
    """Call the function on every item and yield (place, result) as they come, in any order; by default a worker for
    each core.
    """
    workers = workers or default_workers()
    if workers == 1 or len(items) <= 1:
        for place, item in enumerate(items):
            yield place, _call(function, place, item)[1]
        return
    remaining = dict(enumerate(items))
    for attempt in range(RESTARTS + 1):
        try:
            for place, result in _parallel(function, remaining.items(), workers):
                del remaining[place]
                yield place, result
        except TerminatedWorkerError:
            if attempt == RESTARTS:
                raise
        if not remaining:
            return


def _parallel(function: Callable[[Any], Any], items: Iterable[tuple[int, Any]], workers: int) -> Iterator[Any]:
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
    return iter(parallel(joblib.delayed(_call)(function, place, item) for place, item in list(items)))


def _call(function: Callable[[Any], Any], place: int, item: Any) -> tuple[int, Any]:
    with single_thread():
        return place, function(item)
