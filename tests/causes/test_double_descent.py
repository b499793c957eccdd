"""Superposition, memorisation and double descent (Henighan et al. 2023), in small."""

import math

import pytest
import torch
from benchmarks.double_descent import Setting, point_dimensionality, trained


def test_a_regular_polygon_of_points_shares_its_dimensions_evenly():
    angles = 2 * math.pi * torch.arange(7) / 7
    shares = point_dimensionality(torch.stack([angles.cos(), angles.sin()], 1) * 3)
    assert shares.tolist() == pytest.approx([2 / 7] * 7, rel=1e-5)
    alone = point_dimensionality(torch.eye(3))
    assert alone.tolist() == pytest.approx([1, 1, 1])


def test_few_points_are_memorised_many_are_not_and_the_test_loss_peaks_between():
    setting = Setting(features=200, density=0.02, steps=400, learning_rate=0.03)
    few, middle, many = (trained(setting, count, seed=0, n_test=500) for count in (5, 130, 1000))
    assert few.train < 0.1
    assert 0.9 < few.share < 1.15  # D_X = m / T
    assert few.test - few.train > 0.8
    assert middle.test > 1.2 * max(few.test, many.test)
    assert many.test - many.train < 0.05
