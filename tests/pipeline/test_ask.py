"""Language models as observers: whoever knows the units scores 1, whoever guesses is at the floors, nothing is asked
twice, and what cannot work is said before anything is paid.
"""

import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import thalweg
from support.endpoint import Say, Server, serving, slow
from support.marked_words import OBSERVER, guesses, knows, word_ladder
from support.surveys import OBSERVER as CORNERS
from support.tiny import short_ladder
from support.tiny_language import saved
from support.told import Told
from thalweg import Run, ThalwegError, cli, ladders, open_run
from thalweg.agreement.table import biases
from thalweg.files import whole
from thalweg.prompting.costs import Plan
from thalweg.prompting.forms import BY_SENTENCE, EXPLANATION, FORMS
from thalweg.runs import asked as asked_table
from thalweg.study.create import create
from thalweg.study.settings import StudySettings

FAST = {"retries": 1, "timeout": 20.0}


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("words") / "run"
    few = {"seeds": 1, "workers": 1, "resamples": 100, "device": "cpu", "cache": out.parent / "cache"}
    thalweg.survey(word_ladder(), out=out, observer=OBSERVER, **few)
    return out


@pytest.fixture
def run(surveyed: Path, tmp_path: Path) -> Run:
    shutil.copytree(surveyed, tmp_path / "run")
    return open_run(tmp_path / "run", word_ladder())


@pytest.fixture(autouse=True)
def usual_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "right")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    """Starts servers, which end with the test."""
    opened: list[Any] = []

    def start(say: Say = knows, **settings: Any) -> Server:
        opened.append(serving(Server(say, **settings)))
        return opened[-1].__enter__()

    yield start
    for each in opened:
        each.__exit__(None, None, None)


def asking(run: Run, server: Server, **settings: Any) -> thalweg.Asked:
    usual = {"control": "trained", "units": 3, "per_unit": 4}
    return thalweg.ask(run, server.models[0], base_url=server.address, **{**FAST, **usual, **settings})


def score(asked: thalweg.Asked, form: str) -> dict:
    (row,) = asked.scores.filter(form=form).to_dicts()
    return row


STUDY = StudySettings(units=4, trials=4, participants=4, catch=1, practice=2, per_unit=3, seed=5)


def test_a_language_model_is_asked_the_very_trials_of_a_study(run: Run, tmp_path: Path, server: Callable[..., Server]):
    study = create(run, "people", STUDY, out=tmp_path / "people")
    reader = server()
    asked = thalweg.ask(run, "reader", base_url=reader.address, study=study.path, form=("2afc", "intruder"), **FAST)
    main = study.trials.filter(kind="main")
    assert set(run.answers["trial"]) == set(main["trial"])
    units = set(main.select("rung", "layer", "unit").iter_rows())
    assert set(asked.units.filter(form="intruder").select("rung", "layer", "unit").iter_rows()) <= units
    with pytest.raises(ThalwegError, match="leave out --study or --per-unit"):
        thalweg.ask(run, "reader", base_url=reader.address, study=study.path, per_unit=3, **FAST)
    with pytest.raises(ThalwegError, match="study 'people' asks about none of these models"):
        thalweg.ask(run, "reader", base_url=reader.address, study=study.path, control="untrained", **FAST)


def test_a_study_of_other_trials_is_refused(run: Run, tmp_path: Path, server: Callable[..., Server]):
    study = create(run, "people", STUDY, out=tmp_path / "people")
    asking = {"base_url": server().address, "study": study.path, **FAST}
    trials = study.trials.with_columns(trial=pl.col("trial").str.reverse())
    trials.write_parquet(study.path / "trials.parquet")
    with pytest.raises(ThalwegError, match=r"of its \d+ trials about rung .* the run still makes 0"):
        thalweg.ask(run, "reader", **asking)
    record = study.record
    record["run"]["data_hash"] = "another"
    whole.write_json(study.path / "study.json", record)
    with pytest.raises(ThalwegError, match="study 'people' is not of this run: it was made of"):
        thalweg.ask(run, "reader", **asking)


# Tests of truth


