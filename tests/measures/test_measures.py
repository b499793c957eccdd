"""Properties that every measure must have, one row a measure, and values where they are known by hand."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy.stats import norm
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

from support import planted
from support.planted import scored, value
from thalweg import Images, ThalwegError
from thalweg.measures.base import MEASURES, Measure, Score, measure, proportion_correct, wilson
from thalweg.measures.class_selectivity import class_selectivity
from thalweg.measures.mis import TEMPERATURE, mis
from thalweg.measures.monosemanticity import monosemanticity
from thalweg.observers.answers import Evidence
from thalweg.observers.base import Observer
from thalweg.observers.embedding import ObserverView, centred, standardised
from thalweg.scoring.units import ObserverOnPool
from thalweg.stimuli.base import halves

STIMULI, UNITS = 500, 6
HEADLINES = [
    ("two_choice", "mean", ""),
    ("two_choice_matched", "mean", ""),
    ("two_choice_single", "mean", "1"),
    ("one_sided", "mean", ""),
    ("one_sided_single", "mean", "1"),
]
EVERY_MEASURE = [
    *HEADLINES,
    ("two_choice", "extreme", ""),
    ("two_choice", "v60", ""),
    ("one_sided", "extreme", ""),
    ("one_sided_single", "v50", "1"),
    ("one_sided_capacity", "mean", "all"),
    ("other_pole", "mean", ""),
    ("upper_tail_share", "", ""),
    ("mis", "extreme", ""),
    ("monosemanticity", "", ""),
    ("class_selectivity", "", ""),
    ("last_token_share", "", ""),
    ("two_choice_matched_token", "mean", ""),
    ("one_sided_token", "mean", ""),
]


UNOBSERVED = ("class_selectivity", "last_token_share", "upper_tail_share")  # measures that ask for no observer


class Tokened(Images):
    """Images that count as ending in a token: how bright their first pixel is, in eight steps."""

    def last_token(self) -> Tensor:
        return self.pixels[:, 0, 0, 0].long() // 32


class World:
    """A pool, an observer of it, and units that depend on what it sees."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(4)
        labels = torch.arange(STIMULI) % 4
        self.features = torch.randn(STIMULI, 12, generator=generator) + torch.nn.functional.one_hot(labels, 12)
        self.statistics = torch.randn(STIMULI, 3, generator=generator)
        pixels = torch.randint(0, 256, (STIMULI, 1, 4, 4), generator=generator).byte()
        self.pool = Tokened(pixels, labels, ("a", "b", "c", "d"))
        weights = torch.randn(12, UNITS, generator=generator)
        self.values = self.features @ weights + 0.3 * torch.randn(STIMULI, UNITS, generator=generator)
        self.known: dict[bytes, pl.DataFrame] = {}

    def rows(self, values: Tensor) -> pl.DataFrame:
        """The rows of units with these values, scored once."""
        digest = values.contiguous().numpy().tobytes()
        if digest not in self.known:
            self.known[digest] = self.scored(values)
        return self.known[digest]

    def scored(self, values: Tensor) -> pl.DataFrame:
        watcher = ObserverOnPool(
            Observer("image", 1), ObserverView(centred(self.features), standardised(self.features))
        )
        return scored(values, self.pool, [watcher], self.statistics)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def taken(rows, row: tuple[str, str, str]) -> Tensor:
    name, band, capacity = row
    return value(rows, name, band, "" if name in UNOBSERVED else "image", capacity)


def test_every_measure_is_in_the_table():
    assert {name for name, _, _ in EVERY_MEASURE} == set(MEASURES)


@pytest.mark.parametrize("row", EVERY_MEASURE, ids="-".join)
def test_units_are_independent_and_their_order_does_not_matter(world: World, row):
    order = torch.tensor([4, 0, 2])
    together, apart = taken(world.rows(world.values), row), taken(world.rows(world.values[:, order]), row)
    torch.testing.assert_close(apart, together[order], rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.fixture(scope="module")
def reordered(world: World) -> pl.DataFrame:
    """The rows of the same world whose stimuli have other numbers, the same ones in each half."""
    order = torch.randperm(STIMULI, generator=torch.Generator().manual_seed(1))
    other = World()
    other.features, other.statistics = world.features[order], world.statistics[order]
    other.pool = world.pool.take(order)
    index = torch.empty_like(order)
    index[order] = torch.arange(STIMULI)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "halves", lambda pool, seed: tuple(index[half] for half in halves(pool, seed=seed)))
        return other.rows(world.values[order])


