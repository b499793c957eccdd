"""What is not on this machine but can be fetched, and the loop that fetches it where the user agrees.

A look-up never fetches. It raises `Missing`, which says what was looked for and where, and holds what would fetch it.
What may fetch (`download=True`, `--download`, a user who is asked at a terminal) runs the look-up in `with_downloads`:
what is missing is fetched by its library's own client, and the same is tried again.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from thalweg.errors import ThalwegError

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Fetch(Protocol):
    """Something that a library's client can fetch."""

    @property
    def what(self) -> str:
        """Its name in messages."""
        ...

    def about(self) -> str:
        """Its size and its licence, as far as the client can tell before it is fetched."""
        ...

    def fetch(self) -> None:
        """Fetch it into the library's own cache.

        Raises:
            ThalwegError: it cannot be had.
        """
        ...


Agree = Callable[[Sequence[Fetch]], bool]  # whether these may be fetched


class Missing(ThalwegError):
    """What was looked for is not on this machine; `fetches` would bring it."""

    def __init__(self, message: str, fetches: Sequence[Fetch] = ()) -> None:
        super().__init__(message)
        self.fetches = tuple(fetches)

    def __reduce__(self) -> tuple[type["Missing"], tuple[str, tuple[Fetch, ...]]]:
        return Missing, (str(self), self.fetches)


def gathered(message: str, errors: Sequence[ThalwegError]) -> ThalwegError:
    """One error for several, with all that would bring what some of them miss."""
    fetches = [fetch for error in errors if isinstance(error, Missing) for fetch in error.fetches]
    return Missing(message, fetches) if fetches else ThalwegError(message)


def lines_of(fetches: Sequence[Fetch]) -> list[str]:
    """A line for each thing that is to be fetched: what, its size, its licence."""
    return [f"to be fetched: {fetch.what} ({fetch.about()})" for fetch in fetches]


def with_downloads(action: Callable[[], Result], agree: Agree) -> Result:
    """What an action gives. Where it lacks something that can be fetched, and `agree` says that it may be, that is
    fetched, and the action is tried again.

    Raises:
        Missing: it may not be fetched, or was and is missing all the same.
        ThalwegError: it cannot be fetched, or as the action does.
    """
    fetched: set[str] = set()
    while True:
        try:
            return action()
        except Missing as missing:
            wanted = {fetch.what: fetch for fetch in missing.fetches if fetch.what not in fetched}
            if not wanted or not agree(list(wanted.values())):
                raise
            for what, fetch in wanted.items():
                fetch.fetch()
                fetched.add(what)


def fetches_on_request(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a function fetch what it misses where it is called with `download=True`: its `progress` is told first what
    that is, how large, and under which licence.
    """

    @wraps(function)
    def tried(*args: Given.args, **options: Given.kwargs) -> Result:
        named: dict[str, Any] = dict(options)
        if not named.get("download"):
            return function(*args, **options)
        progress = named.get("progress")

        def agree(fetches: Sequence[Fetch]) -> bool:
            if progress is not None:
                for line in lines_of(fetches):
                    progress.say(line)
            return True

        return with_downloads(lambda: function(*args, **options), agree)

    return tried
