"""The intervals of models' scores, on made-up scores of units."""

import numpy as np
import polars as pl
import pytest

from thalweg.scoring.aggregate import LayerValues, UnitValues, frame, model_scores

SD = 0.1
COLUMNS = pl.DataFrame({"measure": ["one_sided"], "observer": ["hog"], "band": ["mean"], "capacity": [""]})
KEY = {"ladder": "l", "rung": "r", "kind": "k", "seed": 0, "control": "trained", "basis": "neurons"}


def interval(layers: list[np.ndarray], seed: int = 0) -> tuple[float, float, float]:
    """Score, low and high of a model whose layers hold units with these scores."""
    units = [LayerValues(str(depth), depth, values[:, None].astype(np.float32)) for depth, values in enumerate(layers)]
    return (
        frame(model_scores(UnitValues(KEY, COLUMNS, units, 0), resamples=200, seed=seed))
        .select("score", "low", "high")
        .row(0)
    )


def test_units_from_a_layer_each_have_an_interval_that_holds_the_truth():
    rng = np.random.default_rng(0)
    held, widths = [], []
    for seed in range(120):
        drawn = [0.05 * rng.standard_normal() + SD * rng.standard_normal(rng.integers(1, 4)) for _ in range(12)]
        score, low, high = interval(drawn, seed)
        assert score == pytest.approx(np.mean([values.mean() for values in drawn]), abs=1e-6)
        held.append(low <= 0 <= high)
        widths.append(high - low)
    assert np.mean(held) > 0.85
    assert 0.06 < np.mean(widths) < 0.13


def test_one_unit_alone_has_no_interval():
    score, low, high = interval([np.array([0.7])])
    assert score == pytest.approx(0.7)
    assert np.isnan([low, high]).all()


def test_layers_of_several_units_each_are_drawn_again_within():
    apart = [np.array([0.1, 0.1, 0.1]), np.array([0.9, 0.9, 0.9])]  # the layers differ, their units do not
    assert interval(apart) == pytest.approx((0.5, 0.5, 0.5))
