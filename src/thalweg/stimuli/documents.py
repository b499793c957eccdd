"""From a user's file to documents: texts that stand for themselves, each with its kind and perhaps its words' tags.

A plain text file is UTF-8 (or UTF-16 with its mark). Its documents are what form feeds separate or, where there are
none, blocks of consecutive paragraphs of at least 3,000 characters together. Paragraphs are what blank lines separate
or, where there are none, the lines. In a folder, every file that ends in `.txt` and is not hidden is a document, of the
kind that the name of its folder says.

A table (Parquet, JSON or CSV: see `text_tables`) has a column of texts, `text` unless another is named, or of lists of
words, `tokens`. Rows with the same value in the document column (`document`, if there is one) are one document; without
such a column, each row is. `genre` or `label`, unless another column is named, say a document's kind. Lists of words
may come with lists of as many `tags`. Rows without text are passed over and counted.

Whitespace is made even: within a paragraph one space, between paragraphs one line break. Lists of words are joined as
text is written: no space before closing punctuation or after opening, and the quotes `` and '' become ".
"""

import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.stimuli.base import Source
from thalweg.stimuli.folders import files_below
from thalweg.stimuli.parquet import NO_LABELS
from thalweg.stimuli.text_files import decoded, mode, spaced, without_controls
from thalweg.stimuli.text_tables import ENDINGS, TEXT, Table, read_table

BLOCK = 3000  # characters, at least: about forty windows of 24 tokens
KIND = "text"  # where nothing says what kind a document is
TOKENS, TAGS, DOCUMENT = "tokens", "tags", "document"
KINDS = ("genre", "label")
PLAIN = ".txt"
SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})  # no kinds
NAMED = 8  # columns or endings that a message names, at most
CLOSING = re.compile(r"[.,;:?!)\]}%]+|''|'(?:s|re|ve|d|m|ll|t)?|n't", re.IGNORECASE)
OPENING = re.compile(r"``|[(\[{$]")
QUOTES = {"``": '"', "''": '"'}
MANNER = re.compile(r"(-(tl|hl|nc))+$")  # Brown's tags say so where a word is in a title or a headline, or is cited


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
class Texts:
    """Documents, and in one line what was taken from where, what was passed over and why; errors call them by their
    origin.
    """

    documents: Sequence[Document]
    note: str = ""
    origin: str = "the text"


@dataclass(frozen=True)
class Row:
    """What a row of a table holds: text or words, of a document and kind, perhaps with the words' tags."""

    document: str
    content: str | list[str]
    label: str
    tags: list[str] | None
    controls: int = 0


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold its text, what it belongs to, and its kind."""

    text: str
    document: str | None
    kind: str | None


def read(source: Source) -> Texts:
    """The documents of a user's file or folder.

    Raises:
        ThalwegError: nothing there, empty, binary, in another encoding (with the line and byte), damaged (with the line
        or row), or without a column of the name and type that were expected.
    """
    if source.path is None:
        raise ThalwegError("no file was named; name one with --data FILE")
    path = Path(source.path)
    folder = stat.S_ISDIR(mode(path))
    if path.suffix.lower() in ENDINGS and not folder:
        return _from_table(path, source)
    named = source.text or source.document or source.label
    if named and named != NO_LABELS:
        raise ThalwegError(
            f"{readable(path)}: column {named!r} was named, but only files that end in {', '.join(ENDINGS)} have "
            "columns"
        )
    return _from_folder(path) if folder else _from_text(path)


def _note(path: Path, documents: Sequence[Document], origin: str, *others: str) -> str:
    """A note on what was taken: how many documents, how long, from what, and other remarks."""
    characters = sum(len(document.text) for document in documents)
    taken = f"took {len(documents):,} document{'s' * (len(documents) != 1)} of {characters:,} characters, {origin}"
    return f"{readable(path)}: " + "; ".join([taken, *filter(None, others)])


def _counted(counts: Mapping[str, int]) -> str:
    """Counts by name, the largest first, as '3 of .md, 1 of .csv'."""
    most = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{count:,} {name}" for name, count in most[:NAMED]) + (", others" if len(most) > NAMED else "")


def without_repeats(documents: Iterable[Document]) -> tuple[list[Document], float]:
    """The documents with each paragraph only where it stands first, and the share of paragraphs that were repeats.

    A tagged document stays whole, or goes if another has the same text. Documents of which nothing is left go.
    """
    seen: set[str] = set()
    paragraphs, repeats = 0, 0
    kept: list[Document] = []
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
    """Words joined as text is written, and for each the position after its last character."""
    parts: list[str] = []
    ends: list[int] = []
    end, tight = 0, True
    for word in words:
        shown = QUOTES.get(word, " ".join(word.split()))
        if shown:
            parts.append(shown if tight or CLOSING.fullmatch(word) else f" {shown}")
            end += len(parts[-1])
            tight = OPENING.fullmatch(word) is not None
        ends.append(end)
    return "".join(parts), ends


def _from_folder(folder: Path) -> Texts:
    listing = files_below(folder)
    paths = [path for path in listing.files if path.suffix.lower() == PLAIN]
    others = Counter(path.suffix.lower() or "without an ending" for path in listing.files if path not in set(paths))
    skipped = {**others, **listing.skipped}
    if not paths:
        there = f"; there are: {_counted(skipped)}" if skipped else ""
        tables = ". Name one of its tables instead" if set(others) & set(ENDINGS) else ""
        raise ThalwegError(
            f"{readable(folder)}: no file in this folder ends in {PLAIN}; a text file for each document was expected"
            f"{there}{tables}"
        )
    filled = [path for path in paths if _holds_something(path)]
    if not filled:
        raise ThalwegError(f"{readable(folder)}: all {len(paths):,} text files in this folder are empty")
    contents = [decoded(path) for path in filled]
    documents = [
        Document(readable(path.relative_to(folder)), even(_paragraphs(content.text)), _kind(path, folder))
        for path, content in zip(filled, contents, strict=True)
    ]
    unusual = Counter(remark for content in contents for remark in content.unusual())
    empty = {"empty": len(paths) - len(filled)} if len(paths) > len(filled) else {}
    passed = _counted({**skipped, **empty})
    note = _note(
        folder,
        documents,
        f"a file that ends in {PLAIN} each, kinds by the names of folders",
        f"passed over: {passed}" if passed else "",
        *(f"{count:,} files {remark}" for remark, count in unusual.items()),
    )
    return Texts(documents, note)


def _holds_something(path: Path) -> bool:
    """Whether a file is not empty; one that cannot be read counts as not empty."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return True


