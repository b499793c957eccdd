"""A training that takes hours goes on after the last epoch that was finished before it was interrupted.

A trainer keeps how it stands after each epoch, and asks for that when it begins. Where it lies is said by who calls the
trainer; where nobody says so, nothing is kept.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from thalweg.files.whole import replacing
from thalweg.training.course import note, noted

KEPT = "thalweg_kept"


class Part(Protocol):
    """What has a state, as an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Its state: numbers, texts, lists, dictionaries and tensors."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make it as it was."""


@dataclass(frozen=True)
class Kept:
    """Where the state of a training is kept, and a hash of what the network is made from."""

    file: Path
    inputs: str


def keep_in(model: nn.Module, file: Path, inputs: str) -> None:
    """Have the state of the network's training kept in a file; what was kept for other inputs does not count."""
    vars(model)[KEPT] = Kept(file, inputs)


def keep(model: nn.Module, epoch: int, parts: Sequence[Part], generator: torch.Generator) -> None:
    """Keep how a training stands after an epoch: the network and what was noted of it, random numbers, and the parts of
    its trainer that have a state, such as its optimiser.
    """
    place: Kept | None = vars(model).get(KEPT)
    if place is None:
        return
    state = {
        "inputs": place.inputs,
        "epoch": epoch,
        "weights": model.state_dict(),
        "course": noted(model),
        "parts": [part.state_dict() for part in parts],
        "random": [torch.get_rng_state(), generator.get_state()],
    }
    with replacing(place.file) as beside:
        torch.save(state, beside)


def go_on(model: nn.Module, parts: Sequence[Part], generator: torch.Generator) -> int:
    """Make all of these as they were when the training was interrupted; returns after which epoch that was, 0 where
    nothing was kept.
    """
    place: Kept | None = vars(model).get(KEPT)
    state = _read(place) if place else {}
    if not state:
        return 0
    model.load_state_dict(state["weights"])
    for number in state["course"]:
        note(model, number.pop("step"), **number)
    for part, kept in zip(parts, state["parts"], strict=True):
        part.load_state_dict(kept)
    torch.set_rng_state(state["random"][0])
    generator.set_state(state["random"][1])
    epoch: int = state["epoch"]
    return epoch


def _read(place: Kept) -> dict[str, Any]:
    """What was kept for these inputs; empty where it was not, or is damaged."""
    if not place.file.is_file():
        return {}
    try:
        state: dict[str, Any] = torch.load(place.file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        return {}
    return state if state["inputs"] == place.inputs else {}
