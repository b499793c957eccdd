"""One-sided trials: typical stimuli against those at a pole; and the scores that rest on them, where truth is known."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from support.planted import any_halves, recordings, scored, value
from thalweg.observers.base import Observer
from thalweg.observers.embedding import ObserverView, centred, standardised
from thalweg.recording.result import Recording
from thalweg.scoring.units import ObserverOnPool
from thalweg.stimuli.images import Images
from thalweg.trials.building import build_trials, candidates, ends
from thalweg.trials.one_sided import BANDS, GRADES, STILL_TYPICAL, _shuffled, _typical, build_one_sided, tails

STIMULI, LATENTS = 2000, 24


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def latents() -> Tensor:
    """Sparse, clean, graded: 0 for most stimuli, between 0.2 and 1.2 for one in twenty."""
    active = torch.rand(STIMULI, LATENTS, generator=seeded(0)) < 0.05
    return active * (0.2 + torch.rand(STIMULI, LATENTS, generator=seeded(1)))


def halves_of(values: Tensor) -> tuple[Recording, Recording]:
    reference, query = recordings(values, any_halves(len(values)), {})
    return reference, query


def test_bands_lie_on_the_way_from_the_median_and_typical_stimuli_near_it(latents: Tensor):
    values = torch.cat([latents, torch.randn(STIMULI, 6, generator=seeded(2))], 1)
    reference, query = halves_of(values)
    upper = torch.arange(values.shape[1]) != 27
    trials = build_one_sided(reference, query, upper)
    for unit in range(values.shape[1]):
        mine = values[:, unit]
        median = float(reference.sample[:, unit].median())
        top = float(mine[trials.high[unit, :9]].mean())
        asked: list[int] = []
        for band in BANDS:
            high, low = (side[unit][side[unit] >= 0] for side in (trials.queries[band].high, trials.queries[band].low))
            assert len(low) >= 20
            assert (((mine[low] - median) / (top - median)).abs() <= STILL_TYPICAL + 1e-6).all()
            if band in GRADES:
                least, _, most = GRADES[band]
                assert ((mine[high] - median) / (top - median)).ge(least - 1e-6).all()
                assert ((mine[high] - median) / (top - median)).le(most + 1e-6).all()
            asked += [*high.tolist(), *low.tolist()]
        assert len(asked) == len(set(asked))  # no stimulus is asked about twice
        assert not set(trials.high[unit].tolist()) & set(trials.low[unit].tolist())
    assert values[trials.high[27, 0], 27] < -2  # the lower pole was asked about


def test_units_that_rest_at_one_value_do_not_share_their_typical_stimuli(latents: Tensor):
    reference, query = halves_of(latents)
    low = build_one_sided(reference, query, torch.ones(LATENTS, dtype=torch.bool)).low
    shared = [len(set(low[0].tolist()) & set(low[unit].tolist())) for unit in range(1, LATENTS)]
    assert max(shared) < 10  # of thirty, among five hundred


def test_typical_stimuli_are_the_nearest_in_an_order_of_each_units_own(latents: Tensor):
    """Against a stable sort of all distances; ties, taken stimuli and a limit included."""
    reference, _ = halves_of(torch.cat([latents, torch.randn(STIMULI, 6, generator=seeded(4))], 1))
    median, ids, end = reference.sample.median(0).values, reference.sample_ids(), reference.highest()[1]
    limit = torch.full_like(median, 0.3)
    shuffled, ranks = _shuffled(reference)
    assert torch.equal(ranks.gather(1, shuffled), torch.arange(len(ids)).expand_as(ranks))
    for count, most in ((30, None), (90, limit)):
        result = _typical(reference, end, reference, count, most=most)
        for unit, row in enumerate(result.tolist()):
            taken = set(end[unit].tolist())
            distance = (reference.sample[:, unit] - median[unit]).abs().tolist()
            free = [at for at in shuffled[unit].tolist() if int(ids[at]) not in taken]
            expected = [int(ids[at]) for at in sorted(free, key=distance.__getitem__)][:count]
            within = [each for each in expected if most is None or distance[ids.tolist().index(each)] <= 0.3]
            assert [each for each in row if each >= 0] == within


def test_both_poles_and_exchanged_halves_share_what_does_not_depend_on_them(latents: Tensor):
    first, other = halves_of(latents)
    shared = (candidates, ends, _shuffled)
    before = [each.cache_info().misses for each in shared]
    upper = torch.ones(LATENTS, dtype=torch.bool)
    for reference, query in ((first, other), (other, first)):
        for pole in (upper, ~upper):
            build_one_sided(reference, query, pole)
        build_trials(reference, query)
    assert [each.cache_info().misses - was for each, was in zip(shared, before, strict=True)] == [2, 2, 2]


def test_the_main_pole_has_the_heavier_tail_and_stays_when_halves_are_exchanged(latents: Tensor):
    values = torch.stack([latents[:, 0], -latents[:, 1], torch.randn(STIMULI, generator=seeded(3)).exp()], 1)
    reference, query = halves_of(values)
    here, there = tails(reference, query), tails(query, reference)
    assert here.upper_is_main.tolist() == [True, False, True]
    assert here.share[:2].tolist() == [1.0, 0.0]
    assert torch.equal(here.share, there.share)


def test_what_a_rectifier_cuts_off_is_no_pole(latents: Tensor):
    values = torch.stack([latents[:, 0] - 3 * latents[:, 1], latents[:, 2] - 9, -latents[:, 3]], 1)
    reference, query = halves_of(values)
    assert tails(reference, query).upper_is_main.tolist() == [False, True, False]
    passed_on = tails(reference, query, torch.relu)
    assert passed_on.upper_is_main.tolist() == [True, True, True]
    assert passed_on.share[0] == 1
    assert passed_on.share[1:].isnan().all()  # they pass on nothing


@pytest.fixture(scope="module")
def groups(latents: Tensor) -> dict[str, Tensor]:
    picked = {
        n: [torch.randperm(LATENTS, generator=seeded(10 * n + unit))[:n] for unit in range(40)] for n in (2, 5, 12)
    }
    dense = torch.randn(STIMULI, 40, generator=seeded(5))
    sparse = dense.roll(7, 0)
    return {
        "latent": latents,
        "clean": (latents > 0).float(),
        **{f"sum of {n}": torch.stack([latents[:, chosen].sum(1) for chosen in each], 1) for n, each in picked.items()},
        "noise": dense,
        "sparse noise": (sparse - sparse.quantile(0.97, 0)).clamp_min(0),
    }


@pytest.fixture(scope="module")
def scores(latents: Tensor, groups: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """By group and measure, of an observer whose dictionary names the latents among other features."""
    features = torch.cat([latents, torch.randn(STIMULI, 40, generator=seeded(6))], 1)
    watcher = ObserverOnPool(Observer("image", 1), ObserverView(centred(features), standardised(features.clone())))
    pool = Images(torch.zeros(STIMULI, 1, 2, 2).byte(), torch.zeros(STIMULI).long(), ("all",))
    rows = scored(torch.cat([*groups.values()], 1), pool, [watcher], torch.zeros(STIMULI, 1))
    by_measure = {
        "predictable": value(rows, "one_sided"),
        "crisp": value(rows, "one_sided_single", capacity="1"),
        "two-sided": value(rows, "two_choice_single", capacity="1"),
        "other pole": value(rows, "other_pole"),
    }
    sizes = [each.shape[1] for each in groups.values()]
    split = {name: dict(zip(groups, each.split(sizes), strict=True)) for name, each in by_measure.items()}
    return {group: {name: each[group] for name, each in split.items()} for group in groups}


@pytest.mark.parametrize("group", ["latent", "clean"])
def test_clean_sparse_units_are_covered_and_crisp(scores: dict[str, dict[str, Tensor]], group: str):
    assert not scores[group]["crisp"].isnan().any()
    assert scores[group]["crisp"].mean() > 0.98
    assert scores[group]["two-sided"].isnan().float().mean() > 0.5  # why the headline is one-sided
    assert scores[group]["other pole"].isnan().all()  # they rest there


def test_crisp_falls_with_the_number_of_latents(scores: dict[str, dict[str, Tensor]]):
    crisp = [float(scores[group]["crisp"].mean()) for group in ("latent", "sum of 2", "sum of 5", "sum of 12")]
    assert all(more > less + 0.03 for more, less in itertools.pairwise(crisp)), crisp


@pytest.mark.parametrize("group", ["noise", "sparse noise"])
@pytest.mark.parametrize("measure", ["predictable", "crisp"])
def test_noise_is_at_chance_and_so_is_its_mean(scores: dict[str, dict[str, Tensor]], group: str, measure: str):
    result = scores[group][measure]
    assert abs(float(result.mean()) - 0.5) < 3.5 * float(result.std()) / math.sqrt(len(result))
