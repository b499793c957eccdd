"""Tasks for workers, in a module that imports little: each worker process imports it."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Splits


def whereabouts(_item: object) -> tuple[str, int, list[int]]:
    """The node that a task of Ray runs on, its threads and its GPUs."""
    import ray

    context = ray.get_runtime_context()
    return context.get_node_id(), torch.get_num_threads(), ray.get_gpu_ids()


def noted(folder: Path, item: int) -> int:
    """Leaves a file for each time that it starts; the first time, 3 kills its own process."""
    started = folder / f"{item}-{time.monotonic_ns()}"
    started.write_text("")
    if item == 3 and len(list(folder.glob("3-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item * item


def deadly(folder: Path, item: int) -> int:
    """The second kills its own process once the first is done."""
    if item == 1:
        end = time.monotonic() + 60
        while not (folder / "0").exists() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / str(item)).write_text("")
    return item


def mistaken(item: int) -> int:
    raise ThalwegError(f"item {item} is wrong")


def descended(model: nn.Module, splits: Splits, seed: int) -> dict[str, float]:
    """Training by plain gradient descent: a worker's first optimiser of PyTorch takes two seconds to import."""
    images, labels = splits.train.batch(slice(None)), splits.train.labels
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(images), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for weights, gradient in zip(model.parameters(), gradients, strict=True):
                weights -= 0.1 * gradient
    return {"train_examples": 20 * len(labels), "train_loss": loss.item()}
