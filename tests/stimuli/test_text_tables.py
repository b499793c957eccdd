"""Tables of text as people have them: CSV, JSON and Parquet, whole and damaged."""

import json
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import ThalwegError
from thalweg.stimuli.base import Source
from thalweg.stimuli.documents import Texts, read

ROWS = [
    {"text": 'One, with "quotes"; and marks', "label": "a", "id": 1},
    {"text": "Two\n\nparagraphs\tand a tab", "label": "b", "id": 2},
]
TEXTS = ['One, with "quotes"; and marks', "Two\nparagraphs and a tab"]


def texts(path: Path, **columns: str) -> list[str]:
    return [item.text for item in read(Source(path, **columns)).documents]


def wrong(path: Path, content: str | bytes, message: str, **columns: str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ThalwegError, match=message):
        read(Source(path, **columns))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_is_a_table_whatever_its_separator_and_mark(tmp_path: Path, separator: str, encoding: str):
    path = tmp_path / "mine.csv"
    path.write_bytes(pl.DataFrame(ROWS).write_csv(separator=separator, line_terminator="\r\n").encode(encoding))
    result = read(Source(path))
    assert [(item.text, item.label) for item in result.documents] == list(zip(TEXTS, "ab", strict=True))
    assert "columns not read: 'id'" in result.note
    assert ("read as UTF-16" in result.note) == (encoding == "utf-16")
    assert ("values separated by" in result.note) == (separator != ",")


def test_tsv_and_long_values_and_rows_without_text(tmp_path: Path):
    path = tmp_path / "mine.tsv"
    path.write_text("a, b\ttext\n1\tx y\n\n2\t\n3\t" + "long " * 50_000 + "\n")
    result = read(Source(path))
    assert [len(item.text) for item in result.documents] == [3, 249_999]
    assert "passed over: 1 row without text" in result.note


def test_damaged_csv_is_named_with_its_line(tmp_path: Path):
    path = tmp_path / "mine.csv"
    wrong(path, 'text,label\n"two\nlines",a\nx,b,c\n', r"mine\.csv, line 4: has 3 values separated by commas; 2 were")
    wrong(path, 'text\n"x\ny\n', r"mine\.csv, line 2: is not CSV separated by commas \(unexpected end of data\)")
    wrong(path, "text\nprose, with commas\n", r"line 2: has 2 values .* stands in double quotes")
    wrong(path, "text,label\n", "has no rows")
    wrong(path, "\ufeff", "is empty but for its mark")
    wrong(path, "body,label\nx,y\n", r"no column is called 'text'; there are: body, label.*--text-column")


def test_no_column_whose_name_is_there_twice_is_taken(tmp_path: Path):
    wrong(tmp_path / "t.csv", "text,id,text\nx,1,y\n", r"t\.csv, the first line: has column 'text' twice; rename")
    wrong(tmp_path / "t.jsonl", '{"text": "x"}\n{"text": "y", "text": "z"}', r"line 2: has column 'text' twice")
    wrong(tmp_path / "t.json", '{"text": ["x"], "text": ["y"]}', r"the object of columns: has column 'text' twice")
    (tmp_path / "t.csv").write_text("text,id,id\nx,1,y\n")
    assert texts(tmp_path / "t.csv") == ["x"]  # nobody asks for that column


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_a_table_in_each_of_its_forms(tmp_path: Path, indent: int | None):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    by_row = {name: {str(index): value for index, value in enumerate(values)} for name, values in columns.items()}
    strings = [row["text"] for row in ROWS]
    path = tmp_path / "mine.json"
    for form in (ROWS, columns, by_row, {"version": 1, "data": ROWS}, strings):
        path.write_text(json.dumps(form, indent=indent))
        assert texts(path) == TEXTS, form
    assert "its rows are those of" not in read(Source(path)).note
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, strings)))
    assert texts(tmp_path / "mine.jsonl") == TEXTS


