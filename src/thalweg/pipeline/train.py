"""The tasks that train the models of a rung, or load them, and keep their weights."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import starmap

from torch import Tensor, nn

from thalweg.compute.devices import placed
from thalweg.files import whole
from thalweg.models.records import Summary
from thalweg.pipeline.job import Model, failure_of
from thalweg.pipeline.strengths import published_summary, with_strengths
from thalweg.pipeline.twins import statistics, twin_note
from thalweg.pipeline.user_results import PlainSummary, checked_summary, code_of_user


def train_models(models: Sequence[Model]) -> str:
    """Train a model, or one run of which several models are checkpoints, and write weights and summaries."""
    return failure_of(models, starmap(_keep_weights, zip(models, _course(models), strict=True)))


Weights = dict[str, tuple[dict[str, Tensor], Summary]]  # by control, with what the tables say of it


def _course(models: Sequence[Model]) -> Iterator[Weights]:
    """The weights of one model after another."""
    first = models[0]
    if first.subject:
        loaded = [control for control in first.controls if control != "rotated"]
        yield {control: ({}, published_summary(first, control)) for control in loaded}
        return
    made: Weights = {}
    if "untrained" in first.controls:
        untrained = placed(first.network("untrained"), first.settings.resolved_device)
        made["untrained"] = ({}, with_strengths(untrained, first, _untaught(first, "untrained"), control="untrained"))
    for control, trainer in first.trainers.items():
        twin = first.build().to(first.settings.resolved_device)
        with code_of_user("train", first, trainer):
            result = trainer(twin, first.splits, first.seed)
        made[control] = (_state(twin), with_strengths(twin, first, checked_summary("train", first, result)))
        made |= _derived(first, twin) if control == "trained" else {}
    if first.ladder.checkpoint_trainer is None:
        yield made
        return
    network = placed(first.build(), first.settings.resolved_device)
    checkpoints = [model.rung.checkpoint for model in models]
    with code_of_user("checkpoint_trainer", first, first.ladder.checkpoint_trainer):
        course = iter(first.ladder.checkpoint_trainer(network, first.splits, first.seed, checkpoints))
    for model in models:
        with code_of_user("checkpoint_trainer", model, first.ladder.checkpoint_trainer):
            result = next(course, {})
        yield {
            **made,
            **_derived(model, network),
            "trained": (
                _state(network),
                with_strengths(network, model, checked_summary("checkpoint_trainer", model, result)),
            ),
        }


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
        made[control] = (state, with_strengths(network, model, _untaught(model, control), control=control))
    return made


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _keep_weights(model: Model, weights: Weights) -> None:
    outputs = [f"weights/{model.name}.json"]
    for control, (state, _) in weights.items():
        if state:
            outputs.append(model.weights(control))
            whole.write_tensors(model.run / outputs[-1], state)
    whole.write_json(model.run / outputs[0], {control: dict(summary) for control, (_, summary) in weights.items()})
    model.run.finish(f"train-{model.name}", model.train_inputs(), outputs)
