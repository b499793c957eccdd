"""Many verdicts as a table on the screen and as a file: JSON with all of each, CSV or Parquet with its main columns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files.whole import replacing, writable_file
from thalweg.shape.sentences import p_text
from thalweg.shape.several import Curve, decisive

ENDINGS = (".json", ".csv", ".parquet")
MANY = 3  # models that a row names
COLUMNS = ("table", "by", "strength", "score", "turned", "verdict", "p_of", "p_decisive", "n_models", "n_dropped")


def row_of(curve: Curve) -> dict[str, str]:
    """A curve as a row of texts."""
    verdict = curve.verdict
    kind, p = decisive(verdict)
    changes = _changes(verdict.changes_without)
    named = ", ".join(changes[:MANY]) + (f" and {len(changes) - MANY} more" if len(changes) > MANY else "")
    return {
        "table": Path(curve.table).name,
        "by": curve.by,
        "score": curve.score,
        "models": str(verdict.n_models),
        "rows left out": str(verdict.n_dropped),
        "verdict": verdict.verdict,
        "p": f"{kind} {p_text(p)}" if kind else "none",
        "changes without": named or "none",
    }


def _changes(changes: Mapping[str, str]) -> list[str]:
    """The models that decide, and what the verdict is without each."""
    return [f"{name}: {verdict}" for name, verdict in changes.items()]


def remarks(curves: Sequence[Curve]) -> list[str]:
    """The notes on curves as lines: for each table what holds for all its curves, and then what holds for one."""
    lines = []
    for table in dict.fromkeys(curve.table for curve in curves):
        mine = [curve for curve in curves if curve.table == table]
        shared = [note for note in mine[0].notes if all(note in curve.notes for curve in mine)]
        if shared:
            lines.append(f"{table}: {'; '.join(shared)}")
        for curve in mine:
            if rest := [note for note in curve.notes if note not in shared]:
                lines.append(f"{curve.name}: {'; '.join(rest)}")
    return lines


def check_out(path: Path) -> None:
    """Check that records can be written to this file.

    Raises:
        ThalwegError: its ending names no kind of file that can be written, or it cannot be written there.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ThalwegError(f"{readable(path)}: give --out a name that ends in .json, .csv or .parquet")
    writable_file(path, "--out")


def frame_of(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The main columns of each record: a row a curve."""
    rows = [
        {name: record[name] for name in COLUMNS}
        | {"notes": "; ".join(record["notes"]), "changes_without": "; ".join(_changes(record["changes_without"]))}
        | {"sentence": record["sentence"]}
        for record in records
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def write_records(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write records to a file, by its ending.

    Raises:
        ThalwegError: it cannot be written.
    """
    check_out(path)
    try:
        with replacing(path) as beside:
            if path.suffix.lower() == ".json":
                beside.write_text(json.dumps(list(records), indent=1, allow_nan=False) + "\n", encoding="utf-8")
            elif path.suffix.lower() == ".csv":
                frame_of(records).write_csv(beside)
            else:
                frame_of(records).write_parquet(beside)
    except OSError as refused:
        raise ThalwegError(
            f"{readable(path)}: cannot be written ({refused.strerror or refused}); name a file elsewhere with --out"
        ) from refused
