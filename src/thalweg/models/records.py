"""The nouns of a survey: which models there are, where their units are, and how each came to be.

A `Ladder` is a list of rungs for one task. A `Rung` is one model configuration; `build` returns it untrained, so that
every model has its untrained twin, and training happens apart. A `Subject` is a model that exists already, with the
weights it was published with. Nothing here runs anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Protocol, runtime_checkable

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Source, Splits, Stimuli
from thalweg.stimuli.modality import Modality
from thalweg.stimuli.showing import View

Reduction = Literal["max", "mean", "last"]
Summary = Mapping[str, float | int | str | None]
Trainer = Callable[[nn.Module, Splits, int], Summary]
CheckpointTrainer = Callable[[nn.Module, Splits, int, Sequence[int]], Iterator[Summary]]
Evaluate = Callable[..., Summary]
ReadRows = Callable[[Int[Tensor, " batch"], object], Mapping[str, Tensor]]
Encode = Callable[[Float[Tensor, "... neuron"]], Float[Tensor, "... unit"]]


@runtime_checkable
class Together(Protocol):
    """A trainer that can also train several models of one build at once, as a GPU likes it; see `Classifier`."""

    def together(self, models: Sequence[nn.Module], splits: Splits, seeds: Sequence[int]) -> Sequence[Summary]:
        """Train the models in place, each by its own seed; returns what training one of them returns, for each."""
        ...


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
        if several and not isinstance(value, (list, tuple)):
            raise ThalwegError(f"{owner}: `{field_name}` is {_named(value)}; {expected} was expected")
        for item in value if isinstance(value, (list, tuple)) and several else [value]:
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


def check_share(what: str, share: object) -> None:
    """Check that a share of labels can be wrong.

    Raises:
        ThalwegError: it is no number from 0 to 1; says what was found.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ThalwegError(f"{what} is {share!r}; a share of the training labels was expected, from 0 to 1")


def _check_modality(owner: str, modality: object) -> None:
    """Check that it is a name or a record.

    Raises:
        ThalwegError: it is something else; says what.
    """
    if not isinstance(modality, str | Modality):
        raise ThalwegError(f"{owner}: `modality` is {_named(modality)}; a name or a thalweg.Modality was expected")


@dataclass(frozen=True)
class Layer:
    """A named place in a model whose output holds units, and how that output becomes one value a unit.

    Attributes:
        name: The module's name, as `model.named_modules()` spells it. Its output is measured, before the nonlinearity;
            with ":in" after the name, its input.
        reduction: How values at many places (pixels, tokens) become one: their `max`, their `mean` or the `last`.
        nonlinearity: What the model applies next. The rotated twin and bases that mix units apply it first, since they
            mix what the model passes on.
        unit_axis: The axis of the output that holds units. The first axis holds stimuli, all others hold places.
        skip: How many places at the beginning are left out.
        max_units: At most so many units are measured, drawn by the seed; 0 means all.
        unit_ids: The units to measure, by their index; empty means all, or `max_units` of them.

    Example:
        >>> import torch, thalweg
        >>> layer = thalweg.Layer("features.3", reduction="mean", nonlinearity=torch.relu)
        >>> layer.unit_axis
        1
    """

    name: str
    reduction: Reduction = "max"
    nonlinearity: Callable[[Tensor], Tensor] | None = None
    unit_axis: int = 1
    skip: int = 0
    max_units: int = 0
    unit_ids: tuple[int, ...] = ()


