"""A home for the libraries that ask for one while they are imported, where the user has none, as in containers."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def home_where_there_is_none() -> None:
    """Where neither HOME nor the system says where the user's home is, let it be a folder among temporary files.

    It is the same one each time, so that what is kept there is found again, and the user's alone, since libraries read
    settings and code from a home.
    """
    if os.path.expanduser("~") != "~":
        return
    with suppress(OSError):  # there may be no place for temporary files either
        folder = Path(tempfile.gettempdir()) / f"thalweg-home-{os.getuid()}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        os.environ["HOME"] = str(folder) if _is_ours_alone(folder) else tempfile.mkdtemp(prefix="thalweg-home-")


def _is_ours_alone(folder: Path) -> bool:
    """Whether it is a folder of the user's, and no link, in which nobody else can write."""
    found = folder.lstat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not others
