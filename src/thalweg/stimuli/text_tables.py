"""Tables of text: Parquet, JSON and CSV, each as columns and rows that know where in the file they stand.

JSON is one object (or one string) a line, an array of objects or of strings, or an object of columns, as pandas writes
it. CSV has a header, and its separator is the one of comma, semicolon, tab and bar that divides the header into most
parts. Reading a column whose name stands there twice is an error.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files import parquet as parquet_files
from thalweg.stimuli.text_files import Decoded, decoded

TEXT = "text"
LINES = (".jsonl", ".ndjson")
ENDINGS = (".parquet", ".json", *LINES, ".csv", ".tsv")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
JSON_FORMS = "one object a line, an array of objects or of strings, or an object of columns was expected"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table: its columns in order, its rows, each with its position in the file in words, and remarks on how it was
    read. `twice` has the names that stand there twice, with the position of the second.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, Row]]
    unusual: tuple[str, ...] = ()
    twice: Mapping[str, str] = field(default_factory=dict)


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its names stood there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts: dict[str, int] = Counter(name for name, _ in pairs) if len(self) < len(pairs) else {}
        self.twice = [name for name, count in counts.items() if count > 1]


_Object.__name__ = "dict"  # as messages name it


def read_table(path: Path, wanted: Sequence[str | None]) -> Table:
    """A table by the ending of its file's name; of Parquet, the columns that are wanted and there.

    Raises:
        ThalwegError: damaged, with the line or row where it can be told; or without rows.
    """
    match path.suffix.lower():
        case ".parquet":
            table = _parquet(path, wanted)
        case ".csv" | ".tsv":
            table = _delimited(path)
        case _:
            table = _json(path)
    if not table.rows:
        raise ThalwegError(f"{readable(path)}: has no rows; texts were expected")
    return table


def _parquet(path: Path, wanted: Sequence[str | None]) -> Table:
    schema = parquet_files.schema(path)
    frame = parquet_files.columns(path, [name for name in schema if name in wanted])
    if not frame.width:  # none of the right name, which is said where the columns are chosen
        return Table(tuple(schema), [("row 1", {})])
    return Table(tuple(schema), _ParquetRows(frame))


@dataclass(frozen=True)
class _ParquetRows(Sequence[tuple[str, Row]]):
    """The rows of a frame, made when they are asked for: all at once as Python's objects they would fill the memory."""

    frame: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, index: Any) -> Any:
        return f"row {index + 1}", self.frame.row(index, named=True)

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        for number, row in enumerate(self.frame.iter_rows(named=True), 1):
            yield f"row {number}", row


def _json(path: Path) -> Table:
    """A JSON file, read line by line if its first line is a whole value, or else as one value."""
    content = decoded(path)
    lines = [(number, line) for number, line in enumerate(content.text.split("\n"), 1) if line.strip()]
    try:
        first = json.loads(lines[0][1])
    except (ValueError, RecursionError):
        first = None
    alone = len(lines) == 1 and path.suffix.lower() not in LINES
    if isinstance(first, (dict, str)) and not (alone and isinstance(first, dict)):
        return _of_objects(
            path, [(f"line {number}", _parsed(path, line, number)) for number, line in lines], content.unusual()
        )
    return _whole(path, _parsed(path, content.text, 1), content)


def _parsed(path: Path, text: str, line: int) -> Any:
    """A JSON value that begins in a line of a file."""
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as damage:
        where = f"line {line + damage.lineno - 1}"
        raise ThalwegError(
            f"{readable(path)}, {where}: is not JSON ({damage.msg} at character {damage.colno}); {JSON_FORMS}"
        ) from damage
    except (ValueError, RecursionError) as damage:  # a number of thousands of digits; brackets in brackets
        raise ThalwegError(f"{readable(path)}, line {line}: is not JSON ({damage}); {JSON_FORMS}") from damage


def _whole(path: Path, value: Any, content: Decoded) -> Table:
    """A file that is one JSON value."""
    unusual = content.unusual()
    twice: dict[str, str] = {}
    if isinstance(value, _Object):
        twice = dict.fromkeys(value.twice, "the object of columns")
        rows = _by_columns(path, value)
        inner = [
            name for name, entry in value.items() if isinstance(entry, list) and isinstance((entry or [0])[0], dict)
        ]
        if rows is None and len(inner) == 1:
            unusual.append(f"its rows are those of {inner[0]!r:.40}")
            rows = value[inner[0]]
        value = [value] if rows is None else rows
    if not isinstance(value, list):
        raise ThalwegError(f"{readable(path)}: holds {type(value).__name__} {value!r:.40}; {JSON_FORMS}")
    table = _of_objects(path, [(f"row {row_name}", entry) for row_name, entry in enumerate(value, 1)], unusual)
    return replace(table, twice={**twice, **table.twice})