def _kind(path: Path, folder: Path) -> str:
    """The kind of a file's text: the name of its folder, unless that is a part of a data set."""
    name = readable((folder.resolve() if path.parent == folder else path.parent).name)
    return KIND if not name or name.lower() in SPLITS else name


def _from_text(path: Path) -> Texts:
    content = decoded(path)
    if "\f" in content.text:
        origin = "separated by form feeds"
        texts = [even(_paragraphs(page)) for page in content.text.split("\f")]
    else:
        origin = f"blocks of paragraphs of at least {BLOCK:,} characters"
        texts = list(_blocks(_paragraphs(content.text)))
    parts = [Document(f"{readable(path.name)}, part {number}", part) for number, part in enumerate(texts, 1)]
    documents = [part for part in parts if part.text]
    return Texts(documents, _note(path, documents, origin, *content.unusual()))


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
            block = []
            size = 0
    if block:
        yield even(block)


def _from_table(path: Path, source: Source) -> Texts:
    wanted = (source.text, source.document, source.label, TEXT, TOKENS, TAGS, DOCUMENT, *KINDS)
    table = read_table(path, wanted)
    columns = _chosen(path, table, source)
    rows = [_row(path, row_name, row, columns) for row_name, row in table.rows]
    filled = [row for row in rows if _is_filled(row.content)]
    if not filled:
        raise ThalwegError(
            f"{readable(path)}: column {columns.text!r:.60} is empty in all {len(rows):,} rows; name another with "
            "--text-column"
        )
    if all(_is_number(row.content) for row in filled):
        raise ThalwegError(
            f"{readable(path)}: column {columns.text!r:.60} holds numbers alone, such as {filled[0].content!r:.40}; "
            "texts were expected: name another column with --text-column"
        )
    documents = _from_rows(filled)
    controls, empty = sum(row.controls for row in rows), len(rows) - len(filled)
    note = _note(
        path,
        documents,
        f"{len(filled):,} rows, {_used(columns)}",
        f"passed over: {empty:,} row{'s' * (empty != 1)} without text" if empty else "",
        _unread(table, columns),
        *table.unusual,
        spaced(controls) if controls else "",
    )
    return Texts(documents, note)


def _used(columns: Columns) -> str:
    """Which columns were taken for what."""
    used = [f"text from column {columns.text!r:.60}"]
    used += [f"documents by {columns.document!r:.60}" if columns.document else "each row a document"]
    return ", ".join(used + ([f"kinds by {columns.kind!r:.60}"] if columns.kind else []))


