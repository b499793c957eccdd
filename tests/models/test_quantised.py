"""Models whose weights a library of quantisation packs: they keep their precision, and no twin is drawn of them."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import thalweg
from support.tiny import blobs
from thalweg import Layer, Subject, ThalwegError
from thalweg.compute.devices import in_precision
from thalweg.models.rerandomised import rerandomise


class Packed(nn.Linear):
    """A linear map whose weights are whole numbers with one scale, as such libraries leave them."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out)
        self.scale = float(self.weight.detach().abs().max()) / 127
        packed = (self.weight.detach() / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        return values @ (self.weight.float() * self.scale).T + self.bias


class Quantised(nn.Sequential):
    """Marked as transformers marks such models, and refusing another precision as bitsandbytes does."""

    is_quantized = True

    def to(self, *arguments: object, **options: object) -> "Quantised":
        if any(isinstance(each, torch.dtype) for each in (*arguments, *options.values())):
            raise ValueError("You cannot cast a quantised model in a new `dtype`")
        return super().to(*arguments, **options)


def load() -> nn.Module:
    torch.manual_seed(0)
    model = Quantised(nn.Flatten(), Packed(144, 6), nn.ReLU(), nn.Linear(6, 4))
    model[3].bfloat16()
    model[2].register_forward_hook(lambda _module, _given, output: output.bfloat16())
    return model


def build() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.ReLU(), nn.Linear(6, 4))


def test_a_quantised_model_keeps_its_precision_and_is_not_drawn_again():
    model = load()
    assert in_precision(model, torch.float32) is model
    assert model[3].weight.dtype == torch.bfloat16
    with pytest.raises(ThalwegError, match="quantised, packed by the library that reads them, and cannot be drawn"):
        rerandomise(model, 0)
    whole = build().bfloat16()
    assert in_precision(whole, torch.float32)[1].weight.dtype == torch.float32


def test_a_quantised_model_is_measured_without_the_twin_that_cannot_be_made(tmp_path: Path):
    subject = Subject("packed", load, (Layer("1", nonlinearity=torch.relu),), build, weights="packed 1")
    measure = partial(thalweg.measure, subject, blobs(400, seed=1), observer="hog", workers=1, resamples=100)
    with pytest.raises(ThalwegError, match="leave this twin out: --twins untrained --twins rotated"):
        measure(out=tmp_path / "asked", twins=("rerandomised",), cache=tmp_path)
    assert not (tmp_path / "asked").exists()
    run = measure(out=tmp_path / "run", cache=tmp_path)
    assert run.models["control"].to_list() == ["trained", "untrained", "rotated"]
    assert "there is no re-randomised twin" in " ".join(run.record["ladders"]["packed"]["warnings"])
    assert run.models["predictable"].is_not_nan().all()
