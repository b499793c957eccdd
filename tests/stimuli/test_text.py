"""Text: from files and installed documentation to windows that share no document."""

import gzip
import json
import os
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from support.documents import planted
from thalweg import ThalwegError
from thalweg.stimuli import corpus
from thalweg.stimuli.base import Source, Splits, halves
from thalweg.stimuli.corpus import split, splits
from thalweg.stimuli.docstrings import cleaned, docstrings, embedded
from thalweg.stimuli.documents import BLOCK, Document, Texts, even, join, without_repeats
from thalweg.stimuli.documents import read as read_texts
from thalweg.stimuli.encoding import Encoded, encode, encode_whole
from thalweg.stimuli.topics import topics
from thalweg.stimuli.vocabulary import byte_pairs, pieces
from thalweg.stimuli.windows import NO_TARGET, Vocabulary, Windows
from thalweg.stimuli.words import WORD


def parts(planted_splits: Splits) -> list[Windows]:
    """The three parts, as what they are."""
    assert all(
        isinstance(part, Windows) for part in (planted_splits.train, planted_splits.validation, planted_splits.pool)
    )
    return [planted_splits.train, planted_splits.validation, planted_splits.pool]


def origins(part: Windows, documents: list[Document]) -> dict[int, Document]:
    """By the number of each document of a part: the only document in which some of its windows stand."""
    result = {}
    for number in part.documents.unique().tolist():
        windows = part.take((part.documents == number).nonzero().flatten()[:9]).texts()
        (result[number],) = (document for document in documents if all(window in document.text for window in windows))
    return result


@pytest.fixture(scope="module")
def planted_splits() -> Splits:
    return split(Texts(planted(40)), seed=3, length=12, entries=400, pool=300, validation=60)


def test_no_document_is_in_two_parts_nor_in_both_halves(planted_splits: Splits):
    sources = [{document.name for document in origins(part, planted(40)).values()} for part in parts(planted_splits)]
    assert [len(source) for source in sources] == [30, 2, 8]
    assert len(set.union(*sources)) == 40
    reference, query = halves(planted_splits.pool, seed=0)
    assert set(planted_splits.pool.documents[reference].tolist()).isdisjoint(
        planted_splits.pool.documents[query].tolist()
    )
    assert abs(len(reference) - len(query)) < len(planted_splits.pool) / 4


def test_windows_begin_and_end_with_words_and_never_overlap():
    documents = planted(12)
    tokenizer = byte_pairs((document.text for document in documents), 400)
    encoded = encode(documents, tokenizer)
    vocabulary = Vocabulary(pieces(tokenizer), torch.zeros(400).long(), torch.zeros(1, 400))
    windows = corpus.windows(documents, encoded, vocabulary, length=12)
    assert len(windows) > 500
    index: dict[int, int] = {}
    for text, origin, following in zip(
        windows.texts(), windows.documents.tolist(), windows.following.tolist(), strict=True
    ):
        whole = documents[origin].text
        start = whole.index(text, index.get(origin, 0))  # at or after the end of the window before
        end = index[origin] = start + len(text)
        assert text[0] == " " or start == 0 or whole[start - 1] == "\n"
        edges = {word.end() for word in WORD.finditer(whole)}
        assert end in edges
        assert not re.search(r"\w\w", whole[end - 1 : end + 1])
        if following == NO_TARGET:
            assert end == len(whole)
        else:
            assert whole[end:].startswith(vocabulary.text(torch.tensor([following])))
    assert (windows.tokens.shape[1], windows.length) == (12, 12)


CHINESE = "山水火木金土字文章漢語学校電気天地人大小上下左右中外国家時間年月日本書読話聞食飲行来見知思言"
THAI = ["น้ำ", "กำ", "ที่", "ว่า", "คน", "ไป", "เมื่อ", "ก็", "ดี", "บ้าน", "ปลา", "ตัว"]


def unspaced_text(script: str, seed: int) -> str:
    """Six sentences without spaces, with a Latin word and a number in them."""
    chance = random.Random(seed)
    units, stop = (list(CHINESE), "。") if script == "Chinese" else (THAI, " ")
    return "".join("".join(chance.choices(units, k=60)) + chance.choice(["GPT", "42", ""]) + stop for _ in range(6))


