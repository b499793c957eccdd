"""Prompts, how replies are read, and what they are worth."""

import hashlib
import io
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from thalweg.prompting import prompts
from thalweg.prompting.costs import Plan, Planned, Prices, Spending
from thalweg.prompting.endpoint import LEAST_SIDE, enlarged, prompt_tokens
from thalweg.prompting.forms import DETECTION, INTRUDER, SIMULATION, TWO
from thalweg.prompting.parsing import read_reply, written_numbers
from thalweg.prompting.questions import LETTER, LIST, NUMBERS, SENTENCE, Picture, Question, Reply, Unit
from thalweg.prompting.scores import area, model_scores, unit_scores
from thalweg.runs.asked import ASKED

UNIT = Unit("words", "small", 0, "trained", "blocks.0", 3)


def question(reply: str, queries: int = 2, pieces: tuple[str, ...] = ()) -> Question:
    ids = tuple(range(queries))
    return Question("0" * 16, TWO, UNIT, "", ids, ids, (0,), reply, lambda: ("a prompt",), pieces=pieces)


def test_other_words_are_another_version():
    """If this fails, the prompts have changed: raise `prompts.VERSION`, and put the new hash here."""
    texts = {name: value for name, value in vars(prompts).items() if name.isupper() and name != "VERSION"}
    shown = [
        prompts.opening("text", "last"),
        *prompts.references(["a"], ["b"], "text", lowest=True, marked=True),
        *prompts.two((), ["a", "b"], "text"),
        *prompts.several((), ["a"], "image", fuzzed=True),
        *prompts.odd_one_out(list("abcde"), ""),
        *prompts.simulation((), ["a", "\n"]),
    ]
    made = hashlib.sha256(repr((sorted(texts.items(), key=str), shown)).encode()).hexdigest()[:16]
    assert (prompts.VERSION, made) == (1, "e532b42e5a0a01b9")


@pytest.mark.parametrize(
    ("text", "picked"),
    [
        ("A", 0),
        (" B.", 1),
        ("**B**", 1),
        ("(A)", 0),
        ("B: it is warmer", 1),
        ("The answer is B", 1),
        ("Answer: A", 0),
        ("I would choose B because A words are few", 1),
        ("I choose text B", 1),
    ],
)
def test_a_letter_is_read_in_the_ways_models_write_it(text: str, picked: int):
    assert read_reply(question(LETTER), Reply(text)).picked == (picked,)


@pytest.mark.parametrize("text", ["", "A or B", "Both", "C", "neither A nor B", "a unit is a unit", "Both A and B"])
def test_what_names_no_letter_or_two_is_no_answer(text: str):
    answer = read_reply(question(LETTER), Reply(text))
    assert answer.picked is None
    assert answer.note.startswith("no answer could be read")


@pytest.mark.parametrize(
    ("text", "picked"),
    [("1, 3", (0, 2)), ("none", ()), ("None.", ()), ("2", (1,)), ("1, 2 and 4", (0, 1, 3)), ("Answer: 3, 1", (0, 2))],
)
def test_a_list_is_read(text: str, picked: tuple[int, ...]):
    assert read_reply(question(LIST, 4), Reply(text)).picked == picked


@pytest.mark.parametrize("text", ["5", "0", "1 to 3 of them", "all", "the first", "1, 2, 9"])
def test_a_list_of_others_is_no_answer(text: str):
    assert read_reply(question(LIST, 4), Reply(text)).picked is None


def test_a_refusal_is_called_one():
    for reply in (Reply("I'm sorry, but I can't help."), Reply("A", refused=True), Reply("", refused=True)):
        assert read_reply(question(LETTER), reply).note.startswith("refused")
    assert read_reply(question(SENTENCE, 0), Reply("As an AI I have no eyes")).note.startswith("refused")
    assert read_reply(question(SENTENCE, 0), Reply("Names of towns.")).picked == ()


def test_numbers_are_one_for_each_token():
    pieces = (" a", "\n", " b")
    asked = question(NUMBERS, 1, pieces)
    assert read_reply(asked, Reply(" a\t3\n\\n\t0\n b\t12")).numbers == (3, 0, 9)
    assert read_reply(asked, Reply(" a\t3\n b\t1")).picked is None
    assert written_numbers("x\t1.5\n\ny 4\nz\t2") == (1.5, 2)


def test_marks_stand_around_neighbours_together():
    assert prompts.marked([" a", " b", " c", " d"], [False, True, True, False]) == " a<< b c>> d"
    assert prompts.marked([" a", " b"], [True, True]) == "<< a b>>"
    assert prompts.marked([" a"], [False]) == " a"


def test_small_pictures_are_enlarged_pixel_by_pixel():
    out = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(out, format="PNG")
    with Image.open(io.BytesIO(enlarged(out.getvalue()))) as large:
        assert min(large.size) >= LEAST_SIDE
        assert set(np.asarray(large).ravel().tolist()) == set(range(0, 256, 4))
    wide = io.BytesIO()
    Image.new("L", (300, 200)).save(wide, format="PNG")
    assert enlarged(wide.getvalue()) == wide.getvalue()
    assert prompt_tokens((Picture(b""), Picture(b""))) - prompt_tokens(()) == 170


