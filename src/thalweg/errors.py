"""Mistakes that a user can mend: the message names the thing, what was wrong with it and what to do; no traceback is
shown.
"""

import difflib
import os
import sysconfig
import traceback
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

LISTED = 40  # names that a message lists: a screen's worth; timm has more than a thousand


class ThalwegError(Exception):
    """A mistake in what the user gave, raised before the long work starts wherever that is possible."""


class NoRoom(ThalwegError):
    """The disk is full: whatever else is begun would be lost too."""


def unknown(what: str, name: str, known: Iterable[str]) -> ThalwegError:
    """The error for a name that does not exist, with the names that come near it or else the first of them all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    listed = f"there are: {', '.join(names[:LISTED]) or 'none'}{more}"
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else listed
    return ThalwegError(f"no {what} is called {name!r}; {hint}")


@contextmanager
def user_code(what: str) -> Generator[None]:
    """Run code that the user wrote: what it raises becomes an error that names it, the reason and the line.

    `what` names the code as the subject of a sentence, as "observer 'mine'". Errors of ours pass through as they are.

    Raises:
        ThalwegError: the code failed.
    """
    try:
        yield
    except (ThalwegError, MemoryError):
        raise
    except Exception as wrong:
        raise ThalwegError(f"{what} failed with {reason(wrong)}{line_of(wrong)}") from wrong


def reason(wrong: BaseException) -> str:
    """An exception in one line: its type and the first line of what it says."""
    lines = str(wrong).strip().splitlines()
    return f"{type(wrong).__name__}: {lines[0][:300]}" if lines else type(wrong).__name__


def readable(path: Path | str) -> str:
    """A path as it can be printed and written to tables: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_utf8(path: Path | str, mend: str) -> None:
    """Refuse a path that is not UTF-8, which the libraries that read tables and tensors cannot open.

    Raises:
        ThalwegError: it is not; says how to mend it.
    """
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError as wrong:
        raise ThalwegError(
            f"{readable(path)}: the path is not UTF-8, and files there cannot be read; {mend}"
        ) from wrong


def line_of(wrong: BaseException) -> str:
    """The line of the user's code that raised, in brackets, or nothing where no frame is of a user's file."""
    frames = [frame for frame in traceback.extract_tb(wrong.__traceback__) if _is_users(frame.filename)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _is_users(file: str) -> bool:
    libraries = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    return not file.startswith(("<", *libraries))
