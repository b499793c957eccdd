"""Subjects: models that exist already, named as their users name them.

`torchvision:NAME[@WEIGHTS]`, `timm:NAME`, `open-clip:NAME@TAG` and `efficientnet-lite:N` are vision models,
`hf:NAME-or-folder` is a causal language model of transformers, and `file.py:name` is a `Subject` of the user's own.
Each kind is read by a function that takes what stands after the colon; nothing is loaded before it is needed, and the
error for a package or file that is missing says what to install, or which file to put where.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.models.records import Subject
from thalweg.subjects import efficientnet_lite, language, open_clip_models, timm_models, torchvision_models
from thalweg.subjects.own import from_file

KINDS: dict[str, Callable[..., Subject]] = {
    "torchvision": torchvision_models.torchvision,
    "timm": timm_models.timm,
    "open-clip": open_clip_models.open_clip,
    "efficientnet-lite": efficientnet_lite.efficientnet_lite,
    "hf": language.causal,
}
FORMS = (
    "torchvision:NAME[@WEIGHTS], timm:NAME, open-clip:NAME@TAG, efficientnet-lite:N, hf:NAME-or-folder or FILE.py:NAME"
)


ARCHITECTURES: dict[str, Callable[..., Subject]] = {  # what can be built where weights are missing
    kind: KINDS[kind] for kind in ("torchvision", "timm", "open-clip", "efficientnet-lite", "hf")
}


def architecture(name: str, *, trust_remote_code: bool = False) -> Subject:
    """The subject of this name or, where only its weights are missing and its library can build the architecture
    without, that; its `notes` say so.

    Raises:
        ThalwegError: as `find` does.
    """
    try:
        return find(name, trust_remote_code=trust_remote_code)
    except ThalwegError as missing:
        kind, _, rest = name.partition(":")
        if kind not in ARCHITECTURES or not rest:
            raise
        try:
            loading = {"trust_remote_code": trust_remote_code} if kind == "hf" else {}
            bare = ARCHITECTURES[kind](rest, bare=True, **loading)
        except ThalwegError:
            raise missing from None
        return replace(bare, notes=(f"the architecture without its weights: {missing}",))


def given(subject: str | Subject, *, trust_remote_code: bool = False, device_map: str | None = None) -> Subject:
    """The subject that a user gives: a record as it is, or that of a name.

    Raises:
        ThalwegError: as `find` does.
    """
    if not isinstance(subject, str):
        return subject
    return find(subject, trust_remote_code=trust_remote_code, device_map=device_map)


def find(name: str, *, trust_remote_code: bool = False, device_map: str | None = None) -> Subject:
    """The subject of this name.

    The other arguments say how a language model is loaded: whether code that its repository brings along may run, and
    how it is spread over several devices.

    Raises:
        ThalwegError: no such kind of subject, or what its kind says is missing.
    """
    kind, colon, rest = name.partition(":")
    if kind.lower().endswith(".py"):
        return from_file(kind, rest)
    if not colon or not rest:
        raise ThalwegError(f"subject {name!r}: {FORMS} was expected")
    if kind not in KINDS:
        raise unknown("kind of subject", kind, KINDS)
    loading = {"trust_remote_code": trust_remote_code, "device_map": device_map} if kind == "hf" else {}
    return KINDS[kind](rest, **loading)


def anywhere(name: str) -> str:
    """A subject's name that means the same in every folder: the path of a file or folder in it is made absolute."""
    kind, colon, rest = name.partition(":")
    if kind.lower().endswith(".py"):
        return f"{readable(Path(kind).absolute())}{colon}{rest}"
    before, at, path = rest.rpartition("@") if kind == "torchvision" else ("", "", rest)
    place = Path(path).expanduser()
    named = place.exists() if kind == "hf" else bool(at) and place.is_file()
    return f"{kind}:{before}{at}{readable(place.absolute())}" if named else name