def test_what_is_spent_stays_within_the_budget():
    spending = Spending(Prices(1e6, 1e6), 100.0)
    asked = question(LETTER)
    cost = prompt_tokens(asked.build()) + 10
    reserved = spending.reserve(asked, 10)
    assert reserved == cost
    assert spending.reserve(asked, 100) is None
    assert spending.ended
    spending.settle(reserved, 5, 1)
    assert (spending.spent, spending.reserved) == (6, 0)
    spending.settle(0.0, 0, 0)
    assert spending.spent == 6


def test_the_plan_says_what_it_costs_or_how_to_find_out():
    forms = (Planned(TWO, 1000, 2_000_000, 10_000),)
    assert Plan("m", "https://there", forms, 3, Prices(0.5, 2.0)).cost == pytest.approx(1.02)
    lines = Plan("m", "https://there", forms, 3).lines()
    assert lines[0].startswith("2afc: 1,000 questions, about 2,000,000 tokens")
    assert "3 are answered already; give --price-prompt and --price-reply" in lines[-1]
    assert lines[-1].startswith("1,000 questions to m at https://there")
    assert "price" not in Plan("m", "", forms, 0).lines()[-1]


def replies(form: str, rows: list[dict], unit: int = 0) -> pl.DataFrame:
    usual = {"question": "q", "form": form, "model": "m", "version": 1, "ladder": "l", "rung": "r", "seed": 0}
    usual |= {"control": "trained", "layer": "a", "unit": unit, "band": "", "stimuli": [], "queries": [0, 1]}
    usual |= {"right": [0], "picked": [0], "numbers": [], "truth": [], "reply": "", "note": "", "prompt_tokens": 0}
    usual |= {"reply_tokens": 0, "seconds": 0.0, "trial": "", "observer": ""}
    return pl.DataFrame([usual | row for row in rows], schema=ASKED)


def test_lists_are_scored_by_balanced_accuracy_and_the_area_under_the_curve():
    ten = {"queries": list(range(10)), "right": [0, 1], "picked": [0, 2], "numbers": [0.9, 0.4, 0.8, *[0.1] * 7]}
    (row,) = unit_scores(replies(DETECTION, [ten])).to_dicts()
    assert row["value"] == pytest.approx((1 / 2 + 7 / 8) / 2)
    assert row["auc"] == pytest.approx(15 / 16)
    (never,) = unit_scores(replies(DETECTION, [ten | {"picked": [], "numbers": []}])).to_dicts()
    assert never["value"] == 0.5
    assert np.isnan(never["auc"])
    assert area(np.array([0.5, 0.5]), np.array([True, False])) == 0.5


def test_scores_stand_beside_what_always_the_same_answer_would_get():
    letters = [{"right": [place % 3 // 2], "picked": [0]} for place in range(12)] + [
        {"picked": None, "note": "refused: no"}
    ]
    (row,) = model_scores(replies(INTRUDER, letters)).to_dicts()
    assert row["value"] == row["majority"] == pytest.approx(8 / 12)
    assert row["chance"] == 0.2
    assert (row["n"], row["n_failed"], row["refused"]) == (12, 1, 1)


def test_a_simulation_is_a_correlation_over_all_tokens_together():
    texts = [{"numbers": [1.0, 2.0], "truth": [10.0, 20.0]}, {"numbers": [3.0, 4.0], "truth": [30.0, 35.0]}]
    (row,) = unit_scores(replies(SIMULATION, texts)).to_dicts()
    assert row["value"] == pytest.approx(np.corrcoef([1, 2, 3, 4], [10, 20, 30, 35])[0, 1])
    flat = [{"numbers": [5.0, 5.0], "truth": [1.0, 2.0]}]
    assert np.isnan(unit_scores(replies(SIMULATION, flat))["value"][0])
    both = pl.concat([replies(SIMULATION, texts), replies(SIMULATION, texts, unit=1)])
    (model,) = model_scores(both).to_dicts()
    assert model["low"] == model["high"] == model["value"]


def test_an_own_number_of_digits_is_read_from_the_alternatives():
    from thalweg.prompting.endpoint import _numbers as numbers_of

    def token(text: str, **others: float) -> SimpleNamespace:
        top = [SimpleNamespace(token=other.removeprefix("_"), logprob=np.log(p)) for other, p in others.items()]
        return SimpleNamespace(token=text, top_logprobs=top)

    tokens = [
        token(" a"),
        token("\t"),
        token("3", _3=0.5, _5=0.5),
        token("\n"),
        token("7"),
        token("\t"),
        token("0", _0=1.0),
    ]
    assert numbers_of(question(NUMBERS, 1, (" a", "7")), tokens) == pytest.approx((4, 0))
    letters = [token("Answer"), token(" B", _A=0.2, _B=0.6, _C=0.2)]
    assert numbers_of(question(LETTER), letters) == pytest.approx((0.25, 0.75))