def _unread(table: Table, columns: Columns) -> str:
    """The columns that were not taken."""
    rest = [name for name in table.columns if name not in (columns.text, columns.document, columns.kind, TAGS)]
    more = f" and {len(rest) - NAMED} more" if len(rest) > NAMED else ""
    return f"columns not read: {', '.join(f'{name!r:.40}' for name in rest[:NAMED])}{more}" if rest else ""


def _chosen(path: Path, table: Table, source: Source) -> Columns:
    """The columns of a table that are read.

    Raises:
        ThalwegError: one that was named or is needed is not there, or is there twice.
    """
    text = source.text or (TOKENS if TEXT not in table.columns and TOKENS in table.columns else TEXT)
    document = source.document or (DOCUMENT if DOCUMENT in table.columns and text != DOCUMENT else None)
    usual = (name for name in KINDS if name in table.columns and name not in (text, document))
    kind = source.label or next(usual, None)
    columns = Columns(text, document, None if kind == NO_LABELS and kind not in table.columns else kind)
    for role, name in (("text", text), ("document", document), ("label", columns.kind)):
        if name is None:
            continue
        if name not in table.columns:
            short = [column if len(column) <= 40 else f"{column[:40]}..." for column in table.columns]
            raise ThalwegError(
                f"{readable(path)}: {unknown('column', name, short)}; name the right one with --{role}-column"
            )
        if name in table.twice:
            raise ThalwegError(
                f"{readable(path)}, {table.twice[name]}: has column {name!r:.60} twice; rename or remove one of them"
            )
    return columns


def _row(path: Path, row_name: str, row: Mapping[str, Any], columns: Columns) -> Row:
    where = f"{readable(path)}, {row_name}"
    content = row.get(columns.text)
    if content is None:
        content = ""
    wrong = _wrong(content)
    if wrong:
        raise ThalwegError(
            f"{where}: column {columns.text!r:.60} holds {wrong}; text or a list of words was expected. Mend it, or "
            "name another column with --text-column"
        )
    tags = row.get(TAGS) if isinstance(content, list) else None
    if tags is not None and (not isinstance(tags, list) or len(tags) != len(content)):
        count = len(tags) if isinstance(tags, list) else 1
        raise ThalwegError(f"{where}: has {len(content)} words but {count} tags; one for each was expected")
    document = _name(where, columns.document, row) if columns.document else row_name
    if document is None:
        raise ThalwegError(f"{where}: column {columns.document!r:.60} is empty; the name of a document was expected")
    content, controls = _shown(content)
    label = _name(where, columns.kind, row) if columns.kind else None
    tags = None if tags is None else [MANNER.sub("", str(tag)) for tag in tags]
    return Row(document, content, KIND if label is None else label, tags, controls)


def _name(where: str, column: str, row: Mapping[str, Any]) -> str | None:
    """What a row says in a column of names, as text; nothing where it is empty."""
    value = row.get(column)
    if value is None or value == "":
        return None
    if isinstance(value, (list, dict, bytes)) or (isinstance(value, str) and _wrong(value)):
        raise ThalwegError(
            f"{where}: column {column!r:.60} holds {type(value).__name__} {value!r:.40}; a name or a number was "
            "expected"
        )
    return without_controls(str(value))[0]


def _shown(content: str | list[str]) -> tuple[str | list[str], int]:
    """Text or words with spaces for control characters, and how many there were."""
    if isinstance(content, str):
        return without_controls(content)
    words = [without_controls(word) for word in content]
    return [word for word, _ in words], sum(count for _, count in words)


def _is_filled(content: str | list[str]) -> bool:
    return bool(content.strip()) if isinstance(content, str) else any(word.strip() for word in content)


def _is_number(content: str | list[str]) -> bool:
    try:
        float(content if isinstance(content, str) else "")
    except ValueError:
        return False
    return True


def _wrong(content: Any) -> str:
    """The error of a value that should be text or a list of words, or nothing."""
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, str):
            kind = type(part).__name__
            return f"{'a list with ' if isinstance(content, list) else ''}{kind} {part!r:.40}"
        if not part.isascii() and any(0xD800 <= ord(character) < 0xE000 for character in part):
            return "half a surrogate pair, which is no character"
    return ""


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
    before = 0
    lines: list[str] = []
    ends: list[int] = []
    for row in rows:
        line, word_ends = join(row.content)
        lines.append(line)
        ends += [before + end for end in word_ends]
        before += len(line) + 1  # the line break
    return Document(
        name, "\n".join(lines), rows[0].label, tuple(tag for row in rows for tag in row.tags or ()), tuple(ends)
    )
