"""One check of stimuli that come from a user's own code, before anything long is done with them.

An attribute may be missing, fail, or differ in type, length or range from what `Stimuli` says. Each of these gives one
sentence that names the set, the attribute, what was found and what was expected. The package's own sets come from its
readers of files, so only what a user can put together wrongly is checked of them.
"""

from typing import Any

import torch
from torch import Tensor

from thalweg.compute.devices import all_finite
from thalweg.errors import ThalwegError, user_code
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Splits, Stimuli
from thalweg.stimuli.files import ImageFiles
from thalweg.stimuli.images import Images
from thalweg.stimuli.modality import Modality
from thalweg.stimuli.pairs import NumberPairs
from thalweg.stimuli.showing import Shown
from thalweg.stimuli.windows import Windows

OWN = (Images, ImageFiles, Windows, NumberPairs)
ATTRIBUTES = (
    "modality",
    "labels",
    "label_names",
    "__len__",
    "take",
    "batch",
    "low_level",
    "last_token",
    "groups",
    "show",
    "content_hash",
)
PNG = b"\x89PNG"  # how such a file begins
SOME_VALUES = (0.0, 0.5, 1.0)  # of a unit, along a stimulus
FEW = 2  # stimuli that are taken to see whether they can be


def check_splits(splits: object, ladder: str, modality: str | Modality) -> Splits:
    """The same splits, if a survey can use them.

    Raises:
        ThalwegError: they are something else, one of their parts is no set of stimuli of this modality, or the pool is
        empty.
    """
    function = f"the function `splits` of ladder {ladder!r}"
    if not isinstance(splits, Splits):
        raise ThalwegError(f"{function} returned {_kind(splits)}; thalweg.Splits(train, validation, pool) was expected")
    for part in ("train", "validation", "pool"):
        what = f"the part `{part}` of the stimuli of ladder {ladder!r}"
        check_stimuli(getattr(splits, part), what, modality, statistics=part == "pool")
    if not len(splits.pool):
        raise ThalwegError(f"{function} returned an empty pool; the stimuli to measure on were expected")
    return splits


def check_stimuli(stimuli: object, what: str, modality: str | Modality, *, statistics: bool = False) -> Stimuli:
    """The same set of stimuli, if it is one of this modality; with `statistics`, those of all stimuli are made too.

    Raises:
        ThalwegError: an attribute is missing, fails, or is not what `Stimuli` says.
    """
    record = modalities.find(modality)
    checked = _attributes(stimuli, what, record.name)
    count = _length(checked, what)
    names = _of(checked, what, "label_names")
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise _unlike(what, "label_names", names, "a tuple of names")
    labels = _whole_numbers(_of(checked, what, "labels"), what, "labels", count)
    if count and (int(labels.min()) < 0 or int(labels.max()) >= len(names)):
        raise ThalwegError(
            f"{what}: labels lie from {int(labels.min())} to {int(labels.max())}, but label_names has {len(names)}; 0 "
            f"to {len(names) - 1} were expected"
        )
    for name in ("groups", "last_token"):
        values = _called(checked, what, name)
        if values is not None:
            _whole_numbers(values, what, name, count)
    if count and not isinstance(checked, OWN):
        _check_taking(checked, what, count)
        _check_showing(checked, what, record)
        if statistics:
            _check_statistics(_called(checked, what, "low_level"), what, count)
    return checked


def _attributes(stimuli: object, what: str, modality: str) -> Stimuli:
    """The set, if it has all attributes and is of the modality."""
    missing = [name for name in ATTRIBUTES if not hasattr(type(stimuli), name) and not _has(stimuli, what, name)]
    if len(missing) > len(ATTRIBUTES) // 2:
        raise ThalwegError(
            f"{what}: is {_kind(stimuli)}; a set with the attributes of thalweg.Stimuli was expected "
            f"({', '.join(ATTRIBUTES)})"
        )
    if missing:
        raise ThalwegError(f"{what}: {_kind(stimuli)} lacks {', '.join(missing)}; see thalweg.Stimuli")
    checked: Any = stimuli
    given = _of(checked, what, "modality")
    name = given.name if isinstance(given, Modality) else given
    if name != modality:
        raise ThalwegError(f"{what}: is of modality {name!r}; {modality!r} was expected")
    whole: Stimuli = checked
    return whole


