"""The tasks of a survey: train a model, record it over a shard of the stimuli, measure it. Each leaves its result in
the run directory and may be called again; it returns the reason of a failure, or nothing.

Shards are cut between batches, so that a model is given the same batches however many there are: what is kept of each
unit is then the same to the last bit, and only sums are rounded in another order.
"""

import json
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial, reduce
from importlib.metadata import version
from itertools import pairwise, starmap
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor, nn

from thalweg import strength, tables, twins
from thalweg.devices import BATCH, PRECISIONS, at_once, placed
from thalweg.engine.local import default_workers
from thalweg.errors import NoRoom, ThalwegError, reason, user_code
from thalweg.gallery import gallery
from thalweg.identity import digest, identity, is_packaged
from thalweg.ladder import Encode, Evaluation, Ladder, Rung, Subject, Told, Trainer
from thalweg.measures import MEASURES
from thalweg.observers import Observer, Prepared
from thalweg.recording import (
    NEURONS,
    RANDOM,
    Reader,
    Recording,
    beside,
    from_tensors,
    merge,
    record,
    to_tensors,
    watching,
)
from thalweg.scores import HEADLINES
from thalweg.scoring import Halves, Known, Watcher, known, score_units
from thalweg.settings import Settings
from thalweg.stimuli import Splits, Stimuli, halves, viewed
from thalweg.subjects.loading import built, loaded, weights_of
from thalweg.tables import RunDirectory, file_name

SHARDS = "recordings/shards"
PARAMETERS = "parameters"  # a column of the tables
Layers = dict[str, tuple[Recording, Recording]]  # by layer: the reference half's and the query half's
Said = dict[str, float | int | str | None]  # what the tables say of a model
Trained = tuple[nn.Module, Mapping[str, Encode]]  # a model, and the encoders of its layers in its basis
Recorded = tuple[dict[str, Layers], Callable[[], Trained]]  # by control, with what returns the trained model


