"""The strength of a published model is found out once, whatever is measured of the model, and anew when what it is made
from changes.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

import thalweg
from support.documents import planted
from support.tiny_language import saved
from thalweg.pipeline import one_model, strengths
from thalweg.strength import language

LENGTH = 8
looked_at: list[str] = []  # the networks whose strength was found out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and its text, of which more logits come at once than are evaluated."""
    folder = tmp_path_factory.mktemp("strengths")
    saved(folder / "model")
    write_texts(folder)
    outcomes = strengths._outcomes

    def counted(network, model, control, part):
        looked_at.append(control)
        return outcomes(network, model, control, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "LOGITS", 1 << 16)
        patch.setattr(strengths, "_outcomes", counted)
        yield folder


def write_texts(folder: Path, first: str = "") -> None:
    texts = [item.text for item in planted(120, words=160)]
    pl.DataFrame({"text": [first + texts[0], *texts[1:]]}).write_parquet(folder / "texts.parquet")


def measured(place: Path, name: str, **told) -> tuple[pl.DataFrame, list[str]]:
    """The table of models, and the networks of which strength was found out."""
    looked_at.clear()
    run = thalweg.measure(
        f"hf:{place / 'model'}",
        str(place / "texts.parquet"),
        layers=["transformer.h.0"],
        units=2,
        length=LENGTH,
        observer="suffix",
        out=place / name,
        cache=place / "cache",
        **{"twins": ("untrained",), "shards": 1, "workers": 1, "resamples": 100, "device": "cpu", **told},
    )
    return run.models.sort("control"), list(looked_at)


@pytest.fixture(scope="module")
def first(place: Path) -> pl.DataFrame:
    """The table of models of the first measurement, in two shards."""
    models, looked = measured(place, "first", shards=2)
    assert sorted(looked) == ["trained", "trained", "untrained", "untrained"]
    return models


@pytest.fixture(autouse=True)
def _first(first: pl.DataFrame) -> None:
    """The first measurement comes before every test."""


def strength(models: pl.DataFrame) -> list[Mapping[str, float]]:
    return models.select("control", "bits", "share", "accuracy", "pool_loss", "parameters").to_dicts()


def test_another_basis_and_another_run_make_no_pass_for_strength(place: Path, first: pl.DataFrame):
    models, looked = measured(place, "another basis", basis="pca", shards=2)
    assert not looked
    assert strength(models) == strength(first)


def test_only_the_twin_that_is_not_known_is_looked_at(place: Path, first: pl.DataFrame):
    models, looked = measured(place, "another twin", twins=("untrained", "rerandomised"), shards=2)
    assert looked == ["rerandomised", "rerandomised"]
    assert strength(models.filter(pl.col("control") != "rerandomised")) == strength(first)


def test_a_damaged_file_of_the_cache_is_made_anew(place: Path, first: pl.DataFrame):
    for file in (place / "cache").glob("strength-*"):
        file.write_text("{")
    models, looked = measured(place, "damaged", shards=2)
    assert set(looked) == {"trained", "untrained"}
    assert strength(models) == strength(first)


def test_an_edited_strength_function_is_asked(place: Path, monkeypatch: pytest.MonkeyPatch):
    def otherwise(sums, stimuli):
        return {**language.evaluate.summarise(sums, stimuli), "bits": 7.0}

    monkeypatch.setattr(one_model, "evaluator", lambda _model: replace(language.evaluate, summarise=otherwise))
    models, looked = measured(place, "another function", shards=2)
    assert set(looked) == {"trained", "untrained"}
    assert models["bits"].to_list() == [7.0, 7.0]


def test_an_edited_stimulus_is_looked_at(place: Path, first: pl.DataFrame):
    write_texts(place, first="Other ")
    models, looked = measured(place, "another text", shards=2)
    write_texts(place)
    assert set(looked) == {"trained", "untrained"}
    assert strength(models) != strength(first)


def test_edited_weights_are_evaluated(place: Path, first: pl.DataFrame):
    file = place / "model/model.safetensors"
    kept = file.read_bytes()
    weights = load_file(file)
    weights["transformer.h.1.mlp.c_fc.bias"] += 1
    save_file(weights, file, {"format": "pt"})
    models, looked = measured(place, "another weight", shards=2)
    file.write_bytes(kept)
    assert set(looked) == {"trained", "untrained"}
    assert strength(models)[0] != strength(first)[0]


def test_an_edited_configuration_is_evaluated(place: Path, first: pl.DataFrame):
    """What a printed architecture does not show."""
    file = place / "model/config.json"
    kept = file.read_text()
    file.write_text(json.dumps({**json.loads(kept), "layer_norm_epsilon": 0.1}))
    models, looked = measured(place, "another configuration", shards=2)
    file.write_text(kept)
    assert set(looked) == {"trained", "untrained"}
    assert strength(models)[0] != strength(first)[0]
