"""The columns that a verdict needs, from a table with one row a model: numbers, names, and what is missing."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from thalweg.errors import ThalwegError, unknown
from thalweg.shape.points import HUGE, too_large
from thalweg.shape.reading import ModelTable, number_of, plain_number

MISSING = {
    "",
    "na",
    "n/a",
    "#n/a",
    "#na",
    "nan",
    "+nan",
    "-nan",
    "null",
    "none",
    "nil",
    "missing",
    "-",
    "--",
    "–",
    "—",
    ".",
    "?",
}
UNNAMED = {"", "na", "n/a", "#n/a", "nan", "null"}  # as a name of a configuration: `none` may be one


@dataclass(frozen=True, eq=False)
class Columns:
    """What `judge` takes, from a table, and a note on the rows that are left out."""

    strength: Float[np.ndarray, " row"]
    score: Float[np.ndarray, " row"]
    se: Float[np.ndarray, " row"] | None
    group: list[str] | None
    note: str


def index_of(table: ModelTable, name: str) -> int:
    """The position of the column of a name.

    Raises:
        ThalwegError: there is none, or there are several.
    """
    at = [i for i, column in enumerate(table.names) if column == name]
    if len(at) > 1:
        listed = ", ".join(str(i + 1) for i in at)
        raise ThalwegError(
            f"{table.source}: {len(at)} columns are called {name!r} (columns {listed}); rename all but one"
        )
    if at:
        return at[0]
    wrong = unknown("column", name, table.names)
    if all(map(plain_number, table.names)):
        raise ThalwegError(
            f"{wrong}; the first line holds numbers: begin the table with a line of column names"
        ) from wrong
    raise wrong


def numbers(table: ModelTable, name: str) -> tuple[Float[np.ndarray, " row"], list[int]]:
    """A column of numbers, missing ones as NaN, and the rows of the missing ones.

    Raises:
        ThalwegError: a cell is no number, or infinite; says where it is.
    """
    i = index_of(table, name)
    decimal = table.decimals[i] if table.decimals else "."
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in table.columns[i]]
    missing = [row for row, cell in enumerate(cells) if _is_missing(cell)]
    absent = set(missing)
    texts = [cell for row, cell in enumerate(cells) if row not in absent]
    if texts and all(isinstance(cell, str) and cell.endswith("%") for cell in texts):
        cells = [cell.rstrip("% ") if isinstance(cell, str) else cell for cell in cells]
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if row not in absent:
            values[row] = _number(table, name, row, cell, decimal)
    return values, missing


def _is_missing(cell: object) -> bool:
    if isinstance(cell, str):
        return cell.lower() in MISSING
    return cell is None or (isinstance(cell, float) and bool(np.isnan(cell)))


def _number(table: ModelTable, name: str, row: int, cell: object, decimal: str) -> float:
    value: float | None = None
    if isinstance(cell, str):
        value = number_of(cell, decimal)
    elif not isinstance(cell, bool):
        try:
            value = float(cell)  # pyrefly: ignore[bad-argument-type]  # raises if it is none
        except (TypeError, ValueError):
            value = None
        except OverflowError:
            value = float("inf")
    where = f"{table.source}, {table.where(row)}, column {name!r}"
    if value is None:
        held = repr(cell) if isinstance(cell, str | int | float) else f"{str(cell)[:60]!r} ({type(cell).__name__})"
        raise ThalwegError(
            f"{where}: {held[:80]} is no number; correct it, leave it empty if it is missing, or choose another column"
        )
    if np.isinf(value):
        raise ThalwegError(f"{where}: {str(cell)[:60]!r} is infinite; give a finite number, or leave it empty")
    if abs(value) > HUGE:
        raise ThalwegError(f"{where}: {str(cell)[:60]} is too large; {too_large(repr(name))}")
    return value


def labels_of(table: ModelTable, name: str) -> list[str]:
    """A column of names.

    Raises:
        ThalwegError: one is missing; says where.
    """
    labels = []
    for row, cell in enumerate(table.columns[index_of(table, name)]):
        label = "" if cell is None else str(cell).strip()
        if label.lower() in UNNAMED:
            raise ThalwegError(
                f"{table.source}, {table.where(row)}, column {name!r}: the group is missing ({label!r}); name the "
                "configuration of every model"
            )
        labels.append(label)
    return labels


def _distinct_columns(columns: dict[str, str | None]) -> None:
    """Check that each column serves one purpose; models may be grouped by their strength.

    Raises:
        ThalwegError: one serves two.
    """
    named = [(option, name) for option, name in columns.items() if name is not None]
    for i, (option, name) in enumerate(named):
        for other, again in named[i + 1 :]:
            if name == again and {option, other} != {"strength", "group"}:
                raise ThalwegError(
                    f"column {name!r} is given as {option} and as {other}; choose another column for one of them"
                )


def _missing_note(table: ModelTable, columns: dict[str, str], missing: dict[str, list[int]]) -> str:
    """A note on the rows that are left out because a number is missing; empty if none is."""
    rows = sorted({row for each in missing.values() for row in each})
    if not rows:
        return ""
    by_column = ", ".join(f"{len(each)} without {name}" for name, each in missing.items() if each)
    marks = {
        str(table.columns[index_of(table, columns[purpose])][row]).strip()
        for purpose, each in missing.items()
        for row in each
        if table.columns[index_of(table, columns[purpose])][row] is not None
    }
    written = ", ".join(repr(mark) for mark in sorted(marks - {""})[:3])
    listed = ", ".join(str(table.lines[row]) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    noun = table.noun if len(rows) == 1 else f"{table.noun}s"
    marked = f"; written {written}" if written else ""
    return f"{len(rows)} of {len(table)} rows left out ({by_column}; {noun} {listed}{marked})"


def columns_of(table: ModelTable, names: dict[str, str | None]) -> Columns:
    """The columns that `judge` takes, from a table; `names` says for each purpose which column serves it.

    Raises:
        ThalwegError: as for `judge_table`.
    """
    _distinct_columns(names)
    required = {purpose: name for purpose in ("strength", "score") if (name := names[purpose]) is not None}
    columns = {purpose: numbers(table, name) for purpose, name in required.items()}
    se, group = names["se"], names["group"]
    errors = None if se is None else numbers(table, se)[0]
    negative = [] if errors is None else np.flatnonzero(errors < 0).tolist()
    if negative:
        raise ThalwegError(
            f"{table.source}, {table.where(negative[0])}, column {se!r}: a standard error is negative; give 0 or more, "
            "or leave it empty where it is unknown"
        )
    labels = None if group is None else labels_of(table, group)
    note = _missing_note(table, required, {purpose: missing for purpose, (_, missing) in columns.items()})
    return Columns(columns["strength"][0], columns["score"][0], errors, labels, note)