def cut(ids: Int[Tensor, " stimulus"], *, batch_size: int, shards: int) -> list[Int[Tensor, "_"]]:
    """The stimuli in so many parts of whole batches.

    Raises:
        ThalwegError: there are fewer batches than parts.
    """
    batches = ids.split(batch_size)
    if len(batches) < shards:
        raise ThalwegError(
            f"shards is {shards}, but {len(ids)} stimuli make {len(batches)} batches of {batch_size}, and a shard is "
            "one at least; ask for fewer shards or smaller batches"
        )
    ends = [len(batches) * shard // shards for shard in range(shards + 1)]
    return [torch.cat(batches[start:end]) for start, end in pairwise(ends)]


@dataclass(frozen=True, eq=False)
class Model:
    """One rung and seed of a ladder, with all that its tasks need."""

    run: RunDirectory
    ladder: Ladder
    rung: Rung
    seed: int
    settings: Settings
    splits: Splits
    data_hash: str
    watching: tuple[Observer, ...] = ()
    features: Mapping[str, Path] = field(default_factory=dict)  # of each observer that has features
    views: Mapping[str, Path] = field(default_factory=dict)  # what each observer answers by
    shard: int | None = None  # the part of the stimuli that is meant, where one is
    notes: tuple[str, ...] = ()  # what was said of its ladder's models before the long work
    normalises: bool = False  # whether its untrained twin goes by running statistics, which are estimated
    code: str = ""  # what it is made by, taken before any of it runs and may change its own state

    @property
    def name(self) -> str:
        """The name of its files."""
        return file_name(f"{self.ladder.name}-{self.rung.name}-{self.seed}")

    def stem(self, control: str) -> str:
        """The name of the files of one of its twins."""
        return f"{self.name}-{file_name(control)}"

    @property
    def task(self) -> str:
        """The name of its tasks."""
        return self.name if self.shard is None else f"{self.name}-{self.shard}"

    def part(self, ids: Int[Tensor, " stimulus"]) -> Int[Tensor, " part"]:
        """Its shard of some stimuli, or all of them."""
        if self.shard is None:
            return ids
        return cut(ids, batch_size=self.batch_size, shards=self.settings.parts)[self.shard]

    @property
    def controls(self) -> tuple[str, ...]:
        """What is measured: the trained model ("none") and its twins."""
        twins = ("untrained", "rotated", *self.ladder.twins)
        lacking = set() if self.subject is None or self.subject.build else {"untrained"}
        lacking |= {"rotated"} if self.basis == RANDOM else set()  # a rotation of a rotation is one again
        return ("none", *(twin for twin in twins if twin not in lacking))

    @property
    def subject(self) -> Subject | None:
        """The published model that its rung is, if it is one."""
        return self.rung.subject

    @property
    def basis(self) -> str:
        """What its units are, and those of its untrained twin."""
        return self.rung.basis.name if self.rung.basis else NEURONS

    @property
    def batch_size(self) -> int:
        """Stimuli that it is given at once."""
        usual = at_once(self.ladder.modality, self.settings.hardware) if self.subject else BATCH
        return self.settings.batch_size or usual

    @property
    def in_pieces(self) -> bool:
        """Whether its strength is found out shard by shard."""
        return self.subject is not None and isinstance(self.ladder.evaluate, Evaluation) and self.settings.parts > 1

    @property
    def pool(self) -> Stimuli:
        """The pool as this model is given it."""
        return viewed(self.splits.pool, self.subject.view if self.subject else None)

    @property
    def trainers(self) -> dict[str, Trainer]:
        """How it is trained and how its twins are that are trained at all, by control; not for a course."""
        trainer = None if self.subject else self.rung.train or self.ladder.train
        return {**({"none": trainer} if trainer else {}), **self.ladder.twins}

    def weights(self, control: str) -> str:
        """The name of the file of its weights in the run directory."""
        return f"weights/{self.name if control == 'none' else self.stem(control)}.safetensors"

    def build(self) -> nn.Module:
        """The untrained model: the same weights whenever it is built."""
        torch.manual_seed((1_000_003 * self.settings.seed + self.seed) % (1 << 64))
        return built(self.rung.build, self.rung.name)

    def network(self, control: str) -> nn.Module:
        """The model with its weights, or its twin with its own."""
        if control == "none" and self.subject:
            return loaded(self.subject)
        network = self.build()
        if control == "untrained" and self.normalises:
            network.load_state_dict(tables.read_tensors(self.run / self.weights(control)), strict=False)
        if control in self.trainers or (control == "none" and self.ladder.course):
            network.load_state_dict(tables.read_tensors(self.run / self.weights(control)))
        return network

    def made_by(self) -> str:
        """The identity of the code that its stimuli, its weights and its strength come from.

        What loads a published model by name is known by the name and the hash of its weights.
        """
        makers: list[object] = [self.ladder.course, self.ladder.evaluate, sorted(self.trainers.items())]
        if self.subject:
            loading = (self.subject.load, self.subject.build)
            makers += [self.subject.view, *(one for one in loading if one and not is_packaged(one))]
        else:
            makers.append(self.rung.build)
        return identity((type(self.splits.train), type(self.splits.pool), makers))

    def train_inputs(self) -> str:
        """The hash of what its weights are made from."""
        code = self.code or self.made_by()
        if self.subject:
            told = [self.subject.name, weights_of(self.subject)]
            return digest(version("thalweg"), told, code, self._twin, self.settings.seed, self.data_hash)
        ways = [str(self.build()), self.rung.checkpoint, code]
        return digest(version("thalweg"), ways, self._twin, self.seed, self.settings.seed, self.data_hash)

    @property
    def _twin(self) -> int:
        """The version of how the untrained twin's statistics are estimated, where it has any."""
        return twins.VERSION if self.normalises else 0

    def measure_inputs(self) -> str:
        """The hash of what its recordings and rows are made from."""
        layers = [(replace(layer, nonlinearity=None), identity(layer.nonlinearity)) for layer in self.rung.layers]
        watching = [(one.name, one.version, one.parts, one.names_classes, one.whole) for one in self.watching]
        features = sorted(file.name for file in self.features.values())
        measures = [(measure.name, measure.version) for measure in MEASURES.values()]
        settings = self.settings.affecting()
        kept = [settings[name] for name in ("k", "sample", "seed", "resamples", "precision")] + [self.batch_size]
        kept += [self.settings.parts] if self.settings.parts > 1 else []
        basis = self.rung.basis.identity if self.rung.basis else NEURONS
        return digest(self.train_inputs(), layers, basis, watching, features, measures, kept, self.rung.kind)


def _reason(models: Sequence[Model], work: Iterable[None]) -> str:
    """Do the work as it comes, one model after another; returns the reason of the first failure, or nothing.

    Raises:
        NoRoom: the disk is full, which ends the survey.
    """
    try:
        models[0].run.seen()
        for _ in work:
            pass
    except NoRoom:
        raise
    except ThalwegError as wrong:
        return str(wrong)
    except Exception as wrong:
        log = f"failures/{models[0].task}.txt"
        with suppress(OSError):
            tables.write_text(models[0].run / log, traceback.format_exc())
        return f"{reason(wrong)} (the traceback is in {log} of the run directory)"
    return ""


def settle_models(models: Sequence[Model]) -> str:
    """Estimate the statistics that untrained twins normalise by, and leave them where the twins' weights belong."""
    return _reason(models, map(_settle, models))


def _settle(model: Model) -> None:
    stimuli, ids = _of_statistics(model)
    found = twins.statistics(model.build(), stimuli, ids, device=model.settings.hardware)
    tables.write_tensors(model.run / model.weights("untrained"), found)
    model.run.finish(f"settle-{model.name}", model.train_inputs(), [model.weights("untrained")])


def _of_statistics(model: Model) -> tuple[Stimuli, Int[Tensor, " stimulus"]]:
    """The stimuli that an untrained twin's statistics are estimated on: those for training, or else the reference half
    of the pool, of which nothing but the references is taken.
    """
    view = model.subject.view if model.subject else None
    if len(model.splits.train):
        return viewed(model.splits.train, view), twins.chosen(torch.arange(len(model.splits.train)))
    return model.pool, twins.chosen(halves(model.splits.pool, seed=model.settings.seed)[0])


def twin_note(model: Model) -> str:
    """What is to be said of its untrained twin, if anything."""
    if not model.normalises:
        return ""
    ids = _of_statistics(model)[1]
    which = "training stimuli" if len(model.splits.train) else "stimuli of the reference half"
    return f"initial weights; running statistics of its normalisation layers estimated on {len(ids)} {which}"


def train_models(models: Sequence[Model]) -> str:
    """Train a model, or one run of which several models are checkpoints, and leave weights and what is to be said of
    them.
    """
    return _reason(models, starmap(_keep_weights, zip(models, _course(models), strict=True)))


Weights = dict[str, tuple[dict[str, Tensor], Told]]  # by control, with what the tables say of it


def _course(models: Sequence[Model]) -> Iterator[Weights]:
    """The weights of one model after another."""
    first = models[0]
    if first.subject:
        loaded = [control for control in first.controls if control != "rotated"]
        yield {control: ({}, _published(first, control)) for control in loaded}
        return
    untrained = placed(first.network("untrained"), first.settings.hardware)
    said: Said = {"train_examples": 0, **({"twin_note": note} if (note := twin_note(first)) else {})}
    made: Weights = {"untrained": ({}, _strengths(untrained, first, said, trained=False))}
    for control, trainer in first.trainers.items():
        twin = first.build().to(first.settings.hardware)
        with _own_code("train", first, trainer):
            told = trainer(twin, first.splits, first.seed)
        made[control] = (_state(twin), _strengths(twin, first, _checked("train", first, told)))
    if first.ladder.course is None:
        yield made
        return
    network = placed(first.build(), first.settings.hardware)
    checkpoints = [model.rung.checkpoint for model in models]
    with _own_code("course", first, first.ladder.course):
        course = iter(first.ladder.course(network, first.splits, first.seed, checkpoints))
    for model in models:
        with _own_code("course", model, first.ladder.course):
            told = next(course, {})
        yield {**made, "none": (_state(network), _strengths(network, model, _checked("course", model, told)))}


def _is_number(value: Tensor | np.ndarray | np.generic) -> bool:
    return (value.numel() if isinstance(value, Tensor) else value.size) == 1


@contextmanager
def _own_code(what: str, model: Model, function: object) -> Iterator[None]:
    """Run a function that trains or judges a model: where it is the user's own, an error names it and its line."""
    with nullcontext() if is_packaged(function) else user_code(_called(what, model)):
        yield


def _called(what: str, model: Model) -> str:
    return f"the function `{what}` of ladder {model.ladder.name!r}, rung {model.rung.name!r},"


def _checked(what: str, model: Model, told: object) -> Said:
    """What training returned, as plain numbers and words; a number that is not finite is missing.

    Raises:
        ThalwegError: no mapping, a value that is neither, or a loss that is not finite.
    """
    plain = _plain(what, model, told)
    wrong = [name for name, value in plain.items() if isinstance(value, float) and not math.isfinite(value)]
    for name in wrong:
        if name.endswith("loss"):
            raise ThalwegError(
                f"{_called(what, model)} returned {name} = {plain[name]}: training diverged; train with a smaller "
                "learning rate"
            )
    return {**plain, **dict.fromkeys(wrong)}


def _plain(what: str, model: Model, told: object) -> Said:
    """What a function of the user's says of a model, without arrays of one number."""
    expected = "a mapping of names to numbers or words was expected, as {'train_examples': 50000, 'train_loss': 0.1}"
    if not isinstance(told, Mapping):
        raise ThalwegError(f"{_called(what, model)} returned {type(told).__name__}; {expected}")
    plain: Said = {}
    for name, value in told.items():
        number = value.item() if isinstance(value, Tensor | np.ndarray | np.generic) and _is_number(value) else value
        if not isinstance(name, str) or not isinstance(number, float | int | str | None):
            raise ThalwegError(f"{_called(what, model)} returned {name!r}: {type(value).__name__}; {expected}")
        plain[name] = number
    return plain


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _keep_weights(model: Model, found: Weights) -> None:
    outputs = [f"weights/{model.name}.json"]
    for control, (state, _) in found.items():
        if state:
            outputs.append(model.weights(control))
            tables.write_tensors(model.run / outputs[-1], state)
    tables.write_json(model.run / outputs[0], {control: dict(told) for control, (_, told) in found.items()})
    model.run.finish(f"train-{model.name}", model.train_inputs(), outputs)


def look_at_shards(models: Sequence[Model]) -> str:
    """Find out what a published model and its untrained twin make of one part of the stimuli."""
    return _reason(models, map(_look_at_shard, models))


def _look_at_shard(model: Model) -> None:
    assert model.shard is not None
    assert isinstance(model.ladder.evaluate, Evaluation)
    part = model.pool.take(model.part(torch.arange(len(model.pool))))
    outputs = []
    for control in model.controls:
        if control != "rotated":
            outputs.append(_findings(model, control, model.shard))
            network = model.network(control)
            counted = torch.tensor([_parameters(network)])
            found = model.ladder.evaluate.look(network, part, device=model.settings.hardware)
            tables.write_tensors(model.run / outputs[-1], {**found, PARAMETERS: counted})
    model.run.finish(f"strength-{model.task}", model.train_inputs(), outputs)


def _findings(model: Model, control: str, shard: int) -> str:
    """The name of the file of what a model makes of one part of the stimuli."""
    return f"{SHARDS}/{model.stem(control)}-strength-{shard}.safetensors"


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _published(model: Model, control: str) -> Told:
    """What the tables say of a published model, of whose training nothing is known: its place on every strength axis,
    put together from what was found out shard by shard, where it was.

    The strength of one that says nothing about the pool's labels is missing.
    """
    if model.in_pieces:
        assert isinstance(model.ladder.evaluate, Evaluation)
        files = [_findings(model, control, shard) for shard in range(model.settings.parts)]
        parts = [tables.read_tensors(model.run / file) for file in files]
        counted = int(parts[0][PARAMETERS])
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != PARAMETERS}
        found = _finite(_plain("evaluate", model, model.ladder.evaluate.say(joined, model.pool)))
    else:
        network = model.network(control)
        counted = _parameters(network)
        found = _evaluate(network, model)
    note = {"twin_note": twin_note(model)} if control == "untrained" and model.normalises else {}
    return {"pool_loss": found.pop("loss"), **found, PARAMETERS: counted, "compute": None, **note}


