"""Pictures that drive planted filters more, and less, than every natural picture does, and that are not all alike."""

import pytest
import torch
from torch import nn

from support.tiny import blobs
from thalweg import Layer
from thalweg.models.pooling import pooled
from thalweg.synthetic.maximise import Goals, Pictures, Recipe, maximise, together
from thalweg.synthetic.parametrisation import Size, coefficients, cropped, drawn, jittered

NATURAL = blobs(300, seed=5)
SIZE = Size(1, 12, 12)
LAYER = Layer("0", "max", torch.relu)


def planted() -> nn.Module:
    """A convolution with three filters: an upright edge, a lying one, and a bright spot."""
    edge = torch.tensor([[-1.0, 0.0, 1.0]] * 3)
    spot = torch.full((3, 3), -0.125)
    spot[1, 1] = 1.0
    layer = nn.Conv2d(1, 3, 3)
    layer.weight.data = torch.stack([edge, edge.T, spot])[:, None]
    layer.bias.data.zero_()
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(300, 4))


def goals_of(network: nn.Module) -> Goals:
    with torch.no_grad():
        values = pooled(network[0](NATURAL.pixels.float() / 255), "max")
    return Goals(torch.arange(3), torch.stack([values.amax(0), values.amin(0)], 1), values.std(0))


@pytest.fixture(scope="module")
def made() -> Pictures:
    network = planted()
    recipe = Recipe(SIZE, lambda pictures: pictures, steps=256)
    return together(list(maximise(network, LAYER, goals_of(network), recipe)))


def test_the_strongest_picture_drives_a_planted_filter_beyond_every_natural_one(made: Pictures):
    assert made.exceeds.all()
    assert made.pixels.shape == (3, 2, 9, 1, 12, 12)
    high, low = made.values[:, 0], made.values[:, 1]
    assert (high.amax(1) > made.best[:, 0]).all()
    assert (low.amin(1) < made.best[:, 1]).all()
    assert (high.mean(1) - low.mean(1) > 0.5 * (made.best[:, 0] - made.best[:, 1])).all()


def test_values_are_those_of_the_pictures_as_they_are_shown(made: Pictures):
    with torch.no_grad():
        values = pooled(planted()[0](made.pixels.flatten(0, 2).float() / 255), "max")
    for unit in range(3):
        assert torch.allclose(values[:, unit].unflatten(0, (3, 2, 9))[unit], made.values[unit], atol=1e-5)


def test_pictures_of_one_direction_differ(made: Pictures):
    flat = made.pixels.flatten(3).float()
    apart = (flat[:, :, :, None] - flat[:, :, None]).abs().mean(-1) / 255
    off = ~torch.eye(9, dtype=torch.bool)
    assert apart[:, :, off].min() > 0.02


def test_pictures_are_the_same_again_and_the_network_is_as_before(made: Pictures):
    network = planted().requires_grad_(True)
    goals = goals_of(network).part(slice(0, 3))
    again = together(list(maximise(network, LAYER, goals, Recipe(SIZE, lambda pictures: pictures, steps=256))))
    assert torch.equal(again.pixels, made.pixels)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    other = together(list(maximise(network, LAYER, goals, Recipe(SIZE, lambda pictures: pictures, 5, seed=1))))
    assert not torch.equal(other.pixels, made.pixels)


def test_a_picture_has_its_size_and_a_shift_keeps_what_is_in_it():
    generator = torch.Generator().manual_seed(0)
    size = Size(3, 10, 16)
    pictures = drawn(coefficients(4, size, generator), size)
    assert pictures.shape == (4, 3, 10 + 2 * size.edge, 16 + 2 * size.edge)
    assert 0 < pictures.min() < pictures.max() < 1
    assert cropped(pictures, size).shape == jittered(pictures, size, generator).shape == (4, 3, 10, 16)
    even = torch.full_like(pictures, 0.25)
    assert torch.allclose(jittered(even, size, generator), torch.tensor(0.25))
