"""The files below a folder, as every reader of folders lists them.

Links are followed, to files and to folders, as people do who put a data set together from parts. A folder that lies
where it is named comes before one that is reached by a link, a folder that a link reaches again is passed over (its
stimuli would be there twice, perhaps in both halves), and a link back to a folder that it lies in is refused. Skipped
and counted are hidden files and folders, those that editors, archives and file managers leave behind, and everything
that is no regular file, which is never opened.
"""

import os
import stat
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import ThalwegError, readable

# what macOS, Windows, Synology's systems and Python leave in folders, beside all that begins with a dot
SYSTEM = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "system volume information"}
    | {"@eadir", "lost+found", "__pycache__"}
)
HIDDEN, AGAIN = "hidden or of the system", "links to a folder that is read already"
BROKEN, IRREGULAR = "links that lead nowhere", "neither files nor folders"
LARGEST = 256 << 20  # bytes of one picture file: the largest photographs have a tenth of that
Identity = tuple[int, int]  # device and inode: what a folder is, under whatever name


@dataclass(frozen=True)
class Listing:
    """The regular files below a folder, sorted by path, and how many entries were skipped for which reason."""

    folder: Path
    files: tuple[Path, ...]
    skipped: Mapping[str, int]

    @property
    def note(self) -> str:
        """One line on what was skipped, or nothing."""
        return f"{readable(self.folder)}: skipped {', '.join(self.reasons)}" if self.skipped else ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """How many entries were skipped for each reason, as "3 hidden or of the system"."""
        return tuple(f"{count:,} {reason}" for reason, count in self.skipped.items())


@dataclass(frozen=True)
class _Folder:
    path: Path
    above: frozenset[Identity]  # the folders that it lies in, under its own path and behind its links


def files_below(folder: Path) -> Listing:
    """The regular files of a folder and of all folders in it.

    Raises:
        ThalwegError: a folder cannot be read, or a link leads back to a folder that it lies in.
    """
    files: list[Path] = []
    skipped: Counter[str] = Counter()
    seen: set[Identity] = set()
    waiting, linked = deque([_Folder(folder, _above(folder))]), deque[_Folder]()
    while waiting or linked:
        current = waiting.popleft() if waiting else linked.popleft()  # behind links only when all else is read
        identity = _identity(current.path)
        if identity in seen:
            skipped[AGAIN] += 1
            continue
        seen.add(identity)
        for entry, mode in _entries(current.path, skipped):
            path = current.path / entry.name
            if stat.S_ISREG(mode):
                files.append(path)
            elif stat.S_ISDIR(mode):
                inner = _Folder(path, current.above | {identity})
                _refuse_loop(inner)
                (linked if entry.is_symlink() else waiting).append(inner)
            else:
                skipped[IRREGULAR] += 1
    return Listing(folder, tuple(sorted(files)), dict(sorted(skipped.items())))


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or was put there by a system rather than by a person."""
    return name.startswith(".") or name.lower() in SYSTEM


def regular_bytes(path: Path) -> bytes:
    """The bytes of a regular file; nothing else is opened, not even a pipe that took the file's place.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or larger than `LARGEST`.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_size > LARGEST:
            raise ValueError(f"has {-(-status.st_size >> 10):,} KiB; at most {LARGEST >> 20} MiB are read")
        return file.read(LARGEST)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _entries(folder: Path, skipped: Counter[str]) -> Iterator[tuple[os.DirEntry[str], int]]:
    """What lies in a folder and is not hidden, in order of names, with its mode; links stand for what they lead to."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as wrong:
        raise ThalwegError(f"{readable(folder)}: this folder cannot be read ({wrong.strerror})") from wrong
    for entry in listed:
        if hidden(entry.name):
            skipped[HIDDEN] += 1
            continue
        try:
            mode = entry.stat().st_mode
        except OSError:
            skipped[BROKEN] += 1
            continue
        yield entry, mode


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def _above(folder: Path) -> frozenset[Identity]:
    return frozenset(_identity(parent) for parent in folder.resolve().parents)


def _refuse_loop(inner: _Folder) -> None:
    if _identity(inner.path) in inner.above:
        raise ThalwegError(
            f"{readable(inner.path)}: is a link to {readable(inner.path.resolve())}, a folder that it lies in itself; "
            "take the link away"
        )
