"""The one loop: from ladders to a run directory that holds their curves and verdicts.

Each step has a name, is made from inputs with a hash, leaves files, and is done again only if its inputs changed or a
file is missing or damaged. A survey that was interrupted goes on where it stopped when the command is given again, and
ends with the same bytes.
"""

import platform
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg import curves, engine, gathering, ladders, memory, observers, tables, twins
from thalweg.errors import ThalwegError, readable, unknown, user_code
from thalweg.identity import digest, identity
from thalweg.ladder import Ladder
from thalweg.ladders import published
from thalweg.observers import Observer, Seen, check_telling, look, prepare
from thalweg.progress import Progress, Silent, Stages
from thalweg.recording import record
from thalweg.run import Run
from thalweg.scoring import statistics_kept
from thalweg.settings import Settings, called, settings_of
from thalweg.stimuli import Source, Stimuli, halves, notes_of
from thalweg.stimuli.checks import check_splits
from thalweg.subjects import checks
from thalweg.tables import RunDirectory, file_name
from thalweg.tasks import (
    SHARDS,
    Model,
    cut,
    look_at_shards,
    measure_models,
    record_shards,
    settle_models,
    train_models,
    twin_note,
)
from thalweg.trials import LEAST_POOL

PIECE = 250  # stimuli embedded at once: a fixed number, so that any number of workers gives the same bytes
TAKEN = {"none", "trained", "untrained", "rotated", "rung", "kind", "strength"}  # what no twin of one's own is called
PACKAGES = ("thalweg", "torch", "numpy", "scipy", "scikit-image", "polars")


