"""The models of a ladder, after all that can be checked about them was."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from thalweg.compute.local import default_workers
from thalweg.errors import ThalwegError, user_code
from thalweg.factors.base import DICTIONARIES, LABEL_NOISE, factors_for
from thalweg.models import checks
from thalweg.models import untrained as twins
from thalweg.models.loading import printed
from thalweg.models.records import Ladder, Rung
from thalweg.observers.base import Observer
from thalweg.pipeline.bases import in_main_basis, trains_beside
from thalweg.pipeline.dictionaries import check_dictionaries
from thalweg.pipeline.embed import embed_pool, write_views
from thalweg.pipeline.job import Model, cut
from thalweg.pipeline.labels import check_labels, for_rungs
from thalweg.pipeline.request import check_kinship
from thalweg.pipeline.settings import Settings
from thalweg.progress import Progress, Stages
from thalweg.recording import memory
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.runs.directory import RunDirectory
from thalweg.scoring.units import statistics_kept
from thalweg.stimuli import modalities
from thalweg.stimuli.base import LEAST_POOL, Source, Splits, halves, notes_of
from thalweg.stimuli.checks import check_splits
from thalweg.stimuli.label_noise import check_changeable


def files_of(model: Model) -> list[tuple[str, str]]:
    """The names of a model and its twins in messages, each with the name of its files."""
    called = f"rung {model.rung.name!r}, seed {model.seed}, of ladder {model.ladder.name!r}"
    return [(called, model.name), *((f"the twin {twin!r} of {called}", model.stem(twin)) for twin in model.controls)]


def prepare_models(
    run: RunDirectory,
    ladder: Ladder,
    source: Source,
    settings: Settings,
    observers: tuple[Observer, ...],
    stages: Stages,
) -> list[Model]:
    """The ladder's models, after all that can be checked was, with the observers' features on disk."""
    factors_for(settings.factors)  # a name that there is not shows before anything is read
    rungs = in_main_basis(_rungs(ladder, quick=settings.quick), settings)
    splits, smaller = _splits(ladder, rungs, source, settings, stages.progress)
    data_hash = splits.content_hash()
    run = RunDirectory(run.path.absolute())  # workers may start elsewhere
    models = [
        Model(run, ladder, rung, seed, settings, splits, data_hash, observers)
        for rung in rungs
        for seed in range(
            1 if rung.subject else settings.seeds_each(ladder.seeds)
        )  # a published one is always the same
    ]
    factors = factors_for(settings.factors, _special(models))
    models = [replace(model, code=model.made_by()) for model in models]  # before any of it runs
    cut(torch.arange(smaller), batch_size=max(model.cutting_size for model in models), shards=settings.n_shards)
    check_kinship(ladder, observers)
    warnings, normalising, architectures = _try_all(models, smaller, stages.progress)
    notes = list(dict.fromkeys([*ladder.notes, *warnings]))
    for note in notes:
        stages.progress.say(f"warning: {note}")
    features = embed_pool(splits.pool, observers, settings, stages)
    views = write_views(splits.pool, observers, features, settings)
    return [
        replace(
            model,
            features=features,
            views=views,
            factors=factors,
            notes=tuple(notes),
            normalises=model.rung.name in normalising,
            architecture=architectures[model.rung.name],
        )
        for model in models
    ]


def _special(models: Sequence[Model]) -> list[str]:
    """What the models have that only some factors need, checked.

    Raises:
        ThalwegError: labels are to be wrong of models that learn none, or that are not trained here.
    """
    noisy = [model for model in models if model.rung.label_noise or model.settings.label_noise]
    for model in noisy:
        _check_label_noise(model)
    has = {LABEL_NOISE: bool(noisy), DICTIONARIES: any(map(trains_beside, models))}
    return [name for name, there in has.items() if there]


def _check_label_noise(model: Model) -> None:
    """Check that training labels of a model can be wrong.

    Raises:
        ThalwegError: it is not trained here, or learns no labels that could be changed.
    """
    where = f"ladder {model.ladder.name!r}, rung {model.rung.name!r}"
    if model.subject:
        raise ThalwegError(
            f"{where}: a published model is not trained here, so no label that it learnt can be wrong; survey it "
            "without label noise (--label-noise)"
        )
    try:
        check_changeable(model.splits.train)
    except ThalwegError as wrong:
        raise ThalwegError(f"{where}: {wrong}") from wrong


def _rungs(ladder: Ladder, *, quick: bool) -> list[Rung]:
    """The rungs that are surveyed.

    Raises:
        ThalwegError: there are none, or what they require is not there.
    """
    rungs = [rung for rung in ladder.rungs if rung.quick or not quick]
    if not rungs:
        raise ThalwegError(f"ladder {ladder.name!r} has no rungs" + (" that a quick survey takes" if quick else ""))
    if ladder.require:
        ladder.require(rungs)
    return rungs


def _splits(
    ladder: Ladder, rungs: Sequence[Rung], source: Source, settings: Settings, progress: Progress
) -> tuple[Splits, int]:
    """The ladder's stimuli, checked, and the size of the smaller half of the pool.

    Raises:
        ThalwegError: they are not what a ladder needs, do not fit a subject, or are too few.
    """
    with user_code(f"the function `splits` of ladder {ladder.name!r}"):
        splits = ladder.splits(source, settings.seed)
    check_splits(splits, ladder.name, modalities.of(ladder))
    for note in notes_of(splits.pool):
        progress.say(note)
    for rung in rungs:
        if rung.subject and rung.subject.check:
            rung.subject.check(splits.pool)
    smaller = min(map(len, halves(splits.pool, seed=settings.seed)))
    if 2 * smaller < LEAST_POOL:
        raise ThalwegError(
            f"ladder {ladder.name!r} has a pool of {len(splits.pool)} stimuli, {smaller} in its smaller half; the "
            f"trials need at least {LEAST_POOL // 2} in each (thirty references on either side from one half, and "
            "queries from the other)"
        )
    return splits, smaller


def _try_all(models: Sequence[Model], stimuli: int, progress: Progress) -> tuple[list[str], set[str], dict[str, str]]:
    """Warnings on the models, the names of the rungs whose networks normalise, and every rung's architecture as it is
    printed; a wrong layer or shape shows here, before the long work.

    Raises:
        ThalwegError: as `_tried` does; names the ladder and the rung.
    """
    warnings: list[str] = []
    normalising: set[str] = set()
    architectures: dict[str, str] = {}
    left_out: dict[str, list[str]] = {}
    for model in (each for each in models if each.seed == 0):
        try:
            network = model.build()
            architectures[model.rung.name] = printed(network)
            normalising |= {model.rung.name} if twins.normalisations(network) else set()
            memory_note, own_warnings = _tried(network, model, stimuli, tasks_at_once(models, model))
            for text in check_labels(network, model):
                left_out.setdefault(text, []).append(model.rung.name)
        except ThalwegError as wrong:
            raise ThalwegError(f"ladder {model.ladder.name!r}, rung {model.rung.name!r}: {wrong}") from wrong
        warnings += own_warnings
        if memory_note:
            progress.say(memory_note)
    return [*warnings, *for_rungs(models[0].ladder, left_out, len(architectures))], normalising, architectures


def tasks_at_once(models: Sequence[Model], model: Model) -> int:
    """How many tasks of a rung this machine does at once: one for each seed and shard, as far as there are workers."""
    if model.settings.engine != "local":
        return 1  # the cluster knows what its machines have
    tasks = sum(each.rung.name == model.rung.name for each in models) * model.settings.n_shards
    return min(tasks, model.settings.workers or default_workers())


def _tried(network: nn.Module, model: Model, stimuli: int, at_once: int) -> tuple[str, list[str]]:
    """A note on the memory that a model needs where so many tasks run at once, and warnings on its units: runs its
    architecture, untrained, on a few stimuli.

    Raises:
        ThalwegError: a wrong layer or shape, more memory than there is, or units that have no one value for a stimulus.
    """
    record(network, model.rung.layers, model.pool, torch.arange(2), RecordingSettings(k=2, sample=2))
    if "sae" in model.settings.basis:
        check_dictionaries(network, model)
    memory_note = _check_memory(network, model, stimuli, at_once)
    device, precision = model.settings.resolved_device, model.settings.precision
    problems = checks.problems(network, model.pool, model.rung.layers, device=device, precision=precision)
    problems = [problem for problem in problems if problem.kind != "finite"]  # an untrained one may well overflow
    checks.refuse(problems, model.rung.name)
    return memory_note, [f"{model.rung.name}: {problem.text}" for problem in problems]


def _check_memory(network: nn.Module, model: Model, stimuli: int, at_once: int) -> str:
    """A note on the memory that recording a model needs; ThalwegError where so many tasks at once do not fit."""
    need = memory.needed(
        memory.widths(network, model.rung.layers, model.pool, device=model.settings.resolved_device),
        model.controls,
        RecordingSettings(
            k=model.settings.k,
            sample=model.settings.sample,
            batch_size=model.batch_size,
            directions=model.settings.directions,
        ),
        basis=model.basis,
        stimuli=stimuli,
        statistics=statistics_kept(model.splits.pool),
    )
    device = model.settings.resolved_device
    return memory.check(need, ladder=model.ladder.name, rung=model.rung.name, device=device, at_once=at_once)
