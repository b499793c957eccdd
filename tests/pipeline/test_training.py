"""Which models are trained at once, and that each is what it is alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.tiny import convnet, corners, network
from thalweg import Classifier, Ladder, Layer, Rung, Source
from thalweg.compute import devices
from thalweg.files import whole
from thalweg.pipeline.job import Model
from thalweg.pipeline.settings import settings_of
from thalweg.pipeline.steps import _together
from thalweg.pipeline.train import train_models
from thalweg.runs.directory import RunDirectory
from thalweg.training.one_cycle import OneCycle

RUNGS = tuple(Rung(f"mlp {width}", "dense", lambda width=width: network(width), (Layer("1"),)) for width in (2, 3))


def seeds_of(ladder: Ladder, run: Path) -> list[Model]:
    told, splits = settings_of({"device": "cpu"}), ladder.splits(Source(), 0)
    return [
        Model(RunDirectory(run), ladder, rung, seed, told, splits, "") for rung in ladder.rungs for seed in range(3)
    ]


@pytest.fixture
def on_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "resolved", lambda device: "cuda" if device == "cuda" else "cpu")


@pytest.mark.usefixtures("on_a_gpu")
def test_seeds_of_a_rung_are_trained_at_once_on_a_gpu_if_their_trainer_can(tmp_path):
    ladder = Ladder("own", RUNGS, corners, Classifier(most_epochs=1))
    models = seeds_of(ladder, tmp_path)
    assert [len(group) for group in _together(models)] == [1] * 6
    cards = [replace(model, settings=replace(model.settings, device="cuda")) for model in models]
    assert [[(model.rung.name, model.seed) for model in group] for group in _together(cards)] == [
        [(rung.name, seed) for seed in range(3)] for rung in RUNGS
    ]
    by_function = replace(ladder, train=lambda model, splits, seed: Classifier(most_epochs=1)(model, splits, seed))
    assert [len(group) for group in _together([replace(model, ladder=by_function) for model in cards])] == [1] * 6


def test_models_that_are_trained_at_once_are_kept_each_by_itself(tmp_path):
    ladder = Ladder("own", RUNGS[:1], corners, Classifier(most_epochs=2), twins={"again": Classifier(most_epochs=1)})
    ladder = replace(ladder, controls=("untrained", "again"))
    for folder in ("alone", "at once"):
        (tmp_path / folder / "weights").mkdir(parents=True)
        (tmp_path / folder / "steps").mkdir()
    alone, at_once = (seeds_of(ladder, tmp_path / folder) for folder in ("alone", "at once"))
    assert [train_models([model]) for model in alone] == ["", "", ""]
    assert train_models(at_once) == ""
    for one, other in zip(alone, at_once, strict=True):
        for control in ("trained", "again"):
            kept, same = (whole.read_tensors(model.run / model.weights(control)) for model in (one, other))
            assert all(torch.allclose(kept[name], same[name], atol=1e-4) for name in kept)
        summaries = [whole.read_json(model.run / f"weights/{model.name}.json") for model in (one, other)]
        assert list(summaries[0]) == list(summaries[1]) == ["untrained", "trained", "again"]
        assert summaries[1]["trained"]["epochs"] == 2
        assert summaries[1]["trained"]["bits"] == pytest.approx(summaries[0]["trained"]["bits"], abs=1e-3)


def test_what_an_interrupted_training_kept_is_used_and_then_deleted(tmp_path, monkeypatch):
    def interrupt(*_given) -> None:
        raise KeyboardInterrupt

    rung = Rung("conv", "convolutional", lambda: convnet(4), (Layer("0"),))
    ladder = Ladder("own", (rung,), corners, OneCycle(epochs=2, batch_size=64, crop=1, learning_rate=0.1))
    for folder in ("interrupted", "whole"):
        (tmp_path / folder / "weights").mkdir(parents=True)
        (tmp_path / folder / "steps").mkdir()
    model, other = (seeds_of(ladder, tmp_path / folder)[0] for folder in ("interrupted", "whole"))
    with monkeypatch.context() as patched:
        patched.setattr(OneCycle, "_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_models([model])
    assert (model.run / model.unfinished("trained")).is_file()
    assert train_models([model]) == train_models([other]) == ""
    assert not list(model.run.path.glob("weights/*.pt"))
    kept, same = (whole.read_tensors(each.run / each.weights("trained")) for each in (model, other))
    assert all(torch.equal(kept[name], same[name]) for name in kept)