def test_whoever_knows_the_units_scores_one_in_every_form(run: Run, server: Callable[..., Server]):
    reader = server()
    asked = asking(run, reader, form=FORMS, units=6)
    for form in FORMS:
        if form != EXPLANATION:
            row = score(asked, form)
            assert row["value"] > 0.98, form
            assert (row["n_units"], row["n_failed"]) == (6, 0)
    assert score(asked, "detection")["n"] == 12
    assert set(run.explanations["explanation"]) == {f"words of group {unit}" for unit in range(6)}
    answers = run.answers
    assert set(answers["observer"]) == {"ask:reader", "ask:reader, by a sentence (its own)"}
    assert answers["correct"].all()
    assert answers.filter(observer="ask:reader")["confidence"].to_list() == pytest.approx([0.9] * 24)
    assert len(reader.asked) == len(set(reader.asked)) == asked.answered == len(run.asked)


def test_whoever_guesses_is_at_the_floors(run: Run, server: Callable[..., Server]):
    asked = asking(run, server(guesses), form=("2afc", "detection", "fuzzing", "intruder"), per_unit=12)
    for row in asked.scores.to_dicts():
        listed = row["form"] in ("detection", "fuzzing")
        error = np.sqrt(row["chance"] * (1 - row["chance"]) / (row["n"] * (10 if listed else 1)))
        assert abs(row["value"] - row["chance"]) < 3 * error, row
    assert asked.scores.filter(form="intruder")["majority"].min() >= 0.2
    one = score(asked, "2afc")
    assert one["low"] < 0.5 < one["high"]


def test_a_habit_of_the_first_shows_as_a_habit_and_not_as_a_score(run: Run, server: Callable[..., Server]):
    first = server(lambda prompt, pictures: "A" if "letter" in prompt else "none")
    asked = asking(run, first, form=("2afc", "detection"), per_unit=24)
    (row,) = biases(run.answers).to_dicts()
    assert row["first"] == 1
    assert row["first_low"] > 0.9
    assert row["low"] < 0.5 < row["high"]
    assert score(asked, "detection")["value"] == 0.5
    assert score(asked, "detection")["auc"] is None or np.isnan(score(asked, "detection")["auc"])


def test_an_explanation_is_tested_on_nothing_that_it_was_written_from(run: Run, server: Callable[..., Server]):
    """A reader that copies what it was shown knows all of it again, and nothing else."""

    def copies(prompt: str, pictures: list[bytes]) -> str:
        if "Answer with one short sentence" in prompt:
            shown = prompt.split("\n\n")[1].splitlines()[1:]
            return " / ".join(line.partition(": ")[2] for line in shown)
        _, _, items = prompt.partition("Here are 10 new texts")
        said = prompt.partition("responds to: ")[2].partition("\n")[0]
        lines = [line.partition(": ") for line in items.splitlines()[1:-2]]
        return ", ".join(number for number, _, text in lines if text and text in said) or "none"

    asked = asking(run, server(copies), form=("detection-explained",))
    assert score(asked, "detection-explained")["value"] == 0.5
    table = run.asked
    written = {row["unit"]: set(row["stimuli"]) for row in table.filter(form=EXPLANATION).to_dicts()}
    tested = table.filter(form="detection-explained").to_dicts()
    assert tested
    documents = run.stimuli("marked-words").documents
    for row in tested:
        assert written[row["unit"]].isdisjoint(row["stimuli"])
        used, shown = (set(documents[list(ids)].tolist()) for ids in (written[row["unit"]], row["stimuli"]))
        assert used.isdisjoint(shown)


def test_references_and_queries_of_every_form_are_disjoint(run: Run, server: Callable[..., Server]):
    asking(run, server(), form=FORMS, control=None, units=1, per_unit=2)
    documents = run.stimuli("marked-words").documents
    kept = run.asked.filter(~pl.col("form").is_in([EXPLANATION])).to_dicts()
    assert {row["control"] for row in kept} == {"trained", "untrained", "rotated"}
    for row in kept:
        queries, references = set(row["queries"]), set(row["stimuli"]) - set(row["queries"])
        assert set(documents[list(queries)].tolist()).isdisjoint(documents[list(references)].tolist())
        assert bool(references) == (row["form"] in ("2afc", "detection", "fuzzing"))


