"""The tasks that compute a model's factors from its recordings, its network and what its training returned."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import polars as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from thalweg.bases.assess import unpooled
from thalweg.bases.dictionaries import Encoder
from thalweg.bases.streaming import outputs, rows
from thalweg.bases.trained import AliveLatents
from thalweg.errors import NoRoom, reason
from thalweg.factors.base import Blocks, Estimate, Factor, Retrained, Rows, Sample, WrongLabels
from thalweg.files import whole
from thalweg.models.records import Encode, Layer
from thalweg.pipeline.bases import basis_of, trains_beside
from thalweg.pipeline.job import Model, failure_of
from thalweg.pipeline.places import values_at_places
from thalweg.pipeline.record import Layers, fit_encoders, recording_settings
from thalweg.pipeline.retraining import NO_ANSWERS, answered, retrained
from thalweg.pipeline.settings import SAE
from thalweg.pipeline.views import views_of_pool
from thalweg.recording.deviations import unit_deviations
from thalweg.recording.readout import NEURONS, RANDOM, Reader
from thalweg.recording.record import record
from thalweg.recording.result import Recording
from thalweg.runs.recordings import read_recordings
from thalweg.scoring import columns
from thalweg.scoring.units import Halves
from thalweg.stimuli.base import Stimuli, halves
from thalweg.strength import axes as strength
from thalweg.trials.one_sided import driving

MOST_EVALUATED = 1000  # stimuli of either split: a gap in accuracy is then known to about 3 %, at a bounded cost
N_BLOCKS = 10
MOST_ROWS, ROW_PLACES = 8192, 16  # of a layer, for a dictionary; places of each stimulus
NO_WRONG_LABEL = "no training label is wrong"
NO_TRAINING = "no training stimuli are known: the model was not trained here"


def factor_models(models: Sequence[Model]) -> str:
    """Compute every factor of a model and its twins."""
    return failure_of(models, map(_factors, models))


def _factors(model: Model) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    of_network = NetworkInputs(model, "trained")
    for control in sorted(model.controls, key=("trained", "rotated").__contains__, reverse=True):
        if control not in ("trained", "rotated"):  # these two are of one network; only one is in memory at a time
            of_network = NetworkInputs(model, control)
        inputs = Inputs(model, control, of_network)
        rows[control] = [
            row for factor in model.factors for row in _rows(model, control, factor, _estimate(factor, inputs))
        ]
    name = f"parts/{model.name}-factors.parquet"
    in_order = [row for control in model.controls for row in rows[control]]
    whole.write_frame(model.run / name, pl.DataFrame(in_order, schema=columns.FACTORS))
    model.run.finish(f"factors-{model.name}", model.factor_inputs(), [name])


def _estimate(factor: Factor, inputs: "Inputs") -> Estimate:
    """What a factor says of a model; a factor that fails is missing, with the reason, and takes nothing else down."""
    try:
        return factor.function(**{name: inputs.get(name) for name in factor.needs})
    except (NoRoom, MemoryError):
        raise
    except Exception as wrong:
        return Estimate(math.nan, note=f"it failed: {reason(wrong)}")


def _rows(model: Model, control: str, factor: Factor, estimate: Estimate) -> Iterator[dict[str, Any]]:
    """The rows of the table of factors: the model's, then those of its layers."""
    key = {
        **model.key,
        "control": control,
        "factor": factor.name,
        "factor_version": factor.version,
    }
    whole_model = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    yield {**key, "layer": "", **whole_model, "note": estimate.note}
    for layer, value in estimate.layers.items():
        yield {**key, "layer": layer, "value": value, "low": math.nan, "high": math.nan, "n": estimate.n, "note": ""}