def _has(stimuli: object, what: str, name: str) -> bool:
    with user_code(f"{what}: `{name}`"):
        return hasattr(stimuli, name)


def _length(stimuli: Stimuli, what: str) -> int:
    with user_code(f"{what}: `__len__`"):
        return len(stimuli)


def _of(stimuli: Stimuli, what: str, name: str) -> Any:
    """An attribute, which may be code."""
    with user_code(f"{what}: `{name}`"):
        return getattr(stimuli, name)


def _called(stimuli: Stimuli, what: str, name: str, *arguments: Any) -> Any:
    with user_code(f"{what}: `{name}`"):
        return getattr(stimuli, name)(*arguments)


def _whole_numbers(values: object, what: str, name: str, count: int) -> Tensor:
    """A tensor of one whole number for each stimulus."""
    if (
        not isinstance(values, Tensor)
        or values.shape != (count,)
        or values.is_floating_point()
        or values.is_complex()
        or values.dtype == torch.bool
    ):
        raise _unlike(what, name, values, f"a tensor of whole numbers of shape ({count},), one for each stimulus,")
    return values


def _check_taking(stimuli: Stimuli, what: str, count: int) -> None:
    """Take a few stimuli, hand them to a model, and name all."""
    few = torch.arange(min(FEW, count))
    taken = _called(stimuli, what, "take", few)
    if not hasattr(type(taken), "__len__") or len(taken) != len(few):
        raise _unlike(what, f"take of {len(few)} stimuli", taken, f"a set of {len(few)}")
    if not hasattr(stimuli, "viewed"):  # what a model is given then depends on its own view
        given = _called(stimuli, what, "batch", few)
        if not isinstance(given, Tensor) or given.ndim < 1 or len(given) != len(few):
            raise _unlike(what, f"batch of {len(few)} stimuli", given, f"a tensor whose first axis has {len(few)}")
        if given.is_floating_point() and not all_finite(given):
            raise ThalwegError(f"{what}: `batch` gives NaN or infinite values; finite ones were expected")
    name = _called(stimuli, what, "content_hash")
    if not isinstance(name, str) or not name:
        raise _unlike(what, "content_hash", name, "some digits that differ whenever the content does")


def _check_showing(stimuli: Stimuli, what: str, modality: Modality) -> None:
    """Show one stimulus, without a unit's values along it and, where the modality has such values, with some."""
    for values in ((), SOME_VALUES) if modality.along and modality.show else ((),):
        with user_code(f"{what}: `show`"):
            shown: Any = modality.show(stimuli, 0, values) if modality.show else stimuli.show(0)
        if not isinstance(shown, Shown):
            raise _unlike(what, "show(0)", shown, "thalweg.stimuli.Shown")
        if not isinstance(shown.label, str) or not isinstance(shown.html, str):
            raise ThalwegError(f"{what}: `show` gives a Shown whose `label` or `html` is no text")
        if shown.png and not (isinstance(shown.png, bytes) and shown.png.startswith(PNG)):
            raise ThalwegError(f"{what}: `show` gives a `png` that is no PNG file; its bytes were expected")
        if modality.show and not (shown.png or shown.html or shown.pieces):
            raise ThalwegError(
                f"{what}: `show` gives nothing to see; a Shown with `png`, `html` or `pieces` was expected"
            )


def _check_statistics(values: object, what: str, count: int) -> None:
    if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != count or not values.is_floating_point():
        raise _unlike(what, "low_level", values, f"a tensor of floating-point numbers of shape ({count}, statistics)")
    finite = values.isfinite().all(1)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ThalwegError(
            f"{what}: `low_level` gives NaN or infinite values for {int((~finite).sum()):,} stimuli, the first of them "
            f"stimulus {first + 1}; finite ones were expected"
        )


def _unlike(what: str, name: str, values: object, expected: str) -> ThalwegError:
    return ThalwegError(f"{what}: `{name}` gives {_kind(values)}; {expected} was expected")


def _kind(value: object) -> str:
    """What something is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {str(value.dtype).removeprefix('torch.')}"
    if value is None:
        return "None"
    return f"{type(value).__name__} {value!r:.60}" if isinstance(value, int | float | str) else type(value).__name__
