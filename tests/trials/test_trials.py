"""Which stimuli explain and which are asked about."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support.planted import any_halves, recordings
from thalweg.observers.answers import answer, answer_by_features
from thalweg.observers.embedding import centred
from thalweg.scoring.units import Halves
from thalweg.trials.building import BANDS, GRADES, QueryIndex, TrialSet, among, build_trials, matched_pairs, readout
from thalweg.trials.items import draw


def exam_of(values: Tensor, **kept: int) -> tuple[TrialSet, Halves]:
    parts = any_halves(len(values))
    return build_trials(*recordings(values, parts, {}, **kept)), parts


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([130, 400, 1500]), st.sampled_from([0.0, 0.5]))
def test_no_stimulus_is_reference_and_query_nor_in_two_bands(seed: int, count: int, rounding: float):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 4, generator=generator).exp()
    values = (values / rounding).round() * rounding if rounding else values
    trials, parts = exam_of(values)
    reference, query = set(parts.reference.tolist()), set(parts.query.tolist())
    for unit in torch.nonzero(trials.alive).flatten().tolist():
        high, low = trials.high[unit].tolist(), trials.low[unit].tolist()
        assert set(high) <= reference
        assert set(low) <= reference
        seen: set[int] = set()
        for band in GRADES:
            sides = [
                [i for i in side[unit].tolist() if i >= 0]
                for side in (trials.queries[band].high, trials.queries[band].low)
            ]
            both = sides[0] + sides[1]
            assert len(both) == len(set(both))
            assert set(both) <= query
            assert not seen & set(both)
            seen |= set(both)


def test_bands_hold_the_stimuli_nearest_to_their_fraction_by_value():
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(800, 3, generator=generator)
    trials, parts = exam_of(values)
    for unit in range(3):
        reference = values[parts.reference, unit].sort().values
        bottom, top = reference[:9].mean(), reference[-9:].mean()
        fraction = (values[parts.query, unit] - bottom) / (top - bottom)
        for band, (least, goal, most) in GRADES.items():
            for side, mine in ((trials.queries[band].high, fraction), (trials.queries[band].low, 1 - fraction)):
                nearest = (mine - goal).abs().argsort()[:30]
                expected = {int(parts.query[i]) for i in nearest if least <= mine[i] < most}
                assert {i for i in side[unit].tolist() if i >= 0} == expected
        extreme = trials.queries["extreme"]
        order = parts.query[values[parts.query, unit].argsort(descending=True)]
        assert extreme.high[unit].tolist() == order[:9].tolist()
        assert extreme.low[unit].tolist() == order.flip(0)[:9].tolist()


def test_constant_and_failed_units_make_no_trial():
    values = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    values[:, 1] = 2.0
    values[5, 2] = torch.nan
    trials, _ = exam_of(values)
    assert trials.alive.tolist() == [True, False, False, True]
    assert trials.notes == ("", "constant", "non-finite values", "")
    for band in BANDS:
        assert (trials.queries[band].high[1:3] == -1).all()


def test_evidence_is_the_difference_of_mean_similarities(generator):
    values = torch.randn(300, 5, generator=generator)
    trials, _ = exam_of(values)
    embedding = centred(torch.randn(300, 20, generator=generator))
    result = answer(trials, embedding)
    for band in BANDS:
        for unit in range(5):
            for ids, evidence in (
                (trials.queries[band].high, result[band].high),
                (trials.queries[band].low, result[band].low),
            ):
                for index, query in enumerate(ids[unit].tolist()):
                    if query < 0:
                        assert evidence[unit, index].isnan()
                        continue
                    similar = embedding @ embedding[query]
                    expected = similar[trials.high[unit, :9]].mean() - similar[trials.low[unit, :9]].mean()
                    assert evidence[unit, index] == pytest.approx(float(expected), abs=1e-5)


def test_capacity_one_finds_the_one_feature_and_nothing_but_the_references_choose_it(generator):
    features = torch.randn(600, 30, generator=generator)
    values = features[:, [3, 11]] * torch.tensor([2.0, -1.0])
    trials, _ = exam_of(values)
    answers = answer_by_features(trials, features, (1, 2, None))
    for band in GRADES:
        assert (answers[1][band].high.nanmean(1) > answers[1][band].low.nanmean(1)).all()
        queries = trials.queries[band].high
        weight = answers[1][band].high / torch.stack([features[queries[0], 3], -features[queries[1], 11]])
        assert (weight.nan_to_num(1.0) > 0).all()  # the right feature, the right sign
    shuffled = features.clone()
    asked = torch.cat([side for q in trials.queries.values() for side in (q.high, q.low)], 1)
    shuffled[asked[asked >= 0]] = torch.randn(int((asked >= 0).sum()), 30, generator=generator)
    again = answer_by_features(trials, shuffled, (1,))
    chance = torch.stack([(again[1][b].high[:, :, None] > again[1][b].low[:, None]).float().mean() for b in GRADES])
    assert (chance < 0.8).all()


def test_reading_out_together_or_one_by_one_gives_the_same(generator, monkeypatch):
    features, weights = torch.randn(500, 12, generator=generator), torch.randn(7, 12, generator=generator)
    ids = torch.randint(-1, 500, (7, 40), generator=generator)
    together = readout(features, QueryIndex.of(ids), weights)
    monkeypatch.setattr("thalweg.trials.building.SHARED", 0)
    one_by_one = readout(features, QueryIndex.of(ids), weights)
    torch.testing.assert_close(together, one_by_one, equal_nan=True, rtol=1e-4, atol=1e-5)
    assert torch.equal(together.isnan(), ids < 0)


def test_pairs_are_undecided_where_predictions_from_statistics_agree(generator):
    statistics = torch.randn(700, 3, generator=generator)
    values = torch.stack([statistics[:, 0], torch.randn(700, generator=generator)], 1)
    parts = any_halves(700)
    reference, query = recordings(values, parts, {"trivial": statistics})
    pairs = matched_pairs(build_trials(reference, query), reference, statistics, parts.reference)
    assert pairs["v90"][0].sum() == 0  # the statistic decides every pair
    assert pairs["v90"][1].float().mean() > 0.5  # it knows nothing of noise


def test_a_drawn_trial_comes_from_the_band_and_repeats_nothing(generator):
    trials, _ = exam_of(torch.randn(400, 2, generator=generator))
    drawn = [draw(trials, 1, "v75", seed=seed) for seed in range(40)]
    assert {item.high_first for item in drawn} == {True, False}
    for item in drawn:
        assert item.high_query in trials.queries["v75"].high[1].tolist()
        assert item.low_query in trials.queries["v75"].low[1].tolist()
        shown = [*item.high_references, *item.low_references, item.high_query, item.low_query]
        assert len(shown) == len(set(shown)) == 20
    assert drawn[0] == draw(trials, 1, "v75", seed=0)


def test_ids_are_looked_up_without_a_table_of_all_pairs():
    generator = torch.Generator().manual_seed(0)
    ids, others = (torch.randint(-1, 30, (7, size), generator=generator) for size in (12, 9))
    assert torch.equal(among(ids, others), (ids[:, :, None] == others[:, None, :]).any(2))
    many = torch.arange(400_000)[None]  # all pairs would take 160 GB
    assert among(many, many + 1).sum() == 399_999
