"""Files that are written whole or not at all, and read with a sentence where they are damaged."""

import errno
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
import safetensors

from thalweg.errors import NoRoom, ThalwegError, check_utf8, readable, reason

if TYPE_CHECKING:
    from torch import Tensor


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A path to write to that takes the place of `path` when all went well.

    Raises:
        NoRoom: the disk is full.
        ThalwegError: a folder or a device is there, of which it must not take the place.
    """
    if path.exists() and not path.is_file():
        raise _no_file(path, "name another")
    beside = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")  # two machines may write at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except Exception as wrong:
        if not is_full_disk(wrong):
            raise
        raise NoRoom(
            f"{readable(path)}: the disk is full; make room and give the same command again: what is done is kept"
        ) from wrong
    finally:
        with suppress(OSError):
            beside.unlink()


def writable(folder: Path, option: str) -> None:
    """Check that files can be made in a folder, which is made if it is not there.

    Raises:
        ThalwegError: they cannot; names the option that chooses another.
    """
    check_utf8(folder, f"choose another with {option}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as refused:
        raise ThalwegError(
            f"{readable(folder)}: cannot be written ({refused.strerror or refused}); choose another with {option}"
        ) from refused


def writable_file(path: Path, option: str) -> None:
    """Check that a file can be written, before what is written in it is made.

    Raises:
        ThalwegError: it cannot; names the option that chooses another.
    """
    if path.exists() and not path.is_file():
        raise _no_file(path, f"name a file with {option}")
    writable(path.parent, option)


def _no_file(path: Path, mend: str) -> ThalwegError:
    what = "a folder" if path.is_dir() else "a device or a pipe"
    return ThalwegError(f"{readable(path)}: is {what}, and a file is to be written; {mend}")


FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)}


def is_full_disk(wrong: Exception) -> bool:
    """Whether an error means a full disk; the writers of tensors and tables say so only in their message."""
    return getattr(wrong, "errno", None) in FULL or any(message in str(wrong) for message in FULL.values())


def write_text(path: Path, content: str) -> None:
    """Write text as UTF-8; half characters are escaped."""
    with replacing(path) as beside:
        beside.write_text(content, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: object) -> None:
    """Write JSON that reads well; a number that is not finite is an error, for JSON has none."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_frame(path: Path, frame: pl.DataFrame, *, statistics: bool = False) -> None:
    """Write a table as Parquet; with statistics of its columns, by which a lazy reader passes over blocks of rows."""
    with replacing(path) as beside:
        frame.write_parquet(beside, compression="zstd", statistics=statistics)


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", notes: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    import safetensors.torch  # it imports PyTorch, which the command line need not wait for

    with replacing(path) as beside:
        beside.touch()
        usual = beside.stat().st_mode
        safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, beside, dict(notes or {}))
        beside.chmod(usual)  # safetensors makes files that nobody else may read


AGAIN = "give the survey command again: it derives again what is missing or damaged"
Content = TypeVar("Content")
DAMAGE = (pl.exceptions.PolarsError, safetensors.SafetensorError, ValueError, OSError, RecursionError)


def _reading(path: Path, read: Callable[[Path], Content], mend: str) -> Content:
    if not path.is_file():
        raise ThalwegError(f"{readable(path)}: there is no such file; {mend}")
    try:
        path.open("rb").close()  # the readers of tables and tensors say of a file that is kept from them: not there
        return read(path)
    except PermissionError as refused:
        raise ThalwegError(
            f"{readable(path)}: cannot be read ({refused.strerror}); its owner can allow it: chmod a+r"
        ) from refused
    # pyrefly: ignore[unreachable-except-clause]  # its types call a panic a PolarsError
    except (*DAMAGE, pl.exceptions.PanicException) as damage:
        raise Damaged(path, reason(damage), mend) from damage


class Damaged(ThalwegError):
    """A file of a run is damaged."""

    def __init__(self, path: Path, damage: str, mend: str = AGAIN) -> None:
        self.what = f"{readable(path)}: damaged or truncated ({damage[:160]})"
        super().__init__(f"{self.what}; {mend}")

    def __reduce__(self) -> tuple[type[ThalwegError], tuple[str]]:
        return ThalwegError, (str(self),)  # as it comes back from a worker


def read_json(path: Path, mend: str = AGAIN) -> Any:
    """A JSON file of the run directory; ThalwegError, which says how to mend it, if it is missing or damaged."""
    return _reading(path, lambda p: json.loads(p.read_text(encoding="utf-8")), mend)


def read_frame(path: Path, columns: Iterable[str] = (), *, least: int = 0, mend: str = AGAIN) -> pl.DataFrame:
    """A table of the run directory; `mend` is what the user is told to do where it is damaged.

    Raises:
        ThalwegError: it is missing or damaged, or has not these columns or not so many rows.
    """
    frame = _reading(path, pl.read_parquet, mend)
    check_columns(path, frame.columns, columns, mend)
    if len(frame) < least:
        raise Damaged(path, "it has no rows", mend)
    return frame


def read_columns(path: Path) -> list[str]:
    """The names of the columns of a table of the run directory; ThalwegError if it is missing or damaged."""
    return list(_reading(path, pl.read_parquet_schema, AGAIN))


def check_columns(path: Path, there: Collection[str], columns: Iterable[str], mend: str = AGAIN) -> None:
    """Check that a table of the run directory has these columns; `mend` is what the user is told to do if not.

    Raises:
        ThalwegError: it has not.
    """
    if lacking := [name for name in columns if name not in there]:
        raise Damaged(path, f"it has no column {', '.join(lacking[:3])}: is it another table?", mend)


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Tensors of the run directory; ThalwegError if the file is missing or damaged."""
    import safetensors.torch

    return _reading(path, safetensors.torch.load_file, AGAIN)


@contextmanager
def open_tensors(path: Path) -> Generator[Any]:
    """A file of tensors of which parts are to be read; ThalwegError if the file is missing or damaged."""
    with _reading(path, lambda file: safetensors.safe_open(file, "pt"), AGAIN) as opened:
        try:
            yield opened
        except safetensors.SafetensorError as damage:
            raise Damaged(path, reason(damage)) from damage


def read_tensor_notes(path: Path) -> dict[str, str]:
    """The notes that a file of tensors carries; ThalwegError if the file is missing or damaged."""

    def notes(file: Path) -> dict[str, str]:
        with safetensors.safe_open(file, "pt") as opened:
            return dict(opened.metadata() or {})

    return _reading(path, notes, AGAIN)
