"""The tasks that train the dictionaries of a model's layers, and of its twins', for the basis `sae`."""

import shutil
from collections.abc import Mapping, Sequence

from torch import nn

from thalweg.bases import saved
from thalweg.bases.trained import TrainedHere, check_neurons, check_stimuli
from thalweg.compute.devices import placed
from thalweg.errors import ThalwegError
from thalweg.files.identity import digest
from thalweg.files.names import file_name
from thalweg.models.records import Encode
from thalweg.pipeline.job import Model, failure_of
from thalweg.recording.memory import widths
from thalweg.stimuli.base import Stimuli, halves, viewed

FOLDER = "dictionaries"


def trains_dictionaries(model: Model) -> bool:
    """Whether a model is measured in a basis of dictionaries that are trained for it."""
    return isinstance(model.rung.basis, TrainedHere)


def dictionary_inputs(model: Model) -> str:
    """The hash of what its dictionaries are made from."""
    basis = model.rung.basis.identity if model.rung.basis else ""
    layers = [(layer.name, layer.reduction, layer.unit_axis, layer.skip) for layer in model.rung.layers]
    return digest(model.train_inputs(), layers, basis, model.settings.seed)


def train_dictionaries(models: Sequence[Model]) -> str:
    """Train the dictionaries of a model and of its twins, and write them to the run directory."""
    return failure_of(models, map(_train, models))


def _train(model: Model) -> None:
    basis = model.rung.basis
    assert isinstance(basis, TrainedHere)
    stimuli, held_out = training_stimuli(model)
    outputs: list[str] = []
    for control in _networks(model):
        shutil.rmtree(model.run / _stem(model, control), ignore_errors=True)
        device = model.settings.resolved_device
        network = placed(model.network(control), device)
        try:
            made = basis.train_all(network, model.rung.layers, stimuli, held_out, device=device)
        except ThalwegError as wrong:
            raise ThalwegError(f"{control} network, {wrong}") from wrong
        for layer, trained in made.items():
            folder = folder_of(model, control, layer)
            saved.write(model.run / folder, layer, trained)
            outputs += [f"{folder}/{file}" for file in saved.FILES]
    model.run.finish(f"dictionaries-{model.name}", dictionary_inputs(model), outputs)


def _networks(model: Model) -> list[str]:
    """The model and its twins that have weights of their own."""
    return [control for control in model.controls if control != "rotated"]


def _stem(model: Model, control: str) -> str:
    return f"{FOLDER}/{model.network_name}-{file_name(control)}"


def folder_of(model: Model, control: str, layer: str) -> str:
    """The name of the folder of a dictionary in the run directory."""
    return f"{_stem(model, control)}/{file_name(layer)}"


def training_stimuli(model: Model) -> tuple[Stimuli, Stimuli | None]:
    """The stimuli that dictionaries are trained on, as the model is given them, and those that judge them: the ladder's
    stimuli for training and for validation, or else the reference half of the pool.
    """
    view = model.subject.view if model.subject else None
    if not len(model.splits.train):
        reference, _ = halves(model.splits.pool, seed=model.settings.seed)
        return viewed(model.splits.pool.take(reference), view), None
    validation = model.splits.validation
    return viewed(model.splits.train, view), viewed(validation, view) if len(validation) else None


def read_encoders(model: Model, control: str) -> Mapping[str, Encode]:
    """The encoders of the layers of a model or of a twin, of the dictionaries that were trained for it.

    Raises:
        ThalwegError: one is missing or damaged.
    """
    return {
        layer.name: saved.read(model.run / folder_of(model, control, layer.name)).encoder(layer)
        for layer in model.rung.layers
    }


def check_dictionaries(network: nn.Module, model: Model) -> None:
    """Check that dictionaries can be trained for a model.

    Raises:
        ThalwegError: too few stimuli, or a layer with too few neurons.
    """
    check_stimuli(len(training_stimuli(model)[0]))
    for width in widths(network, model.rung.layers, model.pool, device=model.settings.resolved_device):
        check_neurons(width.layer, width.units)
