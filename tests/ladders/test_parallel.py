"""The ladder of aligned texts: which columns and rows are taken, what is kept out, and how languages are compared."""

import pickle
from pathlib import Path

import polars as pl
import pytest
import torch

from thalweg import Splits, ThalwegError
from thalweg.concepts.measuring import network_rows
from thalweg.concepts.representations import Reader
from thalweg.ladders import parallel
from thalweg.ladders.parallel import ParallelWindows, aligned_pairs, splits
from thalweg.models.records import Layer
from thalweg.stimuli.base import Source

NOUNS = ("cheese", "house", "river", "stone", "garden", "winter", "letter", "song")
NOMS = ("fromage", "maison", "fleuve", "pierre", "jardin", "hiver", "lettre", "chanson")
ROWS = 900


def sentence(words: tuple[str, ...], number: int, link: str) -> str:
    picked = [words[number // 8**place % 8] for place in range(3)]
    return f"{picked[0]} {link} {picked[1]} {link} {picked[2]} {number}"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parallel") / "texts.csv"
    rows = {
        "page": [f"page {number // 10}" for number in range(ROWS)],
        "en": [sentence(NOUNS, number, "and the") for number in range(ROWS)],
        "fr": [sentence(NOMS, number, "et la") for number in range(ROWS)],
    }
    rows["fr"][5] = ""  # no translation
    rows["en"][6] = rows["en"][7]  # stands twice
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture(scope="module")
def parts(table: Path) -> Splits:
    return splits(Source(table, text="en, fr"), seed=0)


def test_documents_are_of_one_language_and_aligned_texts_stand_in_none(parts: Splits):
    pool = parts.pool
    assert isinstance(pool, ParallelWindows)
    assert pool.label_names == ("en", "fr")
    for windows in (parts.train, pool):
        texts = windows.texts()
        english = [("and the" in text, "et la" in text) for text in texts]
        assert set(english) <= {(True, False), (False, True)}
        assert [pair[1] for pair in english] == windows.labels.bool().tolist()
    told = "\n".join([*parts.train.texts(), *pool.texts()])
    first, second = ([pool.vocabulary.text(torch.tensor(text)) for text in side] for side in pool.aligned)
    assert len(first) == len(second) == parallel.ALIGNED
    for english, french in zip(first, second, strict=True):
        assert english.split()[-1] == french.split()[-1]  # the number of the row
        assert english not in told
        assert french not in told
    assert sentence(NOUNS, 7, "and the") not in first  # it stands twice
    assert "899 rows of en and fr, 200 of them kept out" in pool.notes[0]


def test_the_same_seed_makes_the_same_stimuli_which_can_be_sent(table: Path, parts: Splits):
    again = splits(Source(table, text="en,fr"), seed=0)
    assert again.content_hash() == parts.content_hash()
    assert splits(Source(table, text="en,fr"), seed=1).content_hash() != parts.content_hash()
    assert pickle.loads(pickle.dumps(parts.pool)).content_hash() == parts.pool.content_hash()
    assert parts.pool.take(slice(0, 5)).aligned == parts.pool.aligned


def test_languages_are_compared_on_the_aligned_texts_at_their_last_tokens(parts: Splits):
    pairs = aligned_pairs(0, parts)
    assert len(pairs) == parallel.ALIGNED
    text = parts.pool.aligned[1][3]
    assert pairs.tokens[1, 3, 0, : len(text)].tolist() == list(text)
    assert pairs.places[1, 3, 0] == len(text) - 1
    torch.manual_seed(0)
    network = parallel.LADDER.rungs[0].build().eval()
    rows = list(network_rows(Reader(network), pairs, [Layer("blocks.0.residual", unit_axis=2)], seed=0))
    assert {row["measure"] for row in rows} == {"retrieval", "cka", "overlap", "shared_units"}


def test_rungs_are_those_of_words_and_are_found_by_name():
    from thalweg import ladders

    assert ladders.find("parallel") is parallel.LADDER
    assert [rung.name for rung in parallel.LADDER.rungs if rung.quick] == [
        "transformer-1x8", "transformer-1x16", "transformer-1x32", "transformer-1x64",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, r"has 3 columns \(page, en, fr\), 3 of them with text; name .*, as --text-column en,fr"),
        ("en", "--text-column is 'en'; the names of two columns were expected, as --text-column en,fr"),
        ("en,de", "no column of .* is called 'de'"),
        ("page,fr", "0 of 899 rows have two texts of 4 to 24 tokens that stand in the table once; at least 20"),
    ],
)
def test_mistakes_are_one_sentence(table: Path, columns: str | None, message: str):
    with pytest.raises(ThalwegError, match=message):
        splits(Source(table, text=columns), seed=0)


def test_a_table_has_to_be_named(tmp_path: Path):
    with pytest.raises(ThalwegError, match="the ladder parallel brings no text along; name a table"):
        splits(Source(None), seed=0)
    with pytest.raises(ThalwegError, match="there is no such file"):
        splits(Source(tmp_path / "none.csv"), seed=0)
