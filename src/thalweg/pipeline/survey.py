"""The one loop: from ladders to a run directory that holds their curves and verdicts.

Each step has a name, is made from inputs with a hash, leaves files, and is done again only if its inputs changed or a
file is missing or damaged. A survey that was interrupted goes on where it stopped when the command is given again, and
ends with the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg import ladders
from thalweg.compute import engines as engine
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
from thalweg.pipeline.job import Model
from thalweg.pipeline.prepare import files_of, prepare_models
from thalweg.pipeline.provenance import run_record
from thalweg.pipeline.request import (
    as_list,
    check_ladder,
    check_observers,
    note_on_default,
    observers_of,
    requested_observers,
    sources_of,
)
from thalweg.pipeline.settings import Settings, called, settings_of
from thalweg.pipeline.steps import measure_all, train_all
from thalweg.progress import Progress, Silent, Stages
from thalweg.runs import directory
from thalweg.runs.directory import RunDirectory
from thalweg.runs.run import Run


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
    _check_images_named(which, [str(one) for one in as_list(data)])
    chosen = [one if isinstance(one, Ladder) else ladders.find(one) for one in which]
    if len({ladder.name for ladder in chosen}) < len(chosen):
        raise ThalwegError("two of the ladders have the same name")
    asked = requested_observers(as_list(observer))
    given = {"observer": tuple(one.name for one in asked), "data": tuple(map(str, as_list(data)))}
    told = settings_of({**settings, **given})
    sources = sources_of(chosen, told)
    check_observers(chosen, asked)
    observers = {ladder.name: observers_of(ladder, asked) for ladder in chosen}
    for ladder in chosen:
        check_ladder(ladder)
    engine.ready(told.engine_config)
    run = RunDirectory(Path(out) if out else Path("runs") / "-".join(file_name(ladder.name) for ladder in chosen))
    with run.locked():
        stages = Stages(progress or Silent())
        for modality in dict.fromkeys(ladder.modality for ladder in chosen):
            if not asked and (taken := base.default(modality).name) != base.DEFAULTS.get(modality, taken):
                stages.progress.say(
                    f"observer {taken!r} takes the place of {base.DEFAULTS[modality]!r}, "
                    f"which needs: pip install 'thalweg[{modality}]'"
                )
        for ladder in chosen:
            if note := note_on_default(ladder, asked, observers[ladder.name]):
                stages.progress.say(note)
        settings_now = check_settings(run, chosen, told, stages.progress)
        run.remove_partials()
        models = [
            model
            for ladder in chosen
            for model in prepare_models(run, ladder, sources[ladder.name], told, observers[ladder.name], stages)
        ]
        names.same_files(file for model in models for file in files_of(model))
        if not (run / "settings.json").is_file():  # not before: a mistaken command leaves no trace
            whole.write_json(run / "settings.json", settings_now)
        train_all(models, stages)
        measure_all(models, told, stages)
        _gather(run, models, stages)
        headline = {ladder: some[0].name for ladder, some in observers.items()}
        curves.judge_all(run, told, headline, [one.name for one in chosen if one.independent], stages)
        whole.write_json(run / "run.json", run_record(models, told, stages))
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


def check_settings(run: RunDirectory, chosen: list[Ladder], told: Settings, progress: Progress) -> dict[str, Any]:
    """The settings as they will be written down, if the directory is new or was made with the same ones. Damaged ones
    are set aside: each step knows what it was made from, so no result of other settings is taken for one of these.

    Raises:
        ThalwegError: it was made with others, of which it says which differ, or in another format.
    """
    now = {"ladders": [" ".join(ladder.call) or ladder.name for ladder in chosen], **told.affecting()}
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
    inputs = digest([whole.read_json(run / f"steps/measure-{model.name}.json") for model in models], made)
    with stages("tables", 1) as advance:
        if run.stale_reason("tables", inputs):
            for name, frame in gathering.gather(run, models).items():
                whole.write_frame(run / f"{name}.parquet", frame)
            run.finish("tables", inputs, made)
        advance()