def _evaluate(network: nn.Module, model: Model) -> Said:
    evaluate = model.ladder.evaluate or strength.evaluate
    with _own_code("evaluate", model, evaluate):
        told = evaluate(network, model.pool, device=model.settings.hardware)
    return _finite(_plain("evaluate", model, told))


def _finite(found: Told) -> Said:
    """The strengths, those that are not finite numbers as missing, with the reason."""
    wrong = [name for name, value in found.items() if isinstance(value, float) and not math.isfinite(value)]
    note = {"strength_note": f"not finite: {', '.join(wrong)}"} if wrong else {}
    return {"loss": None, **found, **dict.fromkeys(wrong), **note}


def _strengths(network: nn.Module, model: Model, told: Told, *, trained: bool = True) -> Told:
    """What the tables say of a model that was trained here: its place on every strength axis, and how its training
    ended.
    """
    found = _evaluate(network, model)
    pool_loss = found.pop("loss")
    parameters = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return {
        **told,
        "pool_loss": pool_loss,
        **found,
        PARAMETERS: parameters,
        **_compute(network, model, told, trained=trained),
    }


UNCOUNTED = "how many examples it was trained on is not known"


def _compute(network: nn.Module, model: Model, told: Told, *, trained: bool) -> Said:
    """The floating-point operations of its training, or why they are missing: weights that were loaded, an operation
    that cannot be counted.
    """
    examples = told.get("train_examples")
    if not isinstance(examples, int | float) or (examples == 0 and trained):
        return {"compute": None, "compute_note": UNCOUNTED}
    try:
        forward = strength.forward_flops(network.to("cpu"), model.pool)
    except Exception as wrong:  # a side column does not take a model down
        return {"compute": None, "compute_note": f"operations could not be counted: {reason(wrong)}"}
    finally:
        network.to(model.settings.hardware)
    return {"compute": 3 * forward * int(examples)}  # a backward pass costs two forward passes


