"""Whether two ladders have the same shape: the test's rates where the truth is known, the rule, and what is said."""

import json

import numpy as np
import pytest
from benchmarks.shape_power import TRUTHS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from thalweg.errors import ThalwegError
from thalweg.shape import Models, compare
from thalweg.shape.comparison import answer_of, worst
from thalweg.shape.interaction import (
    EQUAL,
    SIZES,
    Estimates,
    Interaction,
    Trend,
    common_shape,
    estimates,
    interaction,
    least_misfit,
    misfits,
    overlap_of,
)

SHAPES = dict(TRUTHS) | {"rising": lambda x, d: d * x}
OWN = 0.02  # standard deviation of a seed


def ladder(
    truth: str, rungs: int, drop: float, *, reach: tuple[float, float] = (0.0, 1.0), seed: int = 0, own=OWN
) -> Models:
    """Three seeds a rung that scatter by `own` around a curve, over some part of the shared axis."""
    rng = np.random.default_rng([rungs, seed])
    x = np.repeat(np.linspace(0.0, 1.0, rungs), 3)
    score = 0.7 + SHAPES[truth](x, drop) + own * rng.standard_normal(len(x))
    names = [f"rung {i}" for i in np.repeat(np.arange(rungs), 3)]
    return Models(reach[0] + (reach[1] - reach[0]) * x, score, names)


def two(one: Models, other: Models, **options):
    return compare({"vision (mnist)": one, "language (words)": other}, **options).pairs[0]


# the test of interaction


def crowded(n: int) -> np.ndarray:
    """Places of rungs that crowd at the strong end."""
    return 1 - (1 - np.linspace(0.0, 1.0, n)) ** 2.5


def rates(one: tuple, other: tuple, *, sims: int, unequal: bool) -> tuple[float, float]:
    """How often curves and shapes are told apart at .05: (truth, drop, rungs) of each, drops in sd of a rung.

    `unequal`: the second ladder's rungs crowd at its strong end and scatter twice as much, less so the stronger they
    are, while the first ladder's scatter grows with strength. A rung's noise has two parts: its own, and its seeds'.
    """
    rng = np.random.default_rng(5)
    places = np.linspace(0.0, 1.0, one[2]), crowded(other[2]) if unequal else np.linspace(0.0, 1.0, other[2])
    sds = (0.5 + places[0], 2 * (1.5 - places[1])) if unequal else (np.ones(one[2]), np.ones(other[2]))
    spacings = [places] + unequal * [tuple(np.arange(float(len(place))) for place in places)]  # else they are the same
    told = np.zeros(2)
    for _ in range(sims):
        scores = []
        for (truth, drop, n), place, sd in zip((one, other), places, sds, strict=True):
            noise = np.sqrt(1 / 2) * rng.standard_normal(n) + np.sqrt(3 / 2) * rng.standard_normal((n, 3)).mean(axis=1)
            scores.append(SHAPES[truth](place, drop) + sd * noise)
        found = {}
        for how, at in enumerate(spacings):
            found[str(how)] = interaction(Trend(at[0], scores[0]), Trend(at[1], scores[1]), draws=199, rng=rng)
        told += worst(found).p_curves < 0.05, worst(found).p_shapes < 0.05
    return float(told[0] / sims), float(told[1] / sims)


SIMS = 100
ALLOWED = 0.05 + 3 * np.sqrt(0.05 * 0.95 / SIMS)  # three standard errors above the level


@pytest.mark.parametrize(
    ("truth", "drop", "unequal"),
    [("flat", 0, False), ("linear", 5, False), ("linear", 5, True), ("expdec", 6, True), ("valley", 5, True)],
)
def test_one_curve_is_seldom_taken_for_two(truth, drop, unequal):
    curves, shapes = rates((truth, drop, 10), (truth, drop, 22), sims=SIMS, unequal=unequal)
    assert curves <= ALLOWED
    assert shapes <= ALLOWED


@pytest.mark.parametrize("unequal", [False, True])
def test_one_shape_at_two_sizes_is_one_shape_and_two_curves(unequal):
    curves, shapes = rates(("linear", 10, 12), ("linear", 2, 12), sims=SIMS, unequal=unequal)
    assert curves > 0.6
    assert shapes <= ALLOWED


