"""The statistics of people's answers, against published numbers, other libraries and planted truths."""

import math

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from thalweg.psychophysics.alpha import nominal_alpha
from thalweg.psychophysics.clustered import Clustered, clustered
from thalweg.psychophysics.detection import by_sides, d_prime, lapse_of_all, lapse_of_one, without_lapses
from thalweg.psychophysics.mixed import fit_mixed
from thalweg.psychophysics.ranks import bootstrapped, compare_models
from thalweg.psychophysics.temperature import fit_temperature

CODED = (  # Krippendorff's example: four observers, twelve units, five values
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def exact(value: float) -> Clustered:
    """A proportion whose interval plays no part."""
    return Clustered(value, value, value, 0.0, 0.0, 1.0)


def test_alpha_of_the_published_example() -> None:
    coded = [(unit, int(cell)) for row in CODED for unit, cell in enumerate(row.split()) if cell != "."]
    units, values = zip(*coded, strict=True)
    assert nominal_alpha(pl.Series(units), pl.Series(values)) == pytest.approx(0.7434, abs=5e-5)


def test_alpha_of_full_agreement_of_chance_and_of_nothing() -> None:
    questions = pl.Series([1, 1, 2, 2, 3, 3])
    assert nominal_alpha(questions, pl.Series([0, 0, 1, 1, 0, 0])) == 1
    assert nominal_alpha(questions, pl.Series([0, 1, 1, 0, 0, 1])) < 0
    assert math.isnan(nominal_alpha(questions, pl.Series([1] * 6)))
    assert math.isnan(nominal_alpha(pl.Series([1, 2, 3]), pl.Series([0, 1, 0])))


@pytest.mark.parametrize(
    ("share", "published"), [(0.6, 0.3583), (0.75, 0.9539), (0.8, 1.1902), (0.9, 1.8124), (0.95, 2.3262)]
)
def test_d_prime_of_two_alternatives(share: float, published: float) -> None:
    assert d_prime(exact(share), 10**9).value == pytest.approx(published, abs=1e-4)


def test_d_prime_of_a_perfect_score_is_finite() -> None:
    assert d_prime(exact(1.0), 20).value == pytest.approx(math.sqrt(2) * 1.9808, abs=1e-3)  # z(20.5 / 21)


def test_a_bias_to_one_side_is_taken_off_the_sensitivity() -> None:
    generator = np.random.default_rng(0)
    right = generator.integers(2, size=40_000)
    evidence = (2 * right - 1) * 1.0 / math.sqrt(2) + generator.normal(size=len(right))  # d' = 1 between two intervals
    picked = (evidence > -0.5).astype(int)  # the second is picked too often
    sides = by_sides(pl.Series(picked), pl.Series(picked == right))
    assert sides is not None
    assert sides.biased
    assert sides.criterion_low < -0.5 < sides.criterion_high
    assert sides.d_prime == pytest.approx(1.0, abs=0.03)
    assert by_sides(pl.Series([None, None], dtype=pl.Int8), pl.Series([True, False])) is None


def test_lapses() -> None:
    assert lapse_of_one(0, 0).value == pytest.approx(2 * 2 / 52)  # the prior
    assert lapse_of_one(3, 5).value > lapse_of_one(0, 5).value
    everyone = lapse_of_all(25, 1000)
    assert everyone.value == 0.05
    assert everyone.low < 0.05 < everyone.high
    assert math.isnan(lapse_of_all(0, 0).value)
    assert without_lapses(0.95 * 0.9 + 0.05 * 0.5, 0.05) == pytest.approx(0.9)


def test_wilson_is_left_where_answers_are_independent() -> None:
    right = pl.Series([True] * 27 + [False] * 3)
    every = clustered(right, pl.Series(range(30)), pl.Series(range(30)))
    assert every.design_effect == 1
    assert (every.low, every.high) == pytest.approx((0.7438, 0.9654), abs=1e-4)


def test_units_that_differ_widen_the_interval_as_the_reference_says() -> None:
    """Units with SD 1 on the logit scale have rho .144, and 84 of 30 answers give +-.037: the mean of ten studies."""
    found = []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        share = expit(1.386 + generator.normal(size=84))
        right = pl.Series((generator.random((84, 30)) < share[:, None]).ravel())
        every = clustered(right, pl.Series(np.repeat(np.arange(84), 30)), pl.Series(range(84 * 30)))
        found.append((every.rho_unit, (every.high - every.low) / 2))
    rho, half = np.mean(found, 0)
    assert rho == pytest.approx(0.144, abs=0.015)
    assert half == pytest.approx(0.037, abs=0.002)


def test_conover_is_that_of_another_library() -> None:
    generator = np.random.default_rng(0)
    units = {
        name: generator.normal(mean, 1, n).round(1) for name, mean, n in (("a", 0, 20), ("b", 0.5, 15), ("c", 1, 25))
    }
    comparison = compare_models(units)
    assert [pair.p for pair in comparison.pairs] == pytest.approx([0.03521672, 1.91e-06, 0.01086991], rel=1e-2)
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert comparison.p < 0.001  # of scikit-posthocs 0.17: the p values above
    assert compare_models({"a": np.full(5, 0.5), "b": np.full(4, 0.5)}).note


def test_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 100)
    low, high = bootstrapped(values, 0)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 10, rel=0.06)
    assert math.isnan(bootstrapped(np.array([0.5]), 0)[0])


