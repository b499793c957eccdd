"""From a user's file to documents: texts that stand for themselves, each with its kind and perhaps its words' tags.

A plain text file is UTF-8. Its documents are what form feeds separate or, where there are none, blocks of consecutive
paragraphs of at least 3,000 characters together. Paragraphs are what blank lines separate or, where there are none, the
lines. In a folder, every file that ends in `.txt` is a document, of the kind that the name of its folder says.

A table (`.parquet`, or one JSON object a line in `.jsonl`, `.ndjson` or `.json`) has a column of texts, `text` unless
another is named, or of lists of words, `tokens`. Rows with the same value in the document column (`document`, if there
is one) are one document; without such a column, each row is. `genre` or `label` say a document's kind. Lists of words
may come with lists of as many `tags`.

Whitespace is made even: within a paragraph one space, between paragraphs one line break. Lists of words are joined as
text is written: no space before closing punctuation or after opening, and the quotes `` and '' become ".
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, unknown
from thalweg.stimuli import Source

BLOCK = 3000  # characters, at least: about forty windows of 24 tokens
KIND = "text"  # where nothing says what kind a document is
TABLES = (".parquet", ".jsonl", ".ndjson", ".json")
TEXT, TOKENS, TAGS, DOCUMENT = "text", "tokens", "tags", "document"
KINDS = ("genre", "label")
CLOSING = re.compile(r"[.,;:?!)\]}%]+|''|'(?:s|re|ve|d|m|ll|t)?|n't", re.IGNORECASE)
OPENING = re.compile(r"``|[(\[{$]")
QUOTES = {"``": '"', "''": '"'}
MANNER = re.compile(r"(-(tl|hl|nc))+$")  # Brown's tags say so where a word is in a title or a headline, or is cited
WIDE = (b"\xff\xfe", b"\xfe\xff")  # how files in UTF-16 begin


@dataclass(frozen=True)
class Document:
    """A text with its name and kind.

    Where its words are tagged, `tags` has the tag of each and `ends` the place after its last character.
    """

    name: str
    text: str
    label: str = KIND
    tags: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """What a row of a table holds: text or words, of a document and kind, perhaps with the words' tags."""

    document: str
    content: str | list[str]
    label: str
    tags: list[str] | None


def read(source: Source) -> list[Document]:
    """The documents of a user's file or folder.

    Raises:
        ThalwegError: nothing there, empty, binary, not UTF-8 (with the byte's place), damaged (with the line), or
        without a column of the name and type that were expected.
    """
    if source.path is None:
        raise ThalwegError("no file was named; name one with --data FILE")
    path = Path(source.path)
    if not path.exists():
        raise ThalwegError(f"{path}: there is no such file or folder; a text, Parquet or JSON-lines file was expected")
    if path.suffix.lower() in TABLES and path.is_file():
        return _from_rows(_rows(path, source))
    if source.text or source.document:
        raise ThalwegError(
            f"{path}: column {source.text or source.document!r} was named, but only files that end in "
            f"{', '.join(TABLES)} have columns"
        )
    return _from_folder(path) if path.is_dir() else _from_text(path)


def without_repeats(documents: Iterable[Document]) -> tuple[list[Document], float]:
    """The documents with each paragraph only where it stands first, and the share of paragraphs that were repeats.

    A tagged document stays whole, or goes if another has the same text. Documents of which nothing is left go.
    """
    seen: set[str] = set()
    kept, paragraphs, repeats = [], 0, 0
    for document in documents:
        parts = [document.text] if document.tags else document.text.split("\n")
        fresh = []
        for part in parts:
            if part not in seen:
                seen.add(part)
                fresh.append(part)
        paragraphs += len(parts)
        repeats += len(parts) - len(fresh)
        if any(fresh):
            kept.append(replace(document, text="\n".join(fresh)))
    return kept, repeats / max(1, paragraphs)


def even(paragraphs: Iterable[str]) -> str:
    """Paragraphs as one text: one space for whitespace within them, one line break between them."""
    return "\n".join(part for part in (" ".join(paragraph.split()) for paragraph in paragraphs) if part)


def join(words: Sequence[str]) -> tuple[str, list[int]]:
    """Words joined as text is written, and for each the place after its last character."""
    parts: list[str] = []
    ends: list[int] = []
    place, tight = 0, True
    for word in words:
        shown = QUOTES.get(word, " ".join(word.split()))
        if shown:
            parts.append(shown if tight or CLOSING.fullmatch(word) else f" {shown}")
            place += len(parts[-1])
            tight = OPENING.fullmatch(word) is not None
        ends.append(place)
    return "".join(parts), ends


