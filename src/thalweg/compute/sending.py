"""How a task reaches a worker process: as bytes, beside what the worker must do before it can read them.

Functions and classes of a user's own file travel whole (by value), for a worker does not know the file; all else
travels by name and is imported where the process that sends it finds it. A torchvision that needs preparing is prepared
before anything imports it.
"""

import multiprocessing
import os
import pickle
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import connection
from types import ModuleType
from typing import Any

import cloudpickle

from thalweg.errors import ThalwegError, reason
from thalweg.packages import prepare_torchvision

HEARTBEAT = 1.0  # seconds between a worker's looks at whether its parent lives


@dataclass(frozen=True)
class Packed:
    """Anything that a worker needs, as bytes, and how the process that sent it found its modules."""

    content: bytes
    path: tuple[str, ...]
    folder: str


def by_value(module: ModuleType) -> None:
    """Let what this module defines travel whole. It must be the one that `sys.modules` has under its name."""
    cloudpickle.register_pickle_by_value(module)


def packed(thing: Any) -> Packed:
    """A thing as it travels to a worker.

    Raises:
        ThalwegError: it holds something that cannot travel, as an open file or a lock.
    """
    try:
        content = cloudpickle.dumps(thing)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError, ValueError) as wrong:
        raise ThalwegError(
            f"a task cannot be sent to worker processes ({reason(wrong)}); make it without what cannot be pickled, as "
            "open files, locks and generators, or use --workers 1"
        ) from wrong
    path = tuple(os.path.abspath(folder) for folder in sys.path)
    return Packed(content, path, os.getcwd())


def unpacked(sent: Packed) -> Any:
    """The thing, in a worker that was prepared for it.

    Raises:
        ThalwegError: it needs a module that is not found here.
    """
    sys.path += [folder for folder in sent.path if folder not in sys.path]
    with suppress(OSError):  # a machine of a cluster may not have it
        os.chdir(sent.folder)
    prepare_torchvision()
    try:
        return pickle.loads(sent.content)
    except (ImportError, AttributeError) as wrong:
        raise ThalwegError(
            f"a worker process cannot read its task ({reason(wrong)}); define what the task needs in a module that "
            "every worker can import, or use --workers 1"
        ) from wrong


def portable(wrong: Exception) -> Exception:
    """An exception that another process can read: the same, or one of ours that says it in a line."""
    try:
        pickle.loads(cloudpickle.dumps(wrong))
    except Exception:
        return ThalwegError(reason(wrong))
    return wrong


@cache
def ends_with(parent: int) -> None:
    """End this process soon after the one that it works for has ended, however that came about."""
    sentinel = getattr(multiprocessing.parent_process(), "_sentinel", None)  # loky's processes have none
    starter = parent if sentinel is None else os.getppid()  # or the server that it is a fork of

    def watch() -> None:
        while os.getppid() == starter:
            if sentinel is None:
                time.sleep(HEARTBEAT)
            elif connection.wait([sentinel], HEARTBEAT):
                break
        os._exit(1)

    if sys.platform != "win32":  # there a process keeps its parent's number; joblib ends idle workers in time
        threading.Thread(target=watch, name="ends with its parent", daemon=True).start()
