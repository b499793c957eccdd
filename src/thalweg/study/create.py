"""A study made from a finished run: units and trials drawn, lists dealt, stimuli packed."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.files import whole
from thalweg.files.identity import digest
from thalweg.progress import Progress, Silent
from thalweg.runs.run import Run
from thalweg.study.columns import LISTS, STIMULI, TRIALS
from thalweg.study.design import HOME, PER_TRIAL, RECORD, Design, Rules, Study, Texts, write_study
from thalweg.study.drawing import (
    MODEL,
    OBVIOUS,
    Unit,
    clear_trials,
    deal,
    names_of,
    obvious,
    trials_of_model,
    with_catches,
)
from thalweg.study.settings import StudySettings
from thalweg.trials.items import Trial

CROSSED = "crossed"
SILENT = Silent()
CATCHES = 10  # different catch trials
SECONDS = 8  # that a trial takes, for what participants are told
CONSENT = """You are invited to take part in a study of how understandable parts of artificial neural networks are.

You will see sets of examples and choose which of two further examples fits one set better. This takes about {minutes} \
minutes. There are no risks beyond those of ordinary computer use.

Taking part is voluntary. You may leave at any time, without a reason and without disadvantage.

We store your choices, how confident you are and how long they take, under the id that brought you here, and nothing \
else about you. The choices may be published without that id."""


def create(
    run: Run, name: str, settings: StudySettings | None = None, *, out: Path | None = None, progress: Progress = SILENT
) -> Study:
    """Make a study of a finished run's trials.

    Args:
        run: The run.
        name: The study's name, and the name of its folder in `studies`.
        settings: How it is made.
        out: Another folder for it.
        progress: Where it is said how far the work is.

    Returns:
        The study, in its folder.

    Raises:
        ThalwegError: there is something in the folder already, a number is out of range, the run has no such ladder,
            rung or control, or its stimuli cannot be made again or shown.
    """
    settings = settings or StudySettings()
    settings.check()
    consent = settings.consent_text()
    folder = _folder(name, out)
    models = _models(run, settings)
    ladder = str(models[0]["ladder"])
    names = names_of(models)
    asked = _units(run, models, names, settings, progress)
    models = [model for model in models if names[_key(model)] in asked]
    lists = _lists(asked, settings)
    kinds = {**_beside(run, ladder, asked, settings), "main": _main(asked, lists)}
    tables, stimuli = _tables(kinds, lists, names, settings)
    shown = settings.trials + settings.catches
    minutes = max(1, round(shown * SECONDS / 60) + 2)
    study = Study(
        folder,
        name=name,
        run=_run_record(run, ladder, tables),
        design=_design(settings, models, lists, tables),
        rules=rules_for(shown),
        texts=Texts(settings.title, consent or CONSENT.format(minutes=minutes), settings.prolific_code),
        modality=run.record["ladders"][ladder]["modality"],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_study(study, {**tables, "stimuli": stimuli})
    return study


def _folder(name: str, out: Path | None) -> Path:
    """The folder of a study, which is new or empty.

    Raises:
        ThalwegError: the name cannot be that of a folder in `studies`, or the folder is in use or cannot be written.
    """
    if not name.strip() or name in (".", "..") or any(mark in name for mark in "/\\\0"):
        raise ThalwegError(f"--name is {name!r}; a name without / and \\ was expected (--out names another folder)")
    folder = out if out is not None else HOME / name
    if (folder / RECORD).exists() or (folder.is_dir() and any(folder.iterdir())):
        raise ThalwegError(f"{readable(folder)}: there is something in it already; choose another --name or --out")
    whole.writable(folder, "--out")
    return folder


def _models(run: Run, settings: StudySettings) -> list[dict[str, Any]]:
    """The models that are asked about; of each rung, so many of its first seeds.

    Raises:
        ThalwegError: the run has no such ladder, rung or control, or several ladders and none is named.
    """
    ladders = list(run.record["ladders"])
    if not settings.ladder and len(ladders) > 1:
        raise ThalwegError(
            f"the run has the ladders {', '.join(ladders)}, and a study asks about one of them; name it with --ladder"
        )
    ladder = settings.ladder or ladders[0]
    if ladder not in ladders:
        raise unknown("ladder of this run", ladder, ladders)
    models = run.models.filter(ladder=ladder)
    for column, wanted in (("rung", settings.rung), ("control", settings.control)):
        for each in wanted:
            if each not in models[column].to_list():
                raise unknown(f"{column} of {ladder!r}", each, map(str, models[column].unique()))
        models = models.filter(pl.col(column).is_in(wanted)) if wanted else models
    first = pl.col("seed").rank("dense").over("rung") <= settings.seeds
    models = models.filter(first).sort("order", "control", "seed")
    return [dict(row) for row in models.select(MODEL).unique(maintain_order=True).iter_rows(named=True)]


def _key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(model[name] for name in MODEL)


def _units(
    run: Run,
    models: Sequence[Mapping[str, Any]],
    names: Mapping[tuple[Any, ...], str],
    settings: StudySettings,
    progress: Progress,
) -> dict[str, dict[Unit, list[Trial]]]:
    """By model, the trials of the units that are asked about; models without any are left out, unless they are named.

    Raises:
        ThalwegError: a named model has none, or a participant would be asked about a unit twice.
    """
    per = {"per_unit": settings.per_unit, "matched": settings.matched}
    asked = {}
    with progress.stage("stimuli", 1) as advance:
        run.stimuli(str(models[0]["ladder"]))  # before the other work: they may be gone
        advance()
    with progress.stage("trials", len(models)) as advance:
        for model in models:
            asked[names[_key(model)]] = trials_of_model(run, model, settings.units, settings.seed, per)
            advance()
    empty = [name for name, units in asked.items() if not units]
    if empty and (settings.rung or len(empty) == len(asked)):
        raise ThalwegError(f"{empty[0]!r} has no unit that makes a trial; name others with --rung")
    asked = {name: units for name, units in asked.items() if units}
    most = min(map(len, asked.values())) if settings.between else sum(map(len, asked.values()))
    if settings.trials > most:
        raise ThalwegError(
            f"--trials is {settings.trials}, but a participant can be asked about {most} units, each of them once; "
            "take fewer --trials or more --units"
        )
    return asked


def _lists(asked: Mapping[str, Mapping[Unit, Sequence[Trial]]], settings: StudySettings) -> dict[str, list[list[str]]]:
    """By condition, the lists of main trials."""
    groups = {name: {name: units} for name, units in asked.items()} if settings.between else {CROSSED: dict(asked)}
    share = -(-settings.participants // len(groups))
    seeds = {condition: digest("lists", settings.seed, condition) for condition in groups}
    return {condition: deal(units, share, settings.trials, seeds[condition]) for condition, units in groups.items()}


def _beside(
    run: Run, ladder: str, asked: Mapping[str, Mapping[Unit, Any]], settings: StudySettings
) -> dict[str, list[Trial]]:
    """The trials of the practice, most of them obvious, and the catch trials, which all are."""
    known = [unit for units in asked.values() for unit in units]
    clear = clear_trials(run, ladder, CATCHES + settings.practice, known)
    plain = min(OBVIOUS, settings.practice)
    practice = [obvious(trial) for trial in clear[CATCHES : CATCHES + plain]] + clear[CATCHES + plain :]
    return {
        "practice": [replace(trial, id=digest("practice", trial.id)) for trial in practice],
        "catch": [replace(obvious(trial), id=digest("catch", trial.id)) for trial in clear[:CATCHES]],
    }


def _main(asked: Mapping[str, Mapping[Unit, Sequence[Trial]]], lists: Mapping[str, list[list[str]]]) -> list[Trial]:
    """The main trials that some list asks."""
    used = {trial for each in lists.values() for one in each for trial in one}
    return [trial for units in asked.values() for trials in units.values() for trial in trials if trial.id in used]


def _tables(
    kinds: Mapping[str, Sequence[Trial]],
    lists: Mapping[str, list[list[str]]],
    names: Mapping[tuple[Any, ...], str],
    settings: StudySettings,
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """The tables of trials and of lists, and the one of stimuli."""
    shelf, catches = Shelf(names), kinds["catch"]
    rows = [shelf.row(trial, kind) for kind, trials in kinds.items() for trial in trials]
    dealt: list[tuple[str, int, int, str]] = []
    for condition, each in lists.items():
        for number, one in enumerate(each):
            mine = [catches[(number + turn) % len(catches)].id for turn in range(settings.catches)]
            order = with_catches(one, mine, digest("catches", settings.seed, condition, number))
            dealt += [(condition, number, place, trial) for place, trial in enumerate(order)]
    tables = {
        "trials": pl.DataFrame(rows, schema=TRIALS).unique("trial", keep="first", maintain_order=True),
        "lists": pl.DataFrame(dealt, schema=LISTS, orient="row"),
    }
    return tables, shelf.table()


class Shelf:
    """The stimuli of a study by digest, each packed once."""

    def __init__(self, names: Mapping[tuple[Any, ...], str]) -> None:
        self.names = names  # of models
        self.packed: dict[str, tuple[bytes | None, list[str] | None]] = {}

    def put(self, trial: Trial, ids: Iterable[int]) -> list[str]:
        """Pack stimuli of a trial; return their digests.

        Raises:
            ThalwegError: they are neither pictures nor text.
        """
        names = []
        for each in ids:
            shown = trial.stimuli.show(each)
            if not shown.png and not shown.pieces:
                raise ThalwegError(
                    f"the stimuli of ladder {trial.ladder!r} are shown as HTML; a study shows pictures and text"
                )
            content = shown.png or "\x1f".join(shown.pieces).encode("utf-8", "backslashreplace")
            name = hashlib.sha256(content).hexdigest()[:32]
            self.packed[name] = (shown.png or None, list(shown.pieces) if not shown.png else None)
            names.append(name)
        return names

    def row(self, trial: Trial, kind: str) -> dict[str, Any]:
        """A row of the table of trials."""
        about = {name: getattr(trial, name) for name in (*MODEL, "layer", "unit", "band", "correct")}
        stimuli = {
            name: self.put(trial, ids)
            for name, ids in (
                ("high", trial.high_references),
                ("low", trial.low_references),
                ("queries", trial.queries),
            )
        }
        model = self.names[_key(about)] if kind == "main" else ""
        return {"trial": trial.id, "kind": kind, "condition": model, **about, **stimuli}

    def table(self) -> pl.DataFrame:
        """The table of stimuli."""
        return pl.DataFrame([(name, *each) for name, each in self.packed.items()], schema=STIMULI, orient="row")


def _design(
    settings: StudySettings,
    models: Sequence[dict[str, Any]],
    lists: Mapping[str, list[list[str]]],
    tables: Mapping[str, pl.DataFrame],
) -> Design:
    main = tables["trials"].filter(kind="main")
    units = main.select(*MODEL, "layer", "unit").n_unique()
    return Design(
        units=settings.units,
        trials=settings.trials,
        catch=settings.catches,
        practice=settings.practice,
        participants=settings.participants,
        conditions=tuple(lists),
        models=tuple(models),
        bands=tuple(sorted(main["band"].unique())),
        matched=settings.matched,
        per_unit=settings.per_unit,
        responses_per_unit=round(sum(map(len, lists.values())) * settings.trials / units, 2),
        break_every=settings.break_every,
        wait=settings.wait,
        seed=settings.seed,
    )


def _run_record(run: Run, ladder: str, tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """What identifies the run and the trials."""
    return {
        "path": readable(run.path.absolute()),
        "format": run.record["format"],
        "thalweg": run.record["versions"].get("thalweg", ""),
        "ladder": ladder,
        "data_hash": run.record["ladders"][ladder]["data_hash"],
        "trials_hash": digest("trials", *tables["trials"]["trial"], *tables["lists"]["trial"]),
    }


def rules_for(shown: int) -> Rules:
    """The published thresholds, where they depend on the number of trials in proportion to it."""
    low, high = (round(each * shown, 1) for each in PER_TRIAL)
    return Rules(total_seconds=(low, high), side_count=max(1, round(5 * shown / 45)))
