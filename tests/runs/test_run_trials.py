"""Trials of a finished run, and the answers of observers that are asked one by one."""

import html
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import thalweg
from support.surveys import OBSERVER, run
from support.tiny import blobs, corners, tiny_ladder
from thalweg import Choice, Ladder, Run, Splits, ThalwegError, Trial, TrialObserver, one_by_one, open_run
from thalweg.files.whole import read_json, write_json
from thalweg.measures.choices import mean_over_layers
from thalweg.progress import Silent
from thalweg.report.page import render
from thalweg.runs import answers
from thalweg.stimuli.base import halves
from thalweg.trials.building import BANDS

RUNGS = ("dense-8", "conv-3")
ONE = one_by_one(OBSERVER)


def small() -> Ladder:
    ladder = tiny_ladder()
    return replace(ladder, rungs=tuple(rung for rung in ladder.rungs if rung.name in RUNGS))


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(small(), tmp_path_factory.mktemp("trials") / "run", seeds=1, resamples=100)


@pytest.fixture
def copy(surveyed: Run, tmp_path: Path) -> Run:
    """The same run, for answers of its own."""
    shutil.copytree(surveyed.path, tmp_path / "run")
    return open_run(tmp_path / "run", small())


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def without_seconds(run: Run) -> pl.DataFrame:
    return run.answers.drop("seconds")


def test_a_trial_is_what_the_recordings_say(surveyed: Run):
    recorded = surveyed.recordings("tiny", "dense-8", control="untrained")["1"]
    trials = surveyed.trials("tiny", "dense-8", control="untrained", band=list(BANDS), per_unit=40)
    pool = surveyed.stimuli("tiny")
    reference, query = (set(half.tolist()) for half in halves(pool, seed=0))
    values = {}
    for half, ends in ((recorded.query, ("highest", "lowest")),):
        for end in ends:
            for unit, rows in enumerate(zip(*(part.tolist() for part in getattr(half, end)()), strict=True)):
                values |= {(unit, stimulus): value for value, stimulus in zip(*rows, strict=True)}
        for sample, row in zip(half.sample_ids().tolist(), half.sample.tolist(), strict=True):
            values |= {(unit, sample): value for unit, value in enumerate(row)}
    assert {trial.unit for trial in trials} == set(range(8))
    assert {trial.band for trial in trials} == set(BANDS)
    for trial in trials:
        assert trial.high_references == tuple(recorded.reference.highest()[1][trial.unit, :9].tolist())
        assert trial.low_references == tuple(recorded.reference.lowest()[1][trial.unit, :9].tolist())
        assert set(trial.high_references + trial.low_references) <= reference
        assert set(trial.queries) <= query
        high, low = trial.queries[trial.correct], trial.queries[1 - trial.correct]
        assert values[trial.unit, high] > values[trial.unit, low]
    assert len({trial.id for trial in trials}) == len(trials)
    assert 0.4 < np.mean([trial.correct for trial in trials]) < 0.6
    shown = trials[0].show()
    assert [len(part) for part in (shown.high_references, shown.low_references, shown.queries)] == [9, 9, 2]
    assert shown.queries[1].png == pool.show(trials[0].queries[1]).png


def test_more_trials_repeat_the_first_ones_and_bands_take_turns(surveyed: Run):
    few, many = (surveyed.trials("tiny", "conv-3", layer="0", per_unit=count) for count in (6, 30))
    for unit in {trial.unit for trial in few}:
        first, more = ([trial for trial in trials if trial.unit == unit] for trials in (few, many))
        assert first == more[:6]
        assert [trial.band for trial in first] == ["extreme", "v90", "v75"] * 2
    assert surveyed.trials("tiny", "dense-8", units=[3, 1], per_unit=2) == [
        *surveyed.trials("tiny", "dense-8", units=[3], per_unit=2),
        *surveyed.trials("tiny", "dense-8", units=[1], per_unit=2),
    ]


def test_so_many_units_are_the_same_of_a_model_and_its_twins(surveyed: Run):
    drawn = [
        list(dict.fromkeys(trial.unit for trial in surveyed.trials("tiny", "dense-8", control=control, units=3)))
        for control in ("trained", "untrained")
    ]
    assert len(drawn[0]) == 3
    assert drawn[0] == drawn[1]
    ids = [{t.id for t in surveyed.trials("tiny", "dense-8", control=c)} for c in ("trained", "untrained", "rotated")]
    assert ids[0].isdisjoint(ids[1] | ids[2])


