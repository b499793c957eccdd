"""The nouns of a survey: which models there are, where their units are, and how each came to be.

A `Ladder` is a list of rungs for one task. A `Rung` is one model configuration; `build` returns it untrained, so that
every model has its untrained twin, and training happens apart. A `Subject` is a model that exists already, with the
weights it was published with. Nothing here runs anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Source, Splits, Stimuli
from thalweg.stimuli.showing import View

Reduction = Literal["max", "mean", "last"]
Summary = Mapping[str, float | int | str | None]
Trainer = Callable[[nn.Module, Splits, int], Summary]
CheckpointTrainer = Callable[[nn.Module, Splits, int, Sequence[int]], Iterator[Summary]]
Evaluate = Callable[..., Summary]
Encode = Callable[[Float[Tensor, "... neuron"]], Float[Tensor, "... unit"]]


def _named(value: object) -> str:
    """A value as a message names it: plain ones as they are, others by their type."""
    return repr(value) if value is None or isinstance(value, str | int | float) else f"of type {type(value).__name__}"


def _check(owner: str, fields: Mapping[str, object], kind: type, *, several: bool = True) -> None:
    """Check the types of a record's fields: these records are written by hand.

    Raises:
        ThalwegError: one holds something else; says what.
    """
    name = f"thalweg.{kind.__name__}" if kind.__module__.startswith("thalweg") else kind.__name__
    expected = f"a tuple of {name}" if several else f"a {name}"
    for field_name, value in fields.items():
        if several and not isinstance(value, list | tuple):
            raise ThalwegError(f"{owner}: `{field_name}` is {_named(value)}; {expected} was expected")
        for item in value if isinstance(value, list | tuple) and several else [value]:
            if not isinstance(item, kind):
                holds = "holds" if several else "is"
                raise ThalwegError(f"{owner}: `{field_name}` {holds} {_named(item)}; {expected} was expected")


def _check_calls(owner: str, fields: Mapping[str, object]) -> None:
    """Check that fields of a record are functions or None.

    Raises:
        ThalwegError: one is something else; says what.
    """
    for field_name, value in fields.items():
        if value is not None and not callable(value):
            raise ThalwegError(f"{owner}: `{field_name}` is {_named(value)}; a function was expected")


@dataclass(frozen=True)
class Layer:
    """A named place in a model whose output holds units, and how that output becomes one value a unit.

    `name` is the module's, as `model.named_modules()` spells it; its output (with ":in" after the name, its input) is
    taken before the nonlinearity and holds units on the axis `unit_axis`. The other axes but the first are places
    (pixels, tokens): `reduction` takes their maximum, their mean or the last, and leaves out the first `skip` of them.
    `unit_ids` names the units to measure; if it is empty, at most `max_units` are drawn by the seed, and 0 means all.
    `nonlinearity` is what the model applies next; only a basis that mixes units uses it, for it mixes what the model
    passes on.
    """

    name: str
    reduction: Reduction = "max"
    nonlinearity: Callable[[Tensor], Tensor] | None = None
    unit_axis: int = 1
    skip: int = 0
    max_units: int = 0
    unit_ids: tuple[int, ...] = ()


@runtime_checkable
class Basis(Protocol):
    """What the units of a layer are, where they are not its neurons."""

    @property
    def name(self) -> str:
        """`random`, `pca`, `sae`, or a name of the user's: what the tables call it."""
        ...

    @property
    def identity(self) -> str:
        """What its units are made from, as text: another when they change."""
        ...

    def encoders(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
    ) -> Mapping[str, Encode]:
        """For each layer, the function from its values to its units', both on the last axis.

        `ids` are those of the reference half: what is fitted is fitted to these alone.
        """
        ...


@dataclass(frozen=True)
class Rung:
    """One model configuration of a kind: how to build it untrained, its layers, and its own way of training if it has
    one.

    `kind` groups rungs whose units are alike ("fully connected", "convolutional"): the verdict is given within each
    kind too. `quick` rungs are the ones a quick survey takes. `checkpoint` says when the weights are taken where all
    rungs are stages of one training run. A rung with a `subject` is not trained: it is loaded. `basis` is what the
    units of its layers are: their neurons, unless it says otherwise.
    """

    name: str
    kind: str
    build: Callable[[], nn.Module]
    layers: tuple[Layer, ...]
    quick: bool = True
    train: Trainer | None = None
    checkpoint: int = 0
    subject: "Subject | None" = None
    basis: Basis | None = None

    def __post_init__(self) -> None:
        _check("thalweg.Rung", {"name": self.name}, str, several=False)
        _check(f"rung {self.name!r}", {"layers": self.layers}, Layer)
        _check_calls(f"rung {self.name!r}", {"build": self.build, "train": self.train})


