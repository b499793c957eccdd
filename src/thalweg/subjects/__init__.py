"""Subjects: models that exist already, named as their users name them.

`torchvision:NAME[@WEIGHTS]`, `timm:NAME` and `efficientnet-lite:N` are vision models, `hf:NAME-or-folder` is a causal
language model of transformers, and `file.py:name` is a `Subject` of the user's own. Each kind is read by a function
that takes what stands after the colon; nothing is loaded before it is asked for, and what is not on this machine is an
error that says what to install or which file to put where.
"""

from collections.abc import Callable

from thalweg.errors import ThalwegError, unknown
from thalweg.ladder import Subject
from thalweg.subjects.own import from_file


def _language(rest: str) -> Subject:
    from thalweg.subjects.language import causal

    return causal(rest)


KINDS: dict[str, Callable[[str], Subject]] = {"hf": _language}
FORMS = "torchvision:NAME[@WEIGHTS], timm:NAME, efficientnet-lite:N, hf:NAME-or-folder or FILE.py:NAME"


def find(name: str) -> Subject:
    """The subject of this name.

    Raises:
        ThalwegError: no such kind of subject, or what its kind says is missing.
    """
    kind, colon, rest = name.partition(":")
    if kind.endswith(".py"):
        return from_file(kind, rest)
    if not colon or not rest:
        raise ThalwegError(f"subject {name!r}: {FORMS} was expected")
    if kind not in KINDS:
        raise unknown("kind of subject", kind, KINDS)
    return KINDS[kind](rest)
