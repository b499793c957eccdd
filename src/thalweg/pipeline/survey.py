"""The one loop: from ladders to a run directory that holds their curves and verdicts.

Each step has a name, is made from inputs with a hash, leaves files, and is done again only if its inputs changed or a
file is missing or damaged. A survey that was interrupted goes on where it stopped when the command is given again, and
ends with the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thalweg import ladders
from thalweg.compute import engines as engine
from thalweg.downloads.missing import fetches_on_request
from thalweg.errors import ThalwegError, readable
from thalweg.files import names, whole
from thalweg.files.identity import digest
from thalweg.files.names import file_name
from thalweg.ladders import published
from thalweg.models.records import Ladder
from thalweg.observers import base
from thalweg.observers.base import Observer
from thalweg.pipeline import tables as gathering
from thalweg.pipeline import verdicts as curves
from thalweg.pipeline.bases import check_bases, in_other_bases
from thalweg.pipeline.job import Model
from thalweg.pipeline.prepare import files_of, prepare_models
from thalweg.pipeline.provenance import run_record
from thalweg.pipeline.request import (
    as_list,
    check_ladder,
    check_observers,
    check_twins,
    note_on_default,
    observers_of,
    requested_observers,
    sources_of,
)
from thalweg.pipeline.retraining import say_cost
from thalweg.pipeline.settings import Settings, called, settings_of
from thalweg.pipeline.steps import (
    capability_all,
    concepts_all,
    dictionaries_all,
    edits_all,
    factor_all,
    measure_all,
    train_all,
)
from thalweg.pipeline.track import track_results, track_training
from thalweg.progress import Progress, Silent, Stages
from thalweg.runs import directory
from thalweg.runs.directory import RunDirectory
from thalweg.runs.run import Run
from thalweg.runs.units import remove_others, settle_places
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Source
from thalweg.tracking.trackers import trackers


@fetches_on_request
def survey(
    *which: str | Ladder,
    out: str | Path | None = None,
    observer: Sequence[str | Observer] | str | Observer = (),
    data: Sequence[str | Path] | str | Path = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Measure every unit of every model of some ladders, and decide the shape of each ladder's curve.

    Call it again with the same arguments to continue a survey that was interrupted: what is done is kept.

    Args:
        *which: Ladders, by name (`thalweg list ladders`) or as records.
        out: The run directory; by default `runs/` and the names of the ladders.
        observer: Observers, by name or as records. The first that sees a ladder's stimuli answers for its headlines;
            without any, the default observer of the ladder's modality does.
        data: Files or folders with the stimuli, in place of those that a ladder brings along; written LADDER=PATH
            where there are several ladders.
        progress: What is told of each stage and step; by default nothing is shown.
        **settings: Any other setting by its name, as `seeds`, `workers` or `quick`; the page on settings lists them.

    Returns:
        The finished run, with its tables and verdicts. `write_report` makes the report from it.

    Raises:
        ThalwegError: A mistake that the user can mend, before the long work wherever possible; or models that failed,
            after all others are done.

    Example:
        `ladder` is the one of the tutorial "A ladder of your own".

        >>> import thalweg
        >>> from ladder import ladder
        >>> run = thalweg.survey(
        ...     ladder, observer="hog", quick=True, seeds=1, workers=1, out="runs/small-digits"
        ... )
        >>> run.verdict["small-digits"]["predictable"]["verdict"]
        'cannot tell'
    """
    request = _request(which, as_list(observer), as_list(data), settings)
    run = RunDirectory(Path(out) if out else usual_directory(request.ladders))
    with run.locked():
        _survey(run, request, Stages(progress or Silent()))
    return Run(run.path, {ladder.name: ladder for ladder in request.ladders})


def usual_directory(chosen: Sequence[Ladder]) -> Path:
    """The run directory of a survey of these ladders, unless the user names another."""
    return Path("runs") / "-".join(file_name(ladder.name) for ladder in chosen)


@dataclass(frozen=True, eq=False)
class Request:
    """What a survey is asked for, checked."""

    ladders: list[Ladder]
    settings: Settings
    sources: dict[str, Source]  # of stimuli, by ladder
    asked: list[Observer]  # by the user
    observers: dict[str, tuple[Observer, ...]]  # by ladder, the headline's first


def _request(
    which: Sequence[str | Ladder], observer: Sequence[object], data: Sequence[object], options: Mapping[str, Any]
) -> Request:
    """What the arguments of `survey` ask for.

    Raises:
        ThalwegError: as for `survey`.
    """
    if not which:
        raise ThalwegError(f"name at least one ladder; there are: {', '.join(ladders.LADDERS)}")
    paths = tuple(map(str, data))
    _check_images_named(which, paths)
    chosen = [ladder if isinstance(ladder, Ladder) else ladders.find(ladder) for ladder in which]
    if len({ladder.name for ladder in chosen}) < len(chosen):
        raise ThalwegError("two of the ladders have the same name")
    asked = requested_observers(observer)
    settings = settings_of({**options, "observer": tuple(each.name for each in asked), "data": paths})
    sources = sources_of(chosen, settings)
    check_observers(chosen, asked)
    observers = {ladder.name: observers_of(ladder, asked) for ladder in chosen}
    for ladder in chosen:
        check_ladder(ladder)
    check_twins(chosen, settings.twins)
    check_bases(settings)
    engine.ready(settings.engine_config)
    return Request(chosen, settings, sources, asked, observers)


