"""The models of a ladder, after all that can be checked about them was."""

from dataclasses import replace

import torch
from torch import nn

from thalweg.errors import ThalwegError, user_code
from thalweg.models import checks
from thalweg.models import untrained as twins
from thalweg.models.records import Ladder
from thalweg.observers.base import Observer
from thalweg.pipeline.embed import embed_pool, write_views
from thalweg.pipeline.job import Model, cut
from thalweg.pipeline.request import check_kinship
from thalweg.pipeline.settings import Settings
from thalweg.progress import Stages
from thalweg.recording import memory
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.runs.directory import RunDirectory
from thalweg.scoring.units import statistics_kept
from thalweg.stimuli.base import LEAST_POOL, Source, halves, notes_of
from thalweg.stimuli.checks import check_splits


def files_of(model: Model) -> list[tuple[str, str]]:
    """What a model and its twins are called, each with the name of its files."""
    called = f"rung {model.rung.name!r}, seed {model.seed}, of ladder {model.ladder.name!r}"
    return [(called, model.name), *((f"the twin {twin!r} of {called}", model.stem(twin)) for twin in model.controls)]


def prepare_models(
    run: RunDirectory, ladder: Ladder, source: Source, told: Settings, observers: tuple[Observer, ...], stages: Stages
) -> list[Model]:
    """The ladder's models, after all that can be checked was, with the observers' features on disk."""
    rungs = [rung for rung in ladder.rungs if rung.quick or not told.quick]
    if not rungs:
        raise ThalwegError(
            f"ladder {ladder.name!r} has no rungs" + (" that a quick survey takes" if told.quick else "")
        )
    if ladder.require:
        ladder.require(rungs)
    with user_code(f"the function `splits` of ladder {ladder.name!r}"):
        splits = ladder.splits(source, told.seed)
    check_splits(splits, ladder.name, ladder.modality)
    for note in notes_of(splits.pool):
        stages.progress.say(note)
    for rung in rungs:
        if rung.subject and rung.subject.check:
            rung.subject.check(splits.pool)
    smaller = min(map(len, halves(splits.pool, seed=told.seed)))
    if 2 * smaller < LEAST_POOL:
        raise ThalwegError(
            f"ladder {ladder.name!r} has a pool of {len(splits.pool)} stimuli, {smaller} in its smaller half; the "
            f"trials need at least {LEAST_POOL // 2} in each (thirty references on either side from one half, and "
            "queries from the other)"
        )
    data_hash = splits.content_hash()
    run = RunDirectory(run.path.absolute())  # workers may start elsewhere
    models = [
        Model(run, ladder, rung, seed, told, splits, data_hash, observers)
        for rung in rungs
        for seed in range(1 if rung.subject else told.seeds_each(ladder.seeds))  # a published one is always the same
    ]
    models = [replace(model, code=model.made_by()) for model in models]  # before any of it runs
    cut(torch.arange(smaller), batch_size=max(model.batch_size for model in models), shards=told.n_shards)
    check_kinship(ladder, observers)
    notes, normalising = [*ladder.notes], set()
    for model in (one for one in models if one.seed == 0):  # a wrong layer or shape shows before the long work
        try:
            network = model.build()
            normalising |= {model.rung.name} if twins.normalisations(network) else set()
            memory_note, own_notes = _tried(network, model, smaller)
        except ThalwegError as wrong:
            raise ThalwegError(f"ladder {ladder.name!r}, rung {model.rung.name!r}: {wrong}") from wrong
        notes += own_notes
        if memory_note:
            stages.progress.say(memory_note)
    notes = list(dict.fromkeys(notes))
    for note in notes:
        stages.progress.say(f"warning: {note}")
    features = embed_pool(splits.pool, observers, told, stages)
    views = write_views(splits.pool, observers, features, told)
    settled = {model.rung.name for model in models if "untrained" in model.controls} & normalising
    return [
        replace(model, features=features, views=views, notes=tuple(notes), normalises=model.rung.name in settled)
        for model in models
    ]


def _tried(network: nn.Module, model: Model, stimuli: int) -> tuple[str, list[str]]:
    """What is to be said of a model's memory and of the model, found out by running its architecture, untrained, on a
    few stimuli.

    Raises:
        ThalwegError: a wrong layer or shape, more memory than there is, or units that have no one value for a stimulus.
    """
    record(network, model.rung.layers, model.pool, torch.arange(2), RecordingSettings(k=2, sample=2))
    memory_note = _check_memory(network, model, stimuli)
    device, precision = model.settings.resolved_device, model.settings.precision
    problems = checks.problems(network, model.pool, model.rung.layers, device=device, precision=precision)
    problems = [problem for problem in problems if problem.kind != "finite"]  # an untrained one may well overflow
    checks.refuse(problems, model.rung.name)
    return memory_note, [f"{model.rung.name}: {problem.text}" for problem in problems]


def _check_memory(network: nn.Module, model: Model, stimuli: int) -> str:
    """What is to be said of the memory that recording a model needs; ThalwegError where there is less."""
    need = memory.needed(
        memory.widths(network, model.rung.layers, model.pool, device=model.settings.resolved_device),
        model.controls,
        RecordingSettings(k=model.settings.k, sample=model.settings.sample, batch_size=model.batch_size),
        basis=model.basis,
        stimuli=stimuli,
        statistics=statistics_kept(model.splits.pool),
    )
    return memory.check(need, ladder=model.ladder.name, rung=model.rung.name, device=model.settings.resolved_device)
