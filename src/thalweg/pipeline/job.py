"""One model of a survey with all that its tasks need: names of files, hashes of inputs, shards.

Shards are cut between batches, so that a model is given the same batches however many there are: what is kept of each
unit is then the same to the last bit, and only sums are rounded in another order.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from thalweg.bases.dictionaries import LATENTS
from thalweg.compute.devices import repeatable
from thalweg.errors import NoRoom, ThalwegError, reason, user_code
from thalweg.factors.base import Factor
from thalweg.files import whole
from thalweg.files.identity import digest, identity, is_packaged
from thalweg.files.names import file_name
from thalweg.measures.base import MEASURES, Measure
from thalweg.models import untrained as twins
from thalweg.models.loading import built, loaded, printed, weights_of
from thalweg.models.records import DerivedTwin, Evaluation, Ladder, Layer, Rung, Subject, Summary, Trainer
from thalweg.models.rerandomised import DERIVED
from thalweg.observers.base import Observer
from thalweg.pipeline.settings import Settings
from thalweg.recording.readout import NEURONS, RANDOM, ROTATION
from thalweg.recording.result import Recording
from thalweg.runs.directory import RunDirectory
from thalweg.runs.recordings import model_file, recordings_file
from thalweg.runs.units import UNITS_FOLDER, units_stem
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Splits, Stimuli, viewed
from thalweg.stimuli.label_noise import with_wrong_labels
from thalweg.stimuli.modality import BATCH
from thalweg.trials.one_sided import Tails, tails

SHARDS = "recordings/shards"
PARAMETERS = "parameters"  # a column of the tables


def twins_of(ladder: Ladder, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of a ladder's twins in the order of the tables: its default ones, or those asked for that it has."""
    known = dict.fromkeys(("untrained", "rotated", *ladder.twins, *DERIVED))
    chosen = asked or (*ladder.controls, *ladder.twins)
    return tuple(name for name in known if name in chosen)


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
    observers: tuple[Observer, ...] = ()
    features: Mapping[str, Path] = field(default_factory=dict)  # of each observer that has features
    views: Mapping[str, Path] = field(default_factory=dict)  # what each observer answers by
    factors: tuple[Factor, ...] = ()
    shard: int | None = None  # the part of the stimuli that the task is about, if not all
    piece: int | None = None  # the part of the units that the task is about, if not all
    notes: tuple[str, ...] = ()  # warnings on its ladder's models, from before the long work
    normalises: bool = False  # whether its untrained twin goes by running statistics, which are estimated
    beside: bool = False  # in another basis than the main one, with the weights of the model that is in that
    place: int = 0  # among the models of the run, which the names of the files of units begin with
    code: str = ""  # what it is made by, taken before any of it runs and may change its own state
    architecture: str = ""  # its network as it is printed, which takes a whole network to find out
    strengths: Mapping[str, Summary] = field(default_factory=dict)  # what is known of them beforehand, by control
    measures: tuple[Measure, ...] = field(default_factory=lambda: tuple(MEASURES.values()))  # the user's own too

    @property
    def network_name(self) -> str:
        """The name of the files of its network, which is the same in every basis."""
        return model_file(self.ladder.name, self.rung.name, self.seed)

    @property
    def name(self) -> str:
        """The name of its files."""
        return model_file(self.ladder.name, self.rung.name, self.seed, self.other_basis)

    @property
    def key(self) -> dict[str, str | int]:
        """What tables know it by."""
        return {
            "ladder": self.ladder.name,
            "rung": self.rung.name,
            "kind": self.rung.kind,
            "seed": self.seed,
        }

    def stem(self, control: str) -> str:
        """The name of the files of one of its twins."""
        return f"{self.name}-{file_name(control)}"

    @property
    def task(self) -> str:
        """The name of its tasks."""
        part = self.piece if self.shard is None else self.shard
        return self.name if part is None else f"{self.name}-{part}"

    def part(self, ids: Int[Tensor, " stimulus"]) -> Int[Tensor, " part"]:
        """Its shard of some stimuli, or all of them."""
        if self.shard is None:
            return ids
        return cut(ids, batch_size=self.cutting_size, shards=self.settings.n_shards)[self.shard]

    @property
    def controls(self) -> tuple[str, ...]:
        """What is measured: the trained model ("trained") and its twins."""
        lacking: set[str] = set() if self.subject is None or self.subject.build else {"untrained"}
        no_rotation = self.beside or self.basis == RANDOM  # the main basis has it; a rotation of one is one again
        lacking |= {"rotated"} if no_rotation else set()
        return ("trained", *(twin for twin in twins_of(self.ladder, self.settings.twins) if twin not in lacking))

    @property
    def derived(self) -> dict[str, DerivedTwin]:
        """The twins that are made of the trained model, by control."""
        known = {**DERIVED, **{name: twin for name, twin in self.ladder.twins.items() if isinstance(twin, DerivedTwin)}}
        return {control: known[control] for control in self.controls if control in known}

    @property
    def estimated(self) -> tuple[str, ...]:
        """The twins whose running statistics are estimated."""
        among = ("untrained", *self.derived) if self.normalises else ()
        return tuple(control for control in among if control in self.controls)

    @property
    def subject(self) -> Subject | None:
        """The published model that its rung is, if it is one."""
        return self.rung.subject

    @property
    def basis(self) -> str:
        """What its units are, and those of its untrained twin."""
        return self.rung.basis.name if self.rung.basis else NEURONS

    def passes_on(self, control: str, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """What the values of a layer's units go through after they are read: neurons through the layer's nonlinearity,
        a dictionary's latents through a rectifier, others through nothing.
        """
        if self._reads_latents(control):
            return torch.relu
        return layer.nonlinearity if control != "rotated" and self.basis == NEURONS else None

    def poles(self, control: str, layer: Layer, recorded: tuple[Recording, Recording]) -> Tails:
        """How heavy the tails of a layer's units are. A latent has the upper one alone: what lies below its usual value
        is not passed on, as other latents are active then.
        """
        found = tails(*recorded, self.passes_on(control, layer))
        return found.upper_alone() if self._reads_latents(control) else found

    def _reads_latents(self, control: str) -> bool:
        """Whether its units, or a twin's, are a dictionary's latents; the rotated twin has directions."""
        return control != "rotated" and self.basis in LATENTS

    @property
    def other_basis(self) -> str:
        """Its basis, if that is beside the main one; else empty."""
        return self.basis if self.beside else ""

    @property
    def batch_size(self) -> int:
        """Stimuli that it is given at once."""
        return self._batch_size(self.settings.resolved_device)

    @property
    def cutting_size(self) -> int:
        """Stimuli between two places where they may be cut into shards: the same on any device."""
        return self._batch_size("cpu")

    def _batch_size(self, device: str) -> int:
        usual = modalities.of(self.ladder).batch_size(device) if self.subject else BATCH
        return self.settings.batch_size or usual

    @property
    def in_pieces(self) -> bool:
        """Whether its strength is put together from what was found out shard by shard."""
        return self.recorded_with_strength or (self._evaluated_in_pieces and self.settings.n_shards > 1)

    @property
    def _evaluated_in_pieces(self) -> bool:
        return self.subject is not None and isinstance(self.ladder.evaluate, Evaluation)

    @property
    def recorded_with_strength(self) -> bool:
        """Whether its strength is read in the pass that records it: one that gives the outputs that are evaluated, in
        full precision, for no more stimuli at once than the evaluation takes.
        """
        evaluation = self.ladder.evaluate
        if self.subject is None or not isinstance(evaluation, Evaluation) or evaluation.alongside is None:
            return False
        if self.beside:
            return False
        most = evaluation.most_at_once(self.pool) if evaluation.most_at_once else self.batch_size
        return self.settings.precision == "float32" and self.batch_size <= most

    @property
    def recorded_apart(self) -> bool:
        """Whether it is recorded in tasks of their own, before the one that scores it."""
        return self.settings.n_shards > 1 or self.recorded_with_strength

    @property
    def pool(self) -> Stimuli:
        """The pool as this model is given it."""
        return viewed(self.splits.pool, self.subject.view if self.subject else None)

    @property
    def label_noise(self) -> float:
        """The share of its training stimuli that have a wrong label: its rung's, or else that of the settings."""
        return 0.0 if self.subject else self.rung.label_noise or self.settings.label_noise or 0.0

    def mislabelled(self, stimuli: Stimuli) -> Stimuli:
        """Stimuli with as many wrong labels as those that it is trained on: the same for all models of a ladder."""
        return with_wrong_labels(stimuli, self.label_noise, self.settings.seed)

    @property
    def taught(self) -> Splits:
        """The stimuli with the labels that it is trained on."""
        return replace(self.splits, train=self.mislabelled(self.splits.train)) if self.label_noise else self.splits

    @property
    def trainers(self) -> dict[str, Trainer]:
        """How it is trained and how its twins are that are trained at all, by control; not for a course."""
        trainer = None if self.subject else self.rung.train or self.ladder.train
        twins = {name: twin for name, twin in self.ladder.twins.items() if not isinstance(twin, DerivedTwin)}
        chosen = {name: twin for name, twin in twins.items() if name in self.controls}
        return {**({"trained": trainer} if trainer else {}), **chosen}

    def weights(self, control: str) -> str:
        """The name of the file of its weights in the run directory."""
        twin = "" if control == "trained" else f"-{file_name(control)}"
        return f"weights/{self.network_name}{twin}.safetensors"

    def unfinished(self, control: str) -> str:
        """The name of the file of a training that is under way, where its trainer keeps what it goes on from."""
        return f"{self.weights(control).removesuffix('.safetensors')}-unfinished.pt"

    @property
    def about_file(self) -> str:
        """The name of the file of what its training and that of its twins ended with, by control."""
        return f"weights/{self.network_name}.json"

    @property
    def course_file(self) -> str:
        """The name of the file of what its trainers noted while they trained, by control."""
        return f"weights/{self.network_name}-course.json"

    @property
    def own_seed(self) -> int:
        """The seed of what is drawn for this model."""
        return (1_000_003 * self.settings.seed + self.seed) % (1 << 64)

    @property
    def units_file(self) -> str:
        """The name of the file of the rows of its units in the run directory."""
        return f"{UNITS_FOLDER}/{units_stem(self.place, self.name)}.parquet"

    @property
    def summary_file(self) -> str:
        """The name of the file of what the tables say of it."""
        return f"parts/{self.name}.parquet"

    @property
    def draws_file(self) -> str:
        """The name of the file of the bootstrap draws of its scores."""
        return f"parts/{self.name}-draws.safetensors"

    @property
    def gallery_file(self) -> str:
        """The name of the file of the stimuli of its best, median and worst unit."""
        return f"parts/{self.name}-gallery.parquet"

    def recordings(self, control: str) -> str:
        """The name of the file of its recordings in the run directory."""
        return recordings_file(self.ladder.name, self.rung.name, self.seed, control, self.other_basis)

    def build(self) -> nn.Module:
        """The untrained model: the same weights whenever it is built."""
        torch.manual_seed(self.own_seed)
        return built(self.rung.build, self.rung.name)

    def network(self, control: str) -> nn.Module:
        """The model with its weights, or its twin with its own."""
        network = self.before_statistics(control)
        if control in self.estimated:
            network.load_state_dict(whole.read_tensors(self.run / self.weights(control)), strict=False)
        return network

    def before_statistics(self, control: str) -> nn.Module:
        """The model or its twin, before the running statistics of a twin are estimated."""
        if control in self.derived:
            return self.derive(control, self._to_be_changed())
        if control == "trained" and self.subject:
            return loaded(self.subject)
        network = self.build()
        if control in self.trainers or (control == "trained" and self.ladder.checkpoint_trainer):
            network.load_state_dict(whole.read_tensors(self.run / self.weights(control)))
        return network

    def _to_be_changed(self) -> nn.Module:
        """The trained network, which may be changed: what a user's `load` returns may be the user's only one."""
        network = self.before_statistics("trained")
        if self.subject is None or is_packaged(self.subject.load):
            return network
        try:
            return deepcopy(network)
        except Exception as wrong:  # some modules cannot be copied
            if loaded(self.subject) is network:
                raise ThalwegError(
                    f"the model of subject {self.subject.name!r} cannot be copied ({reason(wrong)}), and its `load` "
                    "returns the same one each time; return a new one, or leave out what is made of it: --twins "
                    "untrained --twins rotated"
                ) from wrong
            return network

    def derive(self, control: str, network: nn.Module) -> nn.Module:
        """The trained network, changed in place into one of its twins."""
        twin = self.derived[control]
        with nullcontext() if is_packaged(twin.make) else user_code(f"the twin {control!r} of {self.ladder.name!r}"):
            twin.make(network, self.own_seed)
        return network

    def made_by(self) -> str:
        """The identity of the code that its stimuli, its weights and its strength come from.

        What loads a published model by name is known by the name and the hash of its weights.
        """
        makers: list[object] = [self.ladder.checkpoint_trainer, self.ladder.evaluate, sorted(self.trainers.items())]
        makers.append(sorted((name, twin.make) for name, twin in self.derived.items()))
        if self.subject:
            loading = (self.subject.load, self.subject.build)
            makers += [self.subject.view, *(function for function in loading if function and not is_packaged(function))]
        else:
            makers.append(self.rung.build)
        return identity((type(self.splits.train), type(self.splits.pool), makers))

    def existing_weights(self) -> str:
        """The hash of what a model that exists already is loaded from, whatever it is measured on; empty of one that is
        trained here.
        """
        code = self.code or self.made_by()
        return digest(self.subject.name, weights_of(self.subject), code) if self.subject else ""

    def train_inputs(self) -> str:
        """The hash of what its weights are made from."""
        code = self.code or self.made_by()
        if self.subject:
            subject = [self.subject.name, weights_of(self.subject)]
            made = [subject, code, self.twin_version, self.controls]
            return digest(release(), *made, self.settings.seed, self.data_hash)
        ways = [self.architecture or printed(self.build()), self.rung.checkpoint, code]
        ways += [self.label_noise] if self.label_noise else []
        made = [ways, self.twin_version, self.controls]
        return digest(release(), *made, self.seed, self.settings.seed, self.data_hash)

    @property
    def twin_version(self) -> int:
        """The version of how the untrained twin's statistics are estimated, where it has any."""
        return twins.VERSION if self.normalises else 0

    def measure_inputs(self) -> str:
        """The hash of what its recordings and rows are made from."""
        layers = [(replace(layer, nonlinearity=None), identity(layer.nonlinearity)) for layer in self.rung.layers]
        observers = [
            (observer.name, observer.version, observer.parts, observer.names_classes, observer.whole)
            + (() if observer.centred else ("not centred",))
            for observer in self.observers
        ]
        features = sorted(file.name for file in self.features.values())
        measures = [(measure.name, measure.version) for measure in self.measures]
        settings = self.settings.affecting()
        kept = [settings[name] for name in ("k", "sample", "seed", "resamples", "precision")] + [self.cutting_size]
        kept += [self.settings.n_shards] if self.settings.n_shards > 1 else []
        modality = modalities.of(self.ladder)
        kept += [] if modalities.ships(modality) else [identity((modality.show, modality.along))]
        basis = self.rung.basis.identity if self.rung.basis else NEURONS
        rotates = "rotated" in self.controls or self.basis == RANDOM
        kept += [ROTATION, settings["directions"]] if rotates else []
        kept += ["upper pole"] if self.basis in LATENTS else []
        return digest(self.train_inputs(), layers, basis, observers, features, measures, kept, self.rung.kind)

    def factor_inputs(self) -> str:
        """The hash of what its factors are made from."""
        factors = [(factor.name, factor.version, _code_of(factor.function)) for factor in self.factors]
        return digest(self.measure_inputs(), factors)


def factors_of(models: Iterable[Model]) -> tuple[Factor, ...]:
    """The factors of some models, each once: those of a ladder may be more than those of another."""
    return tuple(dict.fromkeys(factor for model in models for factor in model.factors))


@cache
def release() -> str:
    """The version of thalweg; reading it takes hundredths of a second, and every model is asked several times."""
    return version("thalweg")


@cache
def _code_of(function: Callable[..., object]) -> str:
    """The identity of a factor's function, which takes long to find out."""
    return identity(function)


def failure_of(models: Sequence[Model], work: Iterable[None]) -> str:
    """Do the work as it comes, one model after another; returns the reason of the first failure, or nothing.

    Raises:
        NoRoom: the disk is full, which ends the survey.
    """
    try:
        models[0].run.seen()
        with repeatable(models[0].settings.resolved_device):
            for _ in work:
                pass
    except NoRoom:
        raise
    except ThalwegError as wrong:
        return str(wrong)
    except Exception as wrong:
        log = f"failures/{models[0].task}.txt"
        with suppress(OSError):
            whole.write_text(models[0].run / log, traceback.format_exc())
        return f"{reason(wrong)} (the traceback is in {log} of the run directory)"
    return ""
