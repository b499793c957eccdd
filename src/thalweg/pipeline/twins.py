"""The tasks that estimate what the normalisation layers of untrained twins go by."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from thalweg.files import whole
from thalweg.models import untrained as twins
from thalweg.pipeline.job import Model, failure_of
from thalweg.stimuli.base import Stimuli, halves, viewed


def settle_models(models: Sequence[Model]) -> str:
    """Estimate the statistics that untrained twins normalise by, and leave them where the twins' weights belong."""
    return failure_of(models, map(_settle, models))


def _settle(model: Model) -> None:
    stimuli, ids = _of_statistics(model)
    statistics = twins.statistics(model.build(), stimuli, ids, device=model.settings.resolved_device)
    whole.write_tensors(model.run / model.weights("untrained"), statistics)
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
    """A note on how the untrained twin was made; empty if there is nothing to note."""
    if not model.normalises:
        return ""
    ids = _of_statistics(model)[1]
    which = "training stimuli" if len(model.splits.train) else "stimuli of the reference half"
    return f"initial weights; running statistics of its normalisation layers estimated on {len(ids)} {which}"