def survey(
    *which: str | Ladder,
    out: str | Path | None = None,
    observer: Sequence[str | Observer] | str | Observer = (),
    data: Sequence[str | Path] | str | Path = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Measure every unit of every model of some ladders, decide the shape of their curves, and return the run.

    Ladders are named or given as records; so are observers, of which the first that fits a ladder's modality is its
    headline's. `data` names files of stimuli, as LADDER=PATH where there are several ladders. `out` is the run
    directory, by default `runs/` and the ladders' names. The other arguments are the fields of `Settings`.

    Raises:
        ThalwegError: anything the user can mend, before the long work wherever possible; if models fail, after the
        others are done.
    """
    if not which:
        raise ThalwegError(f"name at least one ladder; there are: {', '.join(ladders.LADDERS)}")
    _check_images_named(which, [str(one) for one in _several(data)])
    chosen = [one if isinstance(one, Ladder) else ladders.find(one) for one in which]
    if len({ladder.name for ladder in chosen}) < len(chosen):
        raise ThalwegError("two of the ladders have the same name")
    asked = _asked(_several(observer))
    given = {"observer": tuple(one.name for one in asked), "data": tuple(map(str, _several(data)))}
    told = settings_of({**settings, **given})
    sources = _sources(chosen, told)
    _check_asked(chosen, asked)
    watching = {ladder.name: _watching(ladder, asked) for ladder in chosen}
    for ladder in chosen:
        _check_ladder(ladder)
    engine.ready(told.where)
    run = RunDirectory(Path(out) if out else Path("runs") / "-".join(file_name(ladder.name) for ladder in chosen))
    with run.locked():
        stages = Stages(progress or Silent())
        for modality in dict.fromkeys(ladder.modality for ladder in chosen):
            if not asked and (taken := observers.default(modality).name) != observers.DEFAULTS.get(modality, taken):
                stages.progress.say(
                    f"observer {taken!r} takes the place of {observers.DEFAULTS[modality]!r}, "
                    f"which needs: pip install 'thalweg[{modality}]'"
                )
        for ladder in chosen:
            if note := _note_on_default(ladder, asked, watching[ladder.name]):
                stages.progress.say(note)
        settings_now = _agree(run, chosen, told, stages.progress)
        run.sweep()
        models = [
            model
            for ladder in chosen
            for model in _prepare(run, ladder, sources[ladder.name], told, watching[ladder.name], stages)
        ]
        tables.same_files(file for model in models for file in _files(model))
        if not (run / "settings.json").is_file():  # not before: a mistaken command leaves no trace
            tables.write_json(run / "settings.json", settings_now)
        _train(models, stages)
        _measure(models, told, stages)
        _gather(run, models, stages)
        headline = {ladder: some[0].name for ladder, some in watching.items()}
        curves.judge_all(run, told, headline, [one.name for one in chosen if one.independent], stages)
        tables.write_json(run / "run.json", _record(models, told, stages))
    return Run(run.path)


def _check_images_named(which: Sequence[str | Ladder], data: Sequence[str]) -> None:
    """See that ladders of published models, which take long to load, have the images that they need.

    Raises:
        ThalwegError: one has none.
    """
    for name in which:
        named = any("=" not in path or path.startswith(f"{name}=") for path in data)
        if isinstance(name, str) and name in ladders.PUBLISHED and not named:
            raise published.no_images(name)


def _check_ladder(ladder: Ladder) -> None:
    """See that a ladder's rungs and twins have names of their own, and that every rung is trained or loaded.

    Raises:
        ThalwegError: they have not.
    """
    names = [rung.name for rung in ladder.rungs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ThalwegError(f"ladder {ladder.name!r} has two rungs of the same name, {twice[0]!r}")
    if taken := sorted(TAKEN & set(ladder.twins)):
        raise ThalwegError(f"ladder {ladder.name!r} has a twin called {taken[0]!r}, which means something else already")
    if bare := [rung.name for rung in ladder.rungs if not rung.layers]:
        raise ThalwegError(
            f"ladder {ladder.name!r}, rung {bare[0]!r}: has no layers; name those whose units are to be measured, as "
            '(thalweg.Layer("1"),)'
        )
    untrained = [
        rung.name for rung in ladder.rungs if not (rung.subject or rung.train or ladder.train or ladder.course)
    ]
    if untrained:
        raise ThalwegError(
            f"ladder {ladder.name!r}, rung {untrained[0]!r}: nothing trains it; give the ladder or the rung a `train` "
            "(as thalweg.Classifier()), or the rung a `subject` that is loaded with its weights"
        )


def _several(given: Any) -> list[Any]:
    """One thing or a sequence of things, as a list."""
    return list(given) if isinstance(given, list | tuple) else [given]


def _sources(chosen: list[Ladder], told: Settings) -> dict[str, Source]:
    """Where each ladder's stimuli come from.

    Raises:
        ThalwegError: an empty path, one that does not say for which of several ladders it is, or one for a ladder that
            is not surveyed.
    """
    paths: dict[str, Path] = {}
    for given in told.data:
        name, found, path = given.partition("=")
        if not found:
            if len(chosen) > 1:
                raise ThalwegError(f"--data {given}: say for which ladder it is, as in {chosen[0].name}={given}")
            name, path = chosen[0].name, given
        if not path:
            raise ThalwegError(f"--data {given!r} names no file or folder; PATH or LADDER=PATH was expected")
        if name not in {ladder.name for ladder in chosen}:
            raise unknown("ladder of this survey", name, (ladder.name for ladder in chosen))
        paths[name] = Path(path)
    return {ladder.name: told.source(paths.get(ladder.name)) for ladder in chosen}


def _watching(ladder: Ladder, asked: list[Observer]) -> tuple[Observer, ...]:
    """A ladder's observers: those asked for that see its stimuli, or else the default; their parts, the controls.

    Raises:
        ThalwegError: no observer sees its stimuli, or two have the same name.
    """
    fitting = [one for one in asked if one.fits(ladder.modality)]
    fitting = fitting or [observers.find(ladder.observer) if ladder.observer else observers.default(ladder.modality)]
    parts = [observers.find(part) for one in fitting for part in one.parts]
    for one in [*fitting, *parts]:
        if not one.fits(ladder.modality):
            raise _unfit(one, [ladder])
        if one.features is None and (one in parts or not one.parts):
            raise ThalwegError(f"observer {one.name!r} has no `features`: give it a function from stimuli to vectors")
    if not asked and ladder.modality not in observers.DEFAULTS and not ladder.observer:
        raise ThalwegError(
            f"ladder {ladder.name!r} has stimuli of modality {ladder.modality!r}, for which there is no default "
            "observer: give one with observer=; `random` is a control, and its score is chance"
        )
    controls = [one for one in observers.OBSERVERS.values() if one.control and one.fits(ladder.modality)]
    named: dict[str, Observer] = {}
    for one in [*fitting, *parts, *controls]:
        if named.setdefault(one.name, one) != one:
            raise ThalwegError(f"two observers are called {one.name!r}, one of them the package's own; rename yours")
    return tuple(named.values())


def _unfit(one: Observer, chosen: Sequence[Ladder]) -> ThalwegError:
    """The error for an observer that sees none of what it is to be shown."""
    modality = chosen[0].modality
    suited = [name for name, other in observers.OBSERVERS.items() if other.modality == modality and not other.control]
    shown = " and ".join(f"{ladder.name!r} of modality {ladder.modality!r}" for ladder in chosen)
    return ThalwegError(
        f"observer {one.name!r} sees stimuli of modality {one.modality!r}; it sees nothing of ladder {shown}. "
        f"Observers of {modality!r} are: {', '.join(sorted(suited)) or 'none'}"
    )


def _asked(given: Sequence[object]) -> list[Observer]:
    """The observers that were asked for, each once.

    Raises:
        ThalwegError: no observer is called so, or something is neither a name nor an observer.
    """
    asked: list[Observer] = []
    for one in given:
        if not isinstance(one, str | Observer):
            raise ThalwegError(
                f"observer {getattr(one, '__name__', one)!r} is {type(one).__name__}; a name was expected, or "
                'thalweg.Observer("name", 1, function) with a function from stimuli to vectors'
            )
        asked.append(one if isinstance(one, Observer) else observers.find(one))
    return [one for place, one in enumerate(asked) if one not in asked[:place]]


def _check_asked(chosen: Sequence[Ladder], asked: Sequence[Observer]) -> None:
    """See that every observer that was asked for has something to see.

    Raises:
        ThalwegError: one has not; names both modalities.
    """
    for one in asked:
        if not any(one.fits(ladder.modality) for ladder in chosen):
            raise _unfit(one, chosen)


def _note_on_default(ladder: Ladder, asked: Sequence[Observer], watching: Sequence[Observer]) -> str:
    """What is to be said where the default takes the place of observers that were asked for."""
    if not asked or any(one.fits(ladder.modality) for one in asked):
        return ""
    names = ", ".join(f"{one.name!r} ({one.modality})" for one in asked)
    return (
        f"ladder {ladder.name!r} has stimuli of modality {ladder.modality!r}, which none of the observers asked for "
        f"sees ({names}): its headline is that of the default, {watching[0].name!r}"
    )


def _agree(run: RunDirectory, chosen: list[Ladder], told: Settings, progress: Progress) -> dict[str, Any]:
    """The settings as they will be written down, if the directory is new or was made with the same ones. Damaged ones
    are set aside: each step knows what it was made from, so no result of other settings is taken for one of these.

    Raises:
        ThalwegError: it was made with others, of which it says which differ, or in another format.
    """
    now = {"ladders": [" ".join(ladder.call) or ladder.name for ladder in chosen], **told.affecting()}
    written, path = {"format": tables.FORMAT, **now}, run / "settings.json"
    if not path.is_file():
        return written
    try:
        before = tables.read_record(path)
    except tables.Damaged as damage:
        progress.say(f"{damage.what}; it is written again from this command, and what it does not fit is derived again")
        path.unlink()
        return written
    differ = [
        f"{called(name)} was {before.get(name)!r}, now {now[name]!r}" for name in now if before.get(name) != now[name]
    ]
    if differ:
        raise ThalwegError(
            f"{readable(run.path)}: this run was made with other settings ({'; '.join(differ)}); give the same ones, "
            "or choose another --out"
        )
    return written


def _files(model: Model) -> list[tuple[str, str]]:
    """What a model and its twins are called, each with the name of its files."""
    called = f"rung {model.rung.name!r}, seed {model.seed}, of ladder {model.ladder.name!r}"
    return [(called, model.name), *((f"the twin {twin!r} of {called}", model.stem(twin)) for twin in model.controls)]


def _prepare(
    run: RunDirectory, ladder: Ladder, source: Source, told: Settings, watching: tuple[Observer, ...], stages: Stages
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
        Model(run, ladder, rung, seed, told, splits, data_hash, watching)
        for rung in rungs
        for seed in range(1 if rung.subject else told.seeds_each(ladder.seeds))  # a published one is always the same
    ]
    models = [replace(model, code=model.made_by()) for model in models]  # before any of it runs
    cut(torch.arange(smaller), batch_size=max(model.batch_size for model in models), shards=told.parts)
    _check_kinship(ladder, watching)
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
    features = _embed(splits.pool, watching, told, stages)
    views = _keep_views(splits.pool, watching, features, told)
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
    record(network, model.rung.layers, model.pool, torch.arange(2), k=2, sample=2)
    memory_note = _check_memory(network, model, stimuli)
    device, precision = model.settings.hardware, model.settings.precision
    problems = checks.problems(network, model.pool, model.rung.layers, device=device, precision=precision)
    problems = [problem for problem in problems if problem.kind != "finite"]  # an untrained one may well overflow
    checks.refuse(problems, model.rung.name)
    return memory_note, [f"{model.rung.name}: {problem.text}" for problem in problems]


def _check_memory(network: nn.Module, model: Model, stimuli: int) -> str:
    """What is to be said of the memory that recording a model needs; ThalwegError where there is less."""
    need = memory.needed(
        memory.widths(network, model.rung.layers, model.pool, device=model.settings.hardware),
        model.controls,
        basis=model.basis,
        k=model.settings.k,
        sample=model.settings.sample,
        stimuli=stimuli,
        batch_size=model.batch_size,
        statistics=statistics_kept(model.splits.pool),
    )
    return memory.check(need, ladder=model.ladder.name, rung=model.rung.name, device=model.settings.hardware)


def _check_kinship(ladder: Ladder, watching: tuple[Observer, ...]) -> None:
    """Refuse an observer that sees with the weights of a model that it would judge."""
    for rung in ladder.rungs:
        for one in watching:
            if rung.subject and one.relation(rung.subject.family) == "itself":
                raise ThalwegError(
                    f"observer {one.name!r} sees with the weights of rung {rung.name!r} of ladder {ladder.name!r}, and "
                    "no model is judged by itself; choose another with --observer, as hog_vgg"
                )


def _embed(pool: Stimuli, watching: tuple[Observer, ...], told: Settings, stages: Stages) -> dict[str, Path]:
    """Files that hold the observers' feature vectors of the pool, from the cache where it has them."""
    content = pool.content_hash()
    sources = [one for one in watching if one.features]
    files = {
        one.name: told.cache.absolute()
        / f"{file_name(one.name)}-{one.version}-{digest(_makes(one, pool), content)}.safetensors"
        for one in sources
    }
    jobs = []
    for one in sources:
        if not _whole(files[one.name]):
            size = PIECE if one.piecewise else len(pool)
            jobs += [(one, pool.take(piece)) for piece in torch.arange(len(pool)).split(size)]
    if jobs:
        tables.writable(told.cache, "--cache")
    parts: dict[str, dict[int, Seen]] = {}  # of the observers whose last piece is not there yet
    pieces = Counter(one.name for one, _ in jobs)
    with stages("embed", len(jobs)) as advance:
        for place, part in engine.run(_look, jobs, told.where):
            one = jobs[place][0]
            mine = parts.setdefault(one.name, {})
            mine[place] = part
            if len(mine) == pieces[one.name]:
                _keep_features(one, parts.pop(one.name), files[one.name])
            advance()
    return files


def _keep_features(one: Observer, parts: dict[int, Seen], file: Path) -> None:
    """Write what an observer made of the pool, piece by piece, to one file."""
    ordered = [dict(parts.pop(place)) for place in sorted(parts)]
    seen = {what: _joined([part.pop(what) for part in ordered]) for what in list(ordered[0])}
    check_telling(one, seen)
    tables.write_tensors(file, seen)


def _joined(parts: list[Tensor]) -> Tensor:
    """Rows of all parts, one after another. The list is emptied on the way: no more than one part is there twice."""
    whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:]))
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def _keep_views(
    pool: Stimuli, watching: tuple[Observer, ...], features: Mapping[str, Path], told: Settings
) -> dict[str, Path]:
    """Files that hold what each observer answers by, made once: workers map them into memory, where all share them."""
    views = {}
    for one in watching:
        names = one.parts or (one.name,)
        made_from = digest([features[name].name for name in names], one.whole, one.names_classes, pool.content_hash())
        file = told.cache.absolute() / f"{file_name(one.name)}-{one.version}-view-{made_from}.safetensors"
        views[one.name] = file
        if not _whole(file, "dictionary"):
            tables.writable(told.cache, "--cache")
            view = prepare(one, {name: tables.read_tensors(features[name]) for name in names}, pool)
            kept = {"dictionary": view.dictionary, "embedding": view.embedding}
            tables.write_tensors(file, {what: values for what, values in kept.items() if values is not None})
    return views


