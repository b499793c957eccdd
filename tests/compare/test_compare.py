"""Two runs beside each other: what is the same, what differs, and the page that says so."""

import html
import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import thalweg
from support.surveys import run
from support.tiny import blobs, short_ladder
from thalweg import Run, RunComparison, compare_runs, open_run, write_comparison
from thalweg.cli import app


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(short_ladder(), tmp_path_factory.mktemp("compare") / "first", seeds=1, resamples=100)


@pytest.fixture(scope="module")
def second(first: Run) -> Run:
    """Another seed, and one rung less."""
    ladder = replace(short_ladder(), rungs=short_ladder().rungs[:1])
    return run(ladder, first.path.parent / "second", seeds=1, resamples=100, seed=1)


@pytest.fixture(scope="module")
def both(first: Run, second: Run) -> RunComparison:
    return compare_runs(first, second)


def test_a_run_is_the_same_as_its_copy(first: Run, tmp_path: Path):
    shutil.copytree(first.path, tmp_path / "copy")
    runs = compare_runs(first, open_run(tmp_path / "copy"))
    assert runs.names == ("first", "copy")
    assert len(runs.made) == len(runs.only_in_one) == 0
    assert len(runs.scores) == 2 * 2 * 3  # headlines, rungs, the model and two twins
    measured = runs.scores.drop_nulls("first")
    assert len(measured) > 8
    assert (measured["difference"] == 0).all()
    assert not measured["apart"].any()
    assert (runs.units["greatest"] == 0).all()
    assert runs.verdicts["same"].all()
    assert runs.sentences[-1] == "They were made alike: the same settings, versions and stimuli."


def test_what_differs_is_told(both: RunComparison, first: Run, second: Run):
    made = {what: (one, other) for what, one, other in both.made.iter_rows()}
    assert made["setting seed"] == ("0", "1")
    assert "stimuli of tiny (hash)" in made
    assert "setting resamples" not in made
    assert both.only_in_one.select("rung", "run").unique().rows() == [(short_ladder().rungs[1].name, "first")]
    for score in both.scores.drop_nulls("difference").iter_rows(named=True):
        for side, of in (("first", first), ("second", second)):
            (model,) = of.models.filter(rung=score["rung"], control=score["control"]).to_dicts()
            assert score[side] == pytest.approx(model[score["headline"]])
        half = (
            (score["first_high"] - score["first_low"]) ** 2 + (score["second_high"] - score["second_low"]) ** 2
        ) ** 0.5
        assert score["high"] - score["low"] == pytest.approx(half)
        assert score["apart"] == (score["low"] > 0 or score["high"] < 0)


def test_units_are_compared_where_the_weights_are_the_same(first: Run, both: RunComparison, tmp_path: Path):
    assert both.units.is_empty()  # of other trainings
    assert "No model has the same weights in both, so units cannot be compared one by one." in both.sentences
    other = thalweg.survey(
        short_ladder(), out=tmp_path / "hog", observer="hog", seeds=1, workers=1, resamples=100, cache=tmp_path
    )
    units = compare_runs(first, other).units
    assert set(units["rung"]) == {rung.name for rung in short_ladder().rungs}
    assert units["greatest"].max() > 0
    mine, theirs = (
        run.units.filter(measure="one_sided", observer=name, band="mean", exchanged=False, control="trained")
        for run, name in ((first, "corners"), (other, "hog"))
    )
    joined = mine.join(theirs, on=["rung", "layer", "unit"]).filter(
        pl.col("rung") == "conv-2", pl.col("value").is_not_nan(), pl.col("value_right").is_not_nan()
    )
    assert len(joined) == (units.filter(rung="conv-2", control="trained", headline="predictable")["n"].sum())


def test_units_of_a_model_that_exists_already_are_compared_whatever_it_is_measured_with(tmp_path: Path):
    def load() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 4))

    stimuli, subject = blobs(160, seed=0), thalweg.Subject("mine", load, layers=(thalweg.Layer("0"),), weights="one")
    changed = replace(subject, weights="two")
    runs = [
        thalweg.measure(
            which, stimuli, observer="hog", twins=["none"], workers=1, resamples=100, seed=seed, cache=tmp_path, out=out
        )
        for which, seed, out in (
            (subject, 0, tmp_path / "a"),
            (subject, 1, tmp_path / "b"),
            (changed, 0, tmp_path / "c"),
        )
    ]
    assert set(compare_runs(runs[0], runs[1]).units["headline"]) == {"predictable", "crisp"}
    assert compare_runs(runs[0], runs[2]).units.is_empty()
    one = thalweg.measure(
        subject, stimuli, units=1, observer="hog", twins=["none"], workers=1, cache=tmp_path, out=tmp_path / "unit"
    )
    assert one.models["predictable_low"].is_nan().all()  # one unit alone has no interval
    sentences = compare_runs(runs[0], one).sentences
    assert any(each.startswith("Models have the same weights in both, but no units") for each in sentences)
    assert "– to" not in thalweg.write_report(one).read_text()
    assert "– to" not in write_comparison(compare_runs(runs[0], one), tmp_path / "one.html").read_text()
    same = compare_runs(runs[0], runs[1])
    assert same.verdicts.is_empty()
    assert not any("cannot tell" in sentence for sentence in same.sentences)
    assert "mine" in write_comparison(same, tmp_path / "both.html").read_text()


def test_a_verdict_that_changes_is_told(first: Run, tmp_path: Path):
    shutil.copytree(first.path, tmp_path / "other")
    verdicts = json.loads((tmp_path / "other/shape.json").read_text())
    changed = next(each for each in verdicts if each["headline"] == "crisp" and each["kind"] == "all")
    before, changed["verdict"] = changed["verdict"], "valley"
    (tmp_path / "other/shape.json").write_text(json.dumps(verdicts))
    runs = compare_runs(first, open_run(tmp_path / "other"))
    assert before != "valley"
    assert f"tiny, crisp: {before} in first, valley in other." in runs.sentences
    differing = runs.verdicts.filter(~pl.col("same"))
    assert differing.select("headline", "first", "second").rows() == [("crisp", before, "valley")]
    assert "valley" in runs._repr_html_()


def test_the_command_writes_the_page(both: RunComparison, tmp_path: Path):
    words = ["compare", str(both.first.path), str(both.second.path), "--out", str(tmp_path / "both.html")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for sentence in both.sentences:
        assert " ".join(sentence.split()) in " ".join(result.output.split())
    page = (tmp_path / "both.html").read_text()
    assert "<h1>first and second</h1>" in page
    assert page.count("<tr>") > len(both.scores)
    assert both.first.record["command"] in html.unescape(page)


def test_runs_without_a_common_rung_say_so(second: Run, tmp_path: Path):
    ladder = replace(short_ladder(), rungs=short_ladder().rungs[1:])
    runs = compare_runs(second, run(ladder, tmp_path / "third", seeds=1, resamples=100))
    assert "They have no rung in common that both could measure." in runs.sentences
    assert len(runs.only_in_one) == 2 * 3
    page = thalweg.write_comparison(runs, tmp_path / "none.html").read_text()
    assert "Headline scores of rungs and twins: none." in page


def test_one_run_twice_has_two_names(first: Run):
    assert compare_runs(first, first).names == ("first (first)", "first (second)")
