"""Pictures in a Parquet file, as Hugging Face's `datasets` stores them: a column of structs with `bytes` and `path`.

Where `bytes` is missing, `path` names a file, relative to the Parquet file and below its folder; no other file of the
machine is opened. A column of plain bytes is read too. Where several columns may hold the pictures, a usual name
decides, or the user.

The class is the column `label`: numbers, whose names the schema's metadata gives (`ClassLabel`) or a column `name`
beside them, or texts. Without such a column it is the only one that the metadata declares or that has a usual name, or
else `name` itself. Where several fit, none is taken, and a line says so.

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

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.files import parquet as parquet_files
from thalweg.stimuli.folders import regular_bytes

SLICE = 16 << 20  # bytes read at once, about
LABEL, NAME = "label", "name"
NO_LABELS = "none"  # what stands for a column of classes where there is none to be taken
PICTURES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")  # usual names, the first that is there
CLASSES = ("labels", "class", "class_label", "fine_label", "coarse_label", "target", "category", "cls", "class_id")
Entry = tuple[bytes | None, str | None]  # the bytes of a picture, the path of its file
Labels = tuple[int | str | None, ...]


@dataclass(frozen=True)
class Table:
    """A Parquet file with pictures: the column they are in, how many, and what it says of their classes.

    `label` is the column of the classes, `undecided` those of which one may be meant, and `unused` all the other ones.
    """

    file: str
    column: str
    rows: int
    labels: Labels  # none where there are no classes
    names: dict[int, str]  # of the numbers among these
    label: str | None = None
    undecided: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def read_table(path: Path, *, image: str | None = None, label: str | None = None) -> Table:
    """What a Parquet file with pictures holds, without the pictures; a user may name the columns.

    Raises:
        ThalwegError: damaged, or without a column of pictures or of classes that can be used; says which columns there
            are.
    """
    _step.cache_clear()
    _slice.cache_clear()  # the file may be another than when it was last read
    schema = parquet_files.schema(path)
    column = _pictures(path, schema, image)
    declared = _declared(path)
    taken, undecided = _label_column(
        path, {name: kind for name, kind in schema.items() if name != column}, declared, label
    )
    beside = NAME if NAME in schema and taken not in (None, NAME) and schema[NAME] == pl.String else None
    labels: Labels = ()
    names: dict[int, str] = {}
    if taken:
        frame = parquet_files.columns(path, [taken, *([beside] if beside else [])])
        labels = _labels(path, frame[taken])
        names = declared.get(taken) or (_names(frame, taken, beside) if beside else {})
    used = {column, taken, *undecided, *([beside] if names and taken not in declared else [])}
    unused = tuple(name for name in schema if name not in used)
    return Table(str(path), column, parquet_files.row_count(path), labels, names, taken, undecided, unused)


def _pictures(path: Path, schema: Mapping[str, Any], named: str | None) -> str:
    """The column that holds pictures.

    Raises:
        ThalwegError: there is none, or several and none has a usual name, or the named one does not hold any.
    """
    shown = ", ".join(f"{name} ({kind})" for name, kind in schema.items())
    expected = "structs with 'bytes' and 'path', or bytes, were expected"
    if named is not None:
        _must_be_there(path, named, schema, "image")
        if not _holds_pictures(schema[named]):
            raise ThalwegError(f"{readable(path)}: column {named!r} holds {schema[named]}; {expected}")
        return named
    able = [name for name, kind in schema.items() if _holds_pictures(kind)]
    structs = [name for name in able if isinstance(schema[name], pl.Struct)]
    candidates = structs or able
    usual = [name for known in PICTURES for name in candidates if name.lower() == known]
    if usual or len(candidates) == 1:
        return (usual or candidates)[0]
    if candidates:
        raise ThalwegError(
            f"{readable(path)}: {' and '.join(map(repr, candidates))} may each be the column of images; name the right "
            "one with --image-column"
        )
    raise ThalwegError(f"{readable(path)}: has no column of images; {expected}, and there are: {shown}")


def _holds_pictures(kind: Any) -> bool:
    fields = {field.name: field.dtype for field in kind.fields} if isinstance(kind, pl.Struct) else {}
    return bool(kind == pl.Binary) or fields.get("bytes") in (pl.Binary, pl.Null)


def _must_be_there(path: Path, name: str, schema: Mapping[str, Any], role: str) -> None:
    if name not in schema:
        raise ThalwegError(
            f"{readable(path)}: {unknown('column', name, schema)}; name the right one with --{role}-column"
        )


def _label_column(
    path: Path, schema: Mapping[str, Any], declared: Mapping[str, Any], named: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """The column of the classes, if there is one, and those of which one may be meant."""
    if named is not None and (named != NO_LABELS or NO_LABELS in schema):
        _must_be_there(path, named, schema, "label")
        return named, ()
    if named is not None:
        return None, ()
    if LABEL in schema:
        return LABEL, ()
    candidates = tuple(name for name in schema if name in declared or name.lower() in (LABEL, *CLASSES))
    if len(candidates) == 1:
        return candidates[0], ()
    return (NAME if NAME in schema and not candidates else None), candidates


def _labels(path: Path, column: pl.Series) -> Labels:
    """The classes as whole numbers or texts.

    Raises:
        ThalwegError: the column holds neither; names it and the first row that is wrong.
    """
    kind = column.dtype
    if kind.is_float():  # so pandas writes whole numbers of which one was missing
        broken = (column.is_not_null() & (column.is_nan() | (column != column.round()))).arg_true()
        if len(broken):
            raise _no_classes(path, column, int(broken[0]))
        return tuple(None if value is None else int(value) for value in column.to_list())
    if kind.is_integer() or kind == pl.Null:
        return tuple(column.to_list())
    if kind in (pl.String, pl.Boolean) or isinstance(kind, pl.Categorical | pl.Enum):
        return tuple(column.cast(pl.String).to_list())
    raise _no_classes(path, column, int((column.is_not_null().arg_true().to_list() or [0])[0]))


def _no_classes(path: Path, column: pl.Series, row: int) -> ThalwegError:
    value = repr(column.slice(row, 1).to_list()[0])
    return ThalwegError(
        f"{readable(path)}, row {row + 1}: column {column.name!r} ({column.dtype}) holds {value[:60]}; a class as a "
        f"whole number or as text was expected; name another with --label-column, or {NO_LABELS!r} for no classes"
    )


def _names(frame: pl.DataFrame, label: str, name: str) -> dict[int, str]:
    """The names beside numbers of classes, where each number has one."""
    if not frame[label].dtype.is_integer():
        return {}
    pairs = frame.drop_nulls().unique([label, name], maintain_order=True)
    return {} if pairs[label].is_duplicated().any() else dict(pairs.select(label, name).iter_rows())


def _declared(path: Path) -> dict[str, dict[int, str]]:
    """The columns of classes that the schema's metadata declares, with the names of their classes."""
    try:
        with parquet_files.parquet(path):
            metadata = pl.read_parquet_metadata(path)
        features = json.loads(metadata.get("huggingface", "{}"))["info"]["features"]
        return {
            str(column): dict(enumerate(map(str, feature["names"])))
            for column, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return {}


def entries(table: Table) -> Iterator[Entry]:
    """What the file holds of each picture, in order.

    Raises:
        ThalwegError: the column is damaged.
    """
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
    return max(1, SLICE * parquet_files.row_count(file) // max(1, Path(file).stat().st_size))


@lru_cache(maxsize=2)
def _slice(file: str, column: str, start: int) -> Sequence[Entry]:
    cells = parquet_files.rows(file, [column], start, _step(file))[column]
    if not isinstance(cells.dtype, pl.Struct):
        return [(content, None) for content in cells.to_list()]
    kinds = {field.name: field.dtype for field in cells.dtype.fields}
    paths = cells.struct.field("path").to_list() if kinds.get("path") == pl.String else [None] * len(cells)
    return list(zip(cells.struct.field("bytes").to_list(), paths, strict=True))


def picture_bytes(entry: Entry, file: str) -> bytes:
    """The bytes of a picture of a Parquet file, from the file below its folder that its path names where it holds none.

    Raises:
        OSError: that file cannot be read.
        ValueError: neither bytes nor path, or a path that leads elsewhere or to no regular file.
    """
    content, path = entry
    if content is not None:
        return content
    if not path:
        raise ValueError("has neither bytes nor a path")
    folder = Path(file).parent.resolve()
    try:
        target = (folder / path).resolve()
    except (ValueError, RuntimeError) as wrong:  # a zero within, links in a circle
        raise ValueError(f"has a path that leads nowhere ({path[:60]!r})") from wrong
    if not target.is_relative_to(folder):
        raise ValueError(
            f"has the path {path[:200]!r}, which is not below the folder of the table; nothing else is opened: put the "
            "pictures themselves there (of links, as in a hub's cache, `cp -rL` makes files)"
        )
    return regular_bytes(target)