def test_matched_trials_are_the_pairs_that_the_headline_counts(surveyed: Run):
    trials = surveyed.trials("tiny", "dense-8", matched=True, units=3, per_unit=10_000)
    assert {trial.band for trial in trials} == {"v90", "v75"}
    scores = surveyed.units.filter(
        (pl.col("rung") == "dense-8") & (pl.col("control") == "trained") & ~pl.col("exchanged")
    ).filter(pl.col("unit").is_in({trial.unit for trial in trials}), observer="corners", measure="two_choice_matched")
    measured = scores.filter(pl.col("band").is_in(["v90", "v75"]), ~pl.col("value").is_nan())
    assert len(measured) == 5  # one unit's pairs in a band are all but decided
    for unit, band, value in measured["unit", "band", "value"].iter_rows():
        mine = [trial for trial in trials if (trial.unit, trial.band) == (unit, band)]
        right = [ONE.choose(trial).picked == trial.correct for trial in mine]
        assert np.mean(right) == pytest.approx(value, abs=1e-6)


def test_sampled_choices_agree_with_the_score_over_all_pairs(copy: Run):
    """All pairs give the score itself; a sample gives it within its sampling error."""
    bands = ("extreme", "v90", "v75")
    every = copy.units.filter((pl.col("measure") == "two_choice") & (pl.col("observer") == "corners"))
    every = every.filter(~pl.col("exchanged") & pl.col("band").is_in(bands) & ~pl.col("value").is_nan())
    key = ["rung", "control", "layer", "unit", "band"]
    scores = copy.answer(ONE, per_unit=24)
    sampled = copy.answers.group_by(key).agg(pl.col("correct").mean().alias("share"), pl.len().alias("n"))
    both = sampled.join(every, on=key)
    assert len(both) == len(sampled) > 60
    p, n = both["value"].to_numpy(), both["n"].to_numpy()
    error = math.sqrt((n * p * (1 - p)).sum())
    assert error > 5
    assert abs((n * (both["share"].to_numpy() - p)).sum()) < 3 * error
    whole = replace(ONE, name="all pairs")
    copy.answer(whole, rung="conv-3", control="trained", band="extreme", per_unit=10_000)
    units = copy.answers.filter(observer="all pairs").group_by(key).agg(pl.col("correct").mean().alias("share"))
    units = units.join(every, on=key)
    assert len(units) == 3
    assert units["share"].to_numpy() == pytest.approx(units["value"].to_numpy(), abs=1e-6)
    trained = scores.models.filter(rung="dense-8", control="trained").row(0, named=True)
    assert trained["n_units"] == 8
    assert trained["n"] == 8 * 24
    assert trained["low"] < trained["value"] < trained["high"]


def test_whoever_does_not_look_is_at_chance(copy: Run):
    def coin(trial: Trial) -> Choice:
        return Choice(int(trial.id, 16) % 2, 0.5)

    for name, choose in (("coin", coin), ("first", lambda trial: Choice(0))):
        scores = copy.answer(TrialObserver(name, 1, choose), per_unit=60, rung="dense-8", control="trained")
        right, n = (scores.units[column].to_numpy() for column in ("value", "n"))
        assert n.sum() == 480
        assert abs((right * n).sum() / n.sum() - 0.5) < 3 * 0.5 / math.sqrt(n.sum())
        assert all(low < 0.5 < high for low, high in scores.models["low", "high"].iter_rows())


KILLED = """
import os, sys
sys.path[:0] = {path!r}
import thalweg
from support.surveys import OBSERVER
from tests.runs.test_run_trials import ONE, small
run = thalweg.open_run({run!r}, small())
print(*(trial.id for trial in run.trials("tiny", "dense-8")))
sys.stdout.flush()
count = 0
def choose(trial):
    global count
    count += 1
    if count > 130:
        os._exit(9)  # as if killed: nothing is cleared up
    return ONE.choose(trial)
run.answer(thalweg.TrialObserver("corners", 1, choose), rung="dense-8")
"""


