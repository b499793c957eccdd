"""The tasks that estimate what the normalisation layers of twins go by."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from thalweg.files import whole
from thalweg.models import untrained as twins
from thalweg.pipeline.job import Model, failure_of
from thalweg.stimuli.base import Stimuli, halves, viewed


def settle_models(models: Sequence[Model]) -> str:
    """Estimate the statistics that twins normalise by, and leave them where the twins' weights belong. Twins that are
    made of a model that is trained here have theirs estimated after its training.
    """
    return failure_of(models, map(_settle, models))


def _settle(model: Model) -> None:
    controls = [control for control in model.estimated if control == "untrained" or model.subject]
    for control in controls:
        whole.write_tensors(model.run / model.weights(control), statistics(model, model.before_statistics(control)))
    model.run.finish(f"settle-{model.name}", model.train_inputs(), [model.weights(control) for control in controls])


def statistics(model: Model, network: nn.Module) -> dict[str, Tensor]:
    """The running statistics of a twin, estimated on stimuli, as tensors of its state."""
    stimuli, ids = _of_statistics(model)
    return twins.statistics(network, stimuli, ids, device=model.settings.resolved_device)


def _of_statistics(model: Model) -> tuple[Stimuli, Int[Tensor, " stimulus"]]:
    """The stimuli that a twin's statistics are estimated on: those for training, or else the reference half of the
    pool, of which nothing but the references is taken.
    """
    view = model.subject.view if model.subject else None
    if len(model.splits.train):
        return viewed(model.splits.train, view), twins.chosen(torch.arange(len(model.splits.train)))
    return model.pool, twins.chosen(halves(model.splits.pool, seed=model.settings.seed)[0])


def twin_note(model: Model, control: str = "untrained") -> str:
    """A note on how a twin was made; empty if there is nothing to note."""
    made = model.derived[control].description if control in model.derived else "initial weights"
    if control not in model.estimated:
        return made if control in model.derived else ""
    ids = _of_statistics(model)[1]
    which = "training stimuli" if len(model.splits.train) else "stimuli of the reference half"
    return f"{made}; running statistics of its normalisation layers estimated on {len(ids)} {which}"
