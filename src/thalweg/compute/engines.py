"""Where work runs: on this machine's processes, or on a cluster.

A task is a call of a function that leaves its result in the run directory and can be called again; that is all that an
engine needs to know. Each runs on one thread, so that one worker and many compute the same bytes, on either engine.
An engine is a module with two functions: `ready(where)` raises what the user can mend before the long work starts, and
`run(function, items, where)` yields results as they come. A worker process that dies costs the tasks it was at: they
are started again, a stated number of times.

- `local`: processes of this machine, through loky.
- `ray`: the tasks of a Ray cluster, whose machines must see the run directory and the cache under the same paths.

The same bytes come out where processors are of one kind; another kind adds up in another order.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from thalweg.compute import cluster, local
from thalweg.compute.workers import EngineConfig
from thalweg.errors import unknown

__all__ = ["ENGINES", "EngineConfig", "ready", "run"]

Item = TypeVar("Item")
Result = TypeVar("Result")
ENGINES: dict[str, Any] = {"local": local, "ray": cluster}
HERE = EngineConfig()


def ready(where: EngineConfig) -> None:
    """Check that the engine can start.

    Raises:
        ThalwegError: there is no such engine, it is not installed, or its cluster does not answer.
    """
    if where.engine not in ENGINES:
        raise unknown("engine", where.engine, ENGINES)
    ENGINES[where.engine].ready(where)


def run(
    function: Callable[[Item], Result], items: Sequence[Item], where: EngineConfig = HERE
) -> Iterator[tuple[int, Result]]:
    """Call the function on every item and yield (index, result) as they come, in any order.

    Raises:
        ThalwegError: workers died in the same tasks too often; the others are done.
    """
    ready(where)
    results: Iterator[tuple[int, Result]] = ENGINES[where.engine].run(function, items, where)
    return results