def test_ids_are_the_same_in_another_process_and_a_killed_one_is_gone_on_with(surveyed: Run, copy: Run, tmp_path: Path):
    root = Path(__file__).parent.parent.parent
    code = KILLED.format(path=[str(root), str(root / "tests")], run=str(copy.path))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert killed.returncode == 9, killed.stderr[-2000:]
    assert killed.stdout.split() == [trial.id for trial in surveyed.trials("tiny", "dense-8")]
    assert len(copy.answers) == 100  # two whole pieces of 50
    assert not (copy.path / "answers.parquet").exists()
    asked = []
    counting = TrialObserver("corners", 1, lambda trial: asked.append(trial.id) or ONE.choose(trial))
    copy.answer(counting, rung="dense-8")
    assert len(asked) == len(set(asked)) == len(copy.answers) - 100
    shutil.copytree(surveyed.path, tmp_path / "other")
    other = open_run(tmp_path / "other", small())
    other.answer(ONE, rung="dense-8")
    assert without_seconds(copy).equals(without_seconds(other))
    assert not list((copy.path / "answers").glob("*"))
    asked.clear()
    copy.answer(counting, rung="dense-8")
    assert asked == []


def test_answers_about_models_that_were_made_anew_are_left_out_and_counted(copy: Run):
    copy.answer(ONE, per_unit=6)
    everything = copy.answers
    assert copy.stale_answers.is_empty()
    step = copy.path / "steps/train-tiny-conv-3-0.json"
    made = read_json(step)
    write_json(step, made | {"inputs": "made in another way"})
    kept, stale = copy.answers, copy.stale_answers
    assert kept.equals(everything.filter(rung="dense-8"))
    assert stale.equals(everything.filter(rung="conv-3"))
    units = copy.agreements().filter(level="units", control="trained", other="corners", measure="two_choice")
    assert units["n"].to_list() == [kept.filter(control="trained").select("rung", "layer", "unit").n_unique()]
    assert f"Left out: {len(stale)} answers about models that were made anew since." in render(copy)
    assert len(copy.answer(ONE, per_unit=6, rung="conv-3").units) > 0  # asked again, of the new models
    assert len(copy.answers) == len(everything)
    write_json(step, made)
    assert copy.answers.equals(everything)  # as they were: their answers count again


def test_a_table_from_before_models_were_named_in_it_is_read(copy: Run):
    copy.answer(ONE, per_unit=3, rung="conv-3")
    table = copy.path / "answers.parquet"
    pl.read_parquet(table).drop("made_from").write_parquet(table)
    assert set(copy.answers["made_from"]) == {""}
    assert copy.stale_answers.is_empty()


def test_answers_of_more_trials_or_another_version_are_added(copy: Run):
    copy.answer(ONE, per_unit=3, rung="conv-3")
    copy.answer(replace(ONE, version=2), per_unit=3, rung="conv-3", control="trained")
    first = copy.answer(ONE, per_unit=6, rung="conv-3").models
    assert copy.answers.group_by("version").len().sort("version")["len"].to_list() == [3 * 3 * 6, 3 * 3]
    assert first.equals(copy.answer(ONE, per_unit=6, rung="conv-3").models)


def test_failed_answers_are_rows_and_are_counted_and_said(copy: Run):
    def at_times(trial: Trial) -> Choice:
        if trial.band == "v75":
            raise TimeoutError("no answer in time")
        return Choice(2, 0.5) if trial.band == "v90" and trial.unit == 0 else ONE.choose(trial)

    heard = Heard()
    observer = TrialObserver("tired", 1, at_times)
    scores = copy.answer(observer, rung="dense-8", control="trained", progress=heard)
    failed = copy.answers.filter(pl.col("note") != "")
    assert len(failed) == 8 * 4 + 4
    assert failed["picked"].null_count() == failed["correct"].null_count() == len(failed)
    assert set(failed["note"].str.slice(0, 31)) == {
        "TimeoutError: no answer in time"[:31],
        "picked is 2; 0 (the first query"[:31],
    }
    assert scores.models["n_failed", "n"].row(0) == (36, 8 * 12 - 36)
    assert any(line.startswith("36 of 96 answers of observer 'tired' failed; the first one: ") for line in heard.lines)
    again = copy.answer(replace(observer, choose=ONE.choose), rung="dense-8", control="trained", retry=True)
    assert again.models["n_failed", "n"].row(0) == (0, 96)