def test_the_mixed_model_finds_planted_values() -> None:
    """Two models of known means, participants and units of known spread, each six times: of 12 means and 12 spreads,
    no more lie outside their 95 % intervals than a binomial does in one of a thousand.
    """
    misses = {"means": 0, "spreads": 0}
    for seed in range(6):
        generator = np.random.default_rng(seed)
        unit_tilt, skill = generator.normal(0, 0.9, 60), generator.normal(0, 0.6, 40)
        participant = np.repeat(np.arange(40), 30)
        unit = np.concatenate([generator.permutation(60)[:30] for _ in range(40)])
        model = unit // 30
        chance = expit(np.array([1.2, 0.4])[model] + unit_tilt[unit] + skill[participant])
        right = generator.random(len(chance)) < chance
        indices = {"model": model, "person": participant, "unit": unit}
        named = ([f"{what} {each}" for each in index] for what, index in indices.items())
        fitted = fit_mixed(right, *named)
        assert [effect.name for effect in fitted.effects] == ["model 0", "model 1"]
        truths = zip(fitted.effects, (1.2, 0.4), strict=True)
        misses["means"] += sum(abs(effect.logit - true) > 1.96 * effect.se for effect, true in truths)
        for spread, true in ((fitted.sd_participant, 0.6), (fitted.sd_unit, 0.9)):
            assert spread is not None
            misses["spreads"] += not spread.low < true < spread.high
    assert misses["means"] <= 4
    assert misses["spreads"] <= 4


def test_the_mixed_model_says_why_it_cannot_be_fitted() -> None:
    assert "fewer than two" in fit_mixed(np.array([True, False]), ["a", "a"], ["p", "p"], ["u", "v"]).note
    assert "all answers" in fit_mixed(np.array([True, True]), ["a", "a"], ["p", "q"], ["u", "v"]).note


def test_a_planted_temperature_is_found() -> None:
    generator = np.random.default_rng(0)
    unit = np.repeat(np.arange(100), 30)
    margin = generator.normal(0.15, 0.2, len(unit))
    fitted = fit_temperature("hog", margin, generator.random(len(unit)) < expit(margin / 0.16), pl.Series(unit))
    assert fitted.low < 0.16 < fitted.high
    assert fitted.high - fitted.low < 0.03
    against = fit_temperature("hog", margin, generator.random(len(unit)) < expit(-margin / 0.16), pl.Series(unit))
    assert math.isnan(against.value)
    assert against.note
