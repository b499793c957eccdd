"""Worker processes that start in a tenth of a second.

A process that imports PyTorch and thalweg costs four seconds of a processor. So on Linux one server imports all that
once and does nothing else: it starts no thread of PyTorch's and uses no GPU, which makes it safe to fork. Each worker
is a fork of it. The server is Python's own fork server, but for two things: it is thalweg's alone (a user's keeps what
it preloads), and workers don't run the user's script again, for what they need of it travels by value (`sending`). It
ends with the process that started it and its workers. Elsewhere the workers are loky's, which start afresh.
"""

import gc
import io
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn, util
from typing import Any

from joblib.externals.loky.process_executor import ProcessPoolExecutor

PRELOADED = ["thalweg.pipeline.preloaded"]
TORCHVISION = ["thalweg.compute.preloaded_torchvision"]  # where the process that workers work for has imported it
LIMITS = dict.fromkeys(  # variables that libraries read while they are imported: a task has one thread
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
NOT_FROM_THE_FOLDER = {"PYTHONSAFEPATH": "1"}  # a user's `random.py` is no module of the server's
FORKS = sys.platform == "linux"
IDLE = 300  # seconds after which workers without a task end: what they keep in memory is not kept for ever


def pool(workers: int) -> ProcessPoolExecutor:
    """So many worker processes, which start when the first task is submitted, with the environment of this process."""
    if not FORKS:
        return ProcessPoolExecutor(max_workers=workers, timeout=IDLE, env=_limits())
    return ProcessPoolExecutor(
        max_workers=workers, timeout=IDLE, context=_Context(), initializer=_begin, initargs=(dict(os.environ),)
    )


@cache
def _server(_process: int) -> forkserver.ForkServer:
    """The server of a process: a fork of that one needs its own."""
    server = forkserver.ForkServer()
    server.set_forkserver_preload(PRELOADED + TORCHVISION * ("torchvision" in sys.modules))
    return server


def _limits() -> dict[str, str]:
    """The limits that the user has not set."""
    return {name: value for name, value in LIMITS.items() if name not in os.environ}


def _begin(environment: dict[str, str]) -> None:
    """Give a worker the environment of the process that it works for; the server's may be older. What the server has
    imported need not be searched for garbage.
    """
    gc.freeze()
    for name in set(os.environ) - set(environment) - set(LIMITS):
        del os.environ[name]
    os.environ.update(environment)


@contextmanager
def _environment_of_a_server() -> Generator[None]:
    """What a process that starts inherits for as long as the context lasts; Python's own view of it stays.

    An interruption (Ctrl-C) does not reach the server and its workers: the process that they work for ends them.
    """
    inherited = {name: value for name, value in (_limits() | NOT_FROM_THE_FOLDER).items() if name not in os.environ}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    for name, value in inherited.items():
        os.putenv(name, value)
    try:
        yield
    finally:
        for name in inherited:
            os.unsetenv(name)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class _Start(popen_forkserver.Popen):
    """The start of one worker: as Python's fork server does it, but by thalweg's, and without the user's script."""

    def _launch(self, process_obj: Any) -> None:
        prepared = spawn.get_preparation_data(process_obj._name)
        for name in ("init_main_from_name", "init_main_from_path", "dir"):
            prepared.pop(name, None)
        sent = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(prepared, sent)
            reduction.dump(process_obj, sent)
        finally:
            context.set_spawning_popen(None)
        server = _server(os.getpid())
        with _environment_of_a_server():
            server.ensure_running()
        # pyrefly: ignore[missing-attribute]  # private, so not in its types
        self.sentinel, to_worker = server.connect_to_new_process(self._fds)
        held = os.dup(to_worker)  # for as long as this process lives, the worker's sentinel of it is silent
        # pyrefly: ignore[missing-attribute]  # private, so not in its types
        self.finalizer = util.Finalize(self, util.close_fds, (held, self.sentinel))
        with open(to_worker, "wb") as pipe:
            pipe.write(sent.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _Process(context.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> _Start:
        return _Start(process_obj)


class _Context(context.ForkServerContext):
    Process = _Process
