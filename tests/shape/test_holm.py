"""Holm's correction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from thalweg.shape.holm import holm


@given(st.floats(0, 1), st.floats(0, 1))
def test_of_two_the_smaller_is_doubled_and_the_order_stays(a, b):
    first, second = holm([a, b])
    assert min(first, second) == min(1, 2 * min(a, b))
    assert max(first, second) >= max(a, b)
    assert (first - second) * (a - b) >= 0


def test_what_was_not_tested_does_not_count():
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_it_is_that_of_another_library():
    for p in np.random.default_rng(0).beta(0.3, 1, (20, 9)):
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-15)