@pytest.mark.parametrize("script", ["Chinese", "Thai"])
@pytest.mark.parametrize("published", [False, True])
def test_without_spaces_windows_begin_and_end_between_characters(script: str, published: bool):
    documents = [Document(str(number), unspaced_text(script, number)) for number in range(12)]
    tokenizer = byte_pairs((document.text for document in documents), 300)
    encoded = (encode_whole if published else encode)(documents, tokenizer)
    vocabulary = Vocabulary(pieces(tokenizer), torch.zeros(300).long(), torch.zeros(1, 300))
    windows = corpus.windows(documents, encoded, vocabulary, length=12)
    assert windows.tokens.numel() > 0.6 * sum(len(item.tokens) for item in encoded)
    marks = set("้ำ่ี์ื็ัํ")
    for text, origin in zip(windows.texts(), windows.documents.tolist(), strict=True):
        assert text in documents[origin].text  # so no character is cut in two
        assert text[0] not in marks | {"。"}
        after = documents[origin].text.split(text, 1)[1]
        assert not after or after[0] not in marks
        assert not (re.search("[A-Z0-9]$", text) and re.match("[A-Z0-9]", after))
    shown = windows.show(0).pieces
    assert len(shown) == 12
    assert script == "Thai" or "" in shown  # some character is of two tokens
    assert "".join(shown) == windows.texts()[0]


def test_a_run_without_spaces_of_any_length_is_cut_so_that_encoding_ends():
    assert list(map(len, WORD.findall("山" * 1000 + "-" * 500))) == [200] * 7 + [100]
    documents = [Document("long", "".join(random.Random(0).choices(CHINESE, k=50_000)))]
    assert len(encode(documents, byte_pairs([documents[0].text], 1000))[0].tokens) > 20_000


def test_no_mark_is_taken_from_its_letter():
    assert WORD.findall("नमस्ते दुनिया।") == ["नमस्ते", " दुनिया", "।"]
    assert WORD.findall("cafe\u0301 noir") == ["cafe\u0301", " noir"]


def test_windows_cover_nearly_all_of_the_text():
    documents = planted(12)
    tokenizer = byte_pairs((document.text for document in documents), 400)
    encoded = encode(documents, tokenizer)
    vocabulary = Vocabulary(pieces(tokenizer), torch.zeros(400).long(), torch.zeros(1, 400))
    windows = corpus.windows(documents, encoded, vocabulary, length=12)
    assert windows.tokens.numel() > 0.7 * sum(len(item.tokens) for item in encoded)


def test_no_window_is_there_twice_in_any_part():
    refrain = " ".join(f"refrain{number}" for number in range(300))
    documents = [replace(item, text=f"{item.text}\n{item.name} {refrain}") for item in planted(24, words=300)]
    result = split(Texts(documents), seed=0, length=8, entries=400, pool=400)
    windows = [window for part in parts(result) for window in part.texts()]
    assert len(windows) == len(set(windows))
    assert sum("refrain" in window for window in windows) > 20


def test_targets_are_the_tokens_that_follow(planted_splits: Splits):
    train = parts(planted_splits)[0]
    assert torch.equal(train.targets(slice(0, 50))[:, :-1], train.batch(slice(0, 50))[:, 1:])
    assert torch.equal(train.targets(slice(0, 50))[:, -1], train.following[:50])
    assert (train.following != NO_TARGET).float().mean() > 0.9


def test_the_same_seed_gives_the_same_split_and_another_seed_another(planted_splits: Splits):
    settings = {"length": 12, "entries": 400, "pool": 300, "validation": 60}
    assert split(Texts(planted(40)), seed=3, **settings).content_hash() == planted_splits.content_hash()
    other = split(Texts(planted(40)), seed=4, **settings)
    assert other.content_hash() != planted_splits.content_hash()
    assert set(other.pool.texts()) != set(planted_splits.pool.texts())


def test_the_pool_has_the_size_that_was_asked_for_and_comes_evenly_from_its_documents(planted_splits: Splits):
    assert [len(part) for part in parts(planted_splits)[1:]] == [60, 300]
    sizes = planted_splits.pool.documents.unique(return_counts=True)[1]
    assert len(sizes) == 8
    assert int(sizes.max()) - int(sizes.min()) <= 1


