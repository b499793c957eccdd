"""The steps of a survey: each task is done for every model for which it is not done already."""

import shutil
from collections.abc import Callable
from dataclasses import replace

from thalweg.compute import engines as engine
from thalweg.errors import ThalwegError
from thalweg.models.records import Together
from thalweg.pipeline.capability import capability_inputs, capability_models
from thalweg.pipeline.concepts import concept_inputs, concept_models
from thalweg.pipeline.dictionaries import dictionary_inputs, train_dictionaries, trains_dictionaries
from thalweg.pipeline.edits import edit_inputs, edit_models
from thalweg.pipeline.factors import factor_models
from thalweg.pipeline.job import SHARDS, Model
from thalweg.pipeline.known_strengths import is_sought, keep_strengths, with_known_strengths
from thalweg.pipeline.pieces import pieces
from thalweg.pipeline.places import FOLDER
from thalweg.pipeline.record import record_shards
from thalweg.pipeline.score import measure_models, score_pieces
from thalweg.pipeline.settings import Settings
from thalweg.pipeline.strengths import look_at_shards
from thalweg.pipeline.train import train_models
from thalweg.pipeline.twins import settle_models
from thalweg.progress import Stages


def _do(
    step: str,
    task: Callable[[list[Model]], str],
    models: list[Model],
    inputs: Callable[[Model], str],
    stages: Stages,
) -> None:
    """Do a task for all models for which it is not done already.

    Raises:
        ThalwegError: some failed; the others are done and kept.
    """
    reasons = {model.task: model.run.stale_reason(f"{step}-{model.task}", inputs(model)) for model in models}
    for reason in {reason for reason in reasons.values() if reason.endswith("damaged")}:
        stages.progress.say(f"{reason}: derived again")
    undone = [model for model in reversed(models) if reasons[model.task]]  # the last rungs cost most: they go first
    todo = _together(undone) if step == "train" else [[model] for model in undone]
    failures = []
    with stages(step, len(todo)) as advance:
        for index, failure in engine.run(task, todo, models[0].settings.model_engine_config):
            if failure:
                first = todo[index][0]
                failures.append(f"ladder {first.ladder.name!r}, rung {first.rung.name!r}, seed {first.seed}: {failure}")
            advance()
    if failures:
        what = "models" if models[0].task == models[0].name else "shards"
        raise ThalwegError(
            f"{len(failures)} of {len(models)} {what} failed; the others are done and kept. "
            + "\n".join(sorted(failures)[:5])
        )


def train_all(models: list[Model], stages: Stages) -> None:
    """Train all models that are trained here, and find out how strong all are; what is in pieces, piece by piece. Where
    the strength is read in the pass that records a model, that comes first. What the cache knows is not found out anew.
    """
    if normalising := [model for model in models if model.estimated]:
        _do("settle", settle_models, normalising, Model.train_inputs, stages)
    sought = {model.task: with_known_strengths(model) for model in models if is_sought(model)}
    models = [sought.get(model.task, model) for model in models]
    together = [model for model in models if model.recorded_with_strength]
    in_pieces = [model for model in models if model.in_pieces and not model.recorded_with_strength]
    unknown = [model for model in in_pieces if {*model.controls} - {*model.strengths, "rotated"}]
    _share_out("strength", look_at_shards, unknown, Model.train_inputs, stages)
    _share_out("record", record_shards, together, Model.measure_inputs, stages)
    _do("train", train_models, models, Model.train_inputs, stages)
    keep_strengths(sought.values())


def dictionaries_all(models: list[Model], stages: Stages) -> None:
    """Train the dictionaries of all models that are measured in a basis of these."""
    if training := [model for model in models if trains_dictionaries(model)]:
        _do("dictionaries", train_dictionaries, training, dictionary_inputs, stages)


def measure_all(models: list[Model], settings: Settings, stages: Stages) -> None:
    """Measure all models; of those that are recorded in shards, the shards first, which are not needed any more when
    all is measured, and then their units in pieces, if they are many.
    """
    apart = [model for model in models if model.recorded_apart and not model.recorded_with_strength]
    _share_out("record", record_shards, apart, Model.measure_inputs, stages)
    undone = [model for model in models if model.run.stale_reason(f"measure-{model.task}", model.measure_inputs())]
    if parts := [replace(model, piece=piece) for model in undone for piece in range(len(pieces(model)))]:
        _do("score", score_pieces, parts, Model.measure_inputs, stages)
    _do("measure", measure_models, models, Model.measure_inputs, stages)
    shutil.rmtree(models[0].run / SHARDS, ignore_errors=True)
    for step in ("strength", "record", "score"):
        for stamp in (models[0].run / "steps").glob(f"{step}-*.json"):
            stamp.unlink()


def factor_all(models: list[Model], stages: Stages) -> None:
    """Compute the factors of all models."""
    if models[0].factors:
        _do("factors", factor_models, models, Model.factor_inputs, stages)
    shutil.rmtree(models[0].run / FOLDER, ignore_errors=True)


def capability_all(models: list[Model], stages: Stages) -> None:
    """Weigh what the best-scored units carry, of all models of which it is wanted."""
    if wanted := [model for model in models if model.settings.weighs_capability]:
        _do("capability", capability_models, wanted, capability_inputs, stages)


def concepts_all(models: list[Model], stages: Stages) -> None:
    """Measure whether concepts are shared between languages, of all models whose ladder has concepts."""
    if wanted := [model for model in models if model.ladder.concepts]:
        _do("concepts", concept_models, wanted, concept_inputs, stages)


def edits_all(models: list[Model], stages: Stages) -> None:
    """Edit facts in all models whose ladder has any, and redirect those whose prompts name goals."""
    if wanted := [model for model in models if model.ladder.edited]:
        _do("edits", edit_models, wanted, edit_inputs, stages)


def _share_out(
    step: str,
    task: Callable[[list[Model]], str],
    models: list[Model],
    inputs: Callable[[Model], str],
    stages: Stages,
) -> None:
    """Do a task for each shard of the models of which a step that puts the shards together is not done already."""
    undone = [model for model in models if _wanted(step, model)]
    shards = [replace(model, shard=shard) for model in undone for shard in range(model.settings.n_shards)]
    if shards:
        _do(step, task, shards, inputs, stages)


def _together(models: list[Model]) -> list[list[Model]]:
    """The models in groups that are trained at once: the checkpoints of one run, in order; on a GPU the seeds of a
    rung, if its trainer can; or each by itself.
    """
    groups: dict[tuple[str, ...], list[Model]] = {}
    for model in models:
        rung = "" if model.ladder.checkpoint_trainer else model.rung.name
        at_once = model.settings.resolved_device.startswith("cuda") and isinstance(
            model.trainers.get("trained"), Together
        )
        groups.setdefault((model.ladder.name, rung, "" if at_once else str(model.seed)), []).append(model)
    return [sorted(group, key=lambda model: (model.rung.checkpoint, model.seed)) for group in groups.values()]


def _wanted(step: str, model: Model) -> bool:
    """Whether a step needs what this step's shards give, and is not done already."""
    trains = bool(model.run.stale_reason(f"train-{model.task}", model.train_inputs()))
    measures = bool(model.run.stale_reason(f"measure-{model.task}", model.measure_inputs()))
    return measures or (trains and model.recorded_with_strength) if step == "record" else trains
