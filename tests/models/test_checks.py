"""A model whose units have no one value for a stimulus is noticed before anything is measured."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import thalweg
from support.tiny import blobs, corners
from thalweg import Ladder, Layer, Rung, Subject, ThalwegError
from thalweg.models import checks
from thalweg.models.checks import problems

SMALL = 0.01  # of the batch's mean, added to each value
LAYERS = (Layer("first"), Layer("head"))


class Small(nn.Module):
    """A convolution and a linear map, with something done to the values between them."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.between, self.head = nn.Conv2d(1, 6, 5), between, nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.between(self.first(images)).amax((2, 3)))


class Stubborn(Small):
    """A model that stays in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.between = nn.Dropout()

    def train(self, mode: bool = True) -> "Stubborn":
        return super().train(True)


def problem_kinds(model: nn.Module, **options: str) -> list[tuple[str, bool]]:
    return [(problem.kind, problem.grave) for problem in problems(model, blobs(40, seed=0), LAYERS, **options)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_rounding_is_no_problem(precision: str) -> None:
    assert problem_kinds(Small(), precision=precision) == []
    assert problem_kinds(Small(nn.InstanceNorm2d(6)), precision=precision) == []


def test_dropout_that_stays_on_is_refused_and_only_what_it_changes_is_named() -> None:
    noisy = Small(functional.dropout)
    assert problem_kinds(noisy) == [("chance", True)]
    (problem,) = problems(noisy, blobs(40, seed=0), LAYERS)
    assert "layer 'head' differ each time" in problem.text
    assert "'first'" not in problem.text
    with pytest.raises(ThalwegError, match="mine: the values of layer 'head' differ"):
        checks.refuse([problem], "mine")


def test_a_module_that_stays_in_training_mode_is_named() -> None:
    (problem,) = problems(Stubborn(), blobs(40, seed=0), LAYERS)
    assert "'Stubborn' stays in training mode after eval()" in problem.text


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_normalisation_over_the_batch_is_refused(precision: str) -> None:
    assert problem_kinds(Small(nn.BatchNorm2d(6, track_running_stats=False)), precision=precision) == [("batch", True)]


def test_a_small_dependence_on_the_batch_is_said_and_not_refused() -> None:
    assert problem_kinds(Small(lambda values: values + SMALL * values.mean(0, keepdim=True))) == [("batch", False)]


def test_values_that_are_never_finite_are_refused() -> None:
    assert problem_kinds(Small(lambda values: torch.log(-values.abs()))) == [("finite", True)]


def test_a_view_that_draws_at_random_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)

    def flipped(picture: Image.Image) -> Tensor:
        turned = bool(torch.rand((), generator=generator) < 0.5)
        return torch.full((1, 12, 12), float(turned))

    stimuli = blobs(40, seed=0).viewed(flipped)
    assert [problem.kind for problem in problems(Small(), stimuli, LAYERS)] == ["view"]


def ladder(between: Callable[[Tensor], Tensor]) -> Ladder:
    rung = Rung("only", "conv", lambda: Small(between), LAYERS)
    return Ladder("made", (rung,), lambda source, seed: corners(None, seed), lambda *_: {"train_examples": 0})


def test_every_rung_of_a_ladder_is_checked_before_the_long_work(tmp_path: Path) -> None:
    with pytest.raises(ThalwegError, match="rung 'only': only: the values of layer 'head' differ each time"):
        thalweg.survey(ladder(functional.dropout), out=tmp_path / "run", cache=tmp_path, workers=1)
    assert not (tmp_path / "run" / "settings.json").exists()


def test_a_warning_is_said_and_kept_in_the_run(tmp_path: Path) -> None:
    def load() -> nn.Module:
        model = Small(lambda values: values + SMALL * values.mean(0, keepdim=True))
        model.unused = nn.Linear(2, 2)
        model.scale = nn.Parameter(torch.ones(1))  # the model's own
        return model

    subject = Subject("mine", load)
    message: list[str] = []

    class Heard(thalweg.progress.Silent):
        def say(self, text: str) -> None:
            message.append(text)

    run = thalweg.measure(
        subject,
        blobs(160, seed=1),
        observer="hog",
        out=tmp_path / "run",
        cache=tmp_path / "cache",
        workers=1,
        resamples=100,
        progress=Heard(),
    )
    (warning,) = run.record["ladders"]["mine"]["warnings"]
    assert "mine: the values of layer 'head' differ when the same stimuli are given in other batches" in warning
    assert f"warning: {warning}" in message
    assert "not among the layers: unused, the model itself; `thalweg layers` says why" in message