def test_no_document_gives_more_than_a_quarter_of_the_pool():
    documents = planted(19, words=60) + planted(1, words=20000, seed=1)
    for seed in range(6):  # the long one is in the pool of some
        pool = split(Texts(documents), seed=seed, length=8, entries=300).pool
        assert int(pool.documents.bincount().max()) <= len(pool) / 4


def test_vocabulary_and_topics_come_from_the_training_documents_alone():
    documents = planted(30)
    before = split(Texts(documents), seed=0, length=12, entries=400, pool=200)
    held_out = list(origins(before.pool, documents).values())
    changed = [
        replace(item, text=f"{item.text}\n{item.name} {'unheardof ' * 500}") if item in held_out else item
        for item in documents
    ]
    assert len(held_out) == 6
    after = split(Texts(changed), seed=0, length=12, entries=400, pool=200)
    assert after.pool.content_hash() != before.pool.content_hash()
    assert after.pool.vocabulary.content_hash() == before.pool.vocabulary.content_hash()


def test_each_planted_subject_is_a_topic():
    generator = np.random.default_rng(0)
    inner = np.arange(640).reshape(32, 20)  # the tokens of each subject; the last hundred are in all documents
    documents = [
        Encoded(
            np.where(
                generator.random(700) < 0.5, generator.choice(inner[n % 32], 700), generator.integers(640, 740, 700)
            ),
            np.ones(700, np.bool_),
        )
        for n in range(128)
    ]
    result = topics(documents, 740, seed=0)
    assert result.shape == (32, 740)
    assert torch.allclose(result.sum(1), torch.ones(32), atol=1e-5)
    assert result[:, 640:].max() == 0  # what is everywhere is no subject
    subjects = result[:, :640].reshape(32, 32, 20).sum(2)  # (topic, subject)
    assert subjects.max(1).values.min() > 0.9
    assert len(set(subjects.argmax(1).tolist())) == 32
    assert torch.equal(result, topics(documents, 740, seed=0))


def test_topics_are_those_of_the_vocabulary(planted_splits: Splits):
    vocabulary = planted_splits.train.vocabulary
    assert vocabulary.topics.shape == (32, len(vocabulary)) == (32, 400)
    assert vocabulary.topics.sum() > 4


def test_counts_are_those_of_the_training_documents():
    documents = planted(30)
    result = split(Texts(documents), seed=0, length=12, entries=400, pool=200)
    train = parts(result)[0]
    counts = train.vocabulary.counts
    in_windows = train.tokens.flatten().long().bincount(minlength=400)
    assert (counts >= in_windows).all()  # windows leave some of the text out
    assert in_windows.sum() > 0.7 * counts.sum()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_pairs(["the text that it was trained on, the text"], 300)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80))
def test_every_text_survives_being_encoded(text: str, tokenizer: Tokenizer):
    made = even([text])
    tokens = encode([Document("any", made)], tokenizer)[0].tokens
    assert b"".join(pieces(tokenizer)[token] for token in tokens) == made.encode()


def test_pieces_are_bytes_and_words_start_tokens():
    tokenizer = byte_pairs((document.text for document in planted(10)), 400)
    entries = pieces(tokenizer)
    assert len(entries) == len(set(entries)) == 400
    assert {bytes([byte]) for byte in range(256)} <= set(entries)
    assert all(b" " not in piece[1:] for piece in entries)
    assert sum(piece.startswith(b" ") for piece in entries) > 40
    item = encode([Document("one", "Café don't, x")], tokenizer)[0]
    assert len(WORD.findall("Café don't, x")) == 4 == int(item.first.sum())


def test_training_the_encoding_twice_gives_the_same():
    texts = [document.text for document in planted(10)]
    assert pieces(byte_pairs(texts, 500)) == pieces(byte_pairs(texts, 500))


