"""Tables of models as people keep them: CSV from spreadsheets of any country, or Parquet, one row a model.

What a file leaves open is decided by looking at the whole of it: the encoding, the separator, whether a comma is a
decimal mark or groups thousands. Every such choice that is not the plain one (commas, UTF-8, decimal points) becomes a
note, and so does every line that is passed over. Cells stay text until a column of numbers is asked for (`tables`), so
that a cell that is no number can be named by its line.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files import parquet as parquet_files

TEXT = (".csv", ".tsv", ".tab", ".txt", ".dat")
PARQUET = (".parquet", ".pq")
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "spaces"}
SNIFFED = 200  # lines that the separator is chosen by
BINARY = {b"PAR1": "a Parquet file", b"PK\x03\x04": "a spreadsheet or ZIP archive", b"\x1f\x8b": "gzip-compressed"}
SUMMARIES = {"total", "totals", "grand total", "sum", "mean", "average", "avg", "median", "std", "sd"}


@dataclass(frozen=True)
class ModelTable:
    """A table with one row a model, as `read_table` reads it."""

    names: tuple[str, ...]  # of the columns; two may be equal, but none of these can be used
    columns: tuple[Sequence[object], ...]  # text from a CSV file, typed values from Parquet
    source: str  # how messages name it
    lines: tuple[int, ...]  # the number of each row in its file, counted from 1
    noun: str = "row"  # what `lines` counts: lines or rows
    decimals: tuple[str, ...] = ()  # the decimal mark of each column of texts
    notes: tuple[str, ...] = ()  # what was assumed and what was passed over

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """A row as a message names it; rows are counted from 0 here, and from 1 there."""
        return f"{self.noun} {self.lines[row]}"

    def keep(self, rows: Sequence[int]) -> "ModelTable":
        """Only these rows, counted from 0."""
        columns = tuple([column[row] for row in rows] for column in self.columns)
        return replace(self, columns=columns, lines=tuple(self.lines[row] for row in rows))


@dataclass(frozen=True)
class Line:
    """One record of a CSV file."""

    number: int  # of its first line in the file, counted from 1
    fields: list[str]


def read_table(path: str | Path) -> ModelTable:
    """Read a table of models from a CSV or Parquet file.

    Raises:
        ThalwegError: the file is missing, empty, unreadable, ragged, or of another kind.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in {*TEXT, *PARQUET}:
        raise ThalwegError(
            f"{readable(file)} is neither .csv nor .parquet (nor .tsv, .txt); save the table as one of them"
        )
    if not file.is_file():
        what = "is no regular file" if file.exists() else "does not exist"
        raise ThalwegError(f"{readable(file)} {what}; give the path of a table with one row a model")
    table = table_of_frame(parquet_files.columns(file), readable(file)) if kind in PARQUET else _read_csv(file)
    if not len(table):
        raise ThalwegError(f"{table.source} has a header and no rows; it needs one row a model")
    return table


def table_of_frame(frame: pl.DataFrame, source: str = "the table") -> ModelTable:
    """A polars frame as a table of models."""
    return ModelTable(
        tuple(frame.columns),
        tuple(_cells(column) for column in frame.get_columns()),
        source,
        tuple(range(1, len(frame) + 1)),
    )


