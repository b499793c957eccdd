"""People who answered the trials of a run: their analysis, beside machines, in the run and in its report."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from typer.testing import CliRunner

import thalweg
from support.studies import study_in, surveyed
from thalweg import Run, Trial
from thalweg.cli import app
from thalweg.errors import ThalwegError
from thalweg.observers import base
from thalweg.observers.embedding import build_view
from thalweg.psychophysics.analysis import Analysis, analyse, write_analysis
from thalweg.psychophysics.page import render
from thalweg.psychophysics.tables import StudyData, read_export, write_data
from thalweg.psychophysics.temperature import margins, trials_of_study
from thalweg.report.page import render as render_report
from thalweg.study.columns import PARTICIPANTS, RESPONSES
from thalweg.study.create import create
from thalweg.study.design import Study
from thalweg.study.settings import StudySettings

FOLLOWED, TEMPERATURE = "trivial", 0.25
PEOPLE, GUESSERS = 24, 2
Own = tuple[Run, StudyData]


def answered(study: Study, run: Run, folder: Path) -> StudyData:
    """An export in which people follow an observer at a known temperature; the last ones only guess."""
    generator = np.random.default_rng(0)
    main = study.trials.filter(kind="main")
    asked = trials_of_study(run, main, per_unit=study.design.per_unit, matched=study.design.matched)
    margin = margins_of_followed(run, asked)
    by_trial = {row["trial"]: row for row in study.trials.iter_rows(named=True)}
    lists = [each for dealt in study.lists.values() for each in dealt]
    rows = []
    for who in range(PEOPLE):
        for position, trial in enumerate(lists[who % len(lists)]):
            row = by_trial[trial]
            chance = float(expit(margin[trial] / TEMPERATURE)) if row["kind"] == "main" else 1.0
            right = bool(generator.random() < (chance if who < PEOPLE - GUESSERS else 0.5))
            picked = row["correct"] if right else 1 - row["correct"]
            about = {name: row[name] for name in RESPONSES if name in row}
            answer = {"participant": f"p{who:02}", "position": position, "picked": picked, "correct": right}
            rows.append({**dict.fromkeys(RESPONSES), **about, **answer, "confidence": 2, "seconds": 3.0})
    person = {**dict.fromkeys(PARTICIPANTS), "status": "finished", "condition": "crossed", "source": "link"}
    people = [{**person, "participant": f"p{who:02}"} for who in range(PEOPLE)]
    record = {**study.record, "rules": {**study.record["rules"], "side_count": 0}}  # six trials are too few for it
    tables = (pl.DataFrame(people, schema=PARTICIPANTS), pl.DataFrame(rows, schema=RESPONSES))
    write_data(folder / "export", StudyData(folder / "export", record, study.rules, *tables))
    return read_export(folder / "export")


def margins_of_followed(run: Run, asked: Mapping[str, Trial]) -> dict[str, float]:
    pool, followed = run.stimuli("tiny"), base.find(FOLLOWED)
    embedding = build_view(followed, {FOLLOWED: base.extract_features(followed, pool)}, pool).embedding
    assert embedding is not None
    return margins(embedding, asked)


def picks_as_a_language_model(trial: Trial) -> thalweg.Choice:
    """Whoever answers single trials is compared with people."""
    return thalweg.Choice(picked=(trial.correct + (trial.unit % 3 == 0)) % 2)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    folder = tmp_path_factory.mktemp("people")
    made = surveyed()
    shutil.copytree(made.path, folder / "run")
    run = thalweg.open_run(folder / "run", made.given["tiny"])
    run.answer(thalweg.TrialObserver("model", 1, picks_as_a_language_model), per_unit=6)
    return run, answered(study_in(folder), run, folder)


@pytest.fixture(scope="module")
def analysis(own: Own) -> Analysis:
    run, data = own
    return write_analysis(analyse(data, run), data.path / "analysis")


def test_the_analysis_is_written_with_and_without_the_excluded(own: Own, analysis: Analysis) -> None:
    assert analysis.path is not None
    record = json.loads((analysis.path / "analysis.json").read_text())
    assert record == json.loads(json.dumps(analysis.record))
    kept = record["exclusion"]["n_kept"]
    assert record["kept"]["n_participants"] == kept < PEOPLE
    assert record["everyone"]["n_participants"] == PEOPLE
    people = pl.read_parquet(analysis.path / "participants.parquet")
    assert people["participant"].to_list() == own[1].participants["participant"].to_list()
    assert people["kept"].sum() == kept
    units = pl.read_parquet(analysis.path / "units.parquet")
    assert units["n"].sum() == record["kept"]["n_responses"]
    assert all(row["strength"] is not None for row in record["kept"]["models"])


def test_each_seed_of_a_rung_is_a_model(tmp_path: Path) -> None:
    run = surveyed(seeds=2)
    settings = StudySettings(units=2, trials=6, participants=8, catch=2, practice=1, seeds=2)
    study = create(run, "seeds", settings, out=tmp_path / "study")
    names = ["dense-8, seed 0", "dense-8, seed 1", "conv-3, seed 0", "conv-3, seed 1"]
    main = study.trials.filter(kind="main")
    assert set(main["condition"]) == set(names)
    assert {units["unit"].n_unique() for _, units in main.group_by("condition")} == {2}
    analysis = analyse(answered(study, run, tmp_path), run)
    models = analysis.record["kept"]["models"]
    assert {f"{row['rung']}, seed {row['seed']}" for row in models} == set(names)
    assert len({row["strength"] for row in models}) == 4
    (verdict,) = analysis.record["kept"]["verdicts"]
    assert verdict["n_models"] == 2  # seeds are repeats of a rung
    page = render(analysis.record)
    assert all(page.count(name) >= 2 for name in names)  # scores, bands, mixed-effects model


def test_the_temperature_of_the_observer_that_people_follow_is_found(analysis: Analysis) -> None:
    fitted = {row["observer"]: row for row in analysis.record["temperature"]["observers"]}
    assert analysis.record["temperature"]["published"] == 0.16
    assert fitted[FOLLOWED]["low"] < TEMPERATURE < fitted[FOLLOWED]["high"]


def test_people_are_an_observer_of_the_run_and_of_its_report(own: Own, analysis: Analysis) -> None:
    run, data = own
    mine = run.answers.filter(observer="people:small")
    assert len(mine) == analysis.record["kept"]["n_responses"]
    assert mine["note"].unique().to_list() == [""]
    again = analyse(data, run)  # the same study's answers are replaced, not doubled
    assert len(run.answers.filter(observer="people:small")) == len(mine)
    assert again.record == analysis.record
    assert {FOLLOWED, "corners", "model, version 1"} <= {row["other"] for row in analysis.record["agreement"]}
    known = [row for row in analysis.record["agreement"] if row["reliability"] is not None]
    assert all(row["ceiling"] == pytest.approx(max(row["reliability"], 0) ** 0.5) for row in known)
    page = render_report(run)
    assert "people:small" in page
    assert analysis.record["kept"]["verdicts"][0]["sentence"][:30] in page


def test_the_page_shows_all_parts(analysis: Analysis) -> None:
    page = render(analysis.record)
    for text in ("Who counts", "How far people agree", "People and machines", "Temperature of mis", "Mixed-effects"):
        assert text in page
    assert "<script src" not in page


def test_another_run_and_other_stimuli_are_refused(own: Own) -> None:
    run, data = own
    other = replace(data, responses=data.responses.with_columns(ladder=pl.lit("another")))
    with pytest.raises(ThalwegError, match="asks about ladder 'another', and the run has tiny"):
        analyse(other, run)
    with pytest.raises(ThalwegError, match="the stimuli of ladder 'tiny' in the run are others"):
        analyse(replace(data, record={**data.record, "run": {"data_hash": "0"}}), run)
    renamed = data.responses.with_columns(trial=pl.concat_str("trial", pl.lit("0")))
    with pytest.raises(ThalwegError, match="trials that were asked are not of this run"):
        analyse(replace(data, responses=renamed), run)
    with pytest.raises(ThalwegError, match="tiny"):  # its stimuli come from a ladder that is not at hand
        analyse(data, thalweg.open_run(run.path))


def changed(table: str, how: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        file = folder / f"{table}.parquet"
        how(pl.read_parquet(file)).write_parquet(file)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "participants.parquet").unlink(), "participants.parquet: there is no such file"),
        (lambda folder: (folder / "study.json").unlink(), "study.json: there is no such file"),
        (lambda folder: (folder / "study.json").write_text('{"rules": {"total_seconds": 3}}'), "rules for exclusion"),
        (changed("responses", lambda rows: rows.drop("picked", "kind")), "the columns kind, picked are missing"),
        (changed("responses", lambda rows: rows.clear()), "responses.parquet: the table is empty"),
        (changed("responses", lambda rows: pl.concat([rows, rows])), "has two responses at one position"),
        (changed("responses", lambda rows: rows.filter(participant="p00")), "finished and has no response to a main"),
        (changed("participants", lambda rows: rows.head(3)), "is not in .*participants.parquet"),
        (
            changed("participants", lambda rows: rows.with_columns(status=pl.lit("gone"))),
            "column 'status': 'gone' is impossible; started, finished, left, returned was expected",
        ),
    ],
)
def test_exports_that_do_not_fit_together_are_refused(
    own: Own, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(own[1].path, folder, ignore=shutil.ignore_patterns("analysis"))
    damage(folder)
    with pytest.raises(ThalwegError, match=message):
        read_export(folder)


def test_the_command_analyses_an_export_without_its_run(own: Own, tmp_path: Path) -> None:
    data = own[1]
    result = CliRunner().invoke(app, ["study", "analyse", str(data.path), "--without-run", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "participants count" in result.stdout
    assert json.loads((tmp_path / "analysis.json").read_text())["agreement"] == []
    assert (tmp_path / "analysis.html").is_file()
    record = data.record | {"run": {**data.record["run"], "path": "elsewhere"}}
    write_data(tmp_path / "moved", replace(data, record=record))
    result = CliRunner().invoke(app, ["study", "analyse", str(tmp_path / "moved")])
    assert "elsewhere: the run that the study was made from is not there" in str(result.exception)


def test_simulated_participants_are_never_called_people(own: Own, analysis: Analysis) -> None:
    _, data = own
    simulated = replace(data, record={**data.record, "simulated": True})
    assert simulated.name == f"{data.name} (simulated)"
    page = render(analyse(simulated, None).record)
    assert "The participants are simulated: no person was asked." in page
    assert f"{data.name} (simulated)" in page
    assert "simulated: no person" not in render(analysis.record)
