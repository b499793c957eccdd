"""What needs labels or losses that a ladder has not is said before anything is trained."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import thalweg
from support.surveys import OBSERVER
from support.tiny import blobs, network
from thalweg import Images, Ladder, Layer, Rung, Splits, ThalwegError
from thalweg.pipeline.labels import for_rungs
from thalweg.progress import Silent

BEGAN = "training began"


class Said(Silent):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def copier() -> nn.Module:
    """It says what it sees."""
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 144))


def of_one_class() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 1))


def unlabelled(source: object, seed: int) -> Splits:
    def part(count: int, seed: int) -> Images:
        return Images(blobs(count, seed=seed).pixels, torch.zeros(count, dtype=torch.int64), ("all",))

    return Splits(part(60, seed), part(20, seed + 1), part(150, seed + 2))


def labelled(source: object, seed: int) -> Splits:
    return Splits(blobs(60, seed=seed), blobs(20, seed=seed + 1), blobs(150, seed=seed + 2))


def begins(model: nn.Module, splits: Splits, seed: int) -> dict[str, Any]:
    raise ThalwegError(BEGAN)


def bits_alone(model: nn.Module, stimuli: Images, *, device: str = "cpu") -> dict[str, float]:
    return {"bits": 1.0}


@torch.inference_mode()
def copies(model: nn.Module, stimuli: Images, *, device: str = "cpu") -> dict[str, float]:
    seen: Tensor = stimuli.batch(slice(None)).flatten(1)
    return {"loss": float((model(seen) - seen).square().mean()), "bits": 1.0}


def told(
    tmp_path: Path, build: Callable, splits: Callable, evaluate: Callable | None, **settings: str
) -> tuple[list[str], str]:
    """The warnings before training, and the error in the end."""
    rung = Rung("only", "k", build, (Layer("1", nonlinearity=torch.relu),))
    ladder = Ladder("tiny", (rung,), splits, begins, "t", evaluate=evaluate)
    said = Said()
    asked: dict[str, Any] = {"capability": True, "factors": ("memorisation",), "seeds": 1, "workers": 1}
    with pytest.raises(ThalwegError) as wrong:
        thalweg.survey(ladder, observer=OBSERVER, out=tmp_path / "run", progress=said, **asked, **settings)
    return [line.removeprefix("warning: ") for line in said.lines if line.startswith("warning: ")], str(wrong.value)


CAPABILITY = "ladder 'tiny': total interpretable capability (--capability) is left out: it needs logits for labels"
MEMORISATION = "ladder 'tiny': memorisation (--factors memorisation) is left out: the model tells no labels"


def test_a_model_whose_strength_needs_labels_is_refused_before_it_is_trained(tmp_path: Path):
    said, wrong = told(tmp_path, copier, unlabelled, None)
    assert not said
    assert "rung 'only': the model returned (4, 144); its strength is weighed by the labels" in wrong
    assert "give the ladder an `evaluate`" in wrong
    assert BEGAN not in wrong
    assert not (tmp_path / "run" / "settings.json").exists()


@pytest.mark.parametrize("splits", [unlabelled, labelled])
def test_what_needs_labels_is_left_out_with_the_reason(tmp_path: Path, splits: Callable):
    said, wrong = told(tmp_path, copier, splits, copies)
    assert [line[: len(start)] for line, start in zip(said, (CAPABILITY, MEMORISATION), strict=True)] == [
        CAPABILITY,
        MEMORISATION,
    ]
    assert ("of one class" in said[0], "no logits for the classes" in said[0]) == (
        splits is unlabelled,
        splits is labelled,
    )
    assert BEGAN in wrong


def test_one_label_and_a_strength_without_loss_are_said(tmp_path: Path):
    said, _ = told(tmp_path, of_one_class, unlabelled, None)
    assert "all stimuli have the same label" in said[0]
    said, _ = told(tmp_path / "other", partial(network, 8), labelled, bits_alone)
    (line,) = said
    assert line.startswith(
        "ladder 'tiny': generalisation_gap_bits is left out: the ladder's `evaluate` returns no `loss`"
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_ladder_with_labels_is_told_nothing(tmp_path: Path, precision: str):
    said, wrong = told(tmp_path, partial(network, 8), labelled, None, precision=precision)
    assert not said
    assert BEGAN in wrong


def test_rungs_are_named_unless_it_is_so_of_all():
    ladder = Ladder("tiny", (Rung("a", "k", copier, (Layer("1"),)),), labelled, begins, "t")
    assert for_rungs(ladder, {"x": ["a", "b"], "y": ["b"]}, 2) == ["ladder 'tiny': x", "ladder 'tiny', b: y"]
