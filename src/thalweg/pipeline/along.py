"""A unit's values along stimuli: at each token, at each moment. Computed again from the model where they are shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache

import torch
from torch import Tensor, nn

from thalweg import ladders, subjects
from thalweg.compute.devices import PRECISIONS, in_precision, placed
from thalweg.compute.memory import Pieces
from thalweg.errors import ThalwegError
from thalweg.models.hooks import capture_activations, skip_logits
from thalweg.models.records import Encode, Ladder, Rung
from thalweg.pipeline.job import Model
from thalweg.pipeline.record import fit_encoders, recording_settings
from thalweg.pipeline.settings import settings_of
from thalweg.recording.deviations import unit_deviations
from thalweg.recording.readout import RANDOM, Reader
from thalweg.runs.directory import RunDirectory
from thalweg.runs.run import Run
from thalweg.runs.trials import RecordedModel
from thalweg.scoring.units import Halves
from thalweg.stimuli.base import Splits, halves


def values_along(
    network: nn.Module,
    encoders: Mapping[str, Encode],
    model: Model,
    unit: tuple[str, int],
    stimuli: Sequence[int],
    *,
    basis: str,
) -> list[list[float]]:
    """The values of a unit (its layer and number) at each place along some stimuli; nothing where it has none."""
    layer, number = unit
    position = [each.name for each in model.rung.layers].index(layer)
    chosen = model.rung.layers[position]
    device = model.settings.resolved_device
    network = in_precision(placed(network, device), PRECISIONS[model.settings.precision])
    reader = Reader(
        chosen,
        basis,
        seed=model.settings.seed,
        position=position,
        encode=encoders.get(layer) if basis != RANDOM else None,
        deviations=_deviations(network, model, layer) if basis == RANDOM else None,
        most=model.settings.directions,
    )
    skipped = skip_logits(network, [chosen])
    with torch.inference_mode(), skipped, capture_activations(network.eval(), [chosen]) as outputs:

        def look(ids: Tensor) -> Tensor:
            network(model.pool.batch(ids).to(device))
            return reader.along(outputs[layer], number)

        values = Pieces(len(stimuli), device).rows(look, torch.tensor(list(stimuli)))
    if values.ndim != 2:
        return []
    length = getattr(model.splits.pool, "length", values.shape[1])  # a language model may see tokens before the window
    return values[:, -length:].float().cpu().tolist()


@lru_cache(maxsize=8)
def _deviations(network: nn.Module, model: Model, layer: str) -> Tensor:
    """The standard deviations of a layer's units, in which a rotation takes them."""
    chosen = [each for each in model.rung.layers if each.name == layer]
    return unit_deviations(network, chosen, model.pool, recording_settings(model, (RANDOM,)))[layer]


Values = Callable[[str, int, Sequence[int]], list[list[float]]]  # of a layer's unit, along some stimuli


def model_along(run: Run, recorded: RecordedModel) -> Values:
    """The values of the units of a model or twin of a finished run along stimuli of its pool.

    Raises:
        ThalwegError: the model cannot be made again.
    """
    model = _again(run, recorded)
    control, basis = recorded.control, recorded.recordings.basis
    source = "trained" if control == "rotated" else control

    @cache
    def made() -> tuple[nn.Module, Mapping[str, Encode]]:
        network = model.network(source)
        parts = Halves(*halves(model.splits.pool, seed=model.settings.seed))
        return network, {} if basis == RANDOM else fit_encoders(network, model, parts, source)

    def values(layer: str, unit: int, stimuli: Sequence[int]) -> list[list[float]]:
        network, encoders = made()
        return values_along(network, encoders, model, (layer, unit), stimuli, basis=basis)

    return values


def _again(run: Run, recorded: RecordedModel) -> Model:
    """The model of a finished run, with what makes its network again."""
    ladder = _ladder(run, recorded.ladder)
    names = tuple(recorded.recordings.layers)
    rung = next((each for each in ladder.rungs if each.name == recorded.rung), None)
    if rung is None or not set(names) <= {layer.name for layer in rung.layers}:
        raise ThalwegError(
            f"rung {recorded.rung!r} of ladder {recorded.ladder!r} is another one than that of the run, so its units "
            "have no values at tokens; leave out the forms fuzzing and simulation"
        )
    layers = tuple(layer for name in names for layer in rung.layers if layer.name == name)
    settings = settings_of({**run.record["settings"], "workers": 1})
    model = Model(
        run=RunDirectory(run.path),
        ladder=ladder,
        rung=replace(rung, layers=layers),
        seed=recorded.seed,
        settings=settings,
        splits=Splits.of_pool(run.stimuli(recorded.ladder)),
        data_hash=recorded.data_hash,
    )
    estimated = (model.run / model.weights(recorded.control)).is_file() and recorded.control not in model.trainers
    return replace(model, normalises=estimated and recorded.control != "trained")


def _ladder(run: Run, name: str) -> Ladder:
    """The ladder of a run again: given, shipped, or that of the one model that was measured."""
    if name in run.given:
        return run.given[name]
    source = run.record["ladders"][name].get("source", {})
    if source.get("subject"):
        subject = subjects.find(source["subject"])
        rung: Rung = subject.rung()
        return Ladder(
            subject.name, (rung,), lambda _source, _seed: Splits.of_pool(run.stimuli(name)), modality=subject.modality
        )
    if ladders.ships(name):
        return ladders.find(name)
    raise ThalwegError(
        f"ladder {name!r} is none that ships, so its models can't be made from its name: give the ladder itself, as "
        "thalweg.open_run(path, ladder), or leave out the forms fuzzing and simulation"
    )
