"""The tasks that train the models of a rung, or load them, and keep their weights."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

from torch import Tensor, nn

from thalweg.compute.devices import placed
from thalweg.files import whole
from thalweg.models.records import Summary, Together, Trainer
from thalweg.pipeline.job import Model, failure_of
from thalweg.pipeline.strengths import published_summary, with_strengths
from thalweg.pipeline.twins import statistics, twin_note
from thalweg.pipeline.user_results import PlainSummary, checked_summary, code_of_user
from thalweg.training.course import noted
from thalweg.training.interrupted import keep_in


def train_models(models: Sequence[Model]) -> str:
    """Train a model, the seeds of a rung, or one run of which several models are checkpoints; write weights and
    summaries.
    """
    return failure_of(models, starmap(_keep_weights, zip(models, _course(models), strict=True)))


class Ended(NamedTuple):
    """How a network is after its training, or without any."""

    state: dict[str, Tensor]  # none where it can be made again
    summary: Summary  # what the tables say of it
    course: list[dict[str, Any]] = []  # noqa: RUF012  # nobody adds to it


Weights = dict[str, Ended]  # by control


def _course(models: Sequence[Model]) -> Iterator[Weights]:
    """The weights of one model after another."""
    first = models[0]
    if first.subject:
        loaded = [control for control in first.controls if control != "rotated"]
        yield {control: Ended({}, published_summary(first, control)) for control in loaded}
        return
    if first.ladder.checkpoint_trainer is None:
        yield from _seeds(models)
        return
    made = _untrained(first) | _trained([first])[0]
    network = placed(first.build(), first.settings.resolved_device)
    checkpoints = [model.rung.checkpoint for model in models]
    with code_of_user("checkpoint_trainer", first, first.ladder.checkpoint_trainer):
        course = iter(first.ladder.checkpoint_trainer(network, first.taught, first.seed, checkpoints))
    for model in models:
        with code_of_user("checkpoint_trainer", model, first.ladder.checkpoint_trainer):
            result: Summary = next(course, {})
        yield {
            **made,
            **_derived(model, network),
            "trained": Ended(
                _state(network),
                with_strengths(network, model, checked_summary("checkpoint_trainer", model, result)),
                noted(network),
            ),
        }


def _seeds(models: Sequence[Model]) -> Iterator[Weights]:
    """The weights of the seeds of one rung, which are trained at once where their trainers can."""
    untrained = [_untrained(model) for model in models]  # first: a model that fails there need not be trained
    for before, trained in zip(untrained, _trained(models), strict=True):
        yield before | trained


def _untrained(model: Model) -> Weights:
    """The untrained twin, if there is one."""
    if "untrained" not in model.controls:
        return {}
    network = placed(model.network("untrained"), model.settings.resolved_device)
    summary = with_strengths(network, model, _untaught(model, "untrained"), control="untrained")
    return {"untrained": Ended({}, summary)}


def _trained(models: Sequence[Model]) -> list[Weights]:
    """What is trained of each model: itself, and those of its twins that are, with the twins that are derived."""
    made: list[Weights] = [{} for _ in models]
    for control, trainer in models[0].trainers.items():
        at_once = len(models) > 1 and isinstance(trainer, Together)
        ends = _at_once(trainer, models) if at_once else map(partial(_alone, trainer, control), models)
        for weights, model, (network, result) in zip(made, models, ends, strict=True):
            summary = with_strengths(network, model, checked_summary("train", model, result))
            weights[control] = Ended(_state(network), summary, noted(network))
            weights |= _derived(model, network) if control == "trained" else {}
    return made


def _alone(trainer: Trainer, control: str, model: Model) -> tuple[nn.Module, object]:
    """A trained network, and what its trainer returned."""
    network = model.build().to(model.settings.resolved_device)
    keep_in(network, model.run / model.unfinished(control), model.train_inputs())
    with code_of_user("train", model, trainer):
        return network, trainer(network, model.taught, model.seed)


def _at_once(trainer: Trainer, models: Sequence[Model]) -> Iterable[tuple[nn.Module, object]]:
    """The trained networks of models that are trained as one, and what their trainer returned of each."""
    assert isinstance(trainer, Together)
    networks = [model.build().to(model.settings.resolved_device) for model in models]
    with code_of_user("train", models[0], trainer):
        results = trainer.together(networks, models[0].taught, [model.seed for model in models])
    return zip(networks, results, strict=True)


def _untaught(model: Model, control: str) -> PlainSummary:
    """The summary of a twin that was not trained."""
    return {"train_examples": 0, **({"twin_note": note} if (note := twin_note(model, control)) else {})}


def _derived(model: Model, trained: nn.Module) -> Weights:
    """The twins that are made of the trained model: of their weights, the statistics that were estimated are kept, and
    the others can be made again.
    """
    made: Weights = {}
    for control in model.derived:
        network = model.derive(control, deepcopy(trained).eval())
        state = statistics(model, network) if control in model.estimated else {}
        network.load_state_dict(state, strict=False)
        network = placed(network, model.settings.resolved_device)
        made[control] = Ended(state, with_strengths(network, model, _untaught(model, control), control=control))
    return made


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _keep_weights(model: Model, weights: Weights) -> None:
    outputs = [model.about_file]
    for control, ended in weights.items():
        if ended.state:
            outputs.append(model.weights(control))
            whole.write_tensors(model.run / outputs[-1], ended.state)
    whole.write_json(model.run / outputs[0], {control: dict(ended.summary) for control, ended in weights.items()})
    if courses := {control: ended.course for control, ended in weights.items() if ended.course}:
        outputs.append(model.course_file)
        whole.write_json(model.run / model.course_file, courses)
    model.run.finish(f"train-{model.name}", model.train_inputs(), outputs)
    for control in weights:
        (model.run / model.unfinished(control)).unlink(missing_ok=True)