def record_shards(models: Sequence[Model]) -> str:
    """Record a model and its twins over one part of each half's stimuli."""
    return _reason(models, map(_record_shard, models))


def measure_models(models: Sequence[Model]) -> str:
    """Record a model and its twins, or merge what shards recorded, and score all units."""
    return _reason(models, map(_measure, models))


def _record_shard(model: Model) -> None:
    assert model.shard is not None
    parts = Halves(*halves(model.splits.pool, seed=model.settings.seed))
    _, facts = _watchers(model, model.splits.pool)
    recordings, _ = _recorded(model, parts, facts)
    outputs = [_keep(layers, model, _shard(model, control, model.shard)) for control, layers in recordings.items()]
    model.run.finish(f"record-{model.task}", model.measure_inputs(), outputs)


def _measure(model: Model) -> None:
    pool = model.splits.pool
    parts = Halves(*halves(pool, seed=model.settings.seed))
    watchers, facts = _watchers(model, pool)
    recordings, trained = _merged(model, parts) if model.settings.parts > 1 else _recorded(model, parts, facts)
    rows = _score(recordings, model, parts, watchers, facts)
    outputs = [
        _keep(layers, model, f"recordings/{model.stem(control)}.safetensors") for control, layers in recordings.items()
    ]
    outputs += [f"parts/{model.name}.parquet", f"parts/{model.name}-gallery.parquet"]
    tables.write_frame(model.run / outputs[-2], rows)
    shown = gallery(
        rows.filter(pl.col("control") == "none"),
        recordings["none"],
        pool,
        trace=partial(_along, trained, model),
        measure=HEADLINES["predictable"],
        observer=model.watching[0].name,
        seed=model.settings.seed,
    )
    tables.write_frame(model.run / outputs[-1], shown)
    model.run.finish(f"measure-{model.name}", model.measure_inputs(), outputs)