def _survey(run: RunDirectory, request: Request, stages: Stages) -> None:
    """Do every step of a survey that is not done already."""
    settings = request.settings
    _note_defaults(request, stages.progress)
    written = check_settings(run, request.ladders, settings, stages.progress)
    run.remove_partials()
    models = [
        model
        for ladder in request.ladders
        for model in prepare_models(
            run, ladder, request.sources[ladder.name], settings, request.observers[ladder.name], stages
        )
    ]
    measured = [*models, *in_other_bases(models, settings)]
    names.same_files(file for model in measured for file in files_of(model))
    if not (run / "settings.json").is_file():  # not before: a mistaken command leaves no trace
        whole.write_json(run / "settings.json", written)
    measured = [replace(model, place=place) for place, model in enumerate(measured)]
    models, others = measured[: len(models)], measured[len(models) :]
    settle_places(run, [model.name for model in measured])
    say_cost(models, stages.progress)
    tell = trackers(settings.track, run / "tracking", run.path.name)
    train_all(models, stages)
    track_training(models, tell)
    dictionaries_all(measured, stages)
    measure_all(measured, settings, stages)
    factor_all(models, stages)
    capability_all(models, stages)
    concepts_all(models, stages)
    edits_all(models, stages)
    _gather(run, models, others, stages)
    headline = {ladder: observers[0].name for ladder, observers in request.observers.items()}
    fields = {ladder.name: modalities.of(ladder) for ladder in request.ladders if ladder.independent}
    independent = {ladder: modality.field or modality.name for ladder, modality in fields.items()}
    curves.judge_all(run, settings, headline, independent, stages)
    whole.write_json(run / "run.json", run_record(models, settings, request.sources, stages))
    track_results(run, settings, models[0].basis, stages.seconds, tell)


def _note_defaults(request: Request, progress: Progress) -> None:
    """Tell the user where an observer is not the expected one."""
    for modality in {modalities.of(ladder).name: modalities.of(ladder) for ladder in request.ladders}.values():
        taken = base.default(modality).name
        if not request.asked and modality.needs and taken != modality.observer:
            where = f"pip install 'thalweg[{modality.name}]'" if modalities.ships(modality) else modality.needs
            progress.say(f"observer {taken!r} takes the place of {modality.observer!r}, which needs: {where}")
    for ladder in request.ladders:
        if note := note_on_default(ladder, request.asked, request.observers[ladder.name]):
            progress.say(note)


def _check_images_named(which: Sequence[str | Ladder], data: Sequence[str]) -> None:
    """Check that ladders of published models, which take long to load, have the images that they need.

    Raises:
        ThalwegError: one has none.
    """
    for name in which:
        named = any("=" not in path or path.startswith(f"{name}=") for path in data)
        if isinstance(name, str) and name in ladders.PUBLISHED and not named:
            raise published.no_images(name)


def check_settings(run: RunDirectory, chosen: list[Ladder], settings: Settings, progress: Progress) -> dict[str, Any]:
    """The settings for settings.json, if the directory is new or was made with the same ones. A damaged settings.json
    is removed: each step knows what it was made from, so no result of other settings is taken for one of these.

    Raises:
        ThalwegError: the run was made with other settings (names those that differ), or in another format.
    """
    now = {"ladders": [" ".join(ladder.call) or ladder.name for ladder in chosen], **settings.affecting()}
    written, path = {"format": directory.FORMAT, **now}, run / "settings.json"
    if not path.is_file():
        return written
    try:
        before = directory.read_record(path)
    except whole.Damaged as damage:
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


def _optional(model: Model) -> list[str]:
    """The steps that only some models go through, of those whose rows the tables hold."""
    return ["capability"] * model.settings.weighs_capability + _of_ladder(model)


def _of_ladder(model: Model) -> list[str]:
    """The steps that a model goes through because its ladder has concepts, or facts or goals to edit."""
    there = {"concepts": model.ladder.concepts is not None, "edits": model.ladder.edited}
    return [step for step, wanted in there.items() if wanted]


def _gather(run: RunDirectory, models: list[Model], others: list[Model], stages: Stages) -> None:
    """Put the tables together from the parts of all models, and of those in `others` bases, if any of them is new."""
    made = [
        "models.parquet",
        "scores.parquet",
        "populations.parquet",
        "layers.parquet",
        "distributions.parquet",
        "missing.parquet",
        "gallery.parquet",
        "factors.parquet",
        "relations.parquet",
        "claims.parquet",
        "capability.parquet",
        "concepts.parquet",
        "edits.parquet",
    ]
    steps = ("measure", "factors") if models[0].factors else ("measure",)
    done = [(step, model) for model in models for step in (*steps, *_optional(model))]
    stamps = [whole.read_json(run / f"steps/{step}-{model.name}.json") for step, model in done]
    stamps += [whole.read_json(run / f"steps/measure-{model.name}.json") for model in others]
    inputs = digest(stamps, made, gathering.VERSION)
    with stages("tables", 1) as advance:
        if run.stale_reason("tables", inputs):
            remove_others(run.path, [model.name for model in (*models, *others)])
            for name, frame in gathering.gather(run, models, others).items():
                whole.write_frame(run / f"{name}.parquet", frame)
            run.finish("tables", inputs, made)
        advance()
