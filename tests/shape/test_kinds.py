"""Which kind stands higher at equal strength: a planted distance is found, and none where there is none."""

import math

import numpy as np
import pytest

from thalweg.shape.kinds import at_equal_strength


def ladder(rng: np.random.Generator, difference: float, *, moved: float = 0.0) -> dict:
    """Two kinds of six rungs and three seeds; the second is stronger by `moved` and scores higher at equal strength."""
    strength = np.repeat(np.linspace(0, 3, 6), 3)
    strength = np.concatenate([strength, strength + moved])
    kind = ["dense"] * 18 + ["sparse"] * 18
    rungs = np.repeat(rng.normal(0, 0.01, 12), 3)
    score = 0.6 + 0.05 * strength + difference * np.repeat([0, 1], 18) + rungs + rng.normal(0, 0.01, 36)
    return {"strength": strength, "score": score, "kind": kind, "rung": [str(index // 3) for index in range(36)]}


def test_a_planted_difference_is_found_whatever_the_strengths():
    for moved in (0.0, 1.0):
        (found,) = at_equal_strength(**ladder(np.random.default_rng(0), 0.05, moved=moved), reference="dense")
        assert found.kind == "sparse"
        assert found.low < 0.05 < found.high
        assert found.low > 0.01


def test_without_a_difference_the_interval_misses_zero_as_often_as_it_says():
    rng = np.random.default_rng(1)
    every = [at_equal_strength(**ladder(rng, 0.0), reference="dense")[0] for _ in range(400)]
    assert 0.02 < np.mean([not each.low < 0 < each.high for each in every]) < 0.085


def test_the_reference_is_the_one_that_is_named_and_seeds_without_a_score_are_left_out():
    table = ladder(np.random.default_rng(2), 0.05)
    table["score"][:2] = math.nan
    (found,) = at_equal_strength(**table, reference="sparse")
    assert (found.kind, found.reference) == ("dense", "sparse")
    assert found.difference == pytest.approx(-0.05, abs=0.02)


def test_kinds_that_do_not_meet_have_no_difference():
    (found,) = at_equal_strength(**ladder(np.random.default_rng(3), 0.0, moved=5.0), reference="dense")
    assert math.isnan(found.difference)
    assert "fewer than 3 rungs" in found.note
