"""Trackers: event files that are read back, and what Weights & Biases is told."""

import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from thalweg import ThalwegError
from thalweg.tracking.trackers import check, trackers

POINTS = [{"step": 1, "validation_loss": 2.0}, {"step": 2, "validation_loss": 0.5, "bits": float("nan"), "crisp": None}]


def events(folder: Path) -> list[tuple[str, int, float | str]]:
    """The tag, step and value of all that the event files of a folder hold: TFRecords of length, check, message."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.rglob("events.*")):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                text = value.tensor.string_val
                found.append((value.tag, event.step, text[0].decode() if text else value.simple_value))
    return found


def test_event_files_hold_what_was_written(tmp_path: Path):
    for _ in range(2):  # the second command replaces what the first one wrote
        (board,) = trackers(["tensorboard", "tensorboard"], tmp_path, "run")
        board.write("mnist/mlp-0", POINTS, {})
        board.write("mnist/curve", [], {"predictable": "a <valley>"})
    assert events(tmp_path / "tensorboard/mnist/mlp-0") == [("validation_loss", 1, 2.0), ("validation_loss", 2, 0.5)]
    ((tag, _, text),) = events(tmp_path / "tensorboard/mnist/curve")
    assert tag.startswith("predictable")
    assert text == "a <valley>"


def test_weights_and_biases_is_told_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[object] = []

    def init(**given: object) -> SimpleNamespace:
        told.append({name: given[name] for name in ("project", "group", "name", "mode")})
        summary = SimpleNamespace(update=lambda texts: told.append(texts))
        return SimpleNamespace(
            log=lambda numbers, step: told.append((step, numbers)),
            summary=summary,
            finish=lambda: told.append("finished"),
        )

    fake = SimpleNamespace(init=init, Settings=lambda **given: given)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tracker,) = trackers(["wandb"], tmp_path, "small")
    tracker.write("mnist/mlp-0", POINTS, {"predictable": "a hump"})
    assert told == [
        {"project": "thalweg", "group": "small", "name": "mnist/mlp-0", "mode": "offline"},
        (1, {"validation_loss": 2.0}),
        (2, {"validation_loss": 0.5}),
        {"predictable": "a hump"},
        "finished",
    ]
    monkeypatch.setenv("WANDB_MODE", "online")
    tracker.write("x", [], {})
    assert told[5]["mode"] == "online"


def test_a_mistaken_tracker_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ThalwegError, match="no tracker is called 'mlflow'"):
        check(["mlflow"])
    monkeypatch.setattr("thalweg.tracking.trackers.find_spec", lambda name: None)
    with pytest.raises(ThalwegError, match="needs tensorboardX, and that is not installed: pip install tensorboardX"):
        check(["tensorboard"])