def test_damaged_json_is_named_with_its_line_or_row(tmp_path: Path):
    path = tmp_path / "mine.json"
    wrong(path, '[\n {"text": "x"},\n {"text": "y"\n]', r"mine\.json, line 4: is not JSON \(.*character 1\)")
    wrong(path, '["x", 3]', r"row 2: holds a int; an object or a string was expected")
    wrong(path, '{"text": ["x"], "label": ["a", "b"]}', r"columns of different lengths \('text' 1, 'label' 2\)")
    wrong(path, "3", r"holds int 3; one object a line, an array of objects")
    wrong(path, "[" * 100_000, r"line 1: is not JSON")
    wrong(path, "9" * 5000, r"line 1: is not JSON")
    wrong(path, "[]", "has no rows")
    wrong(path, '[{"text": null}, {"text": " "}]', r"column 'text' is empty in all 2 rows; .*--text-column")
    wrong(path, '[{"text": "1"}, {"text": "2.5"}]', r"column 'text' holds numbers alone, such as '1'; texts")
    wrong(path, '[{"text": "x", "label": "\\ud800"}]', r"row 1: column 'label' holds str")
    wrong(path, '[{"text": "x", "label": ["a"]}]', r"row 1: column 'label' holds list \['a'\]; a name or a number")


def test_the_column_of_kinds_can_be_named(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("text,topic,label\nx,s,1\ny,t,2\n")
    result = read(Source(path, label="topic"))
    assert [item.label for item in result.documents] == ["s", "t"]
    assert "kinds by 'topic'; columns not read: 'label'" in result.note
    assert [item.label for item in read(Source(path, label="none")).documents] == ["text", "text"]
    wrong(path, "text\nx\n", r"no column is called 'topic'; there are: text; .*--label-column", label="topic")


# Anything at all: a file is read, or what is wrong with it is said.


def readable_or_said(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with suppress(ThalwegError):
        assert isinstance(read(Source(path)), Texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


ENDINGS = st.sampled_from(["txt", "csv", "tsv", "json", "jsonl", "parquet"])
SYNTAX = st.lists(st.sampled_from([*'{}[]":,;\n\t0\\', "text", '"text"', "null", "\ufeff", "\0", "é"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(ENDINGS, st.one_of(st.binary(max_size=60), SYNTAX.map(lambda parts: "".join(parts).encode())))
def test_any_bytes_are_read_or_what_is_wrong_is_said(folder: Path, ending: str, content: bytes):
    readable_or_said(folder / f"any.{ending}", content)


CELLS = st.one_of(st.none(), st.text(max_size=5), st.integers(-9, 9), st.booleans(), st.lists(st.text(max_size=3)))


def written(folder: Path, ending: str, rows: list[dict[str, object]]) -> bytes:
    """A table of these rows as the bytes of a file."""
    if ending == "jsonl":
        return "\n".join(map(json.dumps, rows)).encode()
    if ending == "json":
        return json.dumps(rows, indent=1).encode()
    path = folder / "valid"
    flat = [{name: value if ending == "parquet" else str(value) for name, value in row.items()} for row in rows]
    frame = pl.DataFrame(flat)
    (frame.write_parquet if ending == "parquet" else frame.write_csv)(path)
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["csv", "json", "jsonl", "parquet"]))
def test_any_table_whole_cut_or_damaged_is_read_or_what_is_wrong_is_said(
    folder: Path, data: st.DataObject, ending: str
):
    kinds = st.sampled_from([st.text(max_size=5), st.integers(-9, 9), st.lists(st.text(max_size=3), max_size=3)])
    cells = {name: CELLS if ending.startswith("json") else data.draw(kinds) for name in ("text", "label", "document")}
    rows = data.draw(st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=4))
    content = written(folder, ending, rows)
    readable_or_said(folder / f"whole.{ending}", content)
    readable_or_said(folder / f"cut.{ending}", content[: data.draw(st.integers(0, len(content)))])
    index = data.draw(st.integers(0, max(0, len(content) - 1)))
    flipped = content[:index] + bytes([content[index] ^ 1 << data.draw(st.integers(0, 7))]) + content[index + 1 :]
    readable_or_said(folder / f"flipped.{ending}", flipped)