# Nothing twice


def test_nothing_that_is_answered_is_asked_again(run: Run, server: Callable[..., Server]):
    reader = server()
    forms = ("2afc", "detection", "2afc-explained")
    asking(run, reader, form=forms, per_unit=4)
    before = len(reader.prompts)
    again = asking(run, reader, form=forms, per_unit=4)
    assert len(reader.prompts) == before
    assert again.answered == 0
    assert score(again, "2afc")["value"] == 1
    more = asking(run, reader, form=("2afc",), per_unit=6)
    assert more.answered == 6
    assert len(reader.asked) == len(set(reader.asked))


KILLED = """
import sys, thalweg
from support.marked_words import word_ladder
run = thalweg.open_run(sys.argv[1], word_ladder())
thalweg.ask(run, "reader", base_url=sys.argv[2], control="trained", units=6, per_unit=10, parallel=3)
"""


def test_a_kill_loses_no_reply(run: Run, server: Callable[..., Server]):
    reader = server(trouble=slow(0.02))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(run.path), reader.address], env=environment)
    while len(list((run.path / "asked").glob("*.parquet"))) < 8:
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert 8 <= len(run.asked) < 60
    assert asking(run, reader, units=6, per_unit=10).unanswered == 0
    assert len(run.asked) == len(run.answers) == 60
    assert run.answers["correct"].all()
    twice = [prompt for prompt, count in Counter(reader.asked).items() if count > 1]
    assert len(twice) <= 3  # those that were on their way


class Cut(Exception):
    """Stands for the end of the process."""


def cut(*_: object) -> None:
    raise Cut


@pytest.mark.parametrize(
    ("form", "where", "count"), [("2afc", "answers.put_together", 6), (EXPLANATION, "explanations.add_explanations", 3)]
)
def test_a_cut_while_the_tables_are_put_together_changes_nothing(
    run: Run, server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, form: str, where: str, count: int
):
    reader = server()
    with monkeypatch.context() as patch:
        module, name = where.split(".")
        patch.setattr(getattr(asked_table, module), name, cut)
        with pytest.raises(Cut):
            asking(run, reader, form=form, per_unit=2)
    assert len(list((run.path / "asked").glob("*.parquet"))) == count
    assert asking(run, reader, form=form, per_unit=2).answered == 0
    assert len(reader.asked) == count
    assert len(run.answers) + len(run.explanations) == count
    assert not list((run.path / "asked").glob("*.parquet"))


# Replies that are no answers, and endpoints in trouble


def test_refusals_and_what_cannot_be_read_are_counted_and_asked_again_on_request(
    run: Run, server: Callable[..., Server]
):
    moods = iter(["I'm sorry, I can't help with that.", "Either could be right.", ""] * 2)
    asked = asking(run, server(lambda prompt, pictures: next(moods)), per_unit=2)
    row = score(asked, "2afc")
    assert (row["n"], row["n_failed"], row["refused"]) == (0, 6, 2)
    assert np.isnan(row["value"])
    notes = run.asked["note"].to_list()
    assert any("Either could be right" in note for note in notes)
    assert run.answers["correct"].null_count() == 6
    better = server()
    assert asking(run, better, per_unit=2).answered == 0
    assert asking(run, better, per_unit=2, retry=True).answered == 6
    assert run.answers["correct"].all()


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"error": {"message": "slow down"}}, {"Retry_After_Ms": "1"}),
        (500, {"error": {"message": "oh"}}, {"Retry_After_Ms": "1"}),
        (503, b"<html>busy</html>", {"Retry_After_Ms": "1"}),
    ],
)
def test_a_request_that_fails_is_sent_again(run: Run, server: Callable[..., Server], trouble: tuple):
    status, body, headers = trouble
    reader = server()
    reader.trouble = lambda number: (status, body, headers) if number % 3 == 1 else None
    asked = asking(run, reader, per_unit=2, parallel=1, retries=3)
    assert asked.unanswered == 0
    assert score(asked, "2afc")["value"] == 1