def decoded(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        ThalwegError: unreadable, empty, binary (it holds zero bytes), or in another encoding; says at which byte.
    """
    try:
        content = path.read_bytes()
    except OSError as damage:
        raise ThalwegError(f"{path}: cannot be read ({damage.strerror})") from damage
    if not content.strip():
        raise ThalwegError(f"{path}: is empty; text was expected")
    if content.startswith(WIDE):
        raise ThalwegError(f"{path}: is UTF-16, not UTF-8 (its mark is at byte 0); save the file as UTF-8")
    if b"\0" in content:
        raise ThalwegError(
            f"{path}: is binary (a zero at byte {content.index(0)}); text in UTF-8 or a name that ends in "
            f"{', '.join(TABLES)} was expected"
        )
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as wrong:
        raise ThalwegError(
            f"{path}: is not UTF-8 (byte {wrong.start} is 0x{content[wrong.start]:02x}), but perhaps Latin-1 or "
            "Windows-1252; save the file as UTF-8"
        ) from wrong


def _from_folder(folder: Path) -> list[Document]:
    paths = sorted(path for path in folder.rglob("*.txt") if path.is_file())
    if not paths:
        raise ThalwegError(f"{folder}: no file in this folder ends in .txt; a text file for each document was expected")
    return [
        Document(path.relative_to(folder).as_posix(), even(_paragraphs(decoded(path))), path.parent.name)
        for path in paths
    ]


def _from_text(path: Path) -> list[Document]:
    text = decoded(path)
    texts = [even(_paragraphs(page)) for page in text.split("\f")] if "\f" in text else _blocks(_paragraphs(text))
    return [Document(f"{path.name}, part {number}", part) for number, part in enumerate(texts, 1)]


def _paragraphs(text: str) -> list[str]:
    parts = re.split(r"\n\s*\n", text.strip())
    return parts if len(parts) > 1 else text.splitlines()


def _blocks(paragraphs: Iterable[str]) -> Iterator[str]:
    """As many consecutive paragraphs as make a block; what is left at the end is one of its own."""
    block: list[str] = []
    size = 0
    for paragraph in paragraphs:
        block.append(paragraph)
        size += len(paragraph)
        if size >= BLOCK:
            yield even(block)
            block, size = [], 0
    if block:
        yield even(block)


def _rows(path: Path, source: Source) -> list[Row]:
    wanted = {source.text, source.document, TEXT, TOKENS, TAGS, DOCUMENT, *KINDS}
    columns, rows = _parquet(path, wanted) if path.suffix.lower() == ".parquet" else _json_lines(path)
    text = source.text or (TOKENS if TEXT not in columns and TOKENS in columns else TEXT)
    document = source.document or (DOCUMENT if DOCUMENT in columns and text != DOCUMENT else None)
    for role, name in (("text", text), ("document", document)):
        if name is not None and name not in columns:
            raise ThalwegError(f"{path}: {unknown('column', name, columns)}; name the right one with --{role}-column")
    kind = next((name for name in KINDS if name in columns and name not in (text, document)), None)
    return [_row(path, place, row, text, document, kind) for place, row in rows]


def _row(path: Path, place: str, row: dict[str, Any], text: str, document: str | None, kind: str | None) -> Row:
    content = row.get(text)
    if content is None:
        content = ""
    wrong = _wrong(content)
    if wrong:
        raise ThalwegError(f"{path}, {place}: column {text!r} holds {wrong}; text or a list of words was expected")
    tags = row.get(TAGS) if isinstance(content, list) else None
    if tags is not None and (not isinstance(tags, list) or len(tags) != len(content)):
        count = len(tags) if isinstance(tags, list) else 1
        raise ThalwegError(f"{path}, {place}: has {len(content)} words but {count} tags; one for each was expected")
    if document and row.get(document) is None:
        raise ThalwegError(f"{path}, {place}: column {document!r} is empty; the name of a document was expected")
    return Row(
        document=str(row[document]) if document else place,
        content=content,
        label=KIND if kind is None or row.get(kind) is None else str(row[kind]),
        tags=None if tags is None else [MANNER.sub("", str(tag)) for tag in tags],
    )


def _wrong(content: Any) -> str:
    """What is wrong with what should be text or a list of words, if anything is."""
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, str):
            return f"{'a list with ' if isinstance(content, list) else ''}{type(part).__name__} {part!r:.40}"
        if not part.isascii() and any(0xD800 <= ord(character) < 0xE000 for character in part):
            return "half a surrogate pair, which is no character"
    return ""


Table = tuple[Sequence[str], Sequence[tuple[str, dict[str, Any]]]]  # columns, and rows with their places


def _parquet(path: Path, wanted: set[str | None]) -> Table:
    try:
        columns = list(pl.read_parquet_schema(path))
        table = pl.read_parquet(path, columns=[column for column in columns if column in wanted])
    except (pl.exceptions.PolarsError, OSError) as damage:
        reason = next(iter(str(damage).splitlines()), "damaged")
        raise ThalwegError(f"{path}: cannot be read as Parquet ({reason})") from damage
    rows = [(f"row {number}", row) for number, row in enumerate(table.iter_rows(named=True), 1)]
    if not rows and table.width:
        raise ThalwegError(f"{path}: has no rows; texts were expected")
    return columns, rows


def _json_lines(path: Path) -> Table:
    rows = []
    for number, line in enumerate(decoded(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as damage:
            raise ThalwegError(
                f"{path}, line {number}: is not JSON ({damage}); one object a line was expected"
            ) from damage
        if not isinstance(row, dict):
            raise ThalwegError(f"{path}, line {number}: holds a {type(row).__name__}; one JSON object was expected")
        rows.append((f"line {number}", row))
    return list(dict.fromkeys(column for _, row in rows for column in row)), rows


def _from_rows(rows: Iterable[Row]) -> list[Document]:
    """Documents in the order of their first rows, each of the kind that its first row says."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(row.document, []).append(row)
    return [_document(name, mine) for name, mine in members.items()]


def _document(name: str, rows: Sequence[Row]) -> Document:
    if any(row.tags is None for row in rows):
        texts = [row.content if isinstance(row.content, str) else join(row.content)[0] for row in rows]
        return Document(name, even(part for text in texts for part in _paragraphs(text)), rows[0].label)
    lines, ends, before = [], [], 0
    for row in rows:
        line, places = join(row.content)
        lines.append(line)
        ends += [before + place for place in places]
        before += len(line) + 1  # the line break
    return Document(
        name, "\n".join(lines), rows[0].label, tuple(tag for row in rows for tag in row.tags or ()), tuple(ends)
    )
