"""The nouns of a survey: which models there are, where their units are, and how each came to be.

A `Ladder` is a list of rungs for one task. A `Rung` is one model configuration; `build` returns it untrained, so that
every model has its untrained twin, and training happens apart. Nothing here runs anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from thalweg.stimuli import Splits

Pool = Literal["max", "mean"]
Trainer = Callable[[nn.Module, Splits, int], Mapping[str, float | int | str]]


@dataclass(frozen=True)
class Layer:
    """A named place in a model whose output holds units on axis 1, and how that output becomes one value a unit.

    `name` is the module's, as `model.named_modules()` spells it; its output is taken before the nonlinearity. Outputs
    with more than two axes (batch, unit, place...) are pooled over the places. `nonlinearity` is what the model applies
    next; only the rotated twin, which rotates what the model passes on, uses it.
    """

    name: str
    pool: Pool = "max"
    nonlinearity: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Rung:
    """One model configuration of a kind: how to build it untrained, its layers, and its own way of training if it has
    one.

    `kind` groups rungs whose units are alike ("fully connected", "convolutional"): the verdict is given within each
    kind too. `quick` rungs are the ones a quick survey takes.
    """

    name: str
    kind: str
    build: Callable[[], nn.Module]
    layers: tuple[Layer, ...]
    quick: bool = True
    train: Trainer | None = None


@dataclass(frozen=True)
class Ladder:
    """Rungs of one task, with the stimuli and the training they share.

    `splits(data, seed)` returns the stimuli, from the user's files where `data` names any. `train(model, splits, seed)`
    trains the model in place and returns what the tables should say of it (`epochs`, `stopped`, `examples`, losses);
    loading weights into it is fine.
    """

    name: str
    rungs: tuple[Rung, ...]
    splits: Callable[[Path | None, int], Splits]
    train: Trainer
    description: str = ""
    modality: str = "image"