def test_answers_in_no_known_form_end_after_ten_and_are_not_kept(run: Run, server: Callable[..., Server]):
    reader = server(trouble=lambda number: b'{"object": "nothing"}' if number > 4 else None)
    with pytest.raises(ThalwegError, match="10 requests in a row got no answer"):
        asking(run, reader, per_unit=6, parallel=1, retries=0)
    assert len(run.asked) == 4
    assert asking(run, server(), per_unit=2).unanswered == 0


def test_a_request_is_put_as_the_endpoint_takes_it(run: Run, server: Callable[..., Server]):
    reader = server(unknown=("temperature", "max_tokens"), logprobs=None)
    asked = asking(run, reader, units=1, per_unit=2)
    assert score(asked, "2afc")["value"] == 1
    assert run.answers["confidence"].null_count() == 2
    strange = server(unknown=("model",))
    with pytest.raises(ThalwegError, match=r"refuses the request .*Unsupported parameter: 'model'"):
        asking(run, strange, units=1, per_unit=4)
    assert strange.asked == []


def test_a_slow_endpoint_is_given_up_after_the_time_out(run: Run, server: Callable[..., Server]):
    reader = server(trouble=lambda number: time.sleep(0.6) if number == 3 else None)
    asked = asking(run, reader, per_unit=2, timeout=0.3, retries=0, parallel=1)
    assert (asked.answered, asked.unanswered) == (5, 1)


def test_no_more_requests_at_once_than_allowed(run: Run, server: Callable[..., Server]):
    reader = server(trouble=slow(0.02))
    asking(run, reader, per_unit=4, parallel=3)
    assert reader.most_at_once == 3


# Before anything is sent


def test_the_plan_is_shown_first_and_nothing_is_sent_without_a_yes(run: Run, server: Callable[..., Server]):
    reader, plans = server(), []

    def no(plan: Plan) -> bool:
        plans.append(plan)
        return False

    prices = {"price_prompt": 1.0, "price_reply": 10.0}
    asked = asking(run, reader, form=("2afc", "detection-explained"), agree=no, **prices)
    assert reader.prompts == []
    assert (asked.answered, asked.unanswered) == (0, 12 + 3 + 6)
    (plan,) = plans
    assert {form.form: form.questions for form in plan.forms} == {
        "explanation": 3,
        "2afc": 12,
        "detection-explained": 6,
    }
    done = asking(run, reader, form=("2afc", "detection-explained"), progress=(told := Told()), **prices)
    assert told.total == told.done == {"stimuli": 1, "trials": 1, "questions": 2, "ask": 21}
    sent = run.asked["prompt_tokens"].sum()
    assert 0.8 < sum(form.prompt_tokens for form in plan.forms) / sent < 1.6
    assert plan.cost is not None
    assert done.spent is not None
    assert 0 < done.spent < plan.cost