def _along(
    trained: Callable[[], Trained], model: Model, layer: str, unit: int, stimuli: list[int]
) -> list[list[float]]:
    """A unit's value at each token of some stimuli, in the basis that it is of; nothing where it has none."""
    if model.splits.pool.modality != "text":
        return []
    place = [one.name for one in model.rung.layers].index(layer)
    everywhere = replace(model.rung.layers[place], pool="max")  # a layer's places are there before they are pooled
    network, encoders = trained()
    network = placed(network, model.settings.hardware).to(PRECISIONS[model.settings.precision])
    reader = Reader(everywhere, model.basis, seed=model.settings.seed, place=place, encode=encoders.get(layer))
    with torch.inference_mode(), watching(network.eval(), [everywhere]) as outputs:
        network(model.pool.batch(torch.tensor(stimuli)).to(model.settings.hardware))
        values = reader.along(outputs[layer], unit)
    shown = model.splits.pool.length  # type: ignore[attr-defined]  # a language model may see tokens before the window
    return values[:, -shown:].float().cpu().tolist() if values.ndim == 2 else []


def _watchers(model: Model, pool: Stimuli) -> tuple[list[Watcher], Known]:
    """The observers with their views of the pool, and what is known of its stimuli."""
    files = tuple(model.views[one.name] for one in model.watching)
    return _views(model.watching, files, model.features["trivial"], _Once(pool, model.data_hash))


