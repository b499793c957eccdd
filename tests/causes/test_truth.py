"""What is true of units: planted ones have the truth that was planted, published geometries their dimensionality."""

import math

import pytest
import torch
from benchmarks.toy_models import Toy, planted, started, train

from thalweg.causes.truth import (
    best_feature,
    dimensionality,
    feature_directions,
    mean_dimensionality,
    single_feature_score,
)


def polygon(corners: int) -> torch.Tensor:
    angles = 2 * math.pi * torch.arange(corners) / corners
    return torch.stack([angles.cos(), angles.sin()], 1)


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return (torch.rand(3000, 12, generator=torch.Generator().manual_seed(0)) < 0.2).float()


def test_a_unit_that_is_one_latent_has_an_r2_of_1(features: torch.Tensor):
    r2, best = best_feature(3 * features + 1, features)
    assert r2 == pytest.approx(torch.ones(12), abs=1e-6)
    assert best.tolist() == list(range(12))


def test_a_sum_of_n_latents_has_an_r2_of_1_in_n_and_a_silent_unit_none(features: torch.Tensor):
    units = torch.stack([features[:, :2].sum(1), features[:, :4].sum(1), torch.zeros(3000)], 1)
    r2, _ = best_feature(units, features)
    assert r2[:2].tolist() == pytest.approx([1 / 2, 1 / 4], abs=0.04)
    assert r2[2].isnan()


@pytest.mark.parametrize(
    ("directions", "share"),
    [
        (torch.eye(3), 1.0),
        (torch.tensor([[1.0], [-1.0]]), 1 / 2),
        (polygon(3), 2 / 3),
        (polygon(5), 2 / 5),
        (torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), 3 / 4),
        (planted()["square antiprism"][0], 3 / 8),
        (planted()["9 in four dimensions"][0], 4 / 9),
    ],
    ids=["orthogonal", "antipodal", "triangle", "pentagon", "tetrahedron", "antiprism", "frame"],
)
def test_published_geometries_have_their_dimensionality(directions: torch.Tensor, share: float):
    assert dimensionality(directions).tolist() == pytest.approx([share] * len(directions), abs=1e-6)
    assert mean_dimensionality(7 * directions) == pytest.approx(share, abs=1e-6)


def test_trained_toy_models_have_the_published_geometry():
    """Dense features of unequal importance: the first m, orthogonal. Sparser ones: twice as many, in antipodal pairs. A
    bottleneck that was never trained has no such plateau.
    """
    unequal = Toy(20, 5, 0.7, (1.0, 0.03), steps=600, batch=128, learning_rate=1e-2)
    equal = Toy(40, 8, 1.0, (1.0, 0.3), steps=400, batch=128, learning_rate=1e-2)
    dense, sparse = train(unequal, 0)
    assert dense.norm(dim=0)[:5].min() > 0.9
    assert dense.norm(dim=0)[5:].max() < 0.5
    assert dimensionality(dense.T)[:5].min() > 0.9
    assert (sparse.norm(dim=0) > 0.5).sum() == 10
    assert 5 / sparse.square().sum() == pytest.approx(0.5, abs=0.03)
    dense, sparse = train(equal, 0)
    assert 8 / dense.square().sum() == pytest.approx(1, abs=0.03)
    shares = {name: dimensionality(each.T) for name, each in (("trained", sparse), ("never", started(equal, 0)[1]))}
    assert shares["trained"][sparse.norm(dim=0) > 0.5].median() == pytest.approx(0.5, abs=0.02)
    assert shares["trained"].sum() == pytest.approx(8, abs=0.01)  # all of the bottleneck is filled
    assert shares["never"].median() < 0.3
    assert shares["never"].sum() < 7.5


def test_directions_are_found_by_regression(features: torch.Tensor):
    planted = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(3000, 5, generator=torch.Generator().manual_seed(2))
    found = feature_directions(features @ planted + 0.1 * noise, features)
    assert found == pytest.approx(planted, abs=0.03)


def test_the_observer_knows_one_latent_from_a_mixture_and_from_noise(features: torch.Tensor):
    generator = torch.Generator().manual_seed(3)
    strengths = 0.5 + torch.rand(features.shape, generator=generator)
    noise = torch.randn(3000, 12, generator=generator)
    one = single_feature_score(features * strengths, features, seed=0)
    mixture = single_feature_score((features * strengths) @ torch.randn(12, 12, generator=generator), features, seed=0)
    chance = single_feature_score(noise, features, seed=0)
    assert one.min() > 0.97
    assert 0.6 < mixture.mean() < 0.9
    assert chance.mean() == pytest.approx(0.5, abs=0.04)