@pytest.mark.parametrize(
    ("one", "other", "least"),
    [
        (("linear", 4, 12), ("rising", 4, 12), 0.6),
        (("valley", 4, 12), ("linear", 4, 12), 0.6),
        (("linear", 6, 10), ("rising", 6, 10), 0.85),
        (("valley", 6, 10), ("linear", 6, 10), 0.85),
    ],
)
def test_different_shapes_are_told_apart(one, other, least):
    assert rates(one, other, sims=60, unequal=False)[1] >= least


def test_the_misfit_is_the_least_distance_to_a_common_shape():
    rng = np.random.default_rng(2)
    one, other = (Trend(np.sort(rng.uniform(size=n)), rng.standard_normal(n)) for n in (8, 11))
    sizes = np.array([np.cos(0.4), np.sin(0.4)])

    def distance(shape: np.ndarray) -> float:
        total = 0.0
        for size, trend in zip(sizes, (one, other), strict=True):
            c, variance = (each[0] for each in trend.estimate(trend.score[None]))
            off = c - size * shape
            total += off @ np.linalg.solve(variance * trend.solve @ trend.solve.T, off)
        return float(total)

    found = estimates((one, other), (one.score[None], other.score[None]))
    assert misfits(found, np.array([[0.4]]))[0, 0] == pytest.approx(minimize(distance, [0.0, 0.0]).fun)
    fitted = common_shape(found, np.array([0.4]))
    assert fitted[0] / sizes[0] == pytest.approx(fitted[1] / sizes[1])
    again = Estimates(*fitted, found.first_variance, found.second_variance)
    assert misfits(again, np.array([[0.4]]))[0, 0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("noise", [1e-2, 1e-5])
def test_sizes_are_positive_and_one_shape_at_other_sizes_fits_however_clean_it_is(noise):
    place = np.linspace(0, 1, 9)
    wiggle = noise * np.array([0.0, 1, -1, 1, 0, -1, 1, -1, 0])
    falling, steeper, rising = (Trend(place, slope * place + wiggle) for slope in (-1, -3.1, 3.1))

    def least(one: Trend, other: Trend, angles: np.ndarray) -> float:
        return float(least_misfit(estimates((one, other), (one.score[None], other.score[None])), angles)[0][0])

    assert least(falling, steeper, SIZES) < 1
    assert least(falling, steeper, EQUAL) > 1000
    assert least(falling, rising, SIZES) > 1000


def test_a_trend_is_a_parabola():
    rng = np.random.default_rng(3)
    place, score = np.sort(rng.uniform(2, 5, size=12)), rng.standard_normal(12)
    trend = Trend(place, score)
    (tilt, bend), variance = (each[0] for each in trend.estimate(score[None]))
    u = 2 * (place - place[0]) / (place[-1] - place[0]) - 1
    quadratic, linear, _ = np.polyfit(u, score, 2)
    assert (tilt, bend) == (pytest.approx(linear), pytest.approx(quadratic / 1.5))
    assert variance == pytest.approx(((score - np.polyval(np.polyfit(u, score, 2), u)) ** 2).sum() / 9)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.floats(-5, 5), st.floats(0.01, 100), st.floats(-5, 5))
def test_units_of_score_and_strength_do_not_matter(scale, shift, stretch, start):
    rng = np.random.default_rng(4)
    place, scores = crowded(9), rng.standard_normal((2, 9))

    def found(a: float, b: float, c: float, d: float) -> Interaction:
        own = Trend(d + c * place, b + a * scores[0]), Trend(np.arange(9.0), b + a * scores[1])
        return interaction(*own, draws=199, rng=np.random.default_rng(0))

    one, other = found(1, 0, 1, 0), found(scale, shift, stretch, start)
    assert (other.p_curves, other.p_shapes) == pytest.approx((one.p_curves, one.p_shapes), abs=0.006)
    assert (other.gap, other.gap_high) == pytest.approx((scale * one.gap, scale * one.gap_high))


def test_the_band_holds_the_true_difference():
    rng = np.random.default_rng(6)
    place = np.linspace(0, 1, 10)
    held = 0
    for _ in range(SIMS):
        own = (Trend(place, slope * place + rng.standard_normal(10)) for slope in (0.0, 4.0))
        held += interaction(*own, draws=199, rng=rng).gap_high >= 2.0  # lines of slopes 0 and 4, levels removed
    assert held / SIMS >= 1 - ALLOWED


# the rule