@dataclass(frozen=True, eq=False)
class _Once:
    """A pool that counts as equal to another of the same content, so that what is made of it can be kept."""

    pool: Stimuli
    content: str

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and other.content == self.content


@lru_cache(maxsize=2)
def _views(
    watching: tuple[Observer, ...], files: tuple[Path, ...], statistics: Path, once: _Once
) -> tuple[list[Watcher], Known]:
    """Read once in each worker process, by mapping the files into memory, which all processes share."""
    views = [tables.read_tensors(file) for file in files]
    watchers = [
        Watcher(one, Prepared(view.get("embedding"), view["dictionary"]))
        for one, view in zip(watching, views, strict=True)
    ]
    return watchers, known(once.pool, tables.read_tensors(statistics)["features"])


def _recorded(model: Model, parts: Halves, facts: Known) -> Recorded:
    """The recordings of a model and its twins."""
    found: dict[str, Layers] = {}
    trained: Trained = (nn.Module(), {})
    for control in model.controls:
        if control != "rotated":
            network = model.network(control)
            encoders = _encoders(network, model, parts)
            bases = {control: model.basis}
            if control == "none":
                trained = (network, encoders)
                bases |= {"rotated": RANDOM} if "rotated" in model.controls else {}
            found |= _record(network, model, parts, facts, bases, encoders)
    return {control: found[control] for control in model.controls}, lambda: trained


def _encoders(network: nn.Module, model: Model, parts: Halves) -> Mapping[str, Encode]:
    """What makes the units of each layer, where the basis is one of its own; fitted to the reference half alone."""
    basis, device = model.rung.basis, model.settings.hardware
    return basis.encoders(network, model.rung.layers, model.pool, parts.reference, device=device) if basis else {}


