"""Names of models and ladders as names of files: one to one, and possible on every system."""

import re
from collections.abc import Iterable

from thalweg.errors import ThalwegError
from thalweg.files.identity import digest

LONGEST = 100  # characters of a name that stand in a file's as they are; most systems allow 255 bytes in all
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for devices


def file_name(name: str) -> str:
    """A name as it can stand in a file's, whatever it is made of: a plain one as it is, another with a digest of what
    was left out, so that no two names share a file.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    if name and plain == name and len(name) <= LONGEST and not RESERVED.fullmatch(name):
        return name
    start = plain[:LONGEST].strip("-.") or "unnamed"
    return f"{'of-' if RESERVED.fullmatch(start) else ''}{start}-{digest(name)[:8]}"


def same_files(names: Iterable[tuple[str, str]]) -> None:
    """Check that no two things share files; each is given as its name and the name of its files.

    Raises:
        ThalwegError: two do, on some system: there are those that take capitals and small letters for the same.
    """
    taken: dict[str, str] = {}
    for called, name in names:
        if name.casefold() in taken:
            raise ThalwegError(
                f"{taken[name.casefold()]} and {called} would share the file name {name!r} (small and capital letters "
                "count as the same, as on many systems); give one of them another name"
            )
        taken[name.casefold()] = called
