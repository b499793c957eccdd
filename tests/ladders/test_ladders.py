"""What ladders may ask for beside training each rung: checkpoints of one run, trained twins, layers of other kinds."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor, nn

import thalweg
from support.tiny import corners, features_of_corners, network
from thalweg import Classifier, Ladder, Layer, Observer, Rung, Source, Subject, ThalwegError
from thalweg.observers import base
from thalweg.pipeline.settings import settings_of
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.report.page import render
from thalweg.strength.axes import evaluate

OBSERVER = Observer("corners", 1, features_of_corners, names_classes=True)


def epochs(model: nn.Module, splits: thalweg.Splits, seed: int, checkpoints: Sequence[int]) -> Iterator[dict]:
    """One run, of which each checkpoint is so many epochs."""
    done = 0
    for at in checkpoints:
        for epoch in range(done, at):
            Classifier(learning_rate=0.02, patience=9, most_epochs=1)(model, splits, seed + 100 * epoch)
        done = at
        yield {"train_examples": at * len(splits.train), "stopped": "checkpoint"}


def training_ladder() -> Ladder:
    layers = (Layer("1", "max", torch.relu),)
    rungs = tuple(
        Rung(f"epoch-{at}", "dense", lambda: network(6), layers, at != 2, checkpoint=at) for at in (0, 1, 2, 6)
    )
    twins = {"memorising": Classifier(learning_rate=0.05, patience=9, most_epochs=2)}
    return Ladder("training", rungs, corners, checkpoint_trainer=epochs, twins=twins)


def run(ladder: Ladder, out: Path, **settings) -> thalweg.Run:
    given = {"seeds": 1, "workers": 1, "resamples": 200, "cache": out.parent / "cache"} | settings
    return thalweg.survey(ladder, out=out, observer=OBSERVER, **given)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    return run(training_ladder(), tmp_path_factory.mktemp("course") / "run")


def test_checkpoints_are_stages_of_one_run(checkpoints: thalweg.Run):
    models = checkpoints.models.filter(pl.col("seed") == 0).sort("order")
    trained, untrained = models.filter(control="trained"), models.filter(control="untrained")
    assert trained["bits"][0] == untrained["bits"][0]
    assert trained["bits"].is_sorted()
    assert trained["bits"][3] > trained["bits"][0] + 0.5
    assert untrained["bits"].n_unique() == 1


def test_one_run_stopped_on_the_way_is_the_same_run(checkpoints: thalweg.Run, tmp_path: Path):
    """A quick survey leaves a checkpoint out, and the others are the same."""
    quick = run(training_ladder(), tmp_path / "run", quick=True)
    every, part = (
        item.models.filter(control="trained").select("rung", "seed", "bits") for item in (checkpoints, quick)
    )
    assert set(part["rung"]) == {"epoch-0", "epoch-1", "epoch-6"}
    assert part.equals(every.filter(pl.col("rung") != "epoch-2"))


def test_a_lost_checkpoint_is_made_again(checkpoints: thalweg.Run, tmp_path: Path):
    shutil.copytree(checkpoints.path, tmp_path / "run")
    lost = tmp_path / "run" / "weights/training-epoch-2-0.safetensors"
    before = lost.read_bytes()
    lost.unlink()
    run(training_ladder(), tmp_path / "run")
    assert lost.read_bytes() == before


def test_trained_twins_are_measured_beside_the_others(checkpoints: thalweg.Run):
    assert set(checkpoints.models["control"]) == {"trained", "untrained", "rotated", "memorising"}
    assert set(checkpoints.units["control"]) == {"trained", "untrained", "rotated", "memorising"}
    memorising = checkpoints.models.filter(control="memorising", seed=0)["bits"]
    assert memorising.n_unique() == 1
    assert "memorising" in render(checkpoints)


class Places(nn.Module):
    """Units on the last axis, a value for each of five places: place times the unit's number."""

    def __init__(self) -> None:
        super().__init__()
        self.taps = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        amount = images.flatten(1).mean(1)[:, None, None]
        return self.taps(amount * torch.tensor([3.0, 1, 5, 1, 2])[:, None] * torch.arange(8.0))