@dataclass(frozen=True, eq=False)
class NetworkInputs:
    """The inputs of factors that a network has in every basis, each made when it is first asked for."""

    model: Model
    control: str

    @cached_property
    def network(self) -> nn.Module:
        """The network with its weights."""
        return self.model.network(self.control).eval()

    @cached_property
    def training(self) -> Blocks:
        """How well it does on the stimuli that it was trained on, as they are labelled there."""
        return self._blocks(self.model.taught.train)

    @cached_property
    def held_out(self) -> Blocks:
        """How well it does on the pool, with as many wrong labels: so noise as such is no gap."""
        return self._blocks(self.model.mislabelled(self.model.splits.pool))

    @cached_property
    def wrong_labels(self) -> WrongLabels:
        """What it answers to training stimuli that have a wrong label."""
        model, none = self.model, torch.zeros(0, dtype=torch.int64)
        taught = model.taught.train
        wrong = (taught.labels != model.splits.train.labels).nonzero().flatten()
        if not len(wrong):
            return WrongLabels(none, none, 2, NO_WRONG_LABEL)
        stimuli = taught.take(wrong[_spread(len(wrong))])
        answers = answered(self.network, stimuli, model.settings.resolved_device)
        if answers is None:
            return WrongLabels(none, none, 2, NO_ANSWERS)
        return WrongLabels(answers, stimuli.labels.long(), len(stimuli.label_names))

    @cached_property
    def retrained(self) -> Retrained:
        """What networks of its rung answer that are trained anew on halves of its training stimuli."""
        return retrained(self.model, self.control)

    @cached_property
    def latents(self) -> Mapping[str, Float[Tensor, "row unit"]]:
        """The values of its dictionaries' latents at single places; none where the survey trains no dictionaries."""
        if not trains_beside(self.model):
            return {}
        rung = replace(self.model.rung, basis=basis_of(SAE, self.model.settings))
        beside = replace(self.model, rung=rung, beside=True)
        return Inputs(beside, self.control, NetworkInputs(beside, self.control)).places

    @cached_property
    def encoders(self) -> Mapping[str, Encode]:
        """The encoders of its layers in its basis; none for neurons."""
        parts = Halves(*halves(self.model.splits.pool, seed=self.model.settings.seed))
        return fit_encoders(self.network, self.model, parts, self.control)

    @cached_property
    def at_places(self) -> Mapping[str, Float[Tensor, "row neuron"]]:
        """What the layers give that have several places, before their nonlinearity, at some places of some stimuli."""
        return values_at_places(self.network, self.model, self.control)

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """What the neurons of its layers give at single places, at most so many; none where units are no neurons."""
        if self.model.rung.basis:
            return {}
        pool, generator = self.model.pool, torch.Generator().manual_seed(self.model.settings.seed)
        layers = [unpooled(layer) for layer in self.model.rung.layers]
        kept: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
        order = torch.randperm(len(pool), generator=generator)[:MOST_ROWS]
        for laid in outputs(self.network, layers, pool, order, device=self.model.settings.resolved_device):
            lacking = [name for name, parts in kept.items() if sum(map(len, parts)) < MOST_ROWS]
            for name in lacking:
                kept[name].append(rows(laid[name], generator, most=ROW_PLACES).cpu())
            if not lacking:
                break
        return {
            layer.name: Rows(torch.cat(kept[layer.name])[:MOST_ROWS], layer.nonlinearity or _same) for layer in layers
        }

    def _blocks(self, stimuli: Stimuli) -> Blocks:
        """How well it does on blocks of at most so many of these stimuli, evenly spread; none for a published model,
        which was trained on others.
        """
        if self.model.subject or not len(self.model.splits.train):
            return Blocks(torch.zeros(0, dtype=torch.int64), {}, NO_TRAINING)
        ids = _spread(len(stimuli))
        evaluate = self.model.ladder.evaluate or strength.evaluate
        device = self.model.settings.resolved_device
        parts = [part for part in ids.tensor_split(N_BLOCKS) if len(part)]
        results = [evaluate(self.network, stimuli.take(part), device=device) for part in parts]
        numbers = {name: torch.tensor([_number(each.get(name)) for each in results]) for name in ("loss", "accuracy")}
        return Blocks(torch.tensor([len(part) for part in parts]), numbers)


def _spread(count: int) -> Int64[Tensor, " stimulus"]:
    """The ids of at most so many of the stimuli as are evaluated, evenly spread."""
    return torch.linspace(0, count - 1, min(count, MOST_EVALUATED), dtype=torch.float64).long()


def _classes(stimuli: Stimuli) -> Int64[Tensor, " stimulus"]:
    """What a model is to say of each stimulus: the token that follows it, or its label."""
    return torch.as_tensor(getattr(stimuli, "following", stimuli.labels)).long()


