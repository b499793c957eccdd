"""The engine `ray`: the tasks of a Ray cluster.

Each machine of the cluster has thalweg installed and sees the run directory and the cache under the same paths, as on a
shared filesystem: tasks leave their results there, and only what they return travels through Ray. All items of one call
travel together, once to each machine, so stimuli that they share travel once. Ray starts a task again whose worker
process or machine died, up to `RETRIES` times; the other tasks notice nothing. (joblib can use Ray too, but loses all
that is under way when one worker dies.)

Without an address, Ray joins the cluster that this machine belongs to, or starts one on it. Where the cluster has GPUs
and the task can use them, each task asks for its share and sees only that.

Limits: this process starts all tasks and waits for them, so it must live as long as the run; if it dies, the same
command goes on where it stopped.
"""

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from thalweg.compute.sending import packed, portable, unpacked
from thalweg.compute.workers import EngineConfig, called
from thalweg.errors import ThalwegError

Item = TypeVar("Item")
Result = TypeVar("Result")
RETRIES = 3  # times that a task is started again whose worker died
PATIENCE = 10  # seconds to wait for the cluster's head to be there at all
WINDOW = 1000  # tasks handed to Ray at once, unless it has room for more; more would only make waiting slower


def ready(where: EngineConfig) -> None:
    """Connect with the cluster, once in this process.

    Raises:
        ThalwegError: Ray is not installed, or no cluster answers at the address.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    try:
        _knock(where.address or "")
        ray.init(address=where.address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as refused:
        raise ThalwegError(
            f"no Ray cluster answers at {where.address or 'this machine'} "
            f"({str(refused).strip().splitlines()[0][:120]}); start one with 'ray start --head' and give the address "
            "that it prints as --address, or leave --address out to start one here"
        ) from refused


def _knock(address: str) -> None:
    """Raises OSError where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


def _ray() -> Any:
    try:
        import ray
    except ImportError as missing:
        raise ThalwegError("the engine 'ray' needs Ray: pip install 'thalweg[cluster]'") from missing
    return ray


def run(function: Callable[[Item], Result], items: Sequence[Item], where: EngineConfig) -> Iterator[tuple[int, Result]]:
    """Call the function on every item and yield (index, result) as they come.

    Raises:
        ThalwegError: the workers of some tasks died more than `RETRIES` times; the others are done.
    """
    ray = _ray()
    has = ray.cluster_resources()
    gpus = where.gpus / where.tasks_per_card if has.get("GPU") else 0
    task = ray.remote(_task).options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
    together = [ray.put(packed((function, list(items))))]  # in a list, for the task to unpack when it is prepared
    most = where.workers or max(WINDOW, 2 * int(has.get("CPU", 1)))
    waiting, dead = iter(range(len(items))), 0
    running: dict[Any, int] = {}
    try:
        while True:
            for index in islice(waiting, most - len(running)):
                running[task.remote(together, index)] = index
            if not running:
                break
            for reference in _finished(ray, list(running)):
                index = running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as wrong:
                    raise wrong.cause from None
                except ray.exceptions.RayError:
                    dead += 1
                    continue
                yield index, result
    finally:
        for reference in running:
            ray.cancel(reference)
    if dead:
        raise ThalwegError(
            f"the workers of {dead} of {len(items)} tasks died {RETRIES + 1} times; most often memory ran out: try "
            "fewer --workers, or machines with more. The other tasks are done and kept"
        )


def _finished(ray: Any, running: list[Any]) -> list[Any]:
    """The tasks that have returned, when one has."""
    ray.wait(running, num_returns=1)
    done: list[Any] = ray.wait(running, num_returns=len(running), timeout=0)[0]
    return done


def _task(together: list[Any], index: int) -> Any:
    """One task, in a worker process."""
    function, items = _unpacked(together[0])
    try:
        return called(function, items[index])
    except Exception as wrong:
        raise portable(wrong) from None


@lru_cache(maxsize=1)
def _unpacked(reference: Any) -> Any:
    """The function and all items, kept for a worker's next task."""
    return unpacked(_ray().get(reference))
