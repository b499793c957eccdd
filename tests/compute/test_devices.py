"""Devices: what a user can name, which card a task runs on, and what happens when memory runs out."""

import logging
import math
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import thalweg
from support.surveys import run
from support.tiny import blobs, short_ladder
from thalweg import Layer, ThalwegError
from thalweg.bases import streaming
from thalweg.compute import cards, devices, engines, memory
from thalweg.compute.workers import EngineConfig
from thalweg.pipeline.one_model import shards_before
from thalweg.pipeline.settings import settings_of
from thalweg.recording.record import record
from thalweg.recording.result import to_tensors
from thalweg.recording.settings import RecordingSettings
from thalweg.stimuli.modality import Modality
from thalweg.stimuli.tensors import TensorStimuli
from thalweg.strength import axes, published


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch says that there are two CUDA devices; nothing is run on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "no device is called 'gpu'"),
        ("cuda:x", "no device is called 'cuda:x'; did you mean cuda"),
        ("cpu:1", "no device is called 'cpu:1'"),
        ("cuda", "device is 'cuda', but PyTorch finds no CUDA device here; use --device cpu"),
        ("cuda:1", "device is 'cuda:1', but PyTorch finds no CUDA device here"),
        ("mps", "device is 'mps', but PyTorch finds no GPU of Apple's here; use --device cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        ThalwegError, match=message.replace("cuda:x'; did you mean cuda", "cuda:x'; did you mean 'cuda")
    ):
        settings_of({"device": device})


@pytest.mark.usefixtures("two_cards")
def test_a_card_is_named_by_its_number():
    assert settings_of({"device": "cuda:1"}).resolved_device == "cuda:1"
    with pytest.raises(
        ThalwegError, match="device is 'cuda:2', but PyTorch finds these CUDA devices here: cuda:0, cud"
    ):
        settings_of({"device": "cuda:2"})
    with pytest.raises(ThalwegError, match="device is 'cuda:1', but a cluster chooses the cards of its tasks"):
        settings_of({"device": "cuda:1", "engine": "ray"})
    assert settings_of({}).resolved_device == "cuda"
    assert settings_of({"device": "cpu"}).resolved_device == "cpu"


@pytest.mark.usefixtures("two_cards")
def test_only_tasks_that_run_models_take_cards():
    settings = settings_of({"tasks_per_card": 2})
    assert settings.engine_config == EngineConfig()
    assert settings.model_engine_config == EngineConfig(gpus=1, cards=("cuda:0", "cuda:1"), tasks_per_card=2)
    assert settings_of({"device": "cuda:1"}).model_engine_config.cards == ("cuda:1",)
    assert settings_of({"device": "cpu"}).model_engine_config == EngineConfig()
    assert settings_of({"engine": "ray"}).model_engine_config.cards == ()


@pytest.mark.usefixtures("two_cards")
def test_workers_are_tasks_a_card_where_models_run_on_cards():
    planned = settings_of({"workers": 3}).model_engine_config
    assert (planned.workers, planned.tasks_per_card) == (6, 3)
    alone = settings_of({"workers": 3, "device": "cuda:1"}).model_engine_config
    assert (alone.workers, alone.tasks_per_card) == (3, 3)
    bounded = settings_of({"workers": 3, "tasks_per_card": 2}).model_engine_config
    assert (bounded.workers, bounded.tasks_per_card) == (3, 2)
    assert settings_of({"workers": 3, "device": "cpu"}).model_engine_config.workers == 3
    assert settings_of({"workers": 3}).engine_config.workers == 3  # of what needs no card


def _switches() -> tuple[bool, ...]:
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    return torch.are_deterministic_algorithms_enabled(), warned, *tf32