def rule(verdicts, *, p_curves=0.5, p_shapes=0.5, gap_high=0.01, overlap=0.9):
    evidence = Interaction(p_curves, p_shapes, 0.0, gap_high)
    return answer_of(verdicts, evidence, overlap, smallest_effect=0.05, alpha=0.05)


def test_the_rule_needs_shapes_to_differ_or_one_of_them_to_be_flat():
    assert rule(("decreasing", "valley"), p_curves=0.01, p_shapes=0.01)[0] == "differ"
    assert rule(("cannot tell", "cannot tell"), p_curves=0.01, p_shapes=0.01)[0] == "differ"
    assert rule(("decreasing", "flat"), p_curves=0.01)[0] == "differ"
    assert rule(("cannot tell", "flat"), p_curves=0.01)[0] == "cannot tell"
    assert rule(("flat", "flat"), p_curves=0.01)[0] == "cannot tell"
    answer, reason = rule(("decreasing", "decreasing"), p_curves=0.01)
    assert answer == "cannot tell"
    assert "size" in reason


@pytest.mark.parametrize(
    ("verdicts", "but"),
    [
        (("valley", "valley"), {"gap_high": 0.06}),
        (("valley", "valley"), {"overlap": 0.79}),
        (("valley", "decreasing"), {}),
        (("cannot tell", "cannot tell"), {}),
    ],
)
def test_sameness_needs_all_of_its_conditions(verdicts, but):
    assert rule(("valley", "valley")) == ("same", "")
    answer, reason = rule(verdicts, **but)
    assert answer == "cannot tell"
    assert reason


def test_the_overlap_is_one_less_the_total_variation_distance():
    one, other = {"flat": 0.5, "valley": 0.5, "hump": 0.0}, {"flat": 0.2, "valley": 0.2, "hump": 0.6}
    distance = sum(abs(one[shape] - other[shape]) for shape in one) / 2
    assert overlap_of(one, other) == pytest.approx(1 - distance)


# what is said


def test_opposite_slopes_differ_in_shape_on_axes_that_do_not_overlap():
    pair = two(ladder("linear", 12, 0.2, reach=(0.4, 0.95)), ladder("rising", 10, 0.1, reach=(0.02, 0.3), seed=1))
    assert pair.answer == "differ"
    assert pair.sentence.startswith("vision (mnist) and language (words) differ in shape here: vision (mnist) is dec")
    assert "language (words) is increasing" in pair.sentence
    assert "n = 12 and 10 rungs" in pair.sentence
    assert pair.overlap < 0.2


def test_a_flat_ladder_differs_from_a_sloping_one():
    pair = two(ladder("flat", 12, 0.0, own=0.005), ladder("linear", 12, 0.2, seed=1))
    assert pair.answer == "differ"
    assert pair.p_shapes > 0.05 > pair.p_curves
    assert "vision (mnist) is flat" in pair.sentence


def test_the_same_clear_curve_twice_is_the_same_shape():
    pair = two(ladder("linear", 14, 0.2), ladder("linear", 12, 0.2, reach=(0.1, 0.2), seed=1))
    assert pair.answer == "same"
    assert pair.gap < pair.gap_high < 0.05
    assert "have the same shape here: both are decreasing" in pair.sentence


def test_sizes_alone_are_no_difference_of_shape():
    pair = two(ladder("linear", 14, 0.4), ladder("linear", 12, 0.1, seed=1))
    assert pair.answer == "cannot tell"
    assert pair.p_curves < 0.05 < pair.p_shapes
    assert "size only" in pair.sentence


def test_noisy_ladders_cannot_be_told_apart_or_called_the_same():
    pair = two(ladder("flat", 8, 0.0), ladder("flat", 8, 0.0, seed=1), smallest_effect=0.005)
    assert pair.answer == "cannot tell"
    assert pair.sentence.startswith("The data can't tell whether vision (mnist) and language (words) have the same")
    assert "not excluded" in pair.reason


def test_both_of_one_class_may_still_differ_in_shape():
    pair = two(ladder("linear", 16, 0.3), ladder("expdec_fast", 16, 0.3, seed=1))
    assert pair.answer == "differ"
    assert "both are decreasing, but not by the same curve" in pair.sentence