def _makes(one: Observer, pool: Stimuli) -> list[str]:
    """What an observer's vectors are made by: its functions, and what the stimuli say of themselves."""
    return [identity(made_by) for made_by in (one.features, one.dictionary, type(pool)) if made_by]


def _look(job: tuple[Observer, Stimuli]) -> Seen:
    """What one observer makes of some stimuli."""
    return look(*job)


def _whole(file: Path, what: str = "features") -> bool:
    """Whether a file of the cache can be read and holds this; a damaged one is made again."""
    try:
        return file.is_file() and what in tables.read_tensors(file)
    except ThalwegError:
        return False


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
    reasons = {model.task: model.run.undone(f"{step}-{model.task}", inputs(model)) for model in models}
    for reason in {reason for reason in reasons.values() if reason.endswith("damaged")}:
        stages.progress.say(f"{reason}: derived again")
    undone = [model for model in reversed(models) if reasons[model.task]]  # the last rungs cost most: they go first
    todo = _together(undone) if step == "train" else [[model] for model in undone]
    failures = []
    with stages(step, len(todo)) as advance:
        for place, failure in engine.run(task, todo, models[0].settings.where):
            if failure:
                first = todo[place][0]
                failures.append(f"ladder {first.ladder.name!r}, rung {first.rung.name!r}, seed {first.seed}: {failure}")
            advance()
    if failures:
        what = "models" if models[0].shard is None else "shards"
        raise ThalwegError(
            f"{len(failures)} of {len(models)} {what} failed; the others are done and kept. "
            + "\n".join(sorted(failures)[:5])
        )


