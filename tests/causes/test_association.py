"""A survey's own factors beside its curve: what goes with the score beyond strength, and what does not."""

import numpy as np
import pytest

from thalweg.factors.relation import partial_relation, relation

RUNGS = [f"rung-{index // 3}" for index in range(60)]


def drawn(rng: np.random.Generator) -> list[list[float]]:
    """Strengths of twenty rungs of three seeds, and two numbers that follow strength, each by itself."""
    strength = rng.normal(size=20)
    numbers = [strength, *(strength + rng.normal(size=20) for _ in range(2))]
    return [np.repeat(values, 3).tolist() for values in numbers]


def test_a_factor_that_follows_strength_alone_says_nothing_beyond_it():
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(60):
        strength, score, follower = drawn(rng)
        assert relation(follower, score, RUNGS).rho > 0
        found = partial_relation(follower, score, strength, RUNGS)
        missed.append(not found.low <= 0 <= found.high)
    assert np.mean(missed) < 0.2


def test_a_factor_that_is_the_score_says_all_and_strength_nothing_more():
    rng = np.random.default_rng(1)
    strength, score, _ = drawn(rng)
    cubed = [value**3 for value in score]
    assert partial_relation(cubed, score, strength, RUNGS).rho == pytest.approx(1)
    held = partial_relation(strength, score, cubed, RUNGS)
    assert np.isnan(held.rho)
    assert "what is held says all" in held.note