def test_too_few_rungs_are_said_to_be_too_few():
    pair = two(ladder("linear", 12, 0.2), ladder("rising", 4, 0.2))
    assert pair.answer == "cannot tell"
    assert pair.reason == "language (words) has 4 rungs of distinct strength, and a comparison needs 5"
    assert pair.spacings == {}
    assert np.isnan(pair.p_curves)


def test_scores_without_scatter_are_said_to_have_none():
    x = np.linspace(0, 1, 8)
    pair = two(ladder("linear", 12, 0.2), Models(x, 0.5 + 0.25 * x))
    assert pair.answer == "cannot tell"
    assert "without any scatter" in pair.reason


def test_rows_without_a_number_are_dropped_and_counted():
    whole, other = ladder("linear", 9, 0.2), ladder("rising", 9, 0.2, seed=1)
    more = Models(
        np.append(whole.strength, [np.nan, 0.3]), np.append(whole.score, [0.5, np.nan]), [*whole.group, "x", "y"]
    )
    kept = compare({"a": whole, "b": other})
    dropped = compare({"a": more, "b": other})
    assert dropped.pairs == kept.pairs
    assert (dropped.ladders["a"].n_rungs, dropped.ladders["a"].n_models, dropped.ladders["a"].n_dropped) == (9, 27, 2)
    nothing = compare({"a": Models([0.1, 0.2], [np.nan, np.nan]), "b": other})
    assert nothing.ladders["a"].n_dropped == 2
    assert "a has 0 rungs" in nothing.sentence


def test_seeds_are_averaged_and_never_counted_as_models():
    whole, other = ladder("linear", 9, 0.3), ladder("rising", 9, 0.3, seed=1)
    means = Models(np.asarray(whole.strength).reshape(9, 3).mean(1), np.asarray(whole.score).reshape(9, 3).mean(1))
    one, mean = two(whole, other), two(means, other)
    assert (one.p_curves, one.p_shapes) == (mean.p_curves, mean.p_shapes)


def test_three_ladders_are_compared_pairwise_with_holm():
    own = {
        "a": ladder("linear", 10, 0.2),
        "b": ladder("rising", 10, 0.2, seed=1),
        "c": ladder("linear", 10, 0.2, seed=2),
        "short": ladder("flat", 3, 0.0),
    }
    found = compare(own)
    answers = {pair.ladders: pair for pair in found.pairs}
    assert len(answers) == 6
    assert answers["a", "b"].answer == answers["b", "c"].answer == "differ"
    assert answers["a", "c"].answer != "differ"
    assert all(answers[name, "short"].answer == "cannot tell" for name in "abc")
    raw = max(each.p_curves for each in answers["a", "b"].spacings.values())
    assert answers["a", "b"].p_curves == pytest.approx(3 * raw)  # three pairs could be tested
    assert found.sentence.count("(interaction") == 3


def test_the_record_is_json_and_repeats_with_the_seed():
    own = {"a": ladder("valley", 8, 0.1), "b": ladder("linear", 3, 0.1)}
    found = compare(own, seed=2)
    record = json.loads(json.dumps(found.to_record(), allow_nan=False))
    assert record == compare(own, seed=2).to_record()
    assert record["pairs"][0]["ladders"] == ["a", "b"]
    assert record["pairs"][0]["p_curves"] is None
    assert record["ladders"]["a"]["class_weights"].keys() == record["ladders"]["b"]["class_weights"].keys()
    assert record["sentence"] == found.sentence


def test_crowded_strengths_and_ties_are_no_accident():
    x = np.array([0, 1e-9, 2e-9, 3e-9, 4e-9, 4e-9, 1.0])
    y = np.array([0.5, 0.52, 0.49, 0.55, 0.5, 0.51, 0.9])
    pair = two(Models(x, y), ladder("linear", 10, 0.1))
    assert 0 < pair.p_shapes <= 1
    assert 0 < pair.p_curves <= 1


def test_mistakes_name_the_ladder():
    with pytest.raises(ThalwegError, match="two ladders or more, and got 1"):
        compare({"a": ladder("linear", 9, 0.2)})
    with pytest.raises(ThalwegError, match="ladder 'b': score is infinite in row 2"):
        compare({"a": ladder("linear", 9, 0.2), "b": Models([0, 1, 2], [0, np.inf, 1])})
    with pytest.raises(ThalwegError, match="ladder 'a': alpha is 2"):
        compare({"a": ladder("linear", 9, 0.2), "b": ladder("flat", 9, 0.2)}, alpha=2.0)