def _train(models: list[Model], stages: Stages) -> None:
    """Train all models that are trained here, and find out how strong all are; what is in pieces, piece by piece."""
    if normalising := [one for one in models if one.normalises]:
        _do("settle", settle_models, normalising, Model.train_inputs, stages)
    in_pieces = [one for one in models if one.in_pieces]
    _share_out("strength", look_at_shards, in_pieces, Model.train_inputs, stages, before="train")
    _do("train", train_models, models, Model.train_inputs, stages)


def _measure(models: list[Model], told: Settings, stages: Stages) -> None:
    """Measure all models; of those that are recorded in shards, the shards first, which are not needed any more when
    all is measured.
    """
    if told.parts > 1:
        _share_out("record", record_shards, models, Model.measure_inputs, stages, before="measure")
    _do("measure", measure_models, models, Model.measure_inputs, stages)
    shutil.rmtree(models[0].run / SHARDS, ignore_errors=True)
    for step in ("strength", "record"):
        for stamp in (models[0].run / "steps").glob(f"{step}-*.json"):
            stamp.unlink()


def _share_out(
    step: str,
    task: Callable[[list[Model]], str],
    models: list[Model],
    inputs: Callable[[Model], str],
    stages: Stages,
    *,
    before: str,
) -> None:
    """Do a task for each shard of the models whose next step, which puts the shards together, is not done already."""
    undone = [one for one in models if one.run.undone(f"{before}-{one.task}", inputs(one))]
    shards = [replace(model, shard=shard) for model in undone for shard in range(model.settings.parts)]
    if shards:
        _do(step, task, shards, inputs, stages)


