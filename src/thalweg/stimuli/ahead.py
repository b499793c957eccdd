"""What a model is given, decoded ahead of it in worker processes.

Decoding a photograph takes a good part of the time of a small network's pass, and does not depend on the network. So
while the network is busy with one batch, worker processes decode the next ones, in pieces that are put together in
order: the bytes are the same for any number of workers. No more than a few pieces wait at a time, whatever the number
of images.

The processes are those of `compute.processes`. A fork of this process would inherit locks of PyTorch's and polars'
threads (the data loader of PyTorch forks, or starts processes that cannot be given a function defined on the spot).
When one dies, this process decodes its share.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import lru_cache
from itertools import islice
from multiprocessing import current_process
from typing import Any

import torch
from jaxtyping import Int
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor
from numpy.typing import NDArray
from torch import Tensor

from thalweg.compute.processes import pool
from thalweg.compute.workers import single_thread
from thalweg.stimuli.base import Stimuli
from thalweg.stimuli.files import ImageFiles

PIECE = 25  # stimuli decoded by a process at once: 15 MB at 224 pixels
WAITING = 3  # pieces a worker that are decoded or being decoded
RESTARTS = 1  # times that processes are started again after one died; from then on all is decoded here


def batches(
    stimuli: Stimuli, ids: Int[Tensor, " stimulus"], batch_size: int, *, workers: int = 1
) -> Iterator[tuple[Int[Tensor, " batch"], Tensor]]:
    """The batches that a model is given, each with its ids, in order; `workers` processes decode them ahead.

    Only stimuli that cost something to make are made ahead, and only by the main process: where models are shared out
    among processes, each makes its own.
    """
    costly = isinstance(stimuli, ImageFiles) or getattr(stimuli, "view", None) is not None
    if workers == 1 or not costly or current_process().name != "MainProcess" or len(ids) <= PIECE:
        for batch in ids.split(batch_size):
            yield batch, stimuli.batch(batch)
        return
    pieces = [batch.split(PIECE) for batch in ids.split(batch_size)]
    made = _ahead((stimuli.take(piece) for batch in pieces for piece in batch), workers)
    for batch in pieces:
        yield torch.cat(batch), torch.cat(list(islice(made, len(batch))))


def _ahead(parts: Iterable[Stimuli], workers: int) -> Iterator[Tensor]:
    """What a model is given of each part, in order."""
    parts = iter(parts)
    waiting: deque[tuple[Stimuli, Future[NDArray[Any]] | None]] = deque()
    deaths = 0
    while True:
        for part in islice(parts, WAITING * workers - len(waiting)):
            waiting.append((part, _submitted(part, workers) if deaths <= RESTARTS else None))
        if not waiting:
            return
        part, future = waiting.popleft()
        try:
            made = _made(part) if future is None else future.result()
        except BrokenProcessPool:  # nothing that waits will come
            deaths += 1
            _processes.cache_clear()
            waiting = deque((other, None) for other, _ in waiting)
            made = _made(part)
        yield torch.from_numpy(made)


def _submitted(part: Stimuli, workers: int) -> Future[NDArray[Any]] | None:
    try:
        future: Future[NDArray[Any]] = _processes(workers).submit(_made, part)
        return future
    except BrokenProcessPool:
        return None


@lru_cache(maxsize=1)
def _processes(workers: int) -> ProcessPoolExecutor:
    """Kept from one pass to the next, apart from the processes that are kept for whole tasks."""
    return pool(workers)


def _made(part: Stimuli) -> NDArray[Any]:
    """As an array, which goes from process to process faster than a tensor."""
    with single_thread():
        return part.batch(slice(None)).numpy()
