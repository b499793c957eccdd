"""What the last token explains: shares of variance and pairs of queries, against planted units."""

import pytest
import torch
from torch import Tensor

from support.planted import recordings
from thalweg.scoring.units import Halves, stimulus_metadata
from thalweg.stimuli.base import halves
from thalweg.stimuli.windows import NO_TARGET, Vocabulary, Windows
from thalweg.trials.building import build_trials, group_means, matched_pairs, matched_pairs_by_group


def windows(count: int = 1200, kinds: int = 24) -> Windows:
    """Windows of four tokens from documents of ten; the last token is one of `kinds`, the early ones more often."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(kinds, (count, 4), generator=generator)
    tokens[:, -1] = torch.multinomial(1 / torch.arange(1.0, kinds + 1), count, True, generator=generator)
    vocabulary = Vocabulary(
        tuple(bytes([97 + n]) for n in range(kinds)), torch.ones(kinds).long(), torch.zeros(2, kinds)
    )
    following, documents = torch.full((count,), NO_TARGET), torch.arange(count) // 10
    return Windows(tokens, following, documents, documents % 3, ("a", "b", "c"), vocabulary)


def units(pool: Windows) -> Tensor:
    """A function of the last token; the same with as much noise again; noise alone; a function of the first token."""
    generator = torch.Generator().manual_seed(1)
    by_token = torch.randn(24, generator=generator)
    by_token = (by_token[pool.tokens[:, -1]] - by_token[pool.tokens[:, -1]].mean()) / by_token[pool.tokens[:, -1]].std()
    noise = torch.randn(len(pool), 2, generator=generator)
    first = torch.randn(24, generator=generator)[pool.tokens[:, 0]]
    return torch.stack([by_token, by_token + noise[:, 0], noise[:, 1], first], 1)


@pytest.fixture(scope="module")
def pool() -> Windows:
    return windows()


@pytest.fixture(scope="module")
def parts(pool: Windows) -> Halves:
    return Halves(*halves(pool, seed=0))


def test_halves_share_no_document(pool: Windows, parts: Halves):
    assert not set(pool.documents[parts.reference].tolist()) & set(pool.documents[parts.query].tolist())
    assert torch.cat([parts.reference, parts.query]).sort().values.equal(torch.arange(len(pool)))
    assert abs(len(parts.reference) - len(parts.query)) <= 20


def test_statistics_that_do_not_vary_decide_nothing(pool: Windows, parts: Halves):
    """Whatever their number and size: also those whose standard deviation is rounding alone."""
    for constant in (0.0, 0.1, 1e6):
        statistics = torch.full((len(pool), 3), constant)
        reference, query = recordings(units(pool), parts, {"trivial": statistics})
        asked = build_trials(reference, query)
        pairs = matched_pairs(asked, reference, statistics, parts.reference)
        for band, kept in pairs.items():
            there = (asked.queries[band].high >= 0)[:, :, None] & (asked.queries[band].low >= 0)[:, None, :]
            assert kept[there].all(), (constant, band)


def test_the_share_that_the_last_token_explains(pool: Windows, parts: Halves):
    facts = stimulus_metadata(pool, pool.low_level())
    reference, _ = recordings(units(pool), parts, facts.tables())
    share = group_means(reference, facts.last_token[parts.reference], "last_token").share
    assert share[0] > 0.999
    assert share[1] == pytest.approx(0.5, abs=0.08)
    assert share[2] < 0.05
    assert share[3] < 0.05


def test_predictions_are_means_shrunken_towards_the_overall_one(pool: Windows, parts: Halves):
    facts = stimulus_metadata(pool, pool.low_level())
    values = units(pool)
    reference, _ = recordings(values, parts, facts.tables())
    means = group_means(reference, facts.last_token[parts.reference], "last_token").predictions
    code = facts.last_token
    for token in (0, 3):
        inner = values[parts.reference][code[parts.reference] == code[pool.tokens[:, -1] == token][0]]
        assert means[code[pool.tokens[:, -1] == token][0], 0] == pytest.approx(inner[:, 0].mean().item(), abs=0.01)
    sizes = code[parts.reference].bincount(minlength=len(means)).double()[:, None]
    raw = reference.products["last_token"] / sizes - reference.mean
    shrunken = means - reference.mean
    assert shrunken[:, 2].square().sum() < 0.3 * raw[:, 2].square().sum()  # noise: groups say nothing of it
    assert shrunken[:, 0].square().sum() > 0.99 * raw[:, 0].square().sum()


def test_pairs_that_the_last_token_decides_are_left_out(pool: Windows, parts: Halves):
    facts = stimulus_metadata(pool, pool.low_level())
    pair = recordings(units(pool), parts, facts.tables())
    trials = build_trials(*pair)
    pairs = matched_pairs_by_group(trials, pair[0], facts.last_token, parts.reference)
    there = {
        band: (queries.high >= 0)[:, :, None] & (queries.low >= 0)[:, None, :]
        for band, queries in trials.queries.items()
    }
    kept = [sum(int(pairs[band][unit].sum()) for band in pairs) for unit in range(4)]
    asked = [sum(int(there[band][unit].sum()) for band in pairs) for unit in range(4)]
    assert kept[0] == 0
    assert 0 < kept[1] < 0.7 * asked[1]
    assert kept[2] > 0.95 * asked[2]
    assert kept[3] > 0.9 * asked[3]