def test_tags_are_those_of_the_word_that_holds_the_last_token():
    result = split(Texts(planted(30, tagged=True)), seed=0, length=12, entries=400, pool=300)
    for part in parts(result):
        codes, names = part.tags["part of speech"]
        for text, code in zip(part.texts(), codes.tolist(), strict=True):
            last = re.findall(r"\w+|[.,]", text)[-1]
            assert names[code] == f"{last[0]}-{len(last)}"


def test_labels_are_the_kinds_of_the_documents(planted_splits: Splits):
    pool = parts(planted_splits)[2]
    documents = origins(pool, planted(40))
    assert pool.label_names == ("kind 0", "kind 1", "kind 2", "kind 3")
    for number, label in zip(pool.documents.tolist(), pool.labels.tolist(), strict=True):
        assert documents[number].label == pool.label_names[label]


def test_repeated_paragraphs_are_removed_where_they_stand_again():
    kept, share = without_repeats([Document("a", "x\ny\nx"), Document("b", "y\nz"), Document("c", "x\ny")])
    assert [(item.name, item.text) for item in kept] == [("a", "x\ny"), ("b", "z")]
    assert share == pytest.approx(4 / 7)
    tagged = Document("t", "x y\nx y", tags=("1",) * 4, ends=(1, 3, 5, 7))
    assert without_repeats([tagged, replace(tagged, name="again")])[0] == [tagged]


def test_words_are_joined_as_text_is_written_and_their_ends_are_known():
    words = ["``", "No", "''", ",", "said", "(", "Mr.", "Fox", ")", ",", "I", "do", "n't", "."]
    text, ends = join(words)
    assert text == '"No", said (Mr. Fox), I don\'t.'
    assert [text[:end].endswith(word) for word, end in zip(words[3:], ends[3:], strict=True)] == [True] * 11
    assert ends[-1] == len(text)


# What every installation carries.


def test_every_installation_carries_megabytes_of_english_that_fill_a_pool():
    documentation = embedded()
    kinds = {document.label for document in documentation}
    assert kinds == {"Python topics", "standard library", "NumPy", "SciPy", "scikit-learn"}
    assert sum(len(document.text) for document in documentation) > 5_000_000
    names = [document.name for document in documentation]
    assert len(set(names)) == len(names) > 1000
    assert not any("/tests/" in name or "/test/" in name for name in names)
    assert all(document.text == even(document.text.split("\n")) for document in documentation)
    assert 0.05 < without_repeats(documentation)[1] < 0.4
    result = split(Texts(documentation[::8]), seed=0, pool=1000)  # Python itself carries less in some distributions
    assert (len(result.pool), result.pool.length) == (1000, 24)
    assert result.train.vocabulary.topics.shape == (32, 2048)
    bytes_per_token = result.train.vocabulary.lengths()[result.train.tokens.long()].float().mean()
    assert 2.5 < bytes_per_token < 4.5


def test_docstrings_are_cleaned_by_the_stated_rules():
    text = """Compute the mean of `a` with :func:`numpy.mean`.

    Parameters
    ----------
    a : array
        The values of which the mean is to be found.
    b : array
        The second of them.

    .. math:: \\frac{1}{n} \\sum_i

        a_i in the sum

    An example of it::

        for value in the_values: it is in the code

    >>> mean([1, 2])
    this is the output of it

    alpha, beta, gamma, delta, epsilon, zeta, eta, theta

    a | 3.0 | 4.5 | 7.2 of
    That is the end.
    """
    assert cleaned(text).split("\n") == [
        "Compute the mean of a with numpy.mean.",
        "a : array The values of which the mean is to be found.",
        "b : array The second of them.",
        "An example of it::",
        "That is the end.",
    ]


