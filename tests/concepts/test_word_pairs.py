"""Words of two languages: how pairs are read and cleaned, and the command that measures them in a model."""

import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch

import thalweg
from support.examples import run_example
from support.letters import MODEL
from thalweg import ThalwegError
from thalweg.concepts.words import emoji_pairs, likeness, table_pairs, two_columns
from thalweg.pipeline.word_pairs import concept_pairs, measure_concepts

SUBJECT = (
    MODEL
    + """layers = tuple(thalweg.Layer(f"blocks.{block}.residual", "last", unit_axis=2) for block in (0, 1))
subject = thalweg.Subject("mine", load, layers, load, modality="text", weights="seed 0", tokenizer=tokenizer)
unfinished = thalweg.Subject("unfinished", load, layers, modality="text", tokenizer=object)
failing = thalweg.Subject("failing", load, layers, modality="text", tokenizer=lambda: 1 / 0)
"""
)
PAIRS = """english,french
cheese,fromage
melon,melon
tomato,tomate
apple,pomme
house,maison
,vide
dog,chien
dog,chienne
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of letters, pairs of words, and aligned texts."""
    (tmp_path / "mine.py").write_text(SUBJECT)
    (tmp_path / "pairs.csv").write_text(PAIRS)
    texts = [f"the {number} dogs,les {number} chiens" for number in range(9)]
    (tmp_path / "parallel.csv").write_text("\n".join(["en,fr", *texts]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pairs_are_cleaned_and_sorted_by_how_alike_they_look(folder: Path):
    words = table_pairs(Path("pairs.csv"))
    assert words.names == ("english", "french")
    assert dict(zip(words.pairs, words.kinds, strict=True)) == {
        ("cheese", "fromage"): "distinct",
        ("melon", "melon"): "identical",
        ("tomato", "tomate"): "cognate",
        ("apple", "pomme"): "distinct",
        ("house", "maison"): "distinct",
        ("dog", "chien"): "distinct",
    }
    assert words.left_out == (
        ("", "vide", "a word is missing"),
        ("dog", "chienne", "a word stands in an earlier pair"),
    )
    assert table_pairs(Path("pairs.csv"), "french, english").pairs[0] == ("fromage", "cheese")


def test_names_of_emojis_are_kept_where_both_are_one_word(monkeypatch: pytest.MonkeyPatch):
    names = [
        ("dog", "chien"),
        ("cheese_wedge", "part_de_fromage"),
        ("cat", "chat"),
        ("cat", "matou"),
        ("sun", "soleil"),
    ]
    entries = {
        str(n): {"status": 2, "en": f":{a}:", "fr": f":{b}:"} for n, (a, b) in enumerate([*names, ("car", "auto")])
    }
    entries["other"] = {"status": 3, "en": ":moon:", "fr": ":lune:"}
    package = SimpleNamespace(
        LANGUAGES=["en", "fr"],
        EMOJI_DATA=entries,
        STATUS={"fully_qualified": 2},
        config=SimpleNamespace(load_language=lambda language: None),
    )
    monkeypatch.setitem(sys.modules, "emoji", package)
    words = emoji_pairs("fr")
    assert words.pairs == (("dog", "chien"), ("cat", "chat"), ("sun", "soleil"), ("car", "auto"))
    assert {reason for *_, reason in words.left_out} == {
        "a name is not one word of letters",
        "a word stands in an earlier pair",
    }
    with pytest.raises(ThalwegError, match="no language of emojis is called 'frr'; did you mean 'fr'"):
        emoji_pairs("frr")


def test_the_command_measures_words_and_texts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    words = [
        "thalweg",
        "concepts",
        "mine.py:subject",
        "--pairs",
        "pairs.csv",
        "--text",
        "parallel.csv",
        "--out",
        "made",
    ]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as end:
        thalweg.cli.main()
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    assert "6 pairs of words (4 distinct, 1 identical, 1 cognate); left out, 1: a word is missing" in shown.out
    table = pl.read_parquet(folder / "made/concepts.parquet")
    assert set(table["languages"]) == {"english-french", "text"}
    assert set(table["control"]) == {"trained", "untrained", "shuffled"}
    assert set(table["layer"]) == {"blocks.0.residual", "blocks.1.residual", ""}
    assert {"retrieval", "cka", "overlap", "shared_units", "patch", "patch_within"} <= set(table["measure"])
    pairs = pl.read_parquet(folder / "made/pairs.parquet")
    assert pairs.filter(second="chienne")["left_out"].item() == "a word stands in an earlier pair"
    assert pairs.filter(first="melon")["kind"].item() == "identical"


def test_it_is_said_which_columns_are_taken(folder: Path):
    (folder / "more.csv").write_text("id;a;b\n" + "".join(f"{n};x{n};y{n}\n" for n in range(4)))
    words = table_pairs(Path("more.csv"))
    assert words.note == "more.csv: values separated by semicolons; took columns 'a' and 'b', not used: 'id'"
    assert words.pairs[0] == ("x0", "y0")
    assert table_pairs(Path("pairs.csv")).note == "pairs.csv: took columns 'english' and 'french'"


def test_a_choice_of_columns_is_asked_for(folder: Path):
    rows = {"de": ["Käse"] * 4, "id": [1, 2, 3, 4], "en": list("abcd"), "fr": list("efgh")}
    pl.DataFrame(rows).write_parquet(folder / "texts.parquet")
    message = r"texts.parquet: has 4 columns \(de, id, en, fr\), 3 of them with text; .* as --text-column en,fr"
    with pytest.raises(ThalwegError, match=message):
        measure_concepts("mine.py:subject", "pairs.csv", text="texts.parquet")
    taken = two_columns(folder / "texts.parquet", "fr,en")
    assert (taken.names, taken.rows[0]) == (("fr", "en"), ("e", "a"))
    assert taken.note.endswith("texts.parquet: took columns 'fr' and 'en', not used: 'de', 'id'")


def test_a_pair_is_not_found_by_what_stands_before_it():
    words = [(chr(65 + number), chr(65 + number)) for number in range(40)]  # spelt alike, as many names of emojis are
    pairs = concept_pairs(lambda text: list(map(ord, text)), words, seed=3)
    first, second = pairs.tokens[:, :, 0]
    assert torch.equal(first[:, -1], second[:, -1])  # the words themselves
    alike = (first[:, :-1] == second[:, :-1]).all(1)
    assert alike.sum() <= 2
    assert (first[:, 0] == second[:, 0]).sum() <= 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pairs": "none.csv"}, "none.csv: there is no such file"),
        ({"limit": 3}, "limit is 3; 0 for all pairs, or at least 4"),
        ({"layers": "blocks.9.*"}, r"no layer .*blocks.9"),
        ({"text": "pairs.csv", "pairs": "few.csv"}, "1 pairs of words are left of 1; at least 4"),
        ({"pairs": "one.csv"}, "one.csv: has 1 column; one for each language"),
        ({"pairs": "twice.csv"}, "twice.csv, the first line: has column 'a' twice"),
        (
            {"pairs": "copies.csv"},
            r"copies.csv: 1 pairs .* left of 5 \(4: a word stands in an earlier pair\); at least 4",
        ),
        (
            {"pairs": "nested.json"},
            r"nested.json, row 1: column 'b' holds dict \{'c': 1\}; a word or text was expected",
        ),
        ({"pairs": "long.csv"}, r"cannot be run on .*; these texts have 104 tokens, .* the model has fewer places"),
        ({"pairs": "numbers.csv"}, r"numbers.csv: has 3 columns \(a, b, c\), 1 of them .* as --pairs-column b,c"),
        ({"pairs_column": "english"}, "--pairs-column is 'english'; the names of two columns were expected"),
        ({"pairs": "emoji", "pairs_column": "en,fr"}, "--pairs-column names columns of a table, and --pairs is emoji"),
        ({"text_column": "en,fr"}, "--text-column names columns of aligned texts, and there are none; give --text"),
        ({"text": "parallel.csv", "text_column": "en,de"}, "no column of parallel.csv is called 'de'"),
        ({"text": "few.csv"}, "few.csv: 1 rows have two texts; at least 4"),
        ({"language": "fr"}, "pairs.csv: the languages of a table are its two columns; leave out --language"),
        ({"seed": 1 << 70}, "seed is"),
        ({"out": "survey"}, "survey: this is a run of another kind; choose another --out"),
        (
            {"subject": "mine.py:unfinished"},
            r"function `tokenizer` of subject 'unfinished' returned object; a tokenizers",
        ),
        ({"subject": "mine.py:failing"}, r"function `tokenizer` of subject 'failing' failed with ZeroDivisionError"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, given: dict[str, object], message: str):
    (folder / "few.csv").write_text("a,b\nx,y\n")
    (folder / "numbers.csv").write_text("a,b,c\nx,1,2\n")
    (folder / "one.csv").write_text("a\nx\n")
    (folder / "twice.csv").write_text("a,a\nx,y\n")
    (folder / "copies.csv").write_text("a,b\n" + "x,y\n" * 5)
    (folder / "nested.json").write_text('[{"a": "x", "b": {"c": 1}}]')
    (folder / "long.csv").write_text(PAIRS + "x,".ljust(90, "y"))
    (folder / "survey").mkdir()
    (folder / "survey/settings.json").write_text('{"format": 9, "ladders": ["mine"]}')
    with pytest.raises(ThalwegError, match=message):
        measure_concepts(**({"subject": "mine.py:subject", "pairs": "pairs.csv"} | given))


def test_its_examples_run(folder: Path):
    run_example(thalweg.measure_concepts)
    run_example(likeness)