def _record(
    network: nn.Module,
    model: Model,
    parts: Halves,
    facts: Known,
    bases: Mapping[str, str],
    encoders: Mapping[str, Encode],
) -> dict[str, Layers]:
    """The recordings of both halves, by control and layer."""
    reference, query = (
        record(
            network,
            model.rung.layers,
            model.pool,
            ids,
            bases=tuple(bases.values()),
            encoders={(layer, model.basis): encode for layer, encode in encoders.items()},
            k=model.settings.k,
            sample=model.settings.sample,
            seed=model.settings.seed,
            statistics=facts.tables(),
            device=model.settings.hardware,
            batch_size=model.batch_size,
            precision=model.settings.precision,
            workers=model.settings.workers or default_workers(),
        )
        for ids in map(model.part, (parts.reference, parts.query))
    )
    return {
        control: {layer.name: (reference[layer.name, basis], query[layer.name, basis]) for layer in model.rung.layers}
        for control, basis in bases.items()
    }


def _units(recordings: Mapping[str, Layers], model: Model) -> pl.DataFrame:
    """What the table of units says of each unit of a model and its twins, in the order of their recordings."""
    frames = []
    for control, layers in recordings.items():
        for depth, layer in enumerate(model.rung.layers):
            units = pl.Series("unit", layers[layer.name][0].places.numpy()).to_frame()
            told = {
                "ladder": model.ladder.name,
                "rung": model.rung.name,
                "kind": model.rung.kind,
                "seed": model.seed,
                "control": control,
                "layer": layer.name,
                "depth": depth,
                "pool": layer.pool,
                "basis": RANDOM if control == "rotated" else model.basis,
            }
            frames.append(units.with_columns(pl.lit(value).alias(name) for name, value in told.items()))
    return pl.concat(frames)


def _score(
    recordings: Mapping[str, Layers], model: Model, parts: Halves, watchers: list[Watcher], facts: Known
) -> pl.DataFrame:
    """The rows of the table of units for a model and its twins, all scored together."""
    pairs = [layers[layer.name] for layers in recordings.values() for layer in model.rung.layers]
    return score_units(
        beside([reference for reference, _ in pairs]),
        beside([query for _, query in pairs]),
        _units(recordings, model),
        halves=parts,
        watchers=watchers,
        known=facts,
    )


def _keep(recordings: Layers, model: Model, name: str) -> str:
    """Write the recordings of one model and control to the file of this name in the run directory; returns the name."""
    tensors = {
        f"{layer}/{half}/{name}": tensor
        for layer, pair in recordings.items()
        for half, recording in zip(("reference", "query"), pair, strict=True)
        for name, tensor in to_tensors(recording).items()
    }
    tables.write_tensors(model.run / name, tensors, {"layers": json.dumps(list(recordings))})
    return name


def _kept(model: Model, name: str) -> Layers:
    """The recordings in a file of the run directory."""
    halves: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in tables.read_tensors(model.run / name).items():
        layer, half, what = key.rsplit("/", 2)
        halves.setdefault((layer, half), {})[what] = tensor
    recordings = {place: from_tensors(tensors) for place, tensors in halves.items()}
    return {
        layer.name: (recordings[layer.name, "reference"], recordings[layer.name, "query"])
        for layer in model.rung.layers
    }


def _shard(model: Model, control: str, shard: int) -> str:
    """The name of the file of one shard's recordings."""
    return f"{SHARDS}/{model.name}-{control}-{shard}.safetensors"


def _merged(model: Model, parts: Halves) -> Recorded:
    """What the shards recorded of a model and its twins, always merged in the same order."""
    recordings = {
        control: reduce(_union, (_kept(model, _shard(model, control, shard)) for shard in range(model.settings.parts)))
        for control in model.controls
    }

    @cache
    def trained() -> Trained:
        network = model.network("none")
        return network, _encoders(network, model, parts)

    return recordings, trained


def _union(one: Layers, other: Layers) -> Layers:
    """The recordings of two shards as one, layer by layer."""
    return {
        layer: (merge(reference, other[layer][0]), merge(query, other[layer][1]))
        for layer, (reference, query) in one.items()
    }