def test_a_broken_observer_is_asked_no_more(copy: Run):
    asked = []

    def broken(trial: Trial) -> Choice:
        asked.append(trial)
        if len(asked) > 70:
            raise ConnectionError("no way to the model")
        return ONE.choose(trial)

    with pytest.raises(ThalwegError, match=r"'broken' failed 10 times in a row.*ConnectionError: no way to the model"):
        copy.answer(TrialObserver("broken", 1, broken), rung="dense-8")
    assert len(asked) == 80
    assert len(copy.answers.filter(note="")) == len(copy.answers) == 70


def test_damaged_answers_are_not_said_to_be_derivable(copy: Run):
    copy.answer(ONE, per_unit=1, rung="conv-3")
    table = copy.path / answers.TABLE
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(ThalwegError, match=r"answers\.parquet: damaged.*can't be derived again"):
        _ = copy.answers


def test_the_interval_of_a_model_knows_that_answers_of_one_unit_go_together():
    """Units with accuracies between .5 and 1, 40 answers each: the interval over units covers the mean of all units;
    that of all answers as if they were independent does not.
    """
    generator = np.random.default_rng(0)
    covered, covered_by_answers = 0, 0
    for _ in range(150):
        truth = [generator.beta(3, 1, size=size) / 2 + 0.5 for size in (12, 6)]
        values = [generator.binomial(40, layer) / 40 for layer in truth]
        value, low, high = mean_over_layers(values)
        covered += low <= 0.875 <= high
        half = 1.96 * math.sqrt(value * (1 - value) / (18 * 40))
        covered_by_answers += abs(value - 0.875) <= half
    assert 0.9 <= covered / 150 <= 0.985  # .945 of 3,000
    assert covered_by_answers / 150 < 0.85


def test_intervals_at_the_ends():
    value, low, high = mean_over_layers([np.ones(5), np.ones(4)])
    assert value == high == 1
    assert 0.4 < low < 0.8
    value, low, high = mean_over_layers([np.array([0.7])])
    assert value == 0.7
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(map(math.isnan, mean_over_layers([])))


def test_stimuli_are_made_again_or_one_sentence_says_why_not(surveyed: Run, tmp_path: Path):
    pool = corners(None, 0).pool
    opened = open_run(surveyed.path)
    with pytest.raises(ThalwegError, match=r"ladder 'tiny' is none that ships.*open_run"):
        opened.stimuli("tiny")
    with pytest.raises(ThalwegError, match="ladder 'tiny': the stimuli are not those of the run"):
        opened.stimuli("tiny", data=Splits.of_pool(blobs(400, seed=9)))
    with pytest.raises(ThalwegError, match="ladder 'tiny': the stimuli are not those of the run"):
        opened.stimuli(replace(small(), splits=lambda source, seed: corners(None, seed + 1)))
    assert torch.equal(open_run(surveyed.path).stimuli(small()).pixels, pool.pixels)
    assert torch.equal(open_run(surveyed.path).stimuli("tiny", data=corners(None, 0)).pixels, pool.pixels)


def test_a_path_of_stimuli_is_kept_and_another_can_be_given(surveyed: Run, tmp_path: Path):
    shutil.copytree(surveyed.path, tmp_path / "run")
    record = read_json(tmp_path / "run/run.json")
    assert record["ladders"]["tiny"]["source"]["path"] is None
    record["ladders"]["tiny"]["source"] |= {"path": "/then/images", "label": "kind", "skip_bad": True}
    write_json(tmp_path / "run/run.json", record)
    sources = []

    def splits(source, seed):
        sources.append(source)
        return corners(None, seed)

    opened = open_run(tmp_path / "run", replace(small(), splits=splits))
    opened.stimuli("tiny")
    opened.stimuli("tiny", data=tmp_path)
    opened.stimuli("tiny")
    assert [source.path for source in sources] == [Path("/then/images"), tmp_path]
    assert {(source.label, source.skip_bad) for source in sources} == {("kind", True)}