def test_a_budget_ends_the_asking_cleanly(run: Run, server: Callable[..., Server]):
    reader = server()
    prices = {"price_prompt": 1000.0, "price_reply": 0.0}
    first = asking(run, reader, per_unit=6, budget=3.0, **prices)
    assert 0 < first.answered < 18
    assert first.answered + first.unanswered == 18
    assert first.spent is not None
    assert first.spent <= 3.0
    assert len(run.answers) == first.answered
    rest = asking(run, reader, per_unit=6)
    assert rest.answered == first.unanswered
    with pytest.raises(ThalwegError, match="a budget needs prices"):
        asking(run, reader, budget=1.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget": math.nan, "price_prompt": 1.0, "price_reply": 1.0}, r"budget is nan \(--budget\)"),  # has no end
        ({"price_prompt": math.nan, "price_reply": 1.0}, r"price_prompt is nan \(--price-prompt\)"),
        ({"price_prompt": 1.0}, "give both, --price-prompt and --price-reply"),
        ({"timeout": math.nan}, r"timeout is nan \(--timeout\)"),
        ({"base_url": "localhost:8000"}, "'localhost:8000': an address that begins with http:// or https://"),
        ({"base_url": "file:///etc/passwd"}, "'file:///etc/passwd': an address"),
        ({"model": " "}, r"no model is named.*\(--model\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_questions_are_made(
    run: Run, settings: dict, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Run, "recorded_models", pytest.fail)
    with pytest.raises(ThalwegError, match=said):
        thalweg.ask(run, **{"model": "reader", "base_url": "http://127.0.0.1:9"} | settings)


@pytest.mark.parametrize(
    ("settings", "about", "said"),
    [
        ({"key": "other"}, {}, "does not take the key"),
        ({"models": ("writer",)}, {"model": "reader"}, "no model of the endpoint .* is called 'reader'"),
        ({"about": {"max_model_len": 300}}, {}, "the model takes 300; show fewer references"),
        ({"about": {"meta": {"n_ctx_train": 300}}}, {"form": ("detection",)}, "form detection"),
        ({"logprobs": False}, {"form": ("simulation",)}, "simulation needs log-probabilities"),
        ({"logprobs": None}, {"form": ("simulation",)}, "simulation needs log-probabilities"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(
    run: Run, server: Callable[..., Server], settings: dict, about: dict, said: str
):
    reader = server(**settings)
    model = about.pop("model", reader.models[0])
    with pytest.raises(ThalwegError, match=said):
        thalweg.ask(run, model, base_url=reader.address, control="trained", **FAST, **about)
    assert reader.asked == []
    assert run.asked.is_empty()


def test_an_endpoint_that_is_not_there(run: Run, server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Run, "stimuli", lambda *_: pytest.fail("stimuli are made again first"))
    with pytest.raises(ThalwegError, match=r"nothing answers at the endpoint http://127.0.0.1:9/v1"):
        thalweg.ask(run, "reader", base_url="http://127.0.0.1:9/v1", control="trained", **FAST)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ThalwegError, match="set OPENAI_API_KEY, or name a server of your own with --base-url"):
        thalweg.ask(run, "reader")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"form": "detektion"}, "did you mean 'detection'"),
        ({"references": 12}, "1 to 9"),
        ({"parallel": 0}, "parallel is 0"),
        ({"explainer": "nobody", "form": "2afc-explained"}, "has an explanation by 'nobody'"),
        ({"layer": "nothing"}, "no layer"),
        ({"rung": "nothing"}, "rung"),
        ({"price_prompt": -1.0}, "price_prompt is -1.0"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(run: Run, server: Callable[..., Server], settings: dict, said: str):
    reader = server()
    with pytest.raises(ThalwegError, match=said):
        asking(run, reader, **settings)
    assert reader.prompts == []


# Pictures


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures") / "run"
    few = {"seeds": 1, "workers": 1, "resamples": 100, "device": "cpu", "cache": out.parent / "cache"}
    thalweg.survey(short_ladder(), out=out, observer=CORNERS, **few)
    return out


def test_pictures_go_to_vision_language_models_alone(pictured: Path, tmp_path: Path, server: Callable[..., Server]):
    shutil.copytree(pictured, tmp_path / "run")
    run = open_run(tmp_path / "run", short_ladder())
    seen: list[list[bytes]] = []

    def sees(prompt: str, pictures: list[bytes]) -> str:
        seen.append(pictures)
        return "A"

    reader = server(sees)
    asked = asking(run, reader, units=1, per_unit=2, rung="dense-4", form=("2afc", "intruder"))
    assert {len(pictures) for pictures in seen} == {5, 20}
    assert seen[-1][0].startswith(b"\x89PNG")
    assert score(asked, "2afc")["n"] == 2
    blind = server(pictures=False)
    with pytest.raises(ThalwegError, match=r"takes none for this model .*image input.*vision-language"):
        thalweg.ask(run, "reader", base_url=blind.address, units=1, control="untrained", **FAST)
    assert blind.asked == []
    with pytest.raises(ThalwegError, match="about the tokens of texts"):
        asking(run, reader, form="fuzzing")
    model = saved(tmp_path / "model")
    with pytest.raises(ThalwegError, match="takes no pictures"):
        thalweg.ask(run, f"hf:{model}", units=1)


# Models of this machine


def test_a_local_model_answers_by_the_probabilities_of_its_options(run: Run, tmp_path: Path):
    folder = saved(tmp_path / "tiny-reader")
    settings = {"control": "trained", "units": 2, "per_unit": 2, "form": FORMS}
    asked = thalweg.ask(run, f"hf:{folder}", **settings)
    table = run.asked
    assert set(table["form"]) == set(FORMS)
    assert set(table["model"]) == {"tiny-reader"}
    letters = table.filter(pl.col("form").is_in(["2afc", "intruder", "2afc-explained"])).to_dicts()
    for row in letters:
        assert sum(row["numbers"]) == pytest.approx(1, abs=1e-5)
        assert row["picked"] == [int(np.argmax(row["numbers"]))]
    for row in table.filter(form="detection").to_dicts():
        assert len(row["numbers"]) == 10
        assert row["picked"] == [place for place, share in enumerate(row["numbers"]) if share > 0.5]
    simulated = table.filter(form="simulation").to_dicts()
    assert all(len(row["numbers"]) == len(row["truth"]) == 8 for row in simulated)
    assert asked.scores.filter(form="detection")["auc"].is_not_nan().all()
    assert set(run.answers["observer"]) >= {"ask:tiny-reader"}
    assert (run.answers["confidence"] >= 0.5).all()
    assert thalweg.ask(run, f"hf:{folder}", **settings).answered == 0
    short = saved(tmp_path / "short", positions=128)
    with pytest.raises(ThalwegError, match="positions for 128; show fewer references"):
        thalweg.ask(run, f"hf:{short}", units=1)


def test_imported_explanations_serve_as_those_of_their_author(run: Run, server: Callable[..., Server], tmp_path: Path):
    lines = [
        {
            "modelId": "marked-words-planted-0",
            "layer": "units",
            "index": str(unit),
            "description": f"words of group {unit}",
        }
        | {"explanationModelName": "expert", "typeName": "manual"}
        for unit in range(4)
    ]
    pl.DataFrame(lines).write_ndjson(tmp_path / "e.jsonl")
    assert run.import_explanations(tmp_path / "e.jsonl") == 4
    asked = asking(run, server(), form=tuple(BY_SENTENCE), explainer="expert", units=6, per_unit=2)
    assert score(asked, "2afc-explained")["n_units"] == 4
    assert score(asked, "detection-explained")["value"] == 1
    assert set(run.answers["observer"]) == {"ask:reader, by a sentence (expert)"}
    assert EXPLANATION not in run.asked["form"]


# The command line


def typed(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, words)])


