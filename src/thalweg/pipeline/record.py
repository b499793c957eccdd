"""The tasks that record a model's units over the pool, whole or in shards that are merged."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce

from torch import Tensor, nn

from thalweg.compute.local import default_workers
from thalweg.files import whole
from thalweg.models.records import Encode
from thalweg.pipeline.job import SHARDS, Model, failure_of
from thalweg.pipeline.views import views_of_pool
from thalweg.recording.readout import RANDOM
from thalweg.recording.record import record
from thalweg.recording.result import Recording, from_tensors, merge, to_tensors
from thalweg.recording.settings import RecordingSettings
from thalweg.scoring.units import Halves, StimulusMetadata
from thalweg.stimuli.base import halves

Layers = dict[str, tuple[Recording, Recording]]  # by layer: the reference half's and the query half's
Trained = tuple[nn.Module, Mapping[str, Encode]]  # a model, and the encoders of its layers in its basis
Recorded = tuple[dict[str, Layers], Callable[[], Trained]]  # by control, with what returns the trained model


def record_shards(models: Sequence[Model]) -> str:
    """Record a model and its twins over one part of each half's stimuli."""
    return failure_of(models, map(_record_shard, models))


def _record_shard(model: Model) -> None:
    assert model.shard is not None
    parts = Halves(*halves(model.splits.pool, seed=model.settings.seed))
    _, metadata = views_of_pool(model, model.splits.pool)
    recordings, _ = record_model(model, parts, metadata)
    outputs = [
        write_recordings(layers, model, _shard(model, control, model.shard)) for control, layers in recordings.items()
    ]
    model.run.finish(f"record-{model.task}", model.measure_inputs(), outputs)


def record_model(model: Model, parts: Halves, metadata: StimulusMetadata) -> Recorded:
    """The recordings of a model and its twins."""
    recorded: dict[str, Layers] = {}
    trained: Trained = (nn.Module(), {})
    for control in model.controls:
        if control != "rotated":
            network = model.network(control)
            encoders = fit_encoders(network, model, parts)
            bases = {control: model.basis}
            if control == "trained":
                trained = (network, encoders)
                bases |= {"rotated": RANDOM} if "rotated" in model.controls else {}
            recorded |= _record(network, model, parts, metadata, bases, encoders)
    return {control: recorded[control] for control in model.controls}, lambda: trained


def fit_encoders(network: nn.Module, model: Model, parts: Halves) -> Mapping[str, Encode]:
    """The encoders of the layers' units; none for neurons. They are fitted to the reference half alone."""
    basis, device = model.rung.basis, model.settings.resolved_device
    return basis.encoders(network, model.rung.layers, model.pool, parts.reference, device=device) if basis else {}


def _record(
    network: nn.Module,
    model: Model,
    parts: Halves,
    metadata: StimulusMetadata,
    bases: Mapping[str, str],
    encoders: Mapping[str, Encode],
) -> dict[str, Layers]:
    """The recordings of both halves, by control and layer."""
    settings = RecordingSettings(
        bases=tuple(bases.values()),
        k=model.settings.k,
        sample=model.settings.sample,
        seed=model.settings.seed,
        batch_size=model.batch_size,
        device=model.settings.resolved_device,
        precision=model.settings.precision,
        workers=model.settings.workers or default_workers(),
    )
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
        control: {layer.name: (reference[layer.name, basis], query[layer.name, basis]) for layer in model.rung.layers}
        for control, basis in bases.items()
    }


def write_recordings(recordings: Layers, model: Model, name: str) -> str:
    """Write the recordings of one model and control to the file of this name in the run directory; returns the name."""
    tensors = {
        f"{layer}/{half}/{name}": tensor
        for layer, pair in recordings.items()
        for half, recording in zip(("reference", "query"), pair, strict=True)
        for name, tensor in to_tensors(recording).items()
    }
    whole.write_tensors(model.run / name, tensors, {"layers": json.dumps(list(recordings))})
    return name


def read_recordings(model: Model, name: str) -> Layers:
    """The recordings in a file of the run directory."""
    halves: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in whole.read_tensors(model.run / name).items():
        layer, half, what = key.rsplit("/", 2)
        halves.setdefault((layer, half), {})[what] = tensor
    recordings = {part: from_tensors(tensors) for part, tensors in halves.items()}
    return {
        layer.name: (recordings[layer.name, "reference"], recordings[layer.name, "query"])
        for layer in model.rung.layers
    }


def _shard(model: Model, control: str, shard: int) -> str:
    """The name of the file of one shard's recordings."""
    return f"{SHARDS}/{model.name}-{control}-{shard}.safetensors"


def merge_shards(model: Model, parts: Halves) -> Recorded:
    """What the shards recorded of a model and its twins, always merged in the same order."""
    recordings = {
        control: reduce(
            _union, (read_recordings(model, _shard(model, control, shard)) for shard in range(model.settings.n_shards))
        )
        for control in model.controls
    }

    @cache
    def trained() -> Trained:
        network = model.network("trained")
        return network, fit_encoders(network, model, parts)

    return recordings, trained


def _union(first: Layers, second: Layers) -> Layers:
    """The recordings of two shards as one, layer by layer."""
    return {
        layer: (merge(reference, second[layer][0]), merge(query, second[layer][1]))
        for layer, (reference, query) in first.items()
    }
