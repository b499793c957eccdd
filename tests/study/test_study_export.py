"""From a run to a study and from its database to published tables."""

import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest import mock

import polars as pl
import pytest

from support.studies import SETTINGS, go_through, right, study_in, surveyed
from support.told import Told
from thalweg import ThalwegError, cli, open_run, study_commands
from thalweg.files.whole import read_json
from thalweg.study import export
from thalweg.study.columns import PARTICIPANTS, RESPONSES
from thalweg.study.create import create
from thalweg.study.design import Study, open_study
from thalweg.study.power import prospects
from thalweg.study.serving import Links
from thalweg.study.session import Sessions
from thalweg.study.settings import Crowd, StudySettings
from thalweg.study.store import open_store


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_in(tmp_path)


def test_an_export_has_what_was_answered(study: Study, tmp_path: Path):
    store = open_store(study)
    clock = iter(range(int(time.time()), 1 << 40, 4))
    sessions = Sessions(study, store, clock=lambda: float(next(clock)))
    last = go_through(sessions, "one", right)
    assert last["phase"] == "finished"
    go_through(sessions, "two", lambda item, view: 1 - item.correct if view["position"] == 1 else item.correct, most=8)
    counts = export.export(study, store, tmp_path / "export")
    people, answers = (pl.read_parquet(tmp_path / f"export/{name}.parquet") for name in ("participants", "responses"))
    assert counts == {"finished": 1, "started": 1, "responses": 3 + 8 + 8}
    assert people.schema == pl.Schema(PARTICIPANTS)
    assert answers.schema == pl.Schema(RESPONSES)
    assert pl.read_csv(tmp_path / "export/codes.csv").rows() == [("one", last["code"])]
    assert read_json(tmp_path / "export/study.json") == read_json(study.path / "study.json")
    one, two = people.sort("participant").rows(named=True)
    assert (one["status"], one["practice_attempts"], one["condition"], one["source"]) == (
        "finished",
        1,
        "crossed",
        "link",
    )
    assert one["instruction_seconds"] == 4
    assert one["total_seconds"] == 4 * (2 + 3 + 8)
    assert (two["status"], two["practice_attempts"], two["finished_at"]) == ("started", 2, None)
    mine = answers.filter(participant="one")
    assert mine["position"].to_list() == list(range(11))
    assert mine["kind"].to_list()[:3] == ["practice"] * 3
    assert Counter(mine["kind"]) == {"practice": 3, "main": 6, "catch": 2}
    assert mine["correct"].all()
    assert answers.filter(~pl.col("correct"))["participant", "position"].rows() == [("two", 1)]
    trials = {trial.id: trial for rung in ("dense-8", "conv-3") for trial in surveyed().trials("tiny", rung)}
    for row in mine.filter(kind="main").iter_rows(named=True):
        trial = trials[row["trial"]]
        about = ("ladder", "rung", "seed", "control", "layer", "unit", "band")
        assert [row[name] for name in about] == [getattr(trial, name) for name in about]
        assert row["picked"] == trial.correct
    store.close()


def test_an_anonymous_export_names_nobody_and_no_date(study: Study, tmp_path: Path):
    store = open_store(study)
    sessions = Sessions(study, store)
    for name in ("5f2a9c", "77aa01", "c0ffee"):
        go_through(sessions, name, right)
    export.export(study, store, tmp_path / "named")
    export.export(study, store, tmp_path / "export", anonymous=True)
    people, answers = (pl.read_parquet(tmp_path / f"export/{name}.parquet") for name in ("participants", "responses"))
    assert people["participant"].to_list() == ["p1", "p2", "p3"]
    assert set(answers["participant"]) == {"p1", "p2", "p3"}
    assert {moment.year for moment in [*people["started_at"], *people["finished_at"], *answers["answered_at"]]} == {
        2000
    }
    named = pl.read_parquet(tmp_path / "named/participants.parquet")
    assert sorted(people["total_seconds"]) == pytest.approx(sorted(named["total_seconds"]))
    assert sorted(file.name for file in (tmp_path / "export").iterdir()) == [
        "participants.parquet",
        "responses.parquet",
        "study.json",
    ]
    written = b"".join(file.read_bytes() for file in (tmp_path / "export").iterdir())
    assert not any(name.encode() in written for name in ("5f2a9c", "77aa01", "c0ffee", str(surveyed().path.parent)))
    assert store.delete("77aa01") == 1
    assert export.export(study, store, tmp_path / "fewer") == {"finished": 2, "responses": 22}
    assert store.delete("77aa01") == 0
    store.close()