def _number(value: float | str | None) -> float:
    return math.nan if value is None or isinstance(value, str) else float(value)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a factor, by name, as `thalweg.factors.base.INPUTS` describes them."""

    model: Model
    control: str
    of_network: NetworkInputs

    def get(self, name: str) -> Any:
        """The input of this name."""
        makers: dict[str, Callable[[], Any]] = {
            "network": lambda: self.of_network.network,
            "training": lambda: self.of_network.training,
            "held_out": lambda: self.of_network.held_out,
            "splits": lambda: self.model.splits,
            "wrong_labels": lambda: self.of_network.wrong_labels,
            "retrained": lambda: self.of_network.retrained,
            "latents": lambda: {} if self.control == "rotated" else self.of_network.latents,
            "log": lambda: whole.read_json(self.model.run / self.model.about_file)[self.of_network.control],
            "recordings": lambda: self.recordings,
            "activations": lambda: self.activations,
            "places": lambda: self.places,
            "rows": lambda: {} if self.control == "rotated" else self.of_network.rows,
            "references": lambda: self.references,
            "training_sample": lambda: self.training_sample,
            "held_out_sample": lambda: self.held_out_sample,
            "embedding": lambda: views_of_pool(self.model, self.model.splits.pool)[0][0].view.embedding,
        }
        return makers[name]()

    @cached_property
    def recordings(self) -> Layers:
        """The recordings of both halves, by layer."""
        return read_recordings(self.model.run / self.model.recordings(self.control)).layers

    @cached_property
    def activations(self) -> dict[str, Float[Tensor, "stimulus unit"]]:
        """The values on the shared random sample of both halves, by layer, as the layer passes them on.

        A rotation is read behind the nonlinearity already; a dictionary's latents have one of their own.
        """
        return {name: self._passed_on[name](_sample(pair)) for name, pair in self.recordings.items()}

    @cached_property
    def training_sample(self) -> Sample:
        """The units' values on stimuli that the model was trained on, recorded as those on the pool were."""
        model, train = self.model, self.model.splits.train
        if model.subject or not len(train):
            return Sample({}, torch.zeros(0, dtype=torch.int64), NO_TRAINING)
        ids = _spread(len(train))
        basis = RANDOM if self.control == "rotated" else model.basis
        network, layers = self.of_network.network, model.rung.layers
        settings = replace(recording_settings(model, (basis,)), k=1, sample=len(ids))
        if basis == RANDOM:
            settings = replace(settings, deviations=unit_deviations(network, layers, model.pool, settings))
        encoders: Mapping[str, Encode] = {} if basis in (NEURONS, RANDOM) else self.of_network.encoders
        by_basis = {(layer, basis): encode for layer, encode in encoders.items()}
        recorded = record(network, layers, train, ids, settings, encoders=by_basis)
        values = {layer: self._passed_on[layer](each.sample) for (layer, _), each in recorded.items()}
        return Sample(values, _classes(model.taught.train)[recorded[layers[0].name, basis].sample_ids()])

    @property
    def held_out_sample(self) -> Sample:
        """The units' values on the shared random sample of both halves."""
        (first, *_) = self.recordings.values()
        ids = torch.cat([half.sample_ids() for half in first])
        return Sample(self.activations, _classes(self.model.mislabelled(self.model.splits.pool))[ids])

    @cached_property
    def references(self) -> dict[str, Int64[Tensor, "unit 2 reference"]]:
        """The stimuli that drive each unit most, of both halves, by layer."""
        driving_by_layer = {}
        for layer in (layer for layer in self.model.rung.layers if layer.name in self.recordings):
            pair, passed_on = self.recordings[layer.name], self._passed_on[layer.name]
            upper = self.model.poles(self.control, layer, pair).upper_is_main
            driving_by_layer[layer.name] = torch.stack([driving(half, upper, passed_on) for half in pair], 1)
        return driving_by_layer

    @property
    def _passed_on(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """What each layer makes of recorded values before it passes them on."""
        return {layer.name: self.model.passes_on(self.control, layer) or _same for layer in self.model.rung.layers}

    @cached_property
    def places(self) -> dict[str, Float[Tensor, "row unit"]]:
        """The values at single places, by layer, as the layer passes them on."""
        at_places = self.of_network.at_places
        return {
            layer.name: self._read(position, layer, at_places[layer.name])
            if layer.name in at_places
            else self.activations[layer.name]
            for position, layer in enumerate(self.model.rung.layers)
        }

    def _read(self, position: int, layer: Layer, values: Float[Tensor, "row neuron"]) -> Float[Tensor, "row unit"]:
        """The units' values from those of the layer's neurons."""
        basis = RANDOM if self.control == "rotated" else self.model.basis
        passed_on = layer.nonlinearity or _same
        reader = Reader(
            replace(layer, unit_axis=1, skip=0),
            basis,
            seed=self.model.settings.seed,
            position=position,
            encode=None if basis in (NEURONS, RANDOM) else active_latents(self.of_network.encoders[layer.name]),
            deviations=passed_on(values).std(0) if basis == RANDOM else None,
            most=self.model.settings.directions,
        )
        return passed_on(reader(values)) if basis == NEURONS else reader(values)


def active_latents(encode: Encode) -> Encode:
    """An encoder that gives latents after their nonlinearity, where it is a dictionary's."""
    if not isinstance(encode, Encoder | AliveLatents):
        return encode
    return lambda values: encode.dictionary.activate(encode(values))


def _same(values: Tensor) -> Tensor:
    return values


def _sample(pair: tuple[Recording, Recording]) -> Float[Tensor, "stimulus unit"]:
    return torch.cat([recording.sample for recording in pair])