@pytest.mark.parametrize("row", EVERY_MEASURE, ids="-".join)
def test_order_of_stimuli_does_not_matter(world: World, reordered: pl.DataFrame, row):
    """The halves are sets: naming the stimuli otherwise, halves included, changes nothing."""
    before, after = taken(world.rows(world.values), row), taken(reordered, row)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("row", EVERY_MEASURE, ids="-".join)
def test_increasing_affine_rescaling_changes_nothing(world: World, row):
    values = (world.values * 256).round() / 256  # so that rescaling is exact
    torch.testing.assert_close(
        taken(world.rows(4 * values - 8), row), taken(world.rows(values), row), rtol=1e-4, atol=1e-5, equal_nan=True
    )


@pytest.mark.parametrize("row", [("two_choice", "extreme", ""), ("mis", "extreme", "")], ids="-".join)
def test_any_increasing_rescaling_leaves_the_extreme_band(world: World, row):
    stretched = (world.values / world.values.abs().max()).double().mul(20).exp().float()
    assert torch.equal(taken(world.rows(stretched), row), taken(world.rows(world.values), row))
    plain = ("two_choice", "v75", "")
    assert not torch.equal(taken(world.rows(stretched), plain), taken(world.rows(world.values), plain))


@pytest.mark.parametrize("row", EVERY_MEASURE, ids="-".join)
@pytest.mark.parametrize("dead", [0.0, 3.25, math.nan, math.inf])
def test_a_dead_unit_is_nan_with_a_reason_and_harms_no_neighbour(world: World, row, dead: float):
    values = world.values.clone()
    values[:, 3] = dead
    rows = world.rows(values)
    found, expected = taken(rows, row), taken(world.rows(world.values), row)
    assert found[3].isnan()
    keep = torch.tensor([0, 1, 2, 4, 5])
    torch.testing.assert_close(found[keep], expected[keep], rtol=1e-4, atol=1e-5, equal_nan=True)
    reasons = rows.filter((rows["unit"] == 3) & (rows["measure"] == row[0]))["note"].unique().to_list()
    assert reasons == ["constant" if math.isfinite(dead) else "non-finite values"]


@pytest.mark.parametrize("row", EVERY_MEASURE, ids="-".join)
def test_values_and_intervals_lie_in_the_declared_range(world: World, row):
    rows = world.rows(world.values).filter(measure=row[0], band=row[1], capacity=row[2])
    low, high = MEASURES[row[0]].range
    kept = rows.filter(rows["value"].is_not_nan())
    assert len(kept) >= UNITS // 2
    assert kept["value"].is_between(low, high).all()
    assert (kept["low"] <= kept["value"] + 1e-6).all()
    assert (kept["value"] <= kept["high"] + 1e-6).all()
    assert (kept["n"] > 0).all()
    assert (rows.filter(rows["value"].is_nan())["note"] != "").all()


@pytest.mark.parametrize("row", HEADLINES, ids="-".join)
def test_the_same_seed_gives_the_same_value(world: World, row):
    once, again = (taken(world.scored(world.values), row) for _ in range(2))
    assert torch.equal(once.nan_to_num(9), again.nan_to_num(9))


def brute_auc(high: list[float], low: list[float]) -> tuple[float, float]:
    """The area under the curve and DeLong's variance, from their definitions."""
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in low] for a in high])
    return wins.mean(), wins.mean(1).var(ddof=1) / len(high) + wins.mean(0).var(ddof=1) / len(low)


def test_proportion_correct_is_the_area_under_the_curve_with_delongs_variance(generator):
    high = torch.randn(4, 9, generator=generator).round(decimals=1) + 0.6
    low = torch.randn(4, 7, generator=generator).round(decimals=1)
    high[1, 5:], low[1, 6:] = torch.nan, torch.nan
    score = proportion_correct(Evidence(high, low))
    for unit in range(4):
        above, below = ([x for x in side[unit].tolist() if x == x] for side in (high, low))
        area, variance = brute_auc(above, below)
        assert score.value[unit] == pytest.approx(area, abs=1e-6)
        trials, quantile = area * (1 - area) / variance, student.isf(0.025, min(len(above), len(below)) - 1)
        lower, upper = proportion_confint(area * trials, trials, alpha=2 * norm.sf(quantile), method="wilson")
        assert (score.low[unit], score.high[unit]) == (pytest.approx(lower, abs=1e-5), pytest.approx(upper, abs=1e-5))
        assert score.n[unit] == len(above) + len(below)


