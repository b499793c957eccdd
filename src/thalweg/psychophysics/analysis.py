"""From the responses of a study to its analysis: with and without the excluded, beside machines, and by the verdict."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError
from thalweg.files import whole
from thalweg.measures.mis import TEMPERATURE
from thalweg.progress import Progress, Silent
from thalweg.psychophysics.curves import Strengths, judged
from thalweg.psychophysics.detection import lapse_of_one
from thalweg.psychophysics.exclusion import blinded, counts, exclude, passing
from thalweg.psychophysics.summary import summarise, unit_scores
from thalweg.psychophysics.tables import StudyData
from thalweg.psychophysics.temperature import temperatures, trials_of_study
from thalweg.runs.directory import RunDirectory
from thalweg.runs.people import PREFIX, keep_people
from thalweg.runs.run import Run
from thalweg.runs.trials import PER_UNIT
from thalweg.shape.verdict import as_record

VERSION = 1  # of analysis.json; raised when what is written there means something else
KEPT, EVERYONE = "kept", "everyone"


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a study's people answered.

    Attributes:
        record: What analysis.json says.
        participants: A row for each: whether it counts, why not, its accuracy and lapse rate.
        units: A row for each unit: the share of right answers of those that count.
        path: The folder that it was written to; None before.
    """

    record: dict[str, Any]
    participants: pl.DataFrame
    units: pl.DataFrame
    path: Path | None = None


def analyse(
    data: StudyData,
    run: Run | None = None,
    *,
    strengths: Strengths | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse the responses of a study.

    Args:
        data: The study's tables.
        run: The run whose trials were asked. The answers of those that count are put into it.
        strengths: The strengths of models without a run.
        seed: Of what is drawn.
        progress: What is told of the steps.

    Returns:
        The analysis, with and without the excluded.

    Raises:
        ThalwegError: nobody counts, the run is another, its stimuli cannot be made again, or a model has no strength.
    """
    progress = progress or Silent()
    _check_run(data, run)
    excluded = exclude(data.participants, blinded(data.responses), data.rules)
    kept = data.responses.join(excluded.filter("kept"), on="participant", how="semi", maintain_order="left")
    if kept.filter(kind="main").is_empty():
        reasons = "; ".join(f"{count} {reason}" for reason, count in counts(excluded).items())
        raise ThalwegError(f"study {data.name!r}: no participant counts ({reasons}), so there is nothing to analyse")
    summaries: dict[str, dict[str, Any]] = {}
    with progress.stage("analysis", 3) as advance:
        for name, responses in ((KEPT, kept), (EVERYONE, data.responses)):
            if name == EVERYONE and len(kept) == len(responses):
                summaries[name] = summaries[KEPT]  # everyone counts
            else:
                summary = summarise(responses, data.name, seed)
                summaries[name] = judged(summary, responses.filter(kind="main"), data.name, run, strengths, seed)
            advance()
        machines = _machines(data, kept.filter(kind="main"), run)
        advance()
    about = {"version": VERSION, "study": _about(data, run), "exclusion": _exclusion(data, excluded)}
    record = as_record({**about, **summaries, **machines})
    return Analysis(record, _participants(data, excluded), unit_scores(kept.filter(kind="main")))


def _check_run(data: StudyData, run: Run | None) -> None:
    """Check that a run is the one that a study's trials are of.

    Raises:
        ThalwegError: it is not.
    """
    if run is None:
        return
    made_from = data.record.get("run") or {}
    for ladder in data.main["ladder"].unique():
        about = run.record["ladders"].get(ladder)
        if about is None:
            raise ThalwegError(
                f"study {data.name!r} asks about ladder {ladder!r}, and the run has "
                f"{', '.join(run.record['ladders'])}; give the run that it was made from with --run"
            )
        if made_from.get("data_hash") not in (None, about["data_hash"]):
            raise ThalwegError(
                f"the stimuli of ladder {ladder!r} in the run are others than those that study {data.name!r} shows; "
                "give the run that it was made from with --run"
            )
        run.stimuli(ladder)  # before the long work: they may be gone


def _machines(data: StudyData, main: pl.DataFrame, run: Run | None) -> dict[str, Any]:
    """People beside the run's other observers: agreement, and the temperature of `mis`. The answers of people are put
    into the run.

    Raises:
        ThalwegError: the run is another, or its stimuli cannot be made again.
    """
    if run is None:
        return {"agreement": [], "temperature": {"published": TEMPERATURE, "observers": []}}
    design = data.record.get("design") or {}
    asked = trials_of_study(
        run, main, per_unit=design.get("per_unit") or PER_UNIT, matched=bool(design.get("matched", False))
    )
    fitted = [asdict(each) for each in temperatures(run, main, asked)]
    keep_people(RunDirectory(run.path), data.name, main)
    rows = run.agreements().filter(observer=f"{PREFIX}{data.name}").drop("observer", "version").to_dicts()
    for row in rows:
        row["ceiling"] = max(row["reliability"], 0.0) ** 0.5
    return {"agreement": rows, "temperature": {"published": TEMPERATURE, "observers": fitted}}


def _about(data: StudyData, run: Run | None) -> dict[str, Any]:
    about: dict[str, Any] = {"name": data.name}
    about |= {name: data.record[name] for name in ("created", "modality", "layout", "simulated") if name in data.record}
    return about if run is None else {**about, "run": run.path.name}


def _exclusion(data: StudyData, excluded: pl.DataFrame) -> dict[str, Any]:
    """The rules, whom they excluded, and how often they let a guesser through."""
    status = dict(data.participants["status"].value_counts().sort("status").iter_rows())
    catches = int(excluded.filter(pl.col("n_catch") > 0).select(pl.col("n_catch").median()).item() or 0)
    rules = data.rules
    return {
        "rules": None if rules is None else asdict(rules),
        "status": status,
        "n_participants": len(excluded),
        "n_kept": int(excluded["kept"].sum()),
        "reasons": counts(excluded),
        "n_catch": catches,
        "guesser_passes": None if rules is None or not catches else passing(rules, catches, 0.5),
    }


def _participants(data: StudyData, excluded: pl.DataFrame) -> pl.DataFrame:
    """Each participant: whether it counts, how often it was right, and how often it lapsed."""
    answers = data.main.group_by("participant").agg(
        pl.col("correct").mean().alias("value"), pl.col("seconds").median().alias("median_seconds")
    )
    lapses = [
        lapse_of_one(row["n_catch"] - row["catch_right"], row["n_catch"])
        for row in excluded.select("n_catch", "catch_right").iter_rows(named=True)
    ]
    columns = [
        pl.Series(f"lapse{end}", [getattr(each, name) for each in lapses], dtype=pl.Float64)
        for end, name in (("", "value"), ("_low", "low"), ("_high", "high"))
    ]
    rows = excluded.with_columns(columns).join(answers, on="participant", how="left", maintain_order="left")
    status = data.participants.select("participant", "status", "condition")
    return status.join(rows, on="participant", how="left", maintain_order="left")


def write_analysis(analysis: Analysis, folder: Path) -> Analysis:
    """Write analysis.json and the tables of participants and units to a folder."""
    whole.write_frame(folder / "participants.parquet", analysis.participants)
    whole.write_frame(folder / "units.parquet", analysis.units)
    whole.write_json(folder / "analysis.json", analysis.record)
    return Analysis(analysis.record, analysis.participants, analysis.units, folder)
