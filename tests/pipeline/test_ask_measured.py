"""Fuzzing and simulation on a run of `thalweg measure`: the values at words are those of the published model."""

from pathlib import Path

import polars as pl
import pytest
import torch

import thalweg
from support.documents import planted
from support.endpoint import Server, serving
from support.tiny_language import saved

LAYER, LENGTH, UNITS = "transformer.h.0", 8, 3


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[thalweg.Run, Server, Path]:
    """A measured GPT-2 of two blocks with random weights, about which a reader was asked that guesses."""
    folder = tmp_path_factory.mktemp("measured")
    model = saved(folder / "model")
    pl.DataFrame({"text": [item.text for item in planted(120, words=160)]}).write_parquet(folder / "texts.parquet")
    few = {"workers": 1, "resamples": 100, "device": "cpu", "cache": folder / "cache", "twins": "none", "shards": 1}
    run = thalweg.measure(
        f"hf:{model}",
        str(folder / "texts.parquet"),
        layers=[LAYER],
        units=UNITS,
        length=LENGTH,
        observer="suffix",
        out=folder / "run",
        **few,
    )
    reader = Server(lambda prompt, pictures: "a" if "one short sentence" in prompt else "1, 2, 3, 4, 5")
    with serving(reader), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "right")
        settings = {"form": ("fuzzing", "explanation", "simulation"), "units": UNITS, "control": "trained"}
        thalweg.ask(run, "reader", base_url=reader.address, retries=1, timeout=20.0, **settings)
    return run, reader, model


def values(run: thalweg.Run, model: Path, unit: int, stimulus: int) -> list[float]:
    """A unit's value at each token, from transformers itself."""
    from transformers import GPT2LMHeadModel

    network = GPT2LMHeadModel.from_pretrained(model).eval()
    pool = run.stimuli(next(iter(run.record["ladders"])))
    with torch.inference_mode():
        states = network(pool.batch(torch.tensor([stimulus])), output_hidden_states=True).hidden_states
    return states[1][0, -LENGTH:, unit].tolist()


def test_simulations_are_compared_with_the_models_own_values(asked: tuple[thalweg.Run, Server, Path]):
    run, _, model = asked
    rows = run.asked.filter(form="simulation").to_dicts()
    assert len({row["unit"] for row in rows}) == UNITS
    for row in rows[::4]:
        assert row["truth"] == pytest.approx(values(run, model, row["unit"], row["queries"][0]), abs=1e-4)


def test_fuzzing_marks_the_words_to_which_the_unit_responds(asked: tuple[thalweg.Run, Server, Path]):
    run, reader, model = asked
    rows = run.asked.filter(form="fuzzing").to_dicts()
    assert len({row["unit"] for row in rows}) > 1  # one that responds to most words has no others to be marked
    prompts = [prompt for prompt in reader.asked if "<<" in prompt]
    assert len(prompts) == len(rows)
    pool = run.stimuli(next(iter(run.record["ladders"])))
    for row in rows[:2]:
        assert (len(row["queries"]), len(row["right"])) == (10, 5)
        found, marked = set(), set()
        for place, stimulus in enumerate(row["queries"]):
            along, pieces = values(run, model, row["unit"], stimulus), pool.show(stimulus).pieces
            before = len("".join(pieces[: along.index(max(along))]))
            shown = [_marks(line) for prompt in prompts for line in _texts(prompt) if _plain(line) == "".join(pieces)]
            found |= {place} if shown else set()
            marked |= {place} if any(marks[before] for marks in shown) else set()
        assert len(found) >= 5  # a text with a line break is no line of the prompt
        assert found & set(row["right"]) <= marked


def _texts(prompt: str) -> list[str]:
    """The marked texts of a prompt, each after its number."""
    return [line.partition(": ")[2] for line in prompt.splitlines() if "<<" in line and ": " in line]


def _plain(text: str) -> str:
    return text.replace("<<", "").replace(">>", "")


def _marks(text: str) -> list[bool]:
    """Whether each character is marked."""
    inside, marks = False, []
    for part in text.replace("<<", "\0<").replace(">>", "\0>").split("\0"):
        if part[:1] in "<>" and part:
            inside, part = part[0] == "<", part[1:]
        marks += [inside] * len(part)
    return marks
