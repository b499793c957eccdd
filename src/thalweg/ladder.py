"""The nouns of a survey: which models there are, where their units are, and how each came to be.

A `Ladder` is a list of rungs for one task. A `Rung` is one model configuration; `build` returns it untrained, so that
every model has its untrained twin, and training happens apart. Nothing here runs anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from thalweg.stimuli import Source, Splits

Pool = Literal["max", "mean", "last"]
Told = Mapping[str, float | int | str]
Trainer = Callable[[nn.Module, Splits, int], Told]
Course = Callable[[nn.Module, Splits, int, Sequence[int]], Iterator[Told]]
Evaluate = Callable[..., Mapping[str, float]]


@dataclass(frozen=True)
class Layer:
    """A named place in a model whose output holds units, and how that output becomes one value a unit.

    `name` is the module's, as `model.named_modules()` spells it; its output is taken before the nonlinearity and holds
    units on the axis `units`. The other axes but the first are places (pixels, tokens): `pool` takes their maximum,
    their mean or the last, and leaves out the first `skip` of them. At most `most` units are measured, drawn by the
    seed; 0 means all. `nonlinearity` is what the model applies next; only the rotated twin, which rotates what the
    model passes on, uses it.
    """

    name: str
    pool: Pool = "max"
    nonlinearity: Callable[[Tensor], Tensor] | None = None
    units: int = 1
    skip: int = 0
    most: int = 0


@dataclass(frozen=True)
class Rung:
    """One model configuration of a kind: how to build it untrained, its layers, and its own way of training if it has
    one.

    `kind` groups rungs whose units are alike ("fully connected", "convolutional"): the verdict is given within each
    kind too. `quick` rungs are the ones a quick survey takes. `checkpoint` says when the weights are taken where all
    rungs are stages of one training run.
    """

    name: str
    kind: str
    build: Callable[[], nn.Module]
    layers: tuple[Layer, ...]
    quick: bool = True
    train: Trainer | None = None
    checkpoint: int = 0


@dataclass(frozen=True)
class Ladder:
    """Rungs of one task, with the stimuli and the training they share.

    `splits(source, seed)` returns the stimuli, from the user's files where `source.path` names any. `train(model,
    splits, seed)` trains the model in place and returns what the tables should say of it (`epochs`, `stopped`,
    `train_examples`, losses); loading weights into it is fine. Where the rungs are checkpoints of one run,
    `course(model, splits, seed, checkpoints)` trains it and yields the same at each checkpoint. `twins` are other ways
    of training whose models are controls, by name (`memorising`). `evaluate(model, stimuli, device=...)` returns `loss`
    (nats), `bits` above what the labels' frequencies alone say, `share` (bits as a share of all there are to be gained)
    and `accuracy`; by default it is that of a classifier. `strength` says in words what a bit is here.
    """

    name: str
    rungs: tuple[Rung, ...]
    splits: Callable[[Source, int], Splits]
    train: Trainer | None = None
    description: str = ""
    modality: str = "image"
    course: Course | None = None
    twins: Mapping[str, Trainer] = field(default_factory=dict)
    evaluate: Evaluate | None = None
    strength: str = "held-out bits above the label entropy"
