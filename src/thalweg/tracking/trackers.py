"""Trackers of experiments that a survey tells of its training curves, stages and verdicts, where the user asks for it.

A tracker is one method, `write`: numbers by step and texts, under a name. Nothing leaves this machine: of Weights &
Biases a run is kept offline, unless its own variable WANDB_MODE says otherwise.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from thalweg.errors import ThalwegError, unknown

Points = Sequence[Mapping[str, float]]  # each has `step`


class Tracker(Protocol):
    """What is told how a survey goes."""

    def write(self, name: str, points: Points, texts: Mapping[str, str]) -> None:
        """Write numbers by step, and texts, under a name; parts of the name are separated by slashes."""


@dataclass(frozen=True)
class TensorBoard:
    """Event files in a folder, for `tensorboard --logdir`."""

    folder: Path

    def write(self, name: str, points: Points, texts: Mapping[str, str]) -> None:
        """Write an event file in a folder of this name."""
        from tensorboardX import SummaryWriter

        with SummaryWriter(logdir=str(self.folder / name)) as writer:
            for point in points:
                for tag, value in _numbers(point).items():
                    writer.add_scalar(tag, value, int(point["step"]))
            for tag, text in texts.items():
                writer.add_text(tag, text)


@dataclass(frozen=True)
class WeightsAndBiases:
    """Runs of Weights & Biases: one for each name, all of a survey in one group."""

    folder: Path
    group: str

    def write(self, name: str, points: Points, texts: Mapping[str, str]) -> None:
        """Write a run of this name; texts go into its summary."""
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        quiet = wandb.Settings(silent=True, console="off")
        self.folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project="thalweg", group=self.group, name=name, dir=str(self.folder), mode=mode, settings=quiet
        )
        for point in points:
            run.log(_numbers(point), step=int(point["step"]))
        run.summary.update(dict(texts))
        run.finish()


PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def check(names: Iterable[str]) -> None:
    """Check that there are such trackers, and that what they need is installed.

    Raises:
        ThalwegError: one is not known or its package is missing.
    """
    for name in names:
        if name not in PACKAGES:
            raise unknown("tracker", name, PACKAGES)
        if find_spec(PACKAGES[name]) is None:
            raise ThalwegError(
                f"track (--track) is {name!r}, which needs {PACKAGES[name]}, and that is not installed: "
                f"pip install {PACKAGES[name]}"
            )


def trackers(names: Iterable[str], folder: Path, group: str) -> list[Tracker]:
    """The trackers of these names, each with a new folder of its own in `folder`: what an earlier command wrote there
    is replaced. `group` is what the survey is called.
    """
    made: list[Tracker] = []
    for name in dict.fromkeys(names):
        shutil.rmtree(folder / name, ignore_errors=True)
        own = folder / name
        made.append(TensorBoard(own) if name == "tensorboard" else WeightsAndBiases(own, group))
    return made


def _numbers(point: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a point, without its step and what is missing."""
    return {name: value for name, value in point.items() if name != "step" and value is not None and value == value}