def _cells(column: pl.Series) -> Sequence[object]:
    """The values of a column as Python's; those of a kind that polars cannot hand out are named by their kind."""
    try:
        return column.to_list()
    # pyrefly: ignore[unreachable-except-clause]  # its types call a panic a PolarsError
    except (ValueError, OverflowError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return [f"a {column.dtype}"] * len(column)


def _read_csv(file: Path) -> ModelTable:
    try:
        content = file.read_bytes()
    except OSError as refused:
        raise ThalwegError(f"{readable(file)} cannot be read ({refused.strerror or refused})") from refused
    source = readable(file)
    for start, what in BINARY.items():
        if content.startswith(start):
            raise ThalwegError(f"{source} is {what}, not text; export it as CSV, or give it the ending that it has")
    text, notes = _decoded(content, source)
    separator, lines, passed = _records(text, source)
    if separator != ",":
        notes.append(f"columns separated by {SEPARATORS[separator]}")
    if passed:
        listed = f"line {passed[0]}" if len(passed) == 1 else f"{len(passed)} lines, the first is line {passed[0]}"
        notes.append(f"what begins with # is passed over as a comment ({listed})")
    header, rows = lines[0], lines[1:]
    names, rows = _fitted(header, rows, source)
    rows = _without_summaries(rows, notes)
    columns = tuple([row.fields[i] for row in rows] for i in range(len(names)))
    decimals = _decimals(columns, separator)
    if "," in decimals:
        notes.append("commas are decimal marks")
    numbers = tuple(row.number for row in rows)
    return ModelTable(names, columns, source, numbers, "line", decimals, tuple(notes))


def _decoded(content: bytes, source: str) -> tuple[str, list[str]]:
    """The text of a file, and a note where it is not UTF-8."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding, name = "utf-16", "UTF-16"
    elif content[1:2] == b"\0" or content[:1] == b"\0":  # UTF-16 without the mark that says so
        encoding, name = ("utf-16-le" if content[1:2] == b"\0" else "utf-16-be"), "UTF-16"
    else:
        encoding, name = "utf-8-sig", ""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as wrong:
        if name:
            raise ThalwegError(
                f"{source} is no text ({wrong.reason} at byte {wrong.start}); save it as UTF-8"
            ) from wrong
        text, name = content.decode("cp1252", errors="replace"), "Windows-1252"
    if "\0" in text:
        raise ThalwegError(
            f"{source} is no text (line {text.count(chr(10), 0, text.find(chr(0))) + 1} holds a null byte)"
        )
    return text, [f"read as {name}"] if name else []


def _records(text: str, source: str) -> tuple[str, list[Line], list[int]]:
    """The separator, the records without blanks and comments, the header first, and the lines of the comments.

    A header may itself stand in a comment, as numpy writes it: the last one before rows that begin with a number, if it
    has as many fields as they.
    """
    separator = ""
    first, _, rest = text.partition("\n")
    if (match := re.fullmatch(r"sep=(.)\r?", first.strip('"'), re.IGNORECASE)) and match[1] in SEPARATORS:
        separator, text = match[1], "\n" + rest  # as spreadsheets write it
    separator = separator or _separator(text)
    lines: list[Line] = []
    comments: list[Line] = []
    for line in _parsed(text, separator, source):
        (comments if line.fields[0].startswith("#") else lines).append(line)
    if not lines:
        raise ThalwegError(f"{source} is empty; it needs a header and one row a model")
    before = [line for line in comments if line.number < lines[0].number]
    if before and any(plain_number(cell) for cell in lines[0].fields):
        fields = [before[-1].fields[0].lstrip("# "), *before[-1].fields[1:]]
        fields = fields if fields[0] else fields[1:]
        if len(fields) == len(lines[0].fields) and not any(plain_number(cell) for cell in fields):
            lines.insert(0, Line(before[-1].number, fields))
            comments.remove(before[-1])
    return separator, lines, [line.number for line in comments]


def _parsed(text: str, separator: str, source: str) -> Iterator[Line]:
    """The records that are not blank, their fields without the spaces around them."""
    text = re.sub(r"[ \t]+", " ", text) if separator == " " else text
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    number = 0
    while True:
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            return
        except csv.Error as wrong:
            raise ThalwegError(f"{source}, line {number + 1}: cannot be read as CSV ({wrong})") from wrong
        start, number = number + 1, reader.line_num
        if separator == " ":  # columns are aligned by spaces, before the first one too
            fields = [field for field in fields if field]
        if any(fields):
            yield Line(start, fields)


def _separator(text: str) -> str:
    """The separator by which most lines have as many fields as the header, more than one; a comma where none does.

    Spaces separate only where nothing else does.
    """
    lines = islice(io.StringIO(text, newline=None), SNIFFED)
    sample = [line.rstrip("\n") for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not sample:
        return ","
    best, most = ",", 0.0
    for separator in SEPARATORS:
        if separator == " " and most > 0:
            break
        try:
            counts = [len(line.fields) for line in _parsed("\n".join(sample), separator, "")]
        except ThalwegError:
            continue
        agree = sum(count in {counts[0], counts[0] + 1} for count in counts) / len(counts) if counts else 0.0
        if counts and counts[0] > 1 and agree > most:
            best, most = separator, agree
    return best


def _fitted(header: Line, rows: list[Line], source: str) -> tuple[tuple[str, ...], list[Line]]:
    """Names and rows of one width: an index that has no name gets one, empty cells beyond the header go.

    Raises:
        ThalwegError: a line has more fields, or fewer, than the header.
    """
    names = list(header.fields)
    while len(names) > 1 and not names[-1] and not any(any(row.fields[len(names) - 1 :]) for row in rows):
        names.pop()
    if rows and names[-1] and all(len(row.fields) == len(names) + 1 and row.fields[-1] for row in rows):
        names = ["", *names]  # as R writes row names
    width = len(names)
    fitted = []
    for row in rows:
        fields = row.fields
        while len(fields) > width and not fields[-1]:
            fields = fields[:-1]
        if len(fields) != width:
            raise ThalwegError(
                f"{source}, line {row.number}: has {_count(len(fields), 'field')} where the header (line "
                f"{header.number}) has {width}; quote a field that holds the separator, begin a remark with #"
            )
        fitted.append(Line(row.number, fields))
    return tuple(name or f"column {i}" for i, name in enumerate(names, start=1)), fitted


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _without_summaries(rows: list[Line], notes: list[str]) -> list[Line]:
    """The rows without those at the end that are called a total or a mean: they are no models."""
    end = len(rows)
    while end > 1 and rows[end - 1].fields[0].lower().rstrip(":") in SUMMARIES:
        end -= 1
    notes += [f"line {row.number} ({row.fields[0]!r}) is passed over as a summary of the others" for row in rows[end:]]
    return rows[:end]


PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}(\1\d{3})*", re.ASCII)  # 1,234 or 1.234.567
SPACED = re.compile(r"(?<=\d)[ '’_\u00a0\u2009\u202f](?=\d{3}(\D|$))", re.ASCII)
ONE_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
WITH_POINT = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d*", re.ASCII)  # 1,234.5
WITH_COMMA = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+", re.ASCII)  # 1.234,5


def plain_number(text: str) -> bool:
    """Whether a text is a number with a decimal point or none."""
    return bool(PLAIN.fullmatch(text))


def _decimals(columns: Sequence[Sequence[str]], separator: str) -> tuple[str, ...]:
    """The decimal mark of each column; one that may have either has that of the others.

    `1,234` may be a decimal or a thousand: it is a decimal where semicolons separate, as spreadsheets write where
    commas are decimal marks, and where another column has decimal commas; a thousand elsewhere. `1.234` is a thousand
    only where another column has decimal commas.
    """
    marks = [decimal_mark(cells) for cells in columns]
    usual = "," if "," in marks else "."
    unsure = {"point?": usual, "comma?": "," if separator == ";" else usual}
    return tuple(unsure.get(mark, mark) for mark in marks)


def decimal_mark(cells: Sequence[str]) -> str:
    """Whether the numbers of a column have decimal points or decimal commas, or may have either (`comma?`, `point?`).

    `0.7`, `1,234.5` and `1,234,567` have points, `0,7`, `1.234,5` and `1,2345` commas; points win where a column has
    both, so that the others are found to be no numbers.
    """
    numbers = [SPACED.sub("", cell) for cell in cells if "," in cell or "." in cell]
    grouped = [text for text in numbers if GROUPED.fullmatch(text)]
    others = [text for text in numbers if not GROUPED.fullmatch(text)]
    if any(PLAIN.fullmatch(text) or WITH_POINT.fullmatch(text) for text in others):
        return "."
    for mark, other in ((",", "."), (".", ",")):
        if any(text.count(mark) > 1 for text in grouped):
            return other
    if any(ONE_COMMA.fullmatch(text) or WITH_COMMA.fullmatch(text) for text in others):
        return ","
    if grouped:
        return "comma?" if any("," in text for text in grouped) else "point?"
    return "."


def number_of(text: str, decimal: str) -> float | None:
    """The number that a text says, with its thousands grouped or not; None if it says none."""
    digits = SPACED.sub("", text.strip().replace("\u2212", "-"))
    other = "," if decimal == "." else "."
    whole, mark, rest = digits.partition(decimal)
    if other in whole and GROUPED.fullmatch(whole) and whole.count(decimal) == 0:
        whole = whole.replace(other, "")
    digits = f"{whole}.{rest}" if mark else whole
    if digits.lower().lstrip("+-") in {"inf", "infinity"}:
        return float(digits)
    return float(digits) if PLAIN.fullmatch(digits) else None
