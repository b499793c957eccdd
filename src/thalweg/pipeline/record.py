"""The tasks that record a model's units over the pool, whole or in shards that are merged."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, reduce

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.compute.local import default_workers
from thalweg.errors import ThalwegError
from thalweg.files import whole
from thalweg.models.records import Encode
from thalweg.pipeline.dictionaries import read_encoders, trains_dictionaries
from thalweg.pipeline.job import SHARDS, Model, failure_of
from thalweg.pipeline.places import PlacesReader, places_reader
from thalweg.pipeline.strengths import StrengthReader, reading_strength
from thalweg.pipeline.views import views_of_pool
from thalweg.recording.deviations import unit_deviations
from thalweg.recording.readout import RANDOM
from thalweg.recording.record import record
from thalweg.recording.result import merge, to_tensors
from thalweg.recording.settings import RecordingSettings
from thalweg.runs.recordings import RecordedHalves, read_recordings
from thalweg.scoring.units import Halves, StimulusMetadata
from thalweg.stimuli.base import halves

Layers = Mapping[str, RecordedHalves]
Trained = tuple[nn.Module, Mapping[str, Encode]]  # a model, and the encoders of its layers in its basis
Recorded = tuple[dict[str, Layers], Callable[[], Trained]]  # by control, with what returns the trained model


def record_shards(models: Sequence[Model]) -> str:
    """Record a model and its twins over one part of each half's stimuli."""
    return failure_of(models, map(_record_shard, models))


def _record_shard(model: Model) -> None:
    assert model.shard is not None
    parts = Halves(*halves(model.splits.pool, seed=model.settings.seed))
    _, metadata = views_of_pool(model, model.splits.pool)
    outputs: list[str] = []
    recordings, _ = record_model(model, parts, metadata, outputs)
    outputs += [write_recordings(layers, model, control) for control, layers in recordings.items()]
    model.run.finish(f"record-{model.task}", model.measure_inputs(), outputs)


@dataclass(frozen=True, eq=False)
class Readers:
    """What reads a network's output, and what reads that of its layers, in the pass that records it."""

    output: StrengthReader | None
    layer: PlacesReader | None


def record_model(model: Model, parts: Halves, metadata: StimulusMetadata, written: list[str] | None = None) -> Recorded:
    """The recordings of a model and its twins. Files that are written of what is read on the way are added to those
    that are `written`.
    """
    recorded: dict[str, Layers] = {}
    trained: Trained = (nn.Module(), {})
    for control in model.controls:
        if control != "rotated":
            network = model.network(control)
            encoders = fit_encoders(network, model, parts, control)
            bases = {control: model.basis}
            if control == "trained":
                trained = (network, encoders)
                bases |= {"rotated": RANDOM} if "rotated" in model.controls else {}
            places = places_reader(network, model, control)
            with reading_strength(network, model, control) as reader:
                readers = Readers(reader, places)
                recorded |= _record(network, model, parts, metadata, bases, encoders, readers)
            if reader is not None and written is not None:
                written.append(reader.write(network))
            if places is not None:
                places.write()
    return {control: recorded[control] for control in model.controls}, lambda: trained


def recording_settings(model: Model, bases: Sequence[str]) -> RecordingSettings:
    """How a model is recorded, in these bases."""
    return RecordingSettings(
        bases=bases,
        k=model.settings.k,
        sample=model.settings.sample,
        seed=model.settings.seed,
        batch_size=model.batch_size,
        device=model.settings.resolved_device,
        precision=model.settings.precision,
        workers=model.settings.workers or default_workers(),
        directions=model.settings.directions,
    )


def fit_encoders(network: nn.Module, model: Model, parts: Halves, control: str) -> Mapping[str, Encode]:
    """The encoders of the layers' units of a model or a twin; none for neurons. They are fitted to the reference half
    alone; those of dictionaries that were trained are read.
    """
    if trains_dictionaries(model):
        return read_encoders(model, control)
    basis, device = model.rung.basis, model.settings.resolved_device
    return basis.encoders(network, model.rung.layers, model.pool, parts.reference, device=device) if basis else {}