def test_pairs_restrict_what_counts_and_too_few_are_nan(generator):
    high, low = torch.randn(2, 9, generator=generator), torch.randn(2, 9, generator=generator)
    pairs = torch.zeros(2, 9, 9, dtype=torch.bool)
    pairs[0, 2, 3:6] = True
    pairs[1, 0, 0] = True
    score = proportion_correct(Evidence(high, low), pairs, least=2, note="few")
    assert score.value[0] == pytest.approx(float((high[0, 2] > low[0, 3:6]).float().mean()))
    assert score.value[1].isnan()
    assert score.n.tolist() == [4, 0]


def test_intervals_of_an_auc_cover_the_truth_at_their_stated_rate():
    generator = torch.Generator().manual_seed(0)
    for separation in (0.0, 1.0, 2.5):
        truth = float(norm.cdf(separation / math.sqrt(2)))
        high = torch.randn(2000, 30, generator=generator) + separation
        score = proportion_correct(Evidence(high, torch.randn(2000, 30, generator=generator)))
        covered = ((score.low <= truth) & (truth <= score.high)).float().mean()
        assert 0.93 < covered < 0.985, separation


def test_a_perfect_score_still_has_an_interval():
    score = proportion_correct(Evidence(torch.ones(1, 9), torch.zeros(1, 9)))
    assert score.value.item() == score.high.item() == 1
    assert 0.6 < score.low.item() < 0.8


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(18, 20, 0.6990, 0.9721), (27, 30, 0.7438, 0.9654), (30, 30, 0.8865, 1)]
)
def test_wilson_gives_published_intervals(right: int, n: int, low: float, high: float):
    found = wilson(torch.tensor([right / n]), torch.tensor([float(n)]))
    assert [float(one) for one in found] == [pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4)]


def test_tests_of_rooms_check_the_shapes_of_arguments_and_results(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TypeCheckError, match=r"parameters of thalweg\.measures\.base\.wilson"):
        wilson(torch.full((2,), 0.5), torch.ones(3))
    monkeypatch.setattr(torch, "maximum", lambda *_: torch.zeros(3))
    with pytest.raises(TypeCheckError, match=r"return value of thalweg\.measures\.base\.wilson"):
        wilson(torch.full((2,), 0.5), torch.ones(2))


def test_mis_is_the_mean_probability_over_pairs():
    high, low = torch.tensor([[0.16, 0.32]]), torch.tensor([[0.0, 0.16]])
    scores = mis({"extreme": Evidence(high, low)})
    margins = torch.tensor([0.16, 0.0, 0.32, 0.16]) / TEMPERATURE
    assert scores["extreme", ""].value.item() == pytest.approx(float(margins.sigmoid().mean()))


def test_monosemanticity_equals_the_sum_over_pairs_and_its_jackknife(generator):
    activations = torch.randn(25, 3, generator=generator)
    embeddings = centred(torch.randn(25, 6, generator=generator))

    def by_pairs(values: Tensor, vectors: Tensor, floor: float, top: float) -> float:
        weight = (values - floor) / (top - floor)
        pairs = torch.triu(weight[:, None] * weight[None], diagonal=1)
        return float((pairs * (vectors @ vectors.T)).sum() / pairs.sum())

    score = monosemanticity(activations, embeddings)
    for unit in range(3):
        values = activations[:, unit]
        ends = float(values.min()), float(values.max())
        assert score.value[unit] == pytest.approx(by_pairs(values, embeddings, *ends), abs=1e-5)
        keep = [torch.arange(25) != out for out in range(25)]
        left = torch.tensor([by_pairs(values[k], embeddings[k], *ends) for k in keep])
        spread = ((left - left.mean()).square().sum() * 24 / 25).sqrt()
        assert (score.high - score.low)[unit] / 2 == pytest.approx(float(1.959964 * spread), rel=1e-3)