@dataclass(frozen=True)
class Subject:
    """A model that exists already: how it is loaded, where its units are, and how it is given a stimulus.

    `load` returns it with its weights; `build` without, newly initialised, as its untrained twin; it has none without
    `build`. `weights` says which weights these are, with a hash (or is a function that does):
    when it changes, the model is measured again. Where no
    `layers` are named, they are found by running the model. `view` is the preprocessing that a vision model was
    published with: from a picture to what the model is given. `tokenizer` returns the `tokenizers.Tokenizer` that a
    language model reads text by. `check` raises an error for stimuli that do not fit the model, before any work with
    them. `family` is FAMILY/MEMBER, as an observer's is: no model is observed by its own weights, and where a relative
    observes it the tables say so. `notes` are lines to be said of how its weights were read.
    """

    name: str
    load: Callable[[], nn.Module]
    layers: tuple[Layer, ...] = ()
    build: Callable[[], nn.Module] | None = None
    kind: str = "published"
    modality: str = "image"
    weights: str | Callable[[], str] = ""
    view: View | None = None
    tokenizer: Callable[[], Any] | None = None
    check: Callable[[Stimuli], None] | None = None
    family: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("thalweg.Subject", {"name": self.name}, str, several=False)
        owner = f"subject {self.name!r}"
        _check(owner, {"layers": self.layers}, Layer)
        _check_calls(owner, {"load": self.load, "build": self.build, "view": self.view, "tokenizer": self.tokenizer})

    def rung(self, *, quick: bool = True) -> Rung:
        """The rung of a ladder that this model is."""
        return Rung(self.name, self.kind, self.build or self.load, self.layers, quick, subject=self)


@dataclass(frozen=True)
class Evaluation:
    """How strong a model is, found out in pieces.

    `per_stimulus(model, stimuli, device=...)` returns tensors with a row for each stimulus, and
    `summarise(rows, stimuli)` what these rows amount to over all stimuli.
    """

    per_stimulus: Callable[..., Mapping[str, Tensor]]
    summarise: Callable[[Mapping[str, Tensor], Any], Summary]

    def __call__(self, model: nn.Module, stimuli: Stimuli, *, device: str = "cpu") -> Summary:
        """What a ladder's `evaluate` returns, in one piece."""
        return self.summarise(self.per_stimulus(model, stimuli, device=device), stimuli)


@dataclass(frozen=True)
class DerivedTwin:
    """A control network that is made of the trained one without training.

    `make(network, seed)` changes the trained network in place. Running statistics that it normalises by are estimated
    afterwards, as for untrained twins. `description` says in words how it is made, for the tables and the report.
    """

    make: Callable[[nn.Module, int], None]
    description: str = ""


@dataclass(frozen=True)
class Ladder:
    """Rungs of one task, with the stimuli and the training they share.

    `splits(source, seed)` returns the stimuli, from the user's files where `source.path` names any. `train(model,
    splits, seed)` trains the model in place and returns what the tables should say of it (`epochs`, `stopped`,
    `train_examples`, losses); loading weights into it is fine. Where the rungs are checkpoints of one run,
    `checkpoint_trainer(model, splits, seed, checkpoints)` trains it and yields the same at each checkpoint. `twins` are
    control networks by name: other ways of training (`memorising`), or what is made of the trained model
    (`DerivedTwin`). `controls` names the twins among those that thalweg brings that are measured by default.
    `evaluate(model, stimuli, device=...)` returns `loss` (nats), `bits` above what the labels' frequencies alone say,
    `share` (bits as a share of all there are to be gained) and `accuracy`; by default it is that of a classifier; where
    it is an `Evaluation`, the work on a published model is shared out. `strength` says in words what a bit is here.
    `observer` names the headline's observer where it is not the default of the modality. `call` is the command line
    that measures the same again, where that is not `survey` and the ladder's name. `seeds` models of each rung are
    trained unless the user says otherwise. `require(rungs)` raises one error for all that is missing of what these
    rungs are loaded from. `one_run` says of published models that they are checkpoints of one run, as those of a
    `checkpoint_trainer` are. `notes` are said before the long work, and kept in run.json: a line each on what a reader
    of the scores should know of these models. `stimuli_from` says what the stimuli are made from again, where that is
    not the ladder's name (of `measure` alone).
    """

    name: str
    rungs: tuple[Rung, ...]
    splits: Callable[[Source, int], Splits]
    train: Trainer | None = None
    description: str = ""
    modality: str = "image"
    checkpoint_trainer: CheckpointTrainer | None = None
    twins: Mapping[str, Trainer | DerivedTwin] = field(default_factory=dict)
    controls: tuple[str, ...] = ("untrained", "rotated")
    evaluate: Evaluate | None = None
    strength: str = "held-out bits above the label entropy"
    observer: str = ""
    call: tuple[str, ...] = ()
    seeds: int = 3
    require: Callable[[Sequence[Rung]], None] | None = None
    one_run: bool = False
    notes: tuple[str, ...] = ()
    stimuli_from: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("thalweg.Ladder", {"name": self.name}, str, several=False)
        owner = f"ladder {self.name!r}"
        _check(owner, {"rungs": self.rungs}, Rung)
        _check_calls(owner, {"splits": self.splits, "train": self.train, "evaluate": self.evaluate})

    @property
    def independent(self) -> bool:
        """Whether each of its models had a training of its own."""
        return self.checkpoint_trainer is None and not self.one_run