def test_stimuli_of_a_ladder_that_ships_are_made_from_its_name(surveyed: Run, tmp_path: Path):
    ladder = thalweg.ladders.find("addition:23")
    shutil.copytree(surveyed.path, tmp_path / "run")
    record = read_json(tmp_path / "run/run.json")
    about = record["ladders"].pop("tiny")
    splits = ladder.splits(thalweg.Source(), 0)
    record["ladders"][ladder.name] = about | {"data_hash": splits.content_hash()}
    write_json(tmp_path / "run/run.json", record)
    assert open_run(tmp_path / "run").stimuli(ladder.name).content_hash() == splits.pool.content_hash()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"ladder": "tinny"}, "no ladder of this run is called 'tinny'; did you mean 'tiny'?"),
        ({"rung": "dense-9"}, "no rung of 'tiny' is called 'dense-9'; did you mean 'dense-8'?"),
        ({"seed": 3}, "no seed of 'tiny' is called '3'"),
        ({"control": "untrainde"}, "did you mean 'untrained'"),
        ({"layer": "7"}, "no layer of rung 'dense-8' is called '7'; there are: 1"),
        ({"units": [2, 8]}, "rung 'dense-8' has no unit 8 in '1'; its 8 units there are numbered from 0 to 7"),
        ({"band": "v80"}, "no band is called 'v80'"),
        ({"units_each": 2}, "no setting of trials is called 'units_each'; did you mean 'units'?"),
        ({"per_unit": 0}, "per_unit is 0; a whole number of at least 1 was expected"),
    ],
)
def test_a_wrong_name_is_one_sentence(surveyed: Run, asked: dict, sentence: str):
    given = {"ladder": "tiny", "rung": "dense-8"} | asked
    with pytest.raises(ThalwegError) as refused:
        surveyed.trials(given.pop("ladder"), given.pop("rung"), **given)
    assert sentence in str(refused.value)


def test_an_observer_that_cannot_answer_is_refused(surveyed: Run):
    with pytest.raises(ThalwegError, match="no ladder of the run has any"):
        surveyed.answer(TrialObserver("reader", 1, ONE.choose, modality="text"))
    with pytest.raises(ThalwegError, match="no rung that is asked about is called 'dense-9'"):
        surveyed.answer(ONE, rung="dense-9")
    with pytest.raises(ThalwegError, match="there are no trials for observer 'corners'"):
        surveyed.answer(ONE, layer="nowhere")
    with pytest.raises(ThalwegError, match="answers by single features"):
        one_by_one(replace(OBSERVER, whole=False))


def test_verdicts_are_a_table(surveyed: Run):
    assert len(surveyed.verdicts) == len(surveyed.shape) > 4
    headline = surveyed.verdicts.filter(headline="predictable", kind="all").row(0, named=True)
    assert headline["verdict"] == surveyed.verdict["tiny"]["predictable"]["verdict"]
    assert headline["sentence"] == surveyed.verdict["tiny"]["predictable"]["sentence"]


def test_the_report_shows_answers_where_there_are_any(copy: Run):
    assert "one trial at a time" not in render(copy)
    copy.answer(TrialObserver("<b>first</b>", 1, lambda trial: Choice(0)), units=3, per_unit=8)
    copy.answer(ONE, units=4, per_unit=8)
    page = html.unescape(render(open_run(copy.path, small())))
    section = page.partition('id="ladder-1-answers-title">')[2].partition("</section>")[0]
    assert section.startswith("Answers, one trial at a time")
    assert "<b>first</b>" in section
    lines = re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)
    said = ["|".join(re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL)) for line in lines]
    assert [line for line in said if re.match(r"<b>first</b>\|trained\|.*\|1\.00 \(0\.\d\d to 1\.00\)\|48\|0", line)]
    biases = [line.split("|")[1] for line in said if re.match(r"<b>first</b>\|\w+\|[^|]*\|1\.00 ", line)]
    assert biases == ["trained", "rotated", "untrained"]
    assert [line for line in said if re.match(r"corners\|corners\|two choice\|units\|[01]\.\d\d \(", line)]
    charts = json.loads(re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)[1])
    shown = [row for rows in charts["charts"]["ladder-1-answers-2"]["datasets"].values() for row in rows]
    assert {row["control"] for row in shown if "control" in row} == {"trained", "untrained", "rotated"}