def test_lists_are_balanced_and_no_one_is_asked_about_a_unit_twice(study: Study):
    trials = {row["trial"]: row for row in study.trials.iter_rows(named=True)}
    units: Counter[tuple[str, int]] = Counter()
    for number, asked in enumerate(study.lists["crossed"]):
        main = [trials[trial] for trial in asked if trials[trial]["kind"] == "main"]
        mine = Counter((row["rung"], row["unit"]) for row in main)
        assert len(main) == SETTINGS.trials == len(mine), number
        assert Counter(row["rung"] for row in main).most_common()[0][1] <= 4  # of 4 and 3 units
        assert [trials[trial]["kind"] for trial in asked].count("catch") == SETTINGS.catch
        assert trials[asked[0]]["kind"] == "main"
        units += mine
    assert set(units.values()) == {6, 7}  # 8 lists of 6 over 7 units
    for row in trials.values():
        if row["kind"] == "catch":
            end = (row["high"], row["low"]) if row["correct"] == 0 else (row["low"], row["high"])
            assert [query in side for query, side in zip(row["queries"], end, strict=True)] == [True, True]


def test_a_study_is_the_same_again_and_another_by_another_seed(study: Study, tmp_path: Path):
    again = create(surveyed(), "small", SETTINGS, out=tmp_path / "again", progress=(told := Told()))
    other = create(surveyed(), "small", StudySettings(**{**vars(SETTINGS), "seed": 1}), out=tmp_path / "other")
    assert told.total == told.done == {"stimuli": 1, "trials": len(study.design.models)}
    assert again.lists == study.lists
    assert again.trials.equals(study.trials)
    assert other.lists != study.lists
    assert again.secrets != study.secrets
    assert (again.path / "secret.json").stat().st_mode & 0o077 == 0


def test_each_participant_sees_one_model_between(tmp_path: Path):
    settings = StudySettings(units=3, trials=3, participants=4, catch=1, between=True)
    study = create(surveyed(), "between", settings, out=tmp_path / "between")
    assert study.design.conditions == ("dense-8", "conv-3")
    rungs = {row["trial"]: (row["kind"], row["rung"]) for row in study.trials.iter_rows(named=True)}
    for condition, lists in study.lists.items():
        assert {rungs[t][1] for asked in lists for t in asked if rungs[t][0] == "main"} == {condition}
    store = open_store(study)
    sessions = Sessions(study, store)
    for number in range(4):
        go_through(sessions, str(number), right, most=2)
    people, _ = export.tables(study, store)
    assert Counter(people["condition"]) == {"dense-8": 2, "conv-3": 2}
    store.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"trials": 60}, "--trials is 60, but a participant can be asked about 7 units"),
        ({"units": 0}, "--units is 0; at least 1"),
        ({"catch": 9}, "--catch is 9; no more than --trials"),
        ({"rung": ("dense-9",)}, "no rung of 'tiny' is called 'dense-9'; did you mean 'dense-8'"),
        ({"control": ("twin",)}, "no control of 'tiny' is called 'twin'"),
        ({"ladder": "mnist"}, "no ladder of this run is called 'mnist'"),
    ],
)
def test_a_mistake_in_the_design_is_a_sentence(settings: dict, sentence: str, tmp_path: Path):
    with pytest.raises(ThalwegError, match=sentence):
        create(surveyed(), "wrong", StudySettings(**{**vars(SETTINGS), **settings}), out=tmp_path / "wrong")


def test_a_number_that_is_none_is_a_sentence():
    for made, said in (
        (StudySettings(wait=math.nan), "--wait is nan; at least 0"),
        (StudySettings(wait=math.inf), "--wait is inf; at least 0"),
        (Crowd(sensitivity=math.nan), "--sensitivity is nan; a number"),
        (Crowd(unit_sd=math.inf), "--unit-sd is inf; at least 0"),
    ):
        with pytest.raises(ThalwegError, match=said):
            made.check()