@pytest.mark.usefixtures("two_cards")
def test_a_task_on_a_card_is_as_repeatable_as_it_can_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = _switches()
    with devices.repeatable("cpu"):
        assert _switches() == before
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with devices.repeatable(settings_of({"device": "cuda:1"}).resolved_device):
        assert _switches() == (True, True, False, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == devices.WORKSPACE
    assert _switches() == before
    assert devices.repeats("cpu") == "byte-identical"
    assert {devices.repeats(device) for device in ("cuda", "cuda:1", "mps")} == {"not byte-identical on this device"}


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_that_on_the_cpu_but_for_rounding(tmp_path: Path):
    runs = [run(short_ladder(), tmp_path / device, seeds=1, device=device) for device in ("cpu", "cuda")]
    assert [each.record["repeats"] for each in runs] == [devices.IDENTICAL, devices.NOT_IDENTICAL]
    values = [each.models.filter(control="untrained")["pool_loss"].to_list() for each in runs]
    assert values[1] == pytest.approx(values[0], rel=1e-4)  # training amplifies rounding; untrained models do not


def test_the_device_is_no_part_of_what_a_run_is_known_by():
    assert settings_of({"device": "cpu", "tasks_per_card": 3}).affecting() == settings_of({}).affecting()
    with pytest.raises(ThalwegError, match=r"tasks_per_card .* is 0; at least 1"):
        settings_of({"tasks_per_card": 0})


def test_a_run_goes_on_with_its_shards_on_another_device(tmp_path: Path):
    assert shards_before(tmp_path) is None
    thalweg.files.whole.write_json(tmp_path / "settings.json", {"format": thalweg.runs.directory.FORMAT, "shards": 8})
    assert shards_before(tmp_path) == 8


# Cards


def test_each_task_has_a_card_to_itself_and_others_wait(tmp_path: Path):
    slots = cards.Slots(tmp_path, ("cuda:0", "cuda:1"))
    third: list[str] = []

    def wait() -> None:
        with slots.card() as card:
            third.append(card)

    waiting = threading.Thread(target=wait)
    with slots.card() as first:
        with slots.card() as second:
            assert {first, second} == {"cuda:0", "cuda:1"}
            waiting.start()
            waiting.join(0.3)
            assert not third
        waiting.join(5)
        assert third == [second]


def test_tasks_share_cards_evenly_before_they_share_one(tmp_path: Path):
    slots = cards.Slots(tmp_path, ("cuda:0", "cuda:1"), tasks_per_card=2)
    with slots.card() as a, slots.card() as b, slots.card() as c, slots.card() as d:
        assert [{a, b}, {c, d}] == [{"cuda:0", "cuda:1"}] * 2


def test_the_card_with_the_most_free_memory_comes_first(monkeypatch: pytest.MonkeyPatch):
    answers = {"cuda:0": "GPU-a", "cuda:1": "b"}
    monkeypatch.setattr(cards, "_uuid", lambda card: answers[card].removeprefix("GPU-"))
    said = "GPU-a, 100\nGPU-b, 40000\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said))
    assert cards.by_free_memory(["cuda:0", "cuda:1"]) == ["cuda:1", "cuda:0"]
    said = "No devices were found\n"
    assert cards.by_free_memory(["cuda:0", "cuda:1"]) == ["cuda:0", "cuda:1"]


def with_card(item: int) -> int:
    return item


def test_a_machine_with_one_card_runs_one_task_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """Eight workers and one card: no process is started, and each task takes the card in turn."""
    monkeypatch.setattr(engines.local, "_in_processes", None)
    config = EngineConfig(workers=8, cards=("mps",))
    assert sorted(engines.run(with_card, range(3), config)) == [(0, 0), (1, 1), (2, 2)]


# When memory runs out


class Greedy(nn.Module):
    """Runs out of memory with more stimuli than it can take, as a card does."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.given = most, []

    def forward(self, values: Tensor) -> Tensor:
        self.given.append(len(values))
        if len(values) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return values


def model_of(most: int) -> nn.Sequential:
    """Whole numbers everywhere, so that the values don't depend on the size of a batch even in their last digits."""
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), Greedy(most), nn.Linear(4, 3))
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data = torch.randint(-4, 5, weight.shape, generator=generator).float()
    return model


def numbers(count: int = 300) -> TensorStimuli:
    values = torch.randint(-8, 9, (count, 6), generator=torch.Generator().manual_seed(1)).float()
    modality = Modality(
        "number",
        lambda stimuli: stimuli.values,
        lambda stimuli, which, _: thalweg.Shown("a", html="b"),
        batch_sizes={"cpu": 50},
    )
    return TensorStimuli(values, torch.arange(count) % 3, ("a", "b", "c"), modality)


LAYERS = (Layer("0", nonlinearity=torch.relu), Layer("3"))


def recorded(model: nn.Module, bases: tuple[str, ...] = ("neurons",)) -> dict[tuple[str, str], dict[str, Tensor]]:
    settings = RecordingSettings(bases=bases, k=30, sample=60, batch_size=100)
    statistics = {"label": torch.eye(3)[numbers().labels]}
    result = record(model, LAYERS, numbers(), torch.arange(300), settings, statistics=statistics)
    return {name: to_tensors(recording) for name, recording in result.items()}


