"""The one loop: from ladders to a run directory that holds their curves and verdicts.

Each step has a name, is made from inputs with a hash, leaves files, and is done again only if its inputs changed or a
file is missing or damaged. A survey that was interrupted goes on where it stopped when the command is given again, and
ends with the same bytes.
"""

import platform
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg import curves, engine, gathering, ladders, observers, tables
from thalweg.errors import ThalwegError, unknown
from thalweg.ladder import Ladder
from thalweg.observers import Observer
from thalweg.progress import Progress, Silent, Stages
from thalweg.recording import record
from thalweg.run import Run
from thalweg.settings import Settings
from thalweg.stimuli import Images
from thalweg.tables import RunDirectory, digest, identity
from thalweg.tasks import Model, measure_model, train_model
from thalweg.trials import LEAST_POOL

PIECE = 250  # stimuli embedded at once: a fixed number, so that any number of workers gives the same bytes
PACKAGES = ("thalweg", "torch", "numpy", "scipy", "scikit-image", "polars")


def survey(
    *which: str | Ladder,
    out: str | Path | None = None,
    observer: Sequence[str | Observer] | str | Observer = ("image",),
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Measure every unit of every model of some ladders, decide the shape of their curves, and return the run.

    Ladders are named or given as records; so are observers, of which the first is the headline's. `out` is the run
    directory, by default `runs/` and the ladders' names. The other arguments are the fields of `Settings`.

    Raises:
        ThalwegError: anything the user can mend, before the long work wherever possible; if models fail, after the
        others are done.
    """
    if not which:
        raise ThalwegError(f"name at least one ladder; there are: {', '.join(ladders.LADDERS)}")
    chosen = [ladders.find(one) if isinstance(one, str) else one for one in which]
    if len({ladder.name for ladder in chosen}) < len(chosen):
        raise ThalwegError("two of the ladders have the same name")
    for name in settings:
        if name not in Settings.__dataclass_fields__:
            raise unknown("setting", name, Settings.__dataclass_fields__)
    watching = _watching([observer] if isinstance(observer, str | Observer) else list(observer))
    asked = tuple(one.name for one in watching if not one.control)
    told = Settings(**settings, observer=asked).check()
    run = RunDirectory(Path(out) if out else Path("runs") / "-".join(ladder.name for ladder in chosen))
    with run.locked():
        stages = Stages(progress or Silent())
        run.sweep()
        _agree(run, chosen, told)
        models = [model for ladder in chosen for model in _prepare(run, ladder, told, watching, stages)]
        _do("train", train_model, models, Model.train_inputs, stages)
        _do("measure", measure_model, models, Model.measure_inputs, stages)
        _gather(run, models, stages)
        curves.judge_all(run, told, stages)
        tables.write_json(run / "run.json", _record(models, told, stages))
    return Run(run.path)


def _watching(given: list[str | Observer]) -> tuple[Observer, ...]:
    """The observers asked for, the headline's first, then their parts, then the controls."""
    found = [one if isinstance(one, Observer) else observers.find(one) for one in given]
    parts = [observers.find(part) for one in found for part in one.parts]
    controls = [one for one in observers.OBSERVERS.values() if one.control]
    return tuple({one.name: one for one in [*found, *parts, *controls]}.values())


def _agree(run: RunDirectory, chosen: list[Ladder], told: Settings) -> None:
    """Make sure that the directory is new or was made with the same ladders and settings, and write them down.

    Raises:
        ThalwegError: it was made with others; says which differ.
    """
    now = {"ladders": [ladder.name for ladder in chosen], **told.affecting()}
    path = run / "settings.json"
    if not path.is_file():
        tables.write_json(path, now)
        return
    before = tables.read_json(path)
    differ = [f"{name} was {before.get(name)!r}, now {now[name]!r}" for name in now if before.get(name) != now[name]]
    if differ:
        raise ThalwegError(
            f"{run.path}: this run was made with other settings ({'; '.join(differ)}); give the same ones, or choose "
            "another --out"
        )


def _prepare(
    run: RunDirectory, ladder: Ladder, told: Settings, watching: tuple[Observer, ...], stages: Stages
) -> list[Model]:
    """The ladder's models, after all that can be checked was, with the observers' features on disk."""
    splits = ladder.splits(told.data, told.seed)
    if len(splits.pool) < LEAST_POOL:
        raise ThalwegError(
            f"ladder {ladder.name!r} has a pool of {len(splits.pool)} stimuli; the trials need at least {LEAST_POOL} "
            "(thirty references on either side from one half of the pool, and queries from the other)"
        )
    if len({rung.name for rung in ladder.rungs}) < len(ladder.rungs):
        raise ThalwegError(f"ladder {ladder.name!r} has two rungs of the same name")
    data_hash = splits.content_hash()
    models = [
        Model(run, ladder, rung, seed, told, splits, data_hash, watching)
        for rung in ladder.rungs
        if rung.quick or not told.quick
        for seed in range(told.seeds_each)
    ]
    if not models:
        raise ThalwegError(
            f"ladder {ladder.name!r} has no rungs" + (" that a quick survey takes" if told.quick else "")
        )
    for model in models[:: told.seeds_each]:  # a wrong layer or shape shows before the long work
        try:
            record(model.build(), model.rung.layers, splits.pool, torch.arange(2), k=2, sample=2)
        except ThalwegError as wrong:
            raise ThalwegError(f"ladder {ladder.name!r}, rung {model.rung.name!r}: {wrong}") from wrong
    features = _embed(splits.pool, watching, told, stages)
    return [replace(model, features=features) for model in models]


def _embed(pool: Images, watching: tuple[Observer, ...], told: Settings, stages: Stages) -> dict[str, Path]:
    """Files that hold the observers' feature vectors of the pool, from the cache where it has them."""
    content = pool.content_hash()
    sources = [one for one in watching if one.features]
    files = {
        one.name: told.cache / f"{one.name}-{one.version}-{digest(identity(one.features), content)}.safetensors"
        for one in sources
    }
    jobs = []
    for one in sources:
        if not _whole(files[one.name]):
            size = PIECE if one.piecewise else len(pool)
            jobs += [(one, pool.take(piece)) for piece in torch.arange(len(pool)).split(size)]
    found: dict[int, Tensor] = {}
    with stages("embed", len(jobs)) as advance:
        for place, part in engine.run(_features, jobs, workers=told.workers):
            found[place] = part
            advance()
    for name in {one.name for one, _ in jobs}:
        parts = [found[place] for place, (one, _) in enumerate(jobs) if one.name == name]
        tables.write_tensors(files[name], {"features": torch.cat(parts)})
    return files


def _features(job: tuple[Observer, Images]) -> Tensor:
    """One observer's feature vectors of some stimuli."""
    observer, stimuli = job
    assert observer.features is not None
    found = observer.features(stimuli)
    if not isinstance(found, Tensor):
        found = torch.as_tensor(found)
    if found.ndim != 2 or len(found) != len(stimuli) or not found.isfinite().all():
        raise ThalwegError(
            f"observer {observer.name!r} must return one finite vector for each of {len(stimuli)} stimuli; it returned "
            f"an array of shape {tuple(found.shape)}"
            + ("" if found.isfinite().all() else " with NaN or infinite values")
        )
    return found.float()


def _whole(file: Path) -> bool:
    """Whether a file of the cache can be read; a damaged one is made again."""
    try:
        return file.is_file() and "features" in tables.read_tensors(file)
    except ThalwegError:
        return False


def _do(
    step: str,
    task: Callable[[Model], str],
    models: list[Model],
    inputs: Callable[[Model], str],
    stages: Stages,
) -> None:
    """Do a task for all models for which it is not done already.

    Raises:
        ThalwegError: some failed; the others are done and kept.
    """
    reasons = {model.name: model.run.undone(f"{step}-{model.name}", inputs(model)) for model in models}
    for reason in {reason for reason in reasons.values() if reason.endswith("damaged")}:
        stages.progress.say(f"{reason}: derived again")
    todo = [model for model in reversed(models) if reasons[model.name]]  # the last rungs cost most: they go first
    failures = []
    with stages(step, len(todo)) as advance:
        for place, failure in engine.run(task, todo, workers=models[0].settings.workers):
            if failure:
                failures.append(f"rung {todo[place].rung.name!r}, seed {todo[place].seed}: {failure}")
            advance()
    if failures:
        raise ThalwegError(
            f"{len(failures)} of {len(models)} models failed; the others are done and kept. "
            + "\n".join(sorted(failures)[:5])
        )


def _gather(run: RunDirectory, models: list[Model], stages: Stages) -> None:
    """Put the tables together from the parts of all models, if any of them is new."""
    inputs = digest([tables.read_json(run / f"steps/measure-{model.name}.json") for model in models])
    made = [
        "units.parquet",
        "models.parquet",
        "scores.parquet",
        "distributions.parquet",
        "missing.parquet",
        "gallery.parquet",
    ]
    with stages("tables", 1) as advance:
        if run.undone("tables", inputs):
            for name, frame in gathering.gather(run, models).items():
                tables.write_frame(run / f"{name}.parquet", frame)
            run.finish("tables", inputs, made)
        advance()


def _record(models: list[Model], told: Settings, stages: Stages) -> dict[str, Any]:
    """What run.json says: how to do it again, on what it rests, and what it cost."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "settings": told.affecting(),
        "ladders": {
            model.ladder.name: {
                "description": model.ladder.description,
                "data_hash": model.data_hash,
                "stimuli": {part: len(getattr(model.splits, part)) for part in ("train", "validation", "pool")},
            }
            for model in models
        },
        "observers": [{"name": one.name, "version": one.version, "control": one.control} for one in models[0].watching],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": told.hardware,
        "seconds": stages.seconds,
        "peak_memory_mib": round(peak / 1024),
    }