@pytest.mark.parametrize("name", ["", " ", "..", "../x", "a/b", "a\\b", "a\0"])
def test_a_name_that_leads_out_of_the_studies_is_a_sentence(name: str):
    with pytest.raises(ThalwegError, match=r"--name is .*; a name without / .*--out"):
        create(mock.sentinel.run, name)


def test_a_folder_that_is_no_study_or_holds_one_is_a_sentence(study: Study, tmp_path: Path):
    with pytest.raises(ThalwegError, match="there is no study in it"):
        open_study(tmp_path)
    with pytest.raises(ThalwegError, match="there is something in it already"):
        create(surveyed(), "small", SETTINGS, out=study.path)
    (study.path / "trials.parquet").write_bytes(b"PAR1")
    with pytest.raises(ThalwegError, match=r"trials\.parquet: damaged or truncated"):
        _ = study.items
    (study.path / "study.json").write_text('{"version": 1}')
    with pytest.raises(ThalwegError, match=r"study\.json: damaged or truncated"):
        open_study(study.path)


def test_a_database_of_another_study_is_refused(study: Study, tmp_path: Path):
    open_store(study).close()
    other = create(surveyed(), "other", SETTINGS, out=tmp_path / "other")
    with pytest.raises(ThalwegError, match="holds another study than 'other'"):
        open_store(other, f"sqlite:///{study.path / 'responses.db'}")
    with pytest.raises(ThalwegError, match="cannot be opened"):
        open_store(other, "nonsense://")


def test_a_run_whose_stimuli_cannot_be_made_again_is_a_sentence(tmp_path: Path):
    with pytest.raises(ThalwegError, match="'tiny' is none that ships"):
        create(open_run(surveyed().path), "small", SETTINGS, out=tmp_path / "none")
    assert not (tmp_path / "none" / "study.json").exists()


def test_prospects_are_those_of_the_formula_and_better_with_more_people(study: Study, tmp_path: Path):
    found = prospects(surveyed(), study)
    assert found.responses == pytest.approx(8 * 6 / 7, abs=0.05)
    responses, chance = study.design.responses_per_unit, 0.8 * 0.2
    assert found.unit == pytest.approx(1.96 * math.sqrt(chance / responses), rel=1e-3)
    error = math.sqrt(sum((found.spread**2 + chance / responses) / units for units in (4, 3)) / 2)
    assert found.model == pytest.approx(1.96 * error, rel=1e-3)
    assert found.difference == pytest.approx((1.96 + 0.8416) * math.sqrt(2) * error, rel=1e-3)
    assert found.depth is None  # of two models
    more = create(surveyed(), "more", replace(SETTINGS, participants=80), out=tmp_path / "more")
    assert prospects(surveyed(), more).model < found.model
    assert len(found.sentences(2)) == 3


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["thalweg", "study", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    shown = capsys.readouterr()
    return int(end.value.code or 0), shown.out + shown.err


def test_a_package_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(study_commands, "find_spec", lambda name: None if name == "fastapi" else name)
    status, shown = run_command(["links", "any"], monkeypatch, capsys)
    assert (status, "fastapi is not installed; a study needs pip install 'thalweg[study]'" in shown) == (2, True)


def test_commands_link_export_and_delete(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    store = open_store(study)
    go_through(Sessions(study, store), "0001", right)
    store.close()
    name = str(study.path)
    status, shown = run_command(["links", name, "--count", "2", "--address", "https://a.example/"], monkeypatch, capsys)
    numbers, links = zip(*(line.split() for line in shown.splitlines()), strict=True)
    assert (status, numbers) == (0, ("0001", "0002"))
    assert links[0] == Links("https://a.example", study).person("0001")
    status, shown = run_command(["export", name], monkeypatch, capsys)
    assert status == 0
    assert shown.startswith("11 responses of participants (1 finished)")
    assert (study.path / "export" / "responses.parquet").exists()
    assert run_command(["delete-participant", name, "0001"], monkeypatch, capsys) == (0, "deleted: 0001\n")
    status, shown = run_command(["delete-participant", name, "0001"], monkeypatch, capsys)
    assert status == 2
    assert "study 'small' has no participant '0001'" in shown
    status, shown = run_command(["serve", name, "--host", "no.such.host.invalid"], monkeypatch, capsys)
    assert status == 2
    assert "choose another --port or --host" in shown
