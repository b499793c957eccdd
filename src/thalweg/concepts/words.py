"""Pairs of words that name one concept in two languages: read, cleaned, sorted by how alike they look.

From the package `emoji`: an emoji's English name and its name in another language, where both are one word of letters.
Longer names describe a picture ("cheese wedge", "part de fromage") and need not translate word by word. Emojis that are
one of several with the same name in either language are left out but for the first.

From a user's table: its two columns of text, or those that are named.

Words that are spelt alike may be found alike by their letters alone. So pairs that are *identical* (but for accents and
capitals) and *cognates* (a similarity of at least .7) are analysed apart from *distinct* ones.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from pathlib import Path

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.packages import imported
from thalweg.stimuli.text_tables import Row, read_table

WORD = re.compile(r"[^\W\d_]+")
NUMBER = re.compile(r"[-+\d.,]+")
COGNATE = 0.7  # of difflib's ratio: "tomato" and "tomate" have .83, "apple" and "pomme" .2
ENGLISH = "en"
EMOJI = "emoji"
LEAST = 4
KINDS = ("distinct", "cognate", "identical")


@dataclass(frozen=True)
class WordPairs:
    """Words of one language with their translations into another.

    Attributes:
        pairs: The words that are kept.
        left_out: What was left out, with the reason.
        names: What the two languages are called.
        note: Which columns of a table were read, and what is unusual about it.
    """

    pairs: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str, str], ...] = ()
    names: tuple[str, str] = ("first", "second")
    note: str = ""
    kinds: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(likeness(*pair) for pair in self.pairs))


def likeness(first: str, second: str) -> str:
    """`identical`, `cognate` or `distinct`, by spelling without accents and capitals.

    Example:
        >>> from thalweg.concepts.words import likeness
        >>> likeness("melon", "Melón"), likeness("tomato", "tomate"), likeness("cheese", "fromage")
        ('identical', 'cognate', 'distinct')
    """
    one_plain, other_plain = _plain(first), _plain(second)
    if one_plain == other_plain:
        return "identical"
    return "cognate" if SequenceMatcher(None, one_plain, other_plain).ratio() >= COGNATE else "distinct"


def _plain(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def emoji_pairs(language: str) -> WordPairs:
    """The English names of emojis with those in another language.

    Raises:
        ThalwegError: The package is missing, or has no such language.
    """
    package = imported("emoji", said="pairs of words from emojis' names need: pip install 'thalweg[concepts]'")
    others = [known for known in package.LANGUAGES if known != ENGLISH]
    if language not in others:
        raise unknown("language of emojis", language, others)
    package.config.load_language(language)
    named = []
    for entry in package.EMOJI_DATA.values():
        if entry["status"] == package.STATUS["fully_qualified"] and language in entry:
            named.append(tuple(entry[each].strip(":").replace("_", " ") for each in (ENGLISH, language)))
    return _cleaned(named, (ENGLISH, language), "emoji", single=True)


def table_pairs(path: Path, columns: str | None = None) -> WordPairs:
    """The pairs of a table of two columns: Parquet, CSV, TSV or JSON.

    Raises:
        ThalwegError: As `two_columns` does, or too few pairs are left.
    """
    table = two_columns(path, columns, option="--pairs-column")
    return replace(_cleaned(table.rows, table.names, readable(path), single=False), note=table.note)


@dataclass(frozen=True)
class TwoColumns:
    """Two columns of a table: their names, their rows as text (what is missing is empty), and a note on what was taken
    and what else is there.
    """

    names: tuple[str, str]
    rows: list[tuple[str, str]]
    note: str


def two_columns(path: Path, columns: str | None = None, *, option: str = "--text-column") -> TwoColumns:
    """Two columns of a table: those that are named, with a comma, or the only two with text.

    Args:
        path: The table.
        columns: Their names, as `en,fr`.
        option: What names them on the command line, for messages.

    Raises:
        ThalwegError: The file is missing or cannot be read, lacks the columns or has one of them twice, holds something
            else than words there, or has more than two columns of text of which none is named.
    """
    if not path.is_file():
        raise ThalwegError(f"{readable(path)}: there is no such file; a table with two columns was expected")
    named = _named(columns, option) if columns else ()
    table = read_table(path, named or (None,))
    known = table.columns
    for name in named or known:
        if name in table.twice:
            raise ThalwegError(f"{readable(path)}, {table.twice[name]}: has column {name!r} twice; rename one of them")
        if name not in known:
            raise unknown(f"column of {readable(path)}", name, known)
    if len(known) < 2:
        raise ThalwegError(f"{readable(path)}: has {len(known)} column; one for each language was expected")
    rows = table.rows if named else read_table(path, known).rows
    first, second = named or _of_text(path, known, [row for _, row in rows], option)
    texts = [
        (_text(row.get(first), path, where, first), _text(row.get(second), path, where, second)) for where, row in rows
    ]
    unused = ", ".join(repr(name) for name in known if name not in (first, second))
    remarks = [*table.unusual, f"took columns {first!r} and {second!r}" + (f", not used: {unused}" if unused else "")]
    return TwoColumns((first, second), texts, f"{readable(path)}: {'; '.join(remarks)}")


def _named(columns: str, option: str) -> tuple[str, str]:
    """The two columns that a user names.

    Raises:
        ThalwegError: They are not two.
    """
    names = [name.strip() for name in columns.split(",")]
    if len(set(names)) != 2 or len(names) != 2:
        raise ThalwegError(f"{option} is {columns!r}; the names of two columns were expected, as {option} en,fr")
    return names[0], names[1]


def _of_text(path: Path, known: Sequence[str], rows: Sequence[Row], option: str) -> tuple[str, str]:
    """The two columns of a table, or the only two with text where there are others of numbers.

    Raises:
        ThalwegError: There are more, or fewer.
    """
    texts = list(known) if len(known) == 2 else [name for name in known if not _is_of_numbers(rows, name)]
    if len(texts) == 2:
        return texts[0], texts[1]
    listed = ", ".join(known[:8])
    example = (texts if len(texts) > 2 else list(known))[-2:]
    raise ThalwegError(
        f"{readable(path)}: has {len(known)} columns ({listed}), {len(texts)} of them with text; name those of the two "
        f"languages, as {option} {','.join(example)}"
    )


def _is_of_numbers(rows: Sequence[Row], name: str) -> bool:
    """Whether a column holds numbers alone, whether or not they are written as text; an empty one does."""
    return all(_is_number(row.get(name)) for row in rows)


def _is_number(value: object) -> bool:
    if value is None or value == "" or isinstance(value, int | float):
        return True
    return isinstance(value, str) and NUMBER.fullmatch(value.strip()) is not None


def _text(value: object, path: Path, where: str, column: str) -> str:
    """A value as text in one line.

    Raises:
        ThalwegError: It is no text and no number.
    """
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        held = f"{type(value).__name__} {value!r:.40}"
        raise ThalwegError(f"{readable(path)}, {where}: column {column!r} holds {held}; a word or text was expected")
    return " ".join(str(value).split())


def _cleaned(rows: Iterable[tuple[str, ...]], names: tuple[str, str], where: str, *, single: bool) -> WordPairs:
    """The pairs that can be used: no word is missing or stands in two pairs; of emojis, both are one word."""
    listed = [(row[0], row[1]) for row in rows]
    seen: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    kept: list[tuple[str, str]] = []
    left_out: list[tuple[str, str, str]] = []
    for first, second in listed:
        reason = ""
        if not first or not second:
            reason = "a word is missing"
        elif single and not (WORD.fullmatch(first) and WORD.fullmatch(second)):
            reason = "a name is not one word of letters"
        elif seen[0][first.casefold()] or seen[1][second.casefold()]:
            reason = "a word stands in an earlier pair"
        if reason:
            left_out.append((first, second, reason))
            continue
        seen[0][first.casefold()] += 1
        seen[1][second.casefold()] += 1
        kept.append((first, second))
    if len(kept) < LEAST:
        reasons = Counter(reason for *_, reason in left_out).most_common()
        why = f" ({'; '.join(f'{count:,}: {reason}' for reason, count in reasons)})" if reasons else ""
        raise ThalwegError(
            f"{where}: {len(kept)} pairs of words are left of {len(listed)}{why}; at least {LEAST} were expected"
        )
    return WordPairs(tuple(kept), tuple(left_out), names)