def test_the_commands(run: Run, server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ladders.LADDERS, "marked-words", word_ladder())
    monkeypatch.setenv("COLUMNS", "200")
    reader = server()
    usual = ("ask", run.path, "--model", "reader", "--base-url", reader.address, "--units", 2)
    twins = typed(*usual, "--form", "intruder", "--yes")
    assert twins.stdout.startswith("intruder, marked-words planted, trained:")  # and its twins below it
    reader.prompts.clear()
    usual = (*usual, "--control", "trained")
    refused = typed(*usual, "--per-unit", 2)
    assert isinstance(refused.exception, ThalwegError)
    assert "give --yes" in str(refused.exception)
    assert "2afc: 4 questions, about" in refused.stderr
    assert reader.prompts == []
    sent = typed(*usual, "--per-unit", 2, "--form", "2afc", "--form", "detection-explained", "--yes")
    assert sent.exit_code == 0
    assert "2afc, marked-words planted, trained: 1.00 (" in sent.stdout
    assert "; chance 0.50, always the commonest answer " in sent.stdout
    assert "; 2 units, 4 replies, 0 failed" in sent.stdout
    assert "agreement with the other observers" in sent.stdout
    assert "words of group" in typed("explanations", run.path).stdout
    file = tmp_path / "explanations.jsonl.gz"
    assert typed("explanations", run.path, "--export", file).stdout.startswith("2 explanations")
    assert typed("explanations", run.path, "--import", file, "--layer-name", "theirs=units").stdout.startswith("2 expl")
    assert isinstance(typed("explanations", run.path, "--import", file, "--layer-name", "x").exception, ThalwegError)
