"""Strengths of published models that the cache holds: of the same weights, code and stimuli they are found out once, in
whatever basis the units are measured, and in whichever run.

Only a strength that takes a pass of its own is kept, and only of models that a package loads: which weights those are
says a hash. What a user's own function loads may change without a sign.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from thalweg.errors import ThalwegError
from thalweg.files import whole
from thalweg.files.identity import digest, identity, is_packaged
from thalweg.files.names import file_name
from thalweg.models.loading import weights_of
from thalweg.models.records import Summary
from thalweg.pipeline.job import Model, release
from thalweg.strength import axes


def is_sought(model: Model) -> bool:
    """Whether its strength is still to be found out, and is then kept."""
    subject = model.subject
    kept = subject is not None and is_packaged(subject.load) and not model.recorded_with_strength
    return kept and bool(model.run.stale_reason(f"train-{model.task}", model.train_inputs()))


def with_known_strengths(model: Model) -> Model:
    """The model with what the cache says of it and its twins.

    Raises:
        ThalwegError: the cache cannot be written.
    """
    return replace(model, strengths=_known(model))


def keep_strengths(models: Iterable[Model]) -> None:
    """Keep in the cache what was found out of these models."""
    for model in models:
        found = whole.read_json(model.run / model.about_file)
        for control, file in _files(model).items():
            if control not in model.strengths:
                whole.write_json(file, found[control])


def _known(model: Model) -> Mapping[str, Summary]:
    """What the cache holds, by control."""
    whole.writable(model.settings.cache, "--cache")
    known = {}
    for control, file in _files(model).items():
        with suppress(ThalwegError):  # not there, or damaged: found out anew
            known[control] = whole.read_json(file)
    return known


def _files(model: Model) -> dict[str, Path]:
    """The files of the cache, by control."""
    assert model.subject is not None
    stem = str(model.settings.cache.absolute() / f"strength-{file_name(model.subject.name)}")
    evaluated = [control for control in model.controls if control != "rotated"]
    return {control: Path(f"{stem}-{_made_from(model, control)}.json") for control in evaluated}


def _made_from(model: Model, control: str) -> str:
    """The hash of what the strength of a model or of a twin is made from. How the stimuli are cut into batches and
    shards, and the device, are part of it, for the last digits depend on them.
    """
    subject, settings = model.subject, model.settings
    assert subject is not None
    made: list[object] = [subject.name, weights_of(subject), model.architecture, control]
    code = [subject.load, subject.build, subject.view, model.ladder.evaluate or axes.evaluate, type(model.splits.pool)]
    made_by = [identity(each) for each in code if each]
    if control != "trained":
        twin = identity(model.derived[control]) if control in model.derived else ""
        made += [twin, model.twin_version, model.own_seed, settings.seed]
    given = [model.data_hash, settings.n_shards, model.cutting_size, settings.resolved_device.partition(":")[0]]
    return digest(release(), made, made_by, given)
