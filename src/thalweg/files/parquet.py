"""Parquet files as a user may give them: every way in which one can be damaged is one sentence that names it.

polars reads them. A file that it cannot read gives an error, or a panic of its Rust code, which prints a trace of its
own and is no ordinary exception. Both become an error of ours here, and the trace is kept from the screen.
"""

import os
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, check_utf8, readable

_redirecting = threading.RLock()


@contextmanager
def parquet(path: Path | str) -> Generator[None]:
    """Read from a Parquet file: whatever polars says of damage becomes an error that names the file.

    Raises:
        ThalwegError: it cannot be read, is damaged, has two columns of one name, or a path that is not UTF-8.
    """
    check_utf8(path, "rename it or what it lies in")
    try:
        with _traces_held_back():
            yield
    except pl.exceptions.DuplicateError as twice:
        raise ThalwegError(f"{readable(path)}: {_first_line(twice)}; rename one of the two") from twice
    except (pl.exceptions.PolarsError, OSError) as damage:
        raise ThalwegError(f"{readable(path)}: cannot be read as Parquet ({_first_line(damage)})") from damage
    # pyrefly: ignore[unreachable-except-clause]  # its types call a panic a PolarsError
    except pl.exceptions.PanicException as panic:
        raise ThalwegError(f"{readable(path)}: cannot be read as Parquet (it is damaged)") from panic


def schema(path: Path | str) -> Mapping[str, Any]:
    """The columns of a Parquet file with their types.

    Raises:
        ThalwegError: as `parquet`.
    """
    with parquet(path):
        return pl.read_parquet_schema(path)


def row_count(path: Path | str) -> int:
    """How many rows a Parquet file has.

    Raises:
        ThalwegError: as `parquet`.
    """
    with parquet(path):
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def columns(path: Path | str, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Some columns of a Parquet file, or all.

    Raises:
        ThalwegError: as `parquet`.
    """
    with parquet(path):
        return pl.read_parquet(path, columns=None if names is None else list(names))


def rows(path: Path | str, names: Sequence[str], start: int, count: int) -> pl.DataFrame:
    """So many rows of some columns from a row on, which is counted from 0.

    Raises:
        ThalwegError: as `parquet`.
    """
    with parquet(path):
        return pl.scan_parquet(path).select(list(names)).slice(start, count).collect()


@contextmanager
def _traces_held_back() -> Generator[None]:
    """Keep what is written to standard error and write it out afterwards, but not where the code panicked.

    Rust prints its traces to the file descriptor itself, so that is what has to be led elsewhere for the moment.
    """
    with _redirecting, ExitStack() as stack:
        try:
            screen = os.dup(2)
            stack.callback(os.close, screen)
            kept = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # standard error is closed, or there is no room: then a trace is only ugly
            yield
            return
        os.dup2(kept.fileno(), 2)
        panicked = False
        try:
            yield
        except pl.exceptions.PanicException:
            panicked = True
            raise
        finally:
            os.dup2(screen, 2)
            kept.seek(0)
            if not panicked and (text := kept.read()):
                os.write(2, text)


def _first_line(damage: BaseException) -> str:
    return next(iter(str(damage).strip().splitlines()), "damaged")[:160]