def _together(models: list[Model]) -> list[list[Model]]:
    """The models in groups that are trained at once: the checkpoints of one run, in order, or each by itself."""
    groups: dict[tuple[str, ...], list[Model]] = {}
    for model in models:
        rung = "" if model.ladder.course else model.rung.name
        groups.setdefault((model.ladder.name, rung, str(model.seed)), []).append(model)
    return [sorted(group, key=lambda model: model.rung.checkpoint) for group in groups.values()]


def _gather(run: RunDirectory, models: list[Model], stages: Stages) -> None:
    """Put the tables together from the parts of all models, if any of them is new."""
    made = [
        "units.parquet",
        "models.parquet",
        "scores.parquet",
        "layers.parquet",
        "distributions.parquet",
        "missing.parquet",
        "gallery.parquet",
    ]
    inputs = digest([tables.read_json(run / f"steps/measure-{model.name}.json") for model in models], made)
    with stages("tables", 1) as advance:
        if run.undone("tables", inputs):
            for name, frame in gathering.gather(run, models).items():
                tables.write_frame(run / f"{name}.parquet", frame)
            run.finish("tables", inputs, made)
        advance()


def _relatives(ladder: Ladder, one: Observer) -> list[str]:
    """The rungs whose network is of the family that an observer sees with."""
    return [rung.name for rung in ladder.rungs if rung.subject and one.relation(rung.subject.family)]


def _record(models: list[Model], told: Settings, stages: Stages) -> dict[str, Any]:
    """What run.json says: how to do it again, on what it rests, and what it cost."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "format": tables.FORMAT,
        "settings": told.affecting(),
        "ladders": {
            model.ladder.name: {
                "description": model.ladder.description,
                "call": list(model.ladder.call),
                "modality": model.ladder.modality,
                "strength": model.ladder.strength,
                "observers": [
                    {
                        "name": one.name,
                        "version": one.version,
                        "control": one.control,
                        "relatives": _relatives(model.ladder, one),
                    }
                    for one in model.watching
                ],
                "data_hash": model.data_hash,
                "notes": list(notes_of(model.splits.pool)),
                "warnings": list(model.notes),
                "twins": {
                    one.rung.name: note
                    for one in models
                    if one.ladder.name == model.ladder.name and (note := twin_note(one))
                },
                "left_out": list(getattr(model.splits.pool, "left_out", ())),
                "stimuli": {part: len(getattr(model.splits, part)) for part in ("train", "validation", "pool")},
            }
            for model in models
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": told.hardware,
        "seconds": stages.seconds,
        "peak_memory_mib": round(peak / 1024),
    }