def test_monosemanticity_of_a_unit_that_few_stimuli_drive(generator):
    embeddings = centred(torch.randn(200, 6, generator=generator))
    activations = torch.zeros(200, 4)
    activations[7, 0] = 3  # no pair
    activations[[7, 9], 1] = 3  # one pair
    activations[:, 2] = torch.rand(200, generator=generator) * 1e-6  # pairs with the one, of equal share
    activations[7, 2] = 1
    activations[[7, 9, 11], 3] = 3
    score = monosemanticity(activations, embeddings)
    alike = embeddings @ embeddings.T
    assert score.value[0].isnan()
    assert (score.n == torch.tensor([0, 200, 200, 200])).all()
    assert score.value[1] == pytest.approx(float(alike[7, 9]), abs=1e-5)
    others = (activations[:, 2] - activations[:, 2].min()).index_fill(0, torch.tensor([7]), 0)
    assert score.value[2] == pytest.approx(float(alike[7] @ others / others.sum()), abs=1e-4)
    assert (score.low[1], score.high[1]) == (-1, 1)
    assert (score.low[2:] < score.value[2:]).all()
    assert (score.value[2:] < score.high[2:]).all()


def test_monosemanticity_of_one_cluster_is_near_one_and_of_noise_near_zero(generator):
    clusters = torch.nn.functional.one_hot(torch.arange(300) % 5, 5).float()
    embeddings = torch.nn.functional.normalize(clusters + 0.05 * torch.randn(300, 5, generator=generator), dim=1)
    score = monosemanticity(torch.stack([clusters[:, 2], torch.rand(300, generator=generator)], 1), embeddings)
    assert score.value[0] > 0.95
    assert score.value[1] < 0.3


def test_selectivity_of_planted_units():
    one_class = torch.zeros(10).index_fill_(0, torch.tensor([4]), 1.0)
    half_of_them = torch.cat([torch.ones(5), torch.zeros(5)])
    score = class_selectivity(torch.stack([one_class, half_of_them], dim=1), torch.zeros(10, 2))
    torch.testing.assert_close(score.value, torch.tensor([1.0, (1 - 4 / 9) / (1 + 4 / 9)]))


def test_selectivity_interval_is_the_delta_methods(generator):
    means, errors = torch.rand(6, 1, generator=generator).double(), torch.full((6, 1), 1e-4).double()
    score = class_selectivity(means, errors)
    gradient = torch.autograd.functional.jacobian(lambda m: class_selectivity(m[:, None], errors).value, means[:, 0])
    half = 1.959964 * float(gradient.norm()) * 1e-4
    assert float(score.high - score.low) / 2 == pytest.approx(half, rel=1e-3)


def test_selectivity_needs_two_classes():
    with pytest.raises(ValueError, match="only 1"):
        class_selectivity(torch.ones(1, 3), torch.ones(1, 3))


def test_two_measures_cannot_share_a_name():
    def mis() -> Score:
        raise AssertionError

    with pytest.raises(ValueError, match="two measures"):
        measure(version=1, unit="", range=(0.0, 1.0), chance=None, higher_is="", cite="")(mis)


DECLARED = {"version": 1, "unit": "", "range": (0.0, 1.0), "chance": None, "higher_is": "", "cite": ""}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: 1 / 0, r"measure 'mine' failed with ZeroDivisionError: division by zero \(test_measures.py, line"),
        (lambda: 0.5, "measure 'mine' returned float; a Score, or Scores by"),
        (
            lambda: of_values(math.nan, 1.5),
            r"measure 'mine' declares range=\(0, 1\) and returned 1.5 for a unit; correct",
        ),
        (lambda: of_values(0.0, -0.01), r"measure 'mine' declares range=\(0, 1\) and returned -0.01 for a unit"),
    ],
    ids=["fails", "returns a number", "is too large", "is too small"],
)
def test_a_measure_of_ones_own_that_goes_wrong_is_named(world: World, monkeypatch, wrong, said: str):
    def mine(activations: Tensor):
        return wrong()

    monkeypatch.setitem(MEASURES, "mine", Measure(mine, **DECLARED))
    with pytest.raises(ThalwegError, match=said):
        world.scored(world.values)


def of_values(first: float, other: float) -> Score:
    """A score of some units, the first of which has this value, and all others that."""
    value = torch.tensor([first, *[other] * (UNITS - 1)])
    return Score(value, value, value, torch.ones(UNITS).int(), note="missing")


def test_rounding_may_take_a_value_over_its_range(world: World, monkeypatch):
    def mine(activations: Tensor) -> Score:
        return of_values(math.nan, 1 + 5e-7)

    monkeypatch.setitem(MEASURES, "mine", Measure(mine, **DECLARED))
    assert world.scored(world.values).filter(pl.col("measure") == "mine")["value"].max() > 1
