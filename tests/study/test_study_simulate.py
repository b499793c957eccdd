"""Synthetic participants: through the server's HTTP interface, in a browser, and as they were said to be."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from support.studies import go_through, right, study_in
from thalweg import ThalwegError, cli
from thalweg.files.whole import read_json, write_json
from thalweg.study import export
from thalweg.study.design import Item, Study, open_study
from thalweg.study.people import person_of
from thalweg.study.session import Sessions
from thalweg.study.settings import Crowd
from thalweg.study.simulate import simulate
from thalweg.study.store import open_store

FAST = 40.0  # times as fast as real


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_in(tmp_path)


def test_participants_take_part_over_http_and_in_a_browser(study: Study):
    record = read_json(study.path / "study.json")
    write_json(study.path / "study.json", {**record, "design": {**record["design"], "wait": 0}})
    study = open_study(study.path)
    store = open_store(study)
    crowd = Crowd(careless=0.25, dropout=0.25, seed=3)
    people = simulate(study, store, 12, crowd, visual=1, speed=FAST)
    table, answers = export.tables(study, store)
    truth = read_json(study.path / "simulated.json")
    assert truth["crowd"]["careless"] == 0.25
    assert [person["name"] for person in truth["people"]] == sorted(table["external"])
    leavers = {person.name for person in people if person.leaves is not None}
    careless = {person.name for person in people if person.careless}
    assert leavers
    assert careless - leavers
    finished = table.filter(status="finished")
    assert set(finished["external"]) == {person.name for person in people} - leavers
    assert set(table.filter(status="returned")["external"]) == {p.name for p in people if p.says_so} & leavers
    times = finished.with_columns(pl.col("external").is_in(careless).alias("careless"))
    times = times.filter(pl.col("external") != people[0].name)  # the browser runs in real time
    slow, fast = (times.filter(careless=value)["instruction_seconds"] for value in (False, True))
    assert 1 < fast.max() < slow.min()
    catches = answers.filter(kind="catch", external=people[1].name)
    assert len(catches) == 2
    assert len(answers.filter(external=people[0].name)) >= 11  # the one in the browser
    assert simulate(study, store, 1, speed=FAST)[0].name == "simulated-0013"
    export.export(study, store, study.path / "out", anonymous=True)
    assert read_json(study.path / "out/study.json")["simulated"] is True
    store.close()


def test_a_person_chooses_as_signal_detection_says():
    crowd = Crowd(sensitivity=1.2, unit_sd=0, person_sd=0, lapse=0.1, careless=0, dropout=0)
    items = [Item(str(n), "main", "", (), (), ("", ""), n % 2) for n in range(8000)]
    person = person_of(crowd, 1)
    chosen = [person.choose(item, "unit") for item in items]
    share = np.mean([picked == item.correct for (picked, _, _), item in zip(chosen, items, strict=True)])
    assert share == pytest.approx(crowd.accuracy, abs=4 * 0.5 / math.sqrt(8000))
    sure = [picked == item.correct for (picked, how, _), item in zip(chosen, items, strict=True) if how == 3]
    unsure = [picked == item.correct for (picked, how, _), item in zip(chosen, items, strict=True) if how == 1]
    assert np.mean(sure) > np.mean(unsure) + 0.1
    biased = person_of(Crowd(side_bias=2.0, careless=0), 5)
    sides = Counter(biased.choose(item, "unit")[0] for item in items)
    assert (sides[0] > sides[1]) == (biased.bias > 0)
    assert abs(sides[0] - sides[1]) > 500
    careless = person_of(Crowd(careless=1), 1)
    guesses = [careless.choose(item, "unit")[0] == item.correct for item in items]
    assert np.mean(guesses) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(8000))


def test_shares_of_a_crowd_are_as_they_were_said_to_be():
    people = [person_of(Crowd(careless=0.2, dropout=0.3, seed=1), number) for number in range(2000)]
    for share, count in ((0.2, sum(p.careless for p in people)), (0.3, sum(p.leaves is not None for p in people))):
        assert count / 2000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 2000))
    again = [person_of(Crowd(careless=0.2, dropout=0.3, seed=1), number) for number in range(5)]
    assert [vars(person) | {"rng": None} for person in again] == [vars(p) | {"rng": None} for p in people[:5]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--careless", "1.5"), "--careless is 1.5; a share from 0 to 1"),
        (("--unit-sd", "-1"), "--unit-sd is -1.0; at least 0"),
        (("--visual", "9", "--participants", "2"), "--visual is 9; a number from 0 to --participants (2)"),
    ],
)
def test_a_mistake_is_a_sentence(
    study: Study, words: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr("sys.argv", ["thalweg", "study", "simulate", str(study.path), *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err


def test_nobody_is_simulated_among_real_participants(study: Study):
    store = open_store(study)
    go_through(Sessions(study, store), "real", right, most=1)
    with pytest.raises(ThalwegError, match="1 participants of this study are not simulated"):
        simulate(study, store, 1)
    store.close()