@runtime_checkable  # by typing_extensions: `isinstance` reads no property there, and an identity may hash gigabytes
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
    """One model configuration: how to build it untrained, and where its units are.

    Attributes:
        name: A name of its own within the ladder.
        kind: Groups rungs whose units are alike, as "fully connected" or "convolutional"; the verdict is given within
            each kind too.
        build: Returns the untrained model. It is called after a seed is set, so that its weights can be had again.
        layers: Where its units are.
        quick: Whether a quick survey takes it.
        train: Its own way of training; by default that of the ladder.
        checkpoint: When its weights are taken, where all rungs are checkpoints of one training run.
        subject: The published model that it is, if it is one: it is loaded and not trained.
        basis: What its units are; by default the layers' neurons.
        label_noise: The share of the training stimuli that are given a wrong label, from 0 to 1.

    Raises:
        ThalwegError: A field holds something else than it should.

    Example:
        >>> import torch, thalweg
        >>> from torch import nn
        >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
        >>> rung = thalweg.Rung("mlp-8", "fully connected", build, (thalweg.Layer("1", nonlinearity=torch.relu),))
        >>> rung.layers[0].name
        '1'
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
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        _check("thalweg.Rung", {"name": self.name}, str, several=False)
        _check(f"rung {self.name!r}", {"layers": self.layers}, Layer)
        _check_calls(f"rung {self.name!r}", {"build": self.build, "train": self.train})
        check_share(f"rung {self.name!r}: `label_noise`", self.label_noise)


@dataclass(frozen=True)
class Subject:
    """A model that exists already: how it is loaded, where its units are, and how it is given a stimulus.

    Attributes:
        name: What tables and report call it.
        load: Returns the model with its weights.
        layers: Where its units are; without any, they are found by running the model.
        build: Returns the model newly initialised, as its untrained twin; without `build` there is none.
        kind: Groups models whose units are alike.
        modality: What it takes: `image`, `text` or `pair`.
        weights: Says which weights these are, best with a hash, or is a function that does. When it changes, the model
            is measured again.
        view: The preprocessing of a vision model, from a PIL picture to a tensor (channel, height, width). Without it
            the model is given pixels from 0 to 1.
        tokenizer: A function that returns the tokenizer that a language model reads text with: a
            `tokenizers.Tokenizer`, or one of transformers.
        check: Raises an error for stimuli that do not fit the model, before any work with them.
        family: FAMILY/MEMBER of its weights. An observer that sees with the same weights is refused; one of the same
            family is named in the tables.
        notes: Lines about how its weights were read, for the screen and `run.json`.

    Raises:
        ThalwegError: A field holds something else than it should.

    Example:
        >>> import thalweg
        >>> from torch import nn
        >>> subject = thalweg.Subject("linear", load=lambda: nn.Linear(2, 3), weights="random")
        >>> subject.rung().kind
        'published'
    """

    name: str
    load: Callable[[], nn.Module]
    layers: tuple[Layer, ...] = ()
    build: Callable[[], nn.Module] | None = None
    kind: str = "published"
    modality: str | Modality = "image"
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
        _check_modality(owner, self.modality)
        if hasattr(self.tokenizer, "encode"):  # of transformers, it can be called too
            raise ThalwegError(
                f"{owner}: `tokenizer` is a tokenizer ({type(self.tokenizer).__name__}); a function that returns it "
                "was expected, as tokenizer=lambda: tokenizer"
            )
        _check_calls(owner, {"load": self.load, "build": self.build, "view": self.view, "tokenizer": self.tokenizer})

    def rung(self, *, quick: bool = True) -> Rung:
        """The rung of a ladder that this model is."""
        return Rung(self.name, self.kind, self.build or self.load, self.layers, quick, subject=self)


@dataclass(frozen=True)
class Evaluation:
    """How strong a model is, found out in pieces.

    `per_stimulus(model, stimuli, device=...)` returns tensors with a row for each stimulus, and
    `summarise(rows, stimuli)` what these rows amount to over all stimuli. `alongside(model, stimuli)`, if there is one,
    is a context in which the same rows can be had of a pass that is made for something else: it gives a function of the
    positions of some stimuli and of what the model returned for them. `most_at_once(stimuli)` is how many of the
    stimuli such a pass may take at once.
    """

    per_stimulus: Callable[..., Mapping[str, Tensor]]
    summarise: Callable[[Mapping[str, Tensor], Any], Summary]
    alongside: Callable[[nn.Module, Any], AbstractContextManager[ReadRows]] | None = None
    most_at_once: Callable[[Any], int] | None = None

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
    """Rungs of one task, with the stimuli and the training that they share.

    Attributes:
        name: What tables and report call it.
        rungs: The model configurations. A verdict needs four of distinct strength, and six or more to be clear.
        splits: `splits(source, seed)` returns the stimuli; `source.path` is the user's file or folder, or None.
        train: `train(model, splits, seed)` trains the model in place, or loads weights into it, and returns a dict for
            the table of models: `epochs`, `stopped`, `train_examples`, losses in nats.
        description: One line about the task.
        modality: What its stimuli are: `image`, `text`, `pair`, or a `Modality` of your own.
        checkpoint_trainer: `checkpoint_trainer(model, splits, seed, checkpoints)`, where the rungs are checkpoints of
            one training run: it trains the model and yields such a dict at each checkpoint.
        twins: Control networks by name: other ways of training (`memorising`), or what is made of the trained model
            (`DerivedTwin`).
        controls: Which of the twins that thalweg brings along are measured by default.
        evaluate: `evaluate(model, stimuli, device=...)` returns the strength: `loss` (nats), `bits` above guessing by
            the labels' frequencies, `share` (of the bits that can be gained, up to 1) and `accuracy` (0 to 1). By
            default that of a classifier. The work on a published model is shared out if it is an `Evaluation`.
        strength: What a bit is here, in words, where the modality does not say it.
        observer: The observer of its headlines, where it is not the default of the modality.
        call: The command line that measures the same again, where that is not `survey` and the ladder's name.
        seeds: How many models of each rung are trained, unless the user says otherwise.
        require: `require(rungs)` raises one error that names every file that these rungs lack.
        one_run: Whether published models are checkpoints of one run.
        notes: Lines that are shown before the long work and kept in `run.json`.
        concepts: `concepts(seed, splits)` returns the `ConceptPairs` by which it is measured whether two languages
            share concepts, where the task has any.
        concept_layers: Where concepts are read beside the layers of the rungs.
        edits: `edits(seed)` returns the facts (`Request`s) that are edited in one language and asked in the other.
        goals: `goals(seed)` returns the `Goals` from one to another of which models are redirected, where prompts name
            one.
        stimuli_from: What the stimuli are made from again, where that is not the ladder's name (of `measure` only).

    Raises:
        ThalwegError: A field holds something else than it should.

    Example:
        The tutorial "A ladder of your own" builds a whole one.

        >>> from ladder import ladder
        >>> [rung.name for rung in ladder.rungs]
        ['softmax', 'mlp-2', 'mlp-4', 'mlp-16', 'mlp-64']
        >>> ladder.independent
        True
    """

    name: str
    rungs: tuple[Rung, ...]
    splits: Callable[[Source, int], Splits]
    train: Trainer | None = None
    description: str = ""
    modality: str | Modality = "image"
    checkpoint_trainer: CheckpointTrainer | None = None
    twins: Mapping[str, Trainer | DerivedTwin] = field(default_factory=dict)
    controls: tuple[str, ...] = ("untrained", "rotated")
    evaluate: Evaluate | None = None
    strength: str = ""
    observer: str = ""
    call: tuple[str, ...] = ()
    seeds: int = 3
    require: Callable[[Sequence[Rung]], None] | None = None
    one_run: bool = False
    notes: tuple[str, ...] = ()
    concepts: Callable[[int, Splits], Any] | None = None
    concept_layers: tuple[Layer, ...] = ()
    edits: Callable[[int], Any] | None = None
    goals: Callable[[int], Any] | None = None
    stimuli_from: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("thalweg.Ladder", {"name": self.name}, str, several=False)
        owner = f"ladder {self.name!r}"
        _check(owner, {"rungs": self.rungs}, Rung)
        _check_modality(owner, self.modality)
        _check_calls(owner, {"splits": self.splits, "train": self.train, "evaluate": self.evaluate})

    @property
    def edited(self) -> bool:
        """Whether its models are edited: facts in them, or their goals."""
        return self.edits is not None or self.goals is not None

    @property
    def independent(self) -> bool:
        """Whether each of its models was trained in a run of its own."""
        return self.checkpoint_trainer is None and not self.one_run