@pytest.mark.parametrize("bases", [("neurons",), ("random", "neurons")], ids=["neurons", "rotated"])
def test_a_recording_is_the_same_when_memory_runs_out(bases: tuple[str, ...], caplog: pytest.LogCaptureFixture):
    """The first layer is taken in before memory runs out, and must not be taken in twice."""
    plenty, little = model_of(100), model_of(30)
    whole, halved = recorded(plenty, bases), recorded(little, bases)
    assert whole.keys() == halved.keys()
    for name in whole:
        for what, values in whole[name].items():
            torch.testing.assert_close(
                halved[name][what], values, rtol=0, atol=0 if name[1] == "neurons" else 1e-4, equal_nan=True
            )
    assert plenty[2].given == [100] * 3
    assert little[2].given[:3] == [100, 50, 25]
    assert set(little[2].given[3:]) == {25}
    said = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert [line.split(":")[0] for line in said] == ["memory ran out on cpu"] * 2
    assert "25 stimuli at once from here on; the results stay the same" in said[1]


def test_memory_that_runs_out_later_costs_no_stimulus():
    """Only the third batch is too large: layer 0 is taken in by then, and waits no more."""
    late = model_of(100)
    whole = recorded(model_of(100))
    late[2].register_forward_pre_hook(lambda module, _: setattr(module, "most", 100 if len(module.given) < 2 else 40))
    halved = recorded(late)
    assert late[2].given == [100, 100, 100, 50, 25, 25, 25, 25]
    for name in whole:
        for what, values in whole[name].items():
            torch.testing.assert_close(halved[name][what], values, rtol=0, atol=0, equal_nan=True)


def test_strength_and_layers_are_the_same_when_memory_runs_out():
    stimuli, plenty = numbers(), model_of(1000)
    expected = axes.evaluate(plenty, stimuli)
    assert axes.evaluate(model_of(30), stimuli) == expected
    assert published.published(model_of(7), stimuli) == published.published(plenty, stimuli)
    passes = [
        list(streaming.outputs(model, LAYERS, stimuli, torch.arange(300), device="cpu"))
        for model in (plenty, model_of(30))
    ]
    for batch, same in zip(*passes, strict=True):
        assert all(torch.equal(batch[name], same[name]) for name in batch)


def test_a_single_stimulus_that_is_too_large_is_an_error():
    with pytest.raises(ThalwegError, match="memory ran out on cpu with a single stimulus; choose a device with more"):
        recorded(model_of(0))
    with pytest.raises(ZeroDivisionError):
        memory.Pieces(4, "cpu")(lambda part: 1 / 0, 4)


def test_a_recorder_that_runs_out_of_memory_is_not_asked_again(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("thalweg.recording.recorder.Recorder.make_way", fails)
    with pytest.raises(ThalwegError, match="memory ran out on cpu while the values of layer '0' were kept; give the"):
        recorded(model_of(100))


def test_precision_is_doubled_where_the_device_can():
    assert devices.in_double(torch.ones(2)).dtype == torch.float64
    assert memory.ran_out(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert not memory.ran_out(replace_cause(ValueError("x"), KeyError("y")))
    assert memory.ran_out(replace_cause(ThalwegError("the model failed"), torch.cuda.OutOfMemoryError("CUDA")))


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_one_value_that_is_not_finite_is_found(precision: torch.dtype):
    largest = torch.finfo(precision).max
    values = torch.tensor([[largest, -largest, 0.0]], dtype=precision)
    assert devices.all_finite(values)
    assert devices.all_finite(values[:0])
    assert devices.all_finite(torch.arange(3))
    assert devices.all_finite(torch.tensor([True, False]))
    assert not devices.all_finite(torch.tensor([complex(1, math.nan)]))
    for wrong in (math.nan, math.inf, -math.inf):
        for place in range(3):
            spoilt = values.clone()
            spoilt[0, place] = wrong
            assert not devices.all_finite(spoilt)


def replace_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_pictures_of_a_published_model_are_evaluated_in_the_batches_of_their_modality():
    images = blobs(20, seed=0)
    model = nn.Sequential(nn.Flatten(), Greedy(8), nn.LazyLinear(len(images.label_names)))
    published.published(model, replace(images))
    assert model[1].given == [8, 8, 4]
