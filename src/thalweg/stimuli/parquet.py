"""Pictures in a Parquet file, as Hugging Face's `datasets` stores them: a column of structs with `bytes` and `path`.

Where `bytes` is missing, `path` names a file, relative to the Parquet file. A column of bare bytes will do as well. The
class is the column `label`: numbers, whose names the schema's metadata gives (`ClassLabel`) or a column `name` beside
them, or texts; without such a column, `name` itself.

Rows are read a slice at a time and the last slices kept, so images taken in order are read once. Limit: Parquet is read
by row groups, so a slice needs the memory of one row group as it is on disk; what `datasets` writes has hundreds of
rows in each.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError

SLICE = 16 << 20  # bytes read at once, about
LABEL, NAME = "label", "name"
Entry = tuple[bytes | None, str | None]  # the bytes of a picture, the path of its file


@dataclass(frozen=True)
class Table:
    """A Parquet file with pictures: the column they are in, how many, and what it says of their classes."""

    file: str
    column: str
    rows: int
    labels: tuple[int | str | None, ...]  # none where there are no classes
    names: dict[int, str]  # of the numbers among these


def read_table(path: Path) -> Table:
    """What a Parquet file with pictures holds, without the pictures.

    Raises:
        ThalwegError: damaged, or without a column of pictures; says which columns there are.
    """
    _step.cache_clear()
    _slice.cache_clear()  # the file may be another than when it was last read
    try:
        schema = pl.read_parquet_schema(path)
        rows = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        told = {name for name in (LABEL, NAME) if name in schema}
        frame = pl.read_parquet(path, columns=sorted(told)) if told else pl.DataFrame()
    except (pl.exceptions.PolarsError, OSError) as damage:
        raise ThalwegError(f"{path}: cannot be read as Parquet ({_first_line(damage)})") from damage
    labels, names = _labels(path, frame)
    return Table(str(path), _pictures(path, schema), rows, labels, names)


def _pictures(path: Path, schema: Mapping[str, Any]) -> str:
    """The column that holds pictures."""
    for name, kind in schema.items():
        fields = {field.name for field in kind.fields} if isinstance(kind, pl.Struct) else set()
        if kind == pl.Binary or "bytes" in fields:
            return name
    columns = ", ".join(f"{name} ({kind})" for name, kind in schema.items())
    raise ThalwegError(
        f"{path}: has no column of images; one of structs with 'bytes' and 'path' was expected, and there are: "
        f"{columns}"
    )


def _labels(path: Path, frame: pl.DataFrame) -> tuple[tuple[int | str | None, ...], dict[int, str]]:
    if LABEL not in frame.columns:
        return (tuple(frame[NAME].cast(pl.String).to_list()) if NAME in frame.columns else ()), {}
    if not frame[LABEL].dtype.is_integer():
        return tuple(frame[LABEL].cast(pl.String).to_list()), {}
    names = _class_names(path)
    if not names and NAME in frame.columns and frame[NAME].dtype == pl.String:
        names = dict(
            frame.drop_nulls().unique(LABEL, keep="first", maintain_order=True).select(LABEL, NAME).iter_rows()
        )
    return tuple(frame[LABEL].to_list()), names


def _class_names(path: Path) -> dict[int, str]:
    """The names of the classes that the schema's metadata gives."""
    try:
        features = json.loads(pl.read_parquet_metadata(path).get("huggingface", "{}"))["info"]["features"]
        return dict(enumerate(map(str, features[LABEL]["names"])))
    except (KeyError, TypeError, ValueError):
        return {}


def entries(table: Table) -> Iterator[Entry]:
    """What the file holds of each picture, in order."""
    for start in range(0, table.rows, _step(table.file)):
        yield from _slice(table.file, table.column, start)


def entry(file: str, column: str, row: int) -> Entry:
    """What the file holds of one picture.

    Raises:
        ThalwegError: the file cannot be read any more.
    """
    step = _step(file)
    return _slice(file, column, row - row % step)[row % step]


@lru_cache(maxsize=1024)
def _step(file: str) -> int:
    """How many rows are read at once."""
    rows = int(pl.scan_parquet(file).select(pl.len()).collect().item())
    return max(1, SLICE * rows // max(1, Path(file).stat().st_size))


@lru_cache(maxsize=2)
def _slice(file: str, column: str, start: int) -> Sequence[Entry]:
    try:
        found = pl.scan_parquet(file).select(column).slice(start, _step(file)).collect()[column].to_list()
    except (pl.exceptions.PolarsError, OSError) as damage:
        raise ThalwegError(f"{file}: cannot be read as Parquet ({_first_line(damage)})") from damage
    return [_entry(cell) for cell in found]


def _entry(cell: Any) -> Entry:
    return (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)


def picture_bytes(found: Entry, file: str) -> bytes:
    """The bytes of a picture of a Parquet file, from the file beside it that its path names where it holds none.

    Raises:
        OSError: that file cannot be read.
        ValueError: neither bytes nor path.
    """
    content, path = found
    if content is not None:
        return content
    if not path:
        raise ValueError("has neither bytes nor a path")
    return (Path(file).parent / path).read_bytes()


def _first_line(damage: Exception) -> str:
    return next(iter(str(damage).splitlines()), "damaged")[:120]
