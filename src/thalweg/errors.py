"""Mistakes that a user can mend: the message names the thing, what was wrong with it and what to do; no traceback is
shown.
"""

import difflib
from collections.abc import Iterable


class ThalwegError(Exception):
    """A mistake in what the user gave, raised before the long work starts wherever that is possible."""


class NoRoom(ThalwegError):
    """The disk is full: whatever else is begun would be lost too."""


def unknown(what: str, name: str, known: Iterable[str]) -> ThalwegError:
    """The error for a name that does not exist, with the names that come near it or else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(names) or 'none'}"
    return ThalwegError(f"no {what} is called {name!r}; {hint}")
