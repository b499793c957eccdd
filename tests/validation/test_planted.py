"""Planted units: what they are made of, and that the instrument's scores follow it."""

import polars as pl
import pytest
import torch
from torch import Tensor

from support.planted import any_halves, value
from thalweg import Observer, ThalwegError
from thalweg.measures.headlines import HEADLINES
from thalweg.observers.embedding import ObserverView, centred, standardised
from thalweg.scoring.units import Halves, ObserverOnPool, StimulusMetadata
from thalweg.validation.planted import Group, Latents, draw_latents, planted_groups, without_names
from thalweg.validation.scores import score_planted

STIMULI, FEATURES, LATENTS = 2000, 60, 25


@pytest.fixture(scope="module")
def dictionary() -> Tensor:
    """Independent features: thirty with graded values, thirty that say yes or no of 5 % of the stimuli."""
    generator = torch.Generator().manual_seed(0)
    graded = torch.randn(STIMULI, FEATURES // 2, generator=generator)
    yes = (torch.rand(STIMULI, FEATURES // 2, generator=generator) < 0.05).float()
    return standardised(torch.cat([graded, yes], 1))


@pytest.fixture(scope="module")
def parts() -> Halves:
    return any_halves(STIMULI)


@pytest.fixture(scope="module")
def latents(dictionary: Tensor, parts: Halves) -> Latents:
    return draw_latents(dictionary, parts, seed=0, most=LATENTS)


@pytest.fixture(scope="module")
def groups(latents: Latents, dictionary: Tensor) -> dict[str, Group]:
    return {group.name: group for group in planted_groups(latents, dictionary, seed=0, units=LATENTS)}


def correlations(left: Tensor, right: Tensor) -> Tensor:
    """Of each column with each other column."""
    left, right = ((each - each.mean(0)) / each.std(0) for each in (left, right))
    return left.T @ right / (len(left) - 1)


def test_latents_are_sparse_and_overlap_little(latents: Latents, parts: Halves):
    active = latents.values > 0
    assert latents.values.min() == 0
    assert bool(((active.sum(0) >= 60) & (active.float().mean(0) <= 0.15)).all())
    assert all(bool((active[ids].sum(0) >= 20).all()) for ids in (parts.reference, parts.query))
    assert (correlations(latents.values, latents.values) - torch.eye(LATENTS)).abs().max() <= 0.1
    assert latents.values.topk(30, 0).values.mean(0) == pytest.approx(1, abs=1e-5)
    assert 0 < int(latents.graded.sum()) < LATENTS
    assert all(len(latents.values[:, column][active[:, column]].unique()) >= 60 for column in range(LATENTS))


def test_a_feature_that_is_there_twice_is_taken_once(dictionary: Tensor, parts: Halves):
    again = dictionary + 0.01 * torch.randn(dictionary.shape, generator=torch.Generator().manual_seed(1))
    drawn = draw_latents(torch.cat([dictionary, again], 1), parts, seed=0, most=2 * FEATURES)
    assert drawn.values.shape[1] <= FEATURES
    assert (correlations(drawn.features, drawn.features).abs() > 0.9).sum() == drawn.values.shape[1]


def test_a_dictionary_of_too_few_sparse_things_is_refused(dictionary: Tensor, parts: Halves):
    with pytest.raises(ThalwegError, match="names 3 sparse things that do not overlap"):
        draw_latents(dictionary[:, :3], parts, seed=0)
    with pytest.raises(ThalwegError, match="names 0 sparse things"):
        draw_latents(torch.zeros(STIMULI, 1), parts, seed=0)


def test_units_are_made_of_as_many_latents_as_their_group_says(latents: Latents, groups: dict[str, Group]):
    for name, group in groups.items():
        if group.kind == "sum":
            weights = torch.linalg.lstsq(latents.values, group.values).solution
            assert (weights.round() == 1).sum(0).tolist() == [group.latents] * LATENTS, name
            assert (weights - weights.round()).abs().max() < 1e-3, name
        if group.kind == "max":
            taken = (group.values[:, :, None] == latents.values[:, None, :]).float().mean(0)
            assert bool((group.values <= latents.values.amax(1, keepdim=True)).all()), name
            assert taken.max() <= 1, name
    assert groups["one latent"].values.equal(latents.values)
    assert {name for name in groups if name.startswith("sum")} == {f"sum of {n}" for n in (2, 3, 5, 10, 20)}
    assert {name for name in groups if name.startswith("max")} == {f"max of {n}" for n in (2, 5, 20)}


def test_rotations_keep_lengths_and_use_all_of_their_latents(latents: Latents, groups: dict[str, Group]):
    turned = groups["rotation of all"].values
    assert torch.allclose(turned.norm(dim=1), latents.values.norm(dim=1), atol=1e-4)
    blocks = groups["rotation of 8"].values
    assert torch.allclose(blocks.norm(dim=1), latents.values[:, :24].norm(dim=1), atol=1e-4)
    for values, size in ((blocks, 8), (turned, LATENTS)):
        weights = torch.linalg.lstsq(latents.values, values).solution
        assert (weights.abs() > 1e-4).sum(0).tolist() == [size] * values.shape[1]


def test_a_rectified_direction_keeps_its_top_and_noise_the_density(groups: dict[str, Group]):
    dense, rectified, scaled = (groups[f"direction{word}"].values for word in ("", ", rectified", ", standardised"))
    assert rectified.topk(30, 0).indices.equal(dense.topk(30, 0).indices)
    assert (rectified > 0).sum(0).tolist() == [60] * LATENTS
    assert scaled.std(0).numpy() == pytest.approx(1, abs=1e-4)
    shuffled, single = groups["sparse noise"].values, groups["one latent"].values
    assert shuffled.sort(0).values.equal(single.sort(0).values)
    assert correlations(shuffled, single).abs().max() < 0.15


def test_the_same_seed_plants_the_same_units_and_another_seed_others(dictionary: Tensor, parts: Halves):
    first, again, other = (draw_latents(dictionary, parts, seed=seed, most=10).values for seed in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(other)


def test_names_are_taken_out_with_near_copies_and_nothing_else(dictionary: Tensor, latents: Latents):
    copy = latents.features[:, :1] + 0.1 * torch.randn(STIMULI, 1, generator=torch.Generator().manual_seed(2))
    view = ObserverView(centred(dictionary), torch.cat([dictionary, -copy], 1))
    blind = without_names(view, latents)
    assert blind.embedding is view.embedding
    assert blind.dictionary.shape[1] == FEATURES - LATENTS
    assert correlations(blind.dictionary, latents.features).abs().max() < 0.7
    nothing = without_names(ObserverView(None, latents.features), latents).dictionary
    assert nothing.shape == (STIMULI, 1)
    assert not nothing.any()


@pytest.fixture(scope="module")
def rows(dictionary: Tensor, latents: Latents, groups: dict[str, Group], parts: Halves) -> pl.DataFrame:
    nothing = torch.zeros(STIMULI, 1)
    metadata = StimulusMetadata(nothing, torch.zeros(STIMULI, dtype=torch.int64))
    watcher = ObserverOnPool(Observer("image", 1, lambda _: dictionary), ObserverView(centred(dictionary), dictionary))
    return score_planted(list(groups.values()), latents, parts, [watcher], metadata)


def test_crisp_falls_with_the_number_of_latents_and_without_their_names(rows: pl.DataFrame):
    def crisp(group: str, *, named: bool = True) -> float:
        chosen = rows.filter(pl.col("layer") == group, pl.col("named") == named)
        return float(value(chosen, HEADLINES["crisp"], capacity="1").nanmean())

    scores = [crisp(name) for name in ("one latent", "sum of 2", "sum of 5", "sum of 20")]
    assert scores == sorted(scores, reverse=True), scores
    assert scores[0] > 0.95
    assert scores[1] < 0.9
    assert crisp("noise") == pytest.approx(0.5, abs=0.05)
    assert crisp("one latent", named=False) < 0.65


def test_whole_stimuli_are_compared_by_the_same_embedding_without_names(rows: pl.DataFrame):
    plain = rows.filter(pl.col("measure") == "two_choice")
    named, blind = (plain.filter(pl.col("named") == named).drop("named") for named in (True, False))
    assert len(named)
    assert named.equals(blind)
