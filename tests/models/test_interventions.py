"""Interventions, held against what can be said of them beforehand."""

import pytest
import torch
from torch import Tensor, nn

from support.tiny import convnet, network
from thalweg import Layer, ThalwegError
from thalweg.models import interventions
from thalweg.models.hooks import capture_activations


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return network(6).eval()


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.rand(20, 1, 12, 12, generator=generator)


def captured(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    with torch.inference_mode(), capture_activations(model, [Layer(layer)]) as outputs:
        model(images)
        return outputs[layer].clone()


def test_a_layer_patched_onto_itself_changes_nothing(model: nn.Module, images: Tensor):
    plain = model(images)
    with interventions.patch(model, "1", captured(model, "1", images)):
        assert torch.equal(model(images), plain)
    channels = convnet(5).eval()
    before = channels(images)
    with interventions.patch(channels, "0", captured(channels, "0", images).movedim(1, -1)):
        assert torch.equal(channels(images), before)


def test_without_its_only_layer_a_model_says_the_same_of_everything(model: nn.Module, images: Tensor):
    with interventions.ablate(model, "1"):
        answers = model(images)
    assert torch.equal(answers, answers[:1].expand_as(answers))
    assert torch.equal(answers[0], model[3].bias)
    assert not torch.equal(model(images), answers)  # and all is as before


def test_the_mean_of_a_linear_layer_gives_the_mean_answer(images: Tensor):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.Linear(6, 3))
    values = interventions.values_of(linear, "1", images)
    with interventions.ablate(linear, "1", "mean", values=values):
        answers = linear(images)
    torch.testing.assert_close(answers, linear(images).mean(0).expand_as(answers))


def test_resampling_draws_what_the_units_did(model: nn.Module, images: Tensor):
    values = interventions.values_of(model, "1", images)
    with interventions.ablate(model, "1", "resample", values=values, units=[1, 4]):
        drawn, again = captured(model, "1", images), captured(model, "1", images)
    assert torch.isin(drawn[:, 1], values[:, 1]).all()
    pairs = {tuple(row) for row in values[:, [1, 4]].tolist()}
    assert {tuple(row) for row in drawn[:, [1, 4]].tolist()} <= pairs  # whole rows: units stay together
    assert torch.equal(drawn[:, [0, 2, 3, 5]], values[:, [0, 2, 3, 5]])
    assert not torch.equal(drawn, again)
    with interventions.ablate(model, "1", "resample", values=values, units=[1, 4]):
        assert torch.equal(captured(model, "1", images), drawn)  # the seed decides


def test_a_direction_is_taken_out_and_nothing_else(model: nn.Module, images: Tensor, generator: torch.Generator):
    directions = torch.randn(2, 6, generator=generator)  # neither orthogonal nor of length 1
    values = interventions.values_of(model, "1", images)
    with interventions.ablate(model, "1", directions=directions):
        left = captured(model, "1", images)
    torch.testing.assert_close(left @ directions.T, torch.zeros(20, 2), atol=1e-5, rtol=0)
    basis = torch.linalg.qr(directions.T)[0]
    torch.testing.assert_close(left, values - values @ basis @ basis.T)
    with interventions.ablate(model, "1", "mean", values=values, directions=torch.eye(6)[:2]):
        torch.testing.assert_close(captured(model, "1", images)[:, :2], values[:, :2].mean(0).expand(20, 2))


def test_a_vector_is_added_at_every_place_that_is_not_skipped():
    torch.manual_seed(0)
    tokens = nn.Sequential(nn.Embedding(9, 4), nn.Identity())
    inputs = torch.arange(6).view(2, 3)
    plain = tokens(inputs)
    with interventions.add(tokens, Layer("0", unit_axis=2, skip=1), torch.ones(4), scale=2.0):
        changed = tokens(inputs)
    assert torch.equal(changed[:, :1], plain[:, :1])
    torch.testing.assert_close(changed[:, 1:], plain[:, 1:] + 2)
    with interventions.add(tokens, Layer("1:in", unit_axis=2), torch.ones(4)):
        torch.testing.assert_close(tokens(inputs), plain + 1)


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        (lambda model: interventions.ablate(model, "1", units=[6]), "layer '1' has 6 neurons, and no neuron 6"),
        (lambda model: interventions.ablate(model, "1", units=[-1]), "no neuron -1"),
        (lambda model: interventions.ablate(model, "1", "mean"), "takes `values`"),
        (lambda model: interventions.ablate(model, "1", directions=torch.ones(1, 5)), "6 neurons; directions have 5"),
        (lambda model: interventions.patch(model, "1", torch.ones(3, 6)), "cannot take the place of values of shape"),
        (lambda model: interventions.replace(model, "1", lambda values: values[:1]), "the same was expected"),
        (
            lambda model: interventions.replace(model, "1", abs, units=[0], directions=torch.eye(6)),
            "on units or on directions",
        ),
        (lambda model: interventions.replace(model, "11", abs), "no layer|'11'"),
    ],
)
def test_what_cannot_be_done_is_said(intervention, message: str, model: nn.Module, images: Tensor):
    with pytest.raises(ThalwegError, match=message), intervention(model):
        model(images)
