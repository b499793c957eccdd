"""What notebooks show of a run, a unit, a trial and a verdict; and that what users named is text there."""

from dataclasses import replace
from pathlib import Path

import pytest

import thalweg
from support.surveys import run
from support.tiny import short_ladder
from thalweg import Run, Shown, ThalwegError
from thalweg.markup import element
from thalweg.shape import judge

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    ladder = replace(short_ladder(), description=NASTY)
    made = run(ladder, tmp_path_factory.mktemp("display") / "run", seeds=1, resamples=100)
    return thalweg.open_run(made.path, ladder)


def test_a_run_shows_its_models_and_no_markup_of_a_users(surveyed: Run):
    shown = surveyed._repr_html_()
    for model in surveyed.models.filter(control="trained").iter_rows(named=True):
        assert f"<td>{model['bits']:.3f}</td>" in shown
    assert "No report yet" in shown
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_a_run_shows_its_picture_once_the_report_is_written(surveyed: Run):
    (surveyed.path / "figures").mkdir()
    (surveyed.path / "figures/1-tiny-curve.svg").write_text("<svg/>")
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in surveyed._repr_html_()


def test_a_unit_shows_its_stimuli_and_scores(surveyed: Run):
    name = short_ladder().rungs[0].name
    unit = surveyed.unit("tiny", name, "1", 2)
    values, ids = surveyed.recordings("tiny", name)["1"].reference.highest()
    assert unit.highest == tuple(ids[2].tolist())[: len(unit.highest)]
    assert unit.highest_values[0] == pytest.approx(values[2, 0].item())
    assert unit.highest_values[-1] >= unit.lowest_values[-1]
    assert unit.scores["unit"].unique().to_list() == [2]
    shown = unit._repr_html_()
    assert shown.count("<img") == 18
    (headline,) = unit.scores.filter(measure="one_sided", observer="corners", band="mean", exchanged=False)["value"]
    assert f"<td>{headline:.3f}</td>" in shown
    with pytest.raises(ThalwegError, match="has no unit 99"):
        surveyed.unit("tiny", name, "1", 99)


def test_a_trial_is_shown_without_its_answer(surveyed: Run):
    trial = surveyed.trials("tiny", short_ladder().rungs[0].name, per_unit=1)[0]
    shown = trial._repr_html_()
    assert shown.count("<img") == 20
    assert replace(trial, correct=1 - trial.correct)._repr_html_() == shown
    for label in ("nw", "ne", "sw", "se"):
        assert f'title="{label}"' not in shown


def test_stimuli_are_shown_as_what_they_are():
    assert Shown("a word", pieces=("a <b>", " word"))._repr_html_() == "<span>a &lt;b&gt; word</span>"
    framed = Shown("drawn", html=NASTY)._repr_html_()
    assert framed.startswith('<iframe sandbox="" srcdoc="&lt;script&gt;')
    assert element("p", "1 < 2", element("b", "x"), title='"') == '<p title="&quot;">1 &lt; 2<b>x</b></p>'


def test_a_verdict_shows_its_sentence_and_what_decides_it():
    verdict = judge([1, 2, 3, 4, 5, 6], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], se=[0.01] * 6, draws=200)
    shown = verdict._repr_html_()
    assert verdict.sentence in shown
    assert "decreasing 0." in shown


def test_a_figure_is_a_chart_and_a_wrong_name_is_told(surveyed: Run, tmp_path: Path):
    assert len(thalweg.chart(surveyed).to_dict()["concat"]) == 2
    with pytest.raises(ThalwegError, match="no figure of the report is called 'curves'; did you mean 'curve'"):
        thalweg.chart(surveyed, "curves")
    with pytest.raises(ThalwegError, match="no ladder of this run is called"):
        thalweg.chart(surveyed, ladder="tinny")