@pytest.mark.parametrize(("pool", "skip", "factor"), [("last", 0, 2), ("max", 0, 5), ("mean", 0, 2.4), ("max", 3, 2)])
def test_a_layer_says_where_its_units_are_and_how_places_become_one_value(pool: str, skip: int, factor: float):
    images = corners(None, 0).pool
    layer = Layer("taps", pool, unit_axis=-1, skip=skip)
    result = record(Places(), [layer], images, torch.arange(50), RecordingSettings(k=30, sample=50))["taps", "neurons"]
    amount = images.batch(torch.arange(50)).flatten(1).mean(1)[result.sample_ids()]
    assert torch.allclose(result.sample, amount[:, None] * factor * torch.arange(8.0), atol=1e-5)


def test_a_layer_measures_at_most_so_many_units_and_says_which():
    images = corners(None, 0).pool
    every, part = (
        record(
            Places(),
            [Layer("taps", "last", unit_axis=-1, max_units=most)],
            images,
            torch.arange(50),
            RecordingSettings(bases=("neurons", "random")),
        )
        for most in (0, 3)
    )
    unit_ids = part["taps", "neurons"].unit_ids
    assert len(unit_ids) == 3
    for basis in ("neurons", "random"):
        assert torch.equal(part["taps", basis].unit_ids, unit_ids)
        assert torch.allclose(part["taps", basis].sample, every["taps", basis].sample[:, unit_ids], atol=1e-6)


def test_data_is_for_one_ladder_or_says_for_which(tmp_path: Path):
    got = {}

    def splits(source: Source, seed: int) -> thalweg.Splits:
        got["path"] = source.path
        raise ThalwegError("far enough")

    def ladder(name: str) -> Ladder:
        return Ladder(name, training_ladder().rungs[:1], splits, Classifier())

    def error(*ladders: Ladder, data: object) -> str:
        with pytest.raises(ThalwegError) as raised:
            thalweg.survey(*ladders, out=tmp_path / "run", observer=OBSERVER, data=data)
        return str(raised.value)

    assert "far enough" in error(ladder("one"), data="file")
    assert got["path"] == Path("file")
    assert "say for which ladder it is, as in one=file" in error(ladder("one"), ladder("two"), data="file")
    assert "'tow'; did you mean 'two'" in error(ladder("one"), ladder("two"), data=["tow=file"])


def test_strength_is_a_share_of_what_labels_leave_open():
    images = corners(None, 0).pool
    result = evaluate(network(4), images)
    assert result["share"] == pytest.approx(result["bits"] / 2, rel=0.05)  # four classes, about equally frequent


def test_the_default_observer_has_a_stand_in_where_its_package_is_missing(monkeypatch: pytest.MonkeyPatch):
    assert base.default("image").name == "image"
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert base.default("text").name == "tokens"


RUNG = Rung("small", "dense", nn.Identity, (Layer("1"),))
WRONG_RECORDS = [
    (RUNG, {"layers": Layer("1")}, "rung 'small': `layers` is of type Layer; a tuple of thalweg.Layer was expected"),
    (RUNG, {"layers": ("1",)}, "rung 'small': `layers` holds '1'; a tuple of thalweg.Layer was expected"),
    (RUNG, {"build": "net.pt"}, "rung 'small': `build` is 'net.pt'; a function was expected"),
    (RUNG, {"name": 7}, "thalweg.Rung: `name` is 7; a str was expected"),
    (Subject("mine", nn.Identity), {"load": "mine.pt"}, "subject 'mine': `load` is 'mine.pt'; a function was expected"),
    (Ladder("own", (RUNG,), corners), {"rungs": (RUNG, 5)}, "ladder 'own': `rungs` holds 5; a tuple of thalweg.Rung"),
    (Ladder("own", (RUNG,), corners), {"splits": 0.5}, "ladder 'own': `splits` is 0.5; a function was expected"),
]


@pytest.mark.parametrize(
    ("record", "wrong", "message"), WRONG_RECORDS, ids=[message for _, _, message in WRONG_RECORDS]
)
def test_a_record_with_a_field_of_another_kind_is_refused_in_a_sentence(record: object, wrong: dict, message: str):
    made = object.__new__(type(record))  # past the checks of types that only these tests put before the record's own
    vars(made).update(vars(record) | wrong)
    with pytest.raises(ThalwegError, match=re.escape(message)):
        made.__post_init__()


@pytest.mark.parametrize("setting", [{"seeds": "3"}, {"k": 64.5}, {"workers": "two"}])
def test_a_number_that_is_not_whole_is_refused(setting: dict):
    with pytest.raises(ThalwegError, match="; a whole number was expected"):
        settings_of(setting)
