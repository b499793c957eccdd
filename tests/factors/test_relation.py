"""Intervals over few rungs hold the truth as often as they say, whether seeds of a rung are alike or not."""

import numpy as np
import pytest

from thalweg.factors.relation import Relation, difference_of_means, mean_over_rungs, partial_relation, relation

WITH_STRENGTH = 0.9  # of both, where percentiles of drawing rungs again are worst


def models(rng: np.random.Generator, rungs: int) -> list[list[float]]:
    """A factor and a score that go with strength, and with each other only by it."""
    strength = rng.standard_normal(rungs)
    own = np.sqrt(1 - WITH_STRENGTH**2) * rng.standard_normal((2, rungs))
    return [*(WITH_STRENGTH * strength + own).tolist(), strength.tolist()]


@pytest.mark.parametrize("rungs", [5, 6, 8, 12])
def test_few_rungs_rarely_show_what_is_not_there(rungs: int):
    rng, names = np.random.default_rng(rungs), [f"r{index}" for index in range(rungs)]
    found = [partial_relation(*models(rng, rungs), names) for _ in range(200)]
    known = [each for each in found if not np.isnan(each.low)]
    assert len(known) > 100
    assert np.mean([each.low <= 0.05 <= each.high for each in known]) > 0.9  # percentiles: .15, .28, .50 and .89


def test_five_rungs_in_perfect_order_are_no_certainty():
    x, z, names = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 5.0, 1.0, 4.0, 3.0], list("abcde")
    assert relation(x, x, names).low < 0.3
    held = partial_relation(x, x, z, names)
    assert held.rho == pytest.approx(1)
    assert held.low < 0 < held.high <= 1
    assert "fewer than 5 rungs" in relation(x[:4], x[:4], names[:4]).note


def width(found: Relation) -> float:
    return found.high - found.low


def test_seeds_that_are_alike_say_no_more_and_others_do():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 9))
    alone = relation(x.tolist(), y.tolist(), list("abcdefghi"))
    thrice = [name for name in "abcdefghi" for _ in range(3)]
    alike = relation(np.repeat(x, 3).tolist(), np.repeat(y, 3).tolist(), thrice)
    assert (alike.rho, width(alike)) == pytest.approx((alone.rho, width(alone)))
    assert (alike.n_models, alike.n_rungs) == (27, 9)
    x, y = rng.standard_normal((2, 27))
    different = relation(x.tolist(), y.tolist(), thrice)
    assert width(different) < 0.75 * width(alone)
    uneven = relation(x[:20].tolist(), y[:20].tolist(), thrice[:20])  # rungs of three seeds and of two
    assert width(different) < width(uneven) < width(alone)


def test_means_of_few_rungs_are_as_sure_as_they_say():
    rng, names = np.random.default_rng(1), list("abcde")
    held = 0
    for _ in range(200):
        found = mean_over_rungs(rng.standard_normal(5).tolist(), names)
        held += found.low <= 0 <= found.high
    assert held > 180  # of 200; percentiles alone: 164
    sides, held = [list("abc"), list("uvwxyz")], 0
    for _ in range(200):
        found = difference_of_means(rng.standard_normal(3).tolist(), rng.standard_normal(6).tolist(), *sides)
        held += found.low <= 0 <= found.high
    assert held > 180
    single = difference_of_means([1.0], [1.0, 2.0, 3.0, 5.0], ["x"], list("abcd"))
    assert np.isnan(single.low)
    assert "a single rung" in single.note


def test_a_rung_with_most_of_the_models_leaves_no_interval():
    names = [*"abcd", *["e"] * 3]  # of the other rungs two seeds failed
    factor, score = [1.0, 2.0, 3.0, 5.0, 4.0, 4.01, 4.02], [2.0, 1.0, 3.0, 4.0, 5.0, 5.01, 5.02]
    found = relation(factor, score, names)
    assert found.low < -0.5 < 0.9 < found.high
    held = partial_relation(factor, score, [1.0, 3.0, 2.0, 5.0, 4.0, 4.01, 4.03], names)
    assert np.isfinite(held.rho)
    assert np.isnan(held.low)
    assert held.note == "one rung has most of the models: no interval"