def _by_columns(path: Path, value: Mapping[str, Any]) -> list[Row] | None:
    """The rows of an object of columns, each a list or an object by row; nothing where it is another object."""
    columns = {
        name: list(entry.values()) if isinstance(entry, dict) else entry
        for name, entry in value.items()
        if isinstance(entry, (list, dict))
    }
    if (
        not value
        or len(columns) < len(value)
        or all(column and isinstance(column[0], dict) for column in columns.values())
    ):
        return None
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        counts = ", ".join(f"{name!r:.40} {len(column)}" for name, column in list(columns.items())[:8])
        raise ThalwegError(f"{readable(path)}: has columns of different lengths ({counts}); the same were expected")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _of_objects(path: Path, entries: Sequence[tuple[str, Any]], unusual: Sequence[str]) -> Table:
    """A table of JSON objects, a row each; strings are rows of a column `text`."""
    rows: list[tuple[str, Row]] = []
    twice: dict[str, str] = {}
    for row_name, entry in entries:
        if not isinstance(entry, (dict, str)):
            raise ThalwegError(
                f"{readable(path)}, {row_name}: holds a {type(entry).__name__}; an object or a string was expected"
            )
        rows.append((row_name, {TEXT: entry} if isinstance(entry, str) else entry))
        twice |= {name: row_name for name in getattr(entry, "twice", ()) if name not in twice}
    columns = dict.fromkeys(column for _, row in rows for column in row)
    return Table(tuple(columns), rows, tuple(unusual), twice)


def _delimited(path: Path) -> Table:
    """A CSV file: values separated by commas, semicolons, tabs or bars, quoted where they hold the separator."""
    content = decoded(path)
    separator, header = _header(path, content.text)
    columns = [name.strip() for name in header]
    rows: list[tuple[str, Row]] = []
    for row_name, values in _records(path, content.text, separator):
        if len(values) > len(columns) and not any(values[len(columns) :]):
            values = values[: len(columns)]
        if len(values) != len(columns):
            raise ThalwegError(
                f"{readable(path)}, {row_name}: has {len(values)} values separated by {SEPARATORS[separator]}; "
                f"{len(columns)} were expected, as the first line has. A text that holds the separator or a line break "
                'stands in double quotes ("), and a double quote in it is doubled'
            )
        rows.append((row_name, dict(zip(columns, values, strict=True))))
    twice = {name: "the first line" for at, name in enumerate(columns) if name in columns[:at]}
    unusual = content.unusual() + ([] if separator == "," else [f"values separated by {SEPARATORS[separator]}"])
    return Table(tuple(dict.fromkeys(columns)), rows[1:], tuple(unusual), twice)


def _header(path: Path, text: str) -> tuple[str, list[str]]:
    """The separator of a CSV file and the first line's values: of all separators, the one that makes most of them."""
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    columns_of: dict[str, list[str]] = {}
    for separator in sorted(SEPARATORS, key=lambda separator: separator != usual):
        try:
            columns_of[separator] = next(_records(path, text, separator))[1]
        except ThalwegError:
            continue
    if not columns_of:
        next(_records(path, text, usual))  # says what is wrong
    separator = max(columns_of, key=lambda separator: len(columns_of[separator]))
    return separator, columns_of[separator]


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[str, list[str]]]:
    """The records of a CSV file that are not empty, each with the line that it begins in."""
    with _fields_of(len(text)):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        line = 1
        while True:
            try:
                values = next(reader, None)
            except csv.Error as damage:
                raise ThalwegError(
                    f"{readable(path)}, line {line}: is not CSV separated by {SEPARATORS[separator]} ({damage}); a "
                    'value in double quotes (") ends with one, and a double quote in it is doubled'
                ) from damage
            if values is None:
                return
            if values:
                yield f"line {line}", values
            line = reader.line_num + 1


@contextmanager
def _fields_of(characters: int) -> Generator[None]:
    """Let values of CSV be so long for the time being; Python's own limit is 131,072 characters."""
    before = csv.field_size_limit(max(characters + 1, csv.field_size_limit()))
    try:
        yield
    finally:
        csv.field_size_limit(before)