def test_docstrings_are_found_in_source_files(tmp_path: Path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Module."""\nif True:\n    def one():\n        """One."""\n        x = """not this"""\n'
        'class Two:\n    """Two."""\n    async def three(self):\n        """Three."""\n'
        'add_newdoc("lib", "four", """\nFour.\n""")\nprint("""not\nthis""")\n'
    )
    assert docstrings(path) == ["Module.", "One.", "Two.", "Three.", "Four."]
    path.write_bytes(b'"""caf\xe9"""')
    assert docstrings(path) == []
    path.write_text('"""x"""\nprint "python 2"')
    assert docstrings(path) == []


# The user's files.


def lines(path: Path, rows: list) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


def test_a_text_file_is_split_at_form_feeds_or_into_blocks_of_paragraphs(tmp_path: Path):
    path = tmp_path / "book.txt"
    path.write_text("One   page\nof words.\n\nAnd a line.\fThe second.", "utf-8")
    assert [item.text for item in read(Source(path))] == ["One page of words.\nAnd a line.", "The second."]
    paragraphs = [f"Paragraph {number} " + "of many words " * 20 for number in range(60)]
    path.write_text("\n\n".join(paragraphs), "utf-8-sig")
    result = read(Source(path))
    assert len(result) > 4
    assert all(BLOCK <= len(item.text) < BLOCK + 600 for item in result[:-1])
    assert "\n".join(item.text for item in result) == even(paragraphs)
    path.write_text("\n".join(paragraphs), "utf-8")  # no blank lines: every line is a paragraph
    assert read(Source(path)) == result


def test_every_text_file_of_a_folder_is_a_document(tmp_path: Path):
    for kind, name in (("news", "b"), ("news", "a"), ("tales", "c")):
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / f"{name}.txt").write_text(f"Text {name}", "utf-8")
    (tmp_path / "image.png").write_bytes(b"\0\1")
    assert [(item.name, item.label, item.text) for item in read(Source(tmp_path))] == [
        ("news/a.txt", "news", "Text a"),
        ("news/b.txt", "news", "Text b"),
        ("tales/c.txt", "tales", "Text c"),
    ]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_rows_of_one_document_are_joined(tmp_path: Path, ending: str):
    rows = [{"page": "p", "en": "First.", "genre": "g"}, {"page": "q", "en": "Other.", "genre": "h"}]
    rows.append({"page": "p", "en": "Second\n\nand third.", "genre": "g"})
    path = tmp_path / f"table.{ending}"
    if ending == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        lines(path, rows)
    assert read(Source(path, "en", "page")) == [
        Document("p", "First.\nSecond\nand third.", "g"),
        Document("q", "Other.", "h"),
    ]
    assert [item.text for item in read(Source(path, "en"))] == ["First.", "Other.", "Second\nand third."]


def test_lists_of_words_come_with_their_tags(tmp_path: Path):
    path = tmp_path / "tagged.parquet"
    words, tags = ["The", "Fox", "ran", "."], ["at-tl", "nn-tl-hl", "vbd", "."]
    pl.DataFrame({"document": ["a", "a"], "tokens": [words, words], "tags": [tags, tags]}).write_parquet(path)
    (item,) = read(Source(path))
    assert item.text == "The Fox ran.\nThe Fox ran."
    assert item.tags == ("at", "nn", "vbd", ".") * 2
    assert [item.text[:end].split(" ")[-1] for end in item.ends[:4]] == ["The", "Fox", "ran", "ran."]
    assert item.ends[4:] == tuple(end + 13 for end in item.ends[:4])


def read(source: Source) -> list[Document]:
    return read_texts(source).documents


def wrong(path: Path, message: str, text: str | None = None, document: str | None = None) -> None:
    with pytest.raises(ThalwegError, match=message):
        splits(Source(path, text, document), 0)


def test_a_missing_file_is_named(tmp_path: Path):
    wrong(tmp_path / "nowhere.txt", r"nowhere\.txt: there is no such file")
    wrong(tmp_path, "no file in this folder ends in .txt")


def test_an_empty_file_is_named(tmp_path: Path):
    for name in ("empty.txt", "empty.jsonl"):
        (tmp_path / name).write_text(" \n")
        wrong(tmp_path / name, f"{name}: is empty")
    pl.DataFrame({"text": []}, schema={"text": pl.String}).write_parquet(tmp_path / "empty.parquet")
    wrong(tmp_path / "empty.parquet", "has no rows")


def test_a_binary_file_is_named(tmp_path: Path):
    path = tmp_path / "picture.txt"
    path.write_bytes(b"GIF89a\x10\x00\x10")
    wrong(path, r"picture\.txt: is binary \(a zero at byte 7\)")


def test_a_wrong_encoding_is_named_with_the_byte(tmp_path: Path):
    path = tmp_path / "latin.txt"
    path.write_bytes("un\nun café noir".encode("latin-1"))
    wrong(path, r"latin\.txt, line 2: is not UTF-8 \(byte 9 is 0xe9\).*iconv -f WINDOWS-1252 -t UTF-8")


def test_text_in_utf16_is_read_and_said_so(tmp_path: Path):
    path = tmp_path / "wide.txt"
    for encoding in ("utf-16", "utf-32"):
        path.write_bytes("un café noir\r\n\r\net du thé".encode(encoding))
        result = read_texts(Source(path))
        assert [item.text for item in result.documents] == ["un café noir\net du thé"]
        assert f"read as {encoding.upper()}" in result.note
    path.write_bytes("un café".encode("utf-16")[:-1])
    wrong(path, r"wide\.txt: is UTF-16 by its first bytes, but damaged at byte 14")


def test_what_holds_text_in_another_form_is_named_with_the_way_to_it(tmp_path: Path):
    for ending, compressed, advice in (("gz", gzip.compress(b"text"), "gunzip"), ("pdf", b"%PDF-1.7\n", "pdftotext")):
        path = tmp_path / f"corpus.txt.{ending}"
        path.write_bytes(compressed)
        wrong(path, rf"corpus\.txt\.{ending}: is .* not text; .*: {advice} .*corpus")


def test_no_device_or_pipe_is_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.txt")
    wrong(tmp_path / "pipe.txt", "is neither a file nor a folder")
    wrong(tmp_path / ("long" * 100), "is no path that can be read")


def test_control_characters_become_spaces_and_are_counted(tmp_path: Path):
    path = tmp_path / "bell.txt"
    path.write_bytes(b"a\x07b\x1b[0m c")
    result = read_texts(Source(path))
    assert result.documents[0].text == "a b [0m c"
    assert "2 control characters became spaces" in result.note
    result = read_texts(Source(lines(tmp_path / "t.jsonl", ['{"text": "a\\u0000b"}'])))
    assert (result.documents[0].text, "1 control character became spaces" in result.note) == ("a b", True)


def test_hidden_and_other_files_of_a_folder_are_counted_and_no_documents(tmp_path: Path):
    for name in ("news/a.TXT", "train/b.txt", ".ipynb_checkpoints/a-checkpoint.txt", "._a.txt", "c.md", "d.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" if name.startswith("._") else f"Text {name}".encode())
    (tmp_path / "empty.txt").touch()
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("Named in Latin-1")
    result = read_texts(Source(tmp_path))
    assert [(item.name, item.label) for item in result.documents] == [
        (r"caf\xe9.txt", tmp_path.name),
        ("news/a.TXT", "news"),
        ("train/b.txt", "text"),  # a part of a data set is no kind
    ]
    assert re.search(r"took 3 documents of \d+ characters, .*; passed over: 2 \.md, 2 hidden.*, 1 empty", result.note)


def test_what_was_taken_is_said_with_the_pool(tmp_path: Path):
    rows = [{"text": document.text, "id": 1} for document in planted(12, words=400)] + [{"text": None}]
    pool = parts(splits(Source(lines(tmp_path / "mine.jsonl", rows)), 0, length=12))[2]
    taken, cut = pool.notes
    assert re.search(r"mine\.jsonl: took 12 documents of [\d,]+ characters, 12 rows, text from column 'text'", taken)
    assert re.search(r"passed over: 1 row without text; columns not read: 'id'", taken)
    assert re.search(rf"from 12 of 12 documents: .* {len(pool)} in the pool; left out: 0\.0% of the paragraphs", cut)


@pytest.mark.parametrize("length", [0, 1, -3, 10**30])
def test_no_window_has_any_length(tmp_path: Path, length: int):
    path = lines(tmp_path / "mine.jsonl", [{"text": document.text} for document in planted(9, words=40)])
    with pytest.raises(ThalwegError, match=r"length is -?\d; at least 2|none of 9 documents holds a window of 10{30} "):
        splits(Source(path), 0, length=length)


def test_a_single_long_line_is_one_document_and_how_to_break_it_is_said(tmp_path: Path):
    (tmp_path / "long.txt").write_text("word " * 5000)
    wrong(tmp_path / "long.txt", r"long\.txt: has 1 document .*break long lines, as by: fold -s -w 500 FILE")


def test_too_few_documents_are_counted(tmp_path: Path):
    rows = [{"text": document.text} for document in planted(7)]
    wrong(lines(tmp_path / "few.jsonl", rows), r"has 7 documents .* at least 8 were expected")


def test_one_repeated_paragraph_is_no_corpus(tmp_path: Path):
    path = tmp_path / "again.txt"
    path.write_text("\n\n".join(["The same paragraph over and over again."] * 4000), "utf-8")
    wrong(path, r"has 1 document when repeated paragraphs are removed \(100% of all\)")


def test_windows_longer_than_documents_are_an_error(tmp_path: Path):
    rows = [{"text": f"Only {number} words."} for number in range(40)]
    wrong(lines(tmp_path / "short.jsonl", rows), r"window of 24 tokens.*longest document has \d+ tokens")
    with pytest.raises(ThalwegError, match=r"length is 1, entries 200"):
        split(Texts(planted(10)), seed=0, length=1, entries=200)


def test_a_missing_column_is_named_with_those_near_it(tmp_path: Path):
    path = lines(tmp_path / "t.jsonl", [{"texts": "x", "page": 1}])
    wrong(path, r"t\.jsonl: no column is called 'text'; did you mean 'texts'\?.*--text-column")
    wrong(path, r"no column is called 'pages'; did you mean 'page'\?.*--document-column", "texts", "pages")
    pl.DataFrame({"body": ["x"]}).write_parquet(tmp_path / "t.parquet")
    wrong(tmp_path / "t.parquet", r"no column is called 'text'; there are: body")
    (tmp_path / "plain.txt").write_text("text")
    wrong(tmp_path / "plain.txt", r"column 'body' was named, but only files that end in \.parquet", "body")


def test_a_column_of_another_type_is_named_with_what_it_holds(tmp_path: Path):
    pl.DataFrame({"text": [3, 4]}).write_parquet(tmp_path / "t.parquet")
    wrong(tmp_path / "t.parquet", r"row 1: column 'text' holds int 3; text or a list of words was expected")
    pl.DataFrame({"tokens": [[5, 6]]}).write_parquet(tmp_path / "t.parquet")
    wrong(tmp_path / "t.parquet", r"row 1: column 'tokens' holds a list with int 5")
    path = lines(tmp_path / "t.jsonl", [{"text": "x"}, {"text": {"a": 1}}])
    wrong(path, r"line 2: column 'text' holds dict")
    wrong(lines(path, ['{"text": "\\ud800"}']), r"line 1: column 'text' holds half a surrogate pair")
    wrong(lines(path, [{"text": "x", "document": None}]), r"line 1: column 'document' is empty")
    wrong(lines(path, [{"tokens": ["a", "b"], "tags": ["x"]}]), r"line 1: has 2 words but 1 tags")


def test_damage_is_named_with_its_line(tmp_path: Path):
    path = lines(tmp_path / "t.jsonl", [{"text": "x"}, '{"text": "y', {"text": "z"}])
    wrong(path, r"t\.jsonl, line 2: is not JSON \(.*\); one object a line, an array of objects")
    wrong(lines(path, [{"text": "x"}, "[1, 2]"]), r"line 2: holds a list; an object or a string was expected")
    pl.DataFrame({"text": ["a" * 500]}).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-40])
    wrong(tmp_path / "t.parquet", r"t\.parquet: cannot be read as Parquet")


def test_a_users_file_becomes_windows(tmp_path: Path):
    rows = [{"text": document.text, "label": document.label} for document in planted(40)]
    path = lines(tmp_path / "mine.jsonl", rows)
    item, again, other = splits(Source(path), 0), splits(Source(path), 0), splits(Source(path), 1)
    assert item.content_hash() == again.content_hash() != other.content_hash()
    assert item.pool.label_names == ("kind 0", "kind 1", "kind 2", "kind 3")
    assert item.pool.length == 24
    assert len(splits(Source(path), 0, length=10).pool) > len(item.pool)