def _record(
    network: nn.Module,
    model: Model,
    parts: Halves,
    metadata: StimulusMetadata,
    bases: Mapping[str, str],
    encoders: Mapping[str, Encode],
    readers: Readers,
) -> dict[str, Layers]:
    """The recordings of both halves, by control and layer."""
    settings = recording_settings(model, tuple(bases.values()))
    if RANDOM in settings.bases:
        settings = replace(settings, deviations=_deviations(network, model, next(iter(bases)), settings))
    settings = replace(settings, read_output=readers.output, read_layer=readers.layer)
    reference, query = (
        record(
            network,
            model.rung.layers,
            model.pool,
            ids,
            settings,
            encoders={(layer, model.basis): encode for layer, encode in encoders.items()},
            statistics=metadata.tables(),
        )
        for ids in map(model.part, (parts.reference, parts.query))
    )
    return {
        control: {
            layer.name: RecordedHalves(reference[layer.name, basis], query[layer.name, basis])
            for layer in model.rung.layers
        }
        for control, basis in bases.items()
    }


def _deviations(
    network: nn.Module, model: Model, control: str, settings: RecordingSettings
) -> Mapping[str, Float[Tensor, " unit"]]:
    """The standard deviations of the units. They are the same for every shard, so the first that needs them leaves them
    with the shards' recordings.
    """
    if model.shard is None:
        return unit_deviations(network, model.rung.layers, model.pool, settings)
    made_from = model.measure_inputs()[:16]  # a file of other inputs may lie there after an interruption
    path = model.run / f"{SHARDS}/{model.stem(control)}-{made_from}.deviations"
    if path.is_file():
        with suppress(ThalwegError):  # damaged: made again
            return whole.read_tensors(path)
    deviations = unit_deviations(network, model.rung.layers, model.pool, settings)
    whole.write_tensors(path, deviations)
    return deviations


def write_recordings(recordings: Layers, model: Model, control: str) -> str:
    """Write the recordings of a model or of a twin, or the shard of them that the task is about, to their file in the
    run directory; returns its name.
    """
    file = shard_file(model, control, model.shard) if model.shard is not None else model.recordings(control)
    tensors = {
        f"{layer}/{half}/{name}": tensor
        for layer, pair in recordings.items()
        for half, recording in zip(("reference", "query"), pair, strict=True)
        for name, tensor in to_tensors(recording).items()
    }
    notes = {
        "layers": {layer.name: layer.reduction for layer in model.rung.layers},
        "basis": RANDOM if control == "rotated" else model.basis,
        "basis_identity": model.rung.basis.identity if model.rung.basis else "",
    }
    whole.write_tensors(model.run / file, tensors, {"units": json.dumps(notes)})  # one note: several have no order
    return file


def shard_file(model: Model, control: str, shard: int) -> str:
    """The name of the file of one shard's recordings."""
    return f"{SHARDS}/{model.name}-{control}-{shard}.safetensors"


def merge_shards(model: Model, parts: Halves) -> Recorded:
    """What the shards recorded of a model and its twins, always merged in the same order."""
    recordings = {
        control: reduce(
            union,
            (
                read_recordings(model.run / shard_file(model, control, shard)).layers
                for shard in range(model.settings.n_shards)
            ),
        )
        for control in model.controls
    }

    @cache
    def trained() -> Trained:
        network = model.network("trained")
        return network, fit_encoders(network, model, parts, "trained")

    return recordings, trained


def union(first: Mapping[str, RecordedHalves], second: Mapping[str, RecordedHalves]) -> dict[str, RecordedHalves]:
    """The recordings of two shards as one, layer by layer."""
    return {
        layer: RecordedHalves(merge(reference, second[layer].reference), merge(query, second[layer].query))
        for layer, (reference, query) in first.items()
    }
