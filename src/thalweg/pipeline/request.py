"""What a survey is asked for: its ladders, observers and data, checked before anything is done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import ThalwegError, unknown
from thalweg.models.records import Ladder
from thalweg.models.rerandomised import DERIVED
from thalweg.observers import base
from thalweg.observers.base import Observer
from thalweg.pipeline.settings import Settings
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Source

TAKEN = {"trained", "untrained", "rotated", *DERIVED, "none", "rung", "kind", "strength"}  # names that no twin may have


def check_ladder(ladder: Ladder) -> None:
    """Check that a ladder's rungs and twins have names of their own, and that every rung is trained or loaded.

    Raises:
        ThalwegError: they have not.
    """
    names = [rung.name for rung in ladder.rungs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ThalwegError(f"ladder {ladder.name!r} has two rungs of the same name, {twice[0]!r}")
    if taken := sorted(TAKEN & set(ladder.twins)):
        raise ThalwegError(f"ladder {ladder.name!r} has a twin called {taken[0]!r}, which means something else already")
    if bare := [rung.name for rung in ladder.rungs if not rung.layers]:
        raise ThalwegError(
            f"ladder {ladder.name!r}, rung {bare[0]!r}: has no layers; name those whose units are to be measured, as "
            '(thalweg.Layer("1"),)'
        )
    untrained = [
        rung.name
        for rung in ladder.rungs
        if not (rung.subject or rung.train or ladder.train or ladder.checkpoint_trainer)
    ]
    if untrained:
        raise ThalwegError(
            f"ladder {ladder.name!r}, rung {untrained[0]!r}: nothing trains it; give the ladder or the rung a `train` "
            "(as thalweg.Classifier()), or the rung a `subject` that is loaded with its weights"
        )


def check_twins(chosen: Sequence[Ladder], asked: Sequence[str]) -> None:
    """Check that every twin that was asked for is one that thalweg or a ladder has.

    Raises:
        ThalwegError: one is not, or `none` was asked for beside others.
    """
    known = dict.fromkeys(
        ["untrained", "rotated", *DERIVED, *(name for ladder in chosen for name in ladder.twins), "none"]
    )
    for name in asked:
        if name not in known:
            raise unknown("twin", name, known)
    if "none" in asked and len(asked) > 1:
        raise ThalwegError(f"twins are {', '.join(map(repr, asked))}; 'none' stands alone")


def as_list(given: Any) -> list[Any]:
    """One thing or a sequence of things, as a list."""
    return list(given) if isinstance(given, (list, tuple)) else [given]


def sources_of(chosen: list[Ladder], settings: Settings) -> dict[str, Source]:
    """The source of each ladder's stimuli.

    Raises:
        ThalwegError: an empty path, one that does not say for which of several ladders it is, or one for a ladder that
            is not surveyed.
    """
    paths: dict[str, Path] = {}
    for given in settings.data:
        name, separator, path = given.partition("=")
        if not separator:
            if len(chosen) > 1:
                raise ThalwegError(f"--data {given}: say for which ladder it is, as in {chosen[0].name}={given}")
            name, path = chosen[0].name, given
        if not path:
            raise ThalwegError(f"--data {given!r} names no file or folder; PATH or LADDER=PATH was expected")
        if name not in {ladder.name for ladder in chosen}:
            raise unknown("ladder of this survey", name, (ladder.name for ladder in chosen))
        paths[name] = Path(path)
    return {ladder.name: settings.source(paths.get(ladder.name)) for ladder in chosen}


def observers_of(ladder: Ladder, asked: list[Observer]) -> tuple[Observer, ...]:
    """A ladder's observers: those asked for that see its stimuli, or else the default; their parts, the controls.

    Raises:
        ThalwegError: no observer sees its stimuli, or two have the same name.
    """
    modality = modalities.of(ladder)
    fitting = [observer for observer in asked if observer.fits(modality.name)]
    fitting = fitting or [base.find(ladder.observer) if ladder.observer else base.default(modality)]
    parts = [base.find(part) for observer in fitting for part in observer.parts]
    for observer in [*fitting, *parts]:
        if not observer.fits(modality.name):
            raise _unfit(observer, [ladder])
        if observer.features is None and (observer in parts or not observer.parts):
            raise ThalwegError(
                f"observer {observer.name!r} has no `features`: give it a function from stimuli to vectors"
            )
    if not asked and not modality.observer and not ladder.observer:
        raise ThalwegError(
            f"ladder {ladder.name!r} has stimuli of modality {modality.name!r}, for which there is no default "
            "observer: give one with observer=; `random` is a control, and its score is chance"
        )
    controls = [observer for observer in base.OBSERVERS.values() if observer.control and observer.fits(modality.name)]
    named: dict[str, Observer] = {}
    for observer in [*fitting, *parts, *controls]:
        if named.setdefault(observer.name, observer) != observer:
            raise ThalwegError(
                f"two observers are called {observer.name!r}, one of them the package's own; rename yours"
            )
    return tuple(named.values())


def _unfit(observer: Observer, chosen: Sequence[Ladder]) -> ThalwegError:
    """The error for an observer that sees none of what it is to be shown."""
    modality = modalities.of(chosen[0]).name
    suited = [name for name, other in base.OBSERVERS.items() if other.modality == modality and not other.control]
    shown = " and ".join(f"{ladder.name!r} of modality {modalities.of(ladder).name!r}" for ladder in chosen)
    return ThalwegError(
        f"observer {observer.name!r} sees stimuli of modality {observer.modality!r}; it sees nothing of ladder "
        f"{shown}. Observers of {modality!r} are: {', '.join(sorted(suited)) or 'none'}"
    )


def requested_observers(given: Sequence[object]) -> list[Observer]:
    """The observers that were asked for, each once.

    Raises:
        ThalwegError: no observer is called so, or something is neither a name nor an observer.
    """
    asked: list[Observer] = []
    for each in given:
        if not isinstance(each, str | Observer):
            raise ThalwegError(
                f"observer {getattr(each, '__name__', each)!r} is {type(each).__name__}; a name was expected, or "
                'thalweg.Observer("name", 1, function) with a function from stimuli to vectors'
            )
        asked.append(each if isinstance(each, Observer) else base.find(each))
    return [observer for index, observer in enumerate(asked) if observer not in asked[:index]]


def check_observers(chosen: Sequence[Ladder], asked: Sequence[Observer]) -> None:
    """Check that every observer that was asked for has something to see.

    Raises:
        ThalwegError: one has not; names both modalities.
    """
    for observer in asked:
        if not any(observer.fits(modalities.of(ladder).name) for ladder in chosen):
            raise _unfit(observer, chosen)


def note_on_default(ladder: Ladder, asked: Sequence[Observer], observers: Sequence[Observer]) -> str:
    """A note for the user where the default replaces observers that were asked for; empty elsewhere."""
    if not asked or any(observer.fits(modalities.of(ladder).name) for observer in asked):
        return ""
    names = ", ".join(f"{observer.name!r} ({observer.modality})" for observer in asked)
    return (
        f"ladder {ladder.name!r} has stimuli of modality {modalities.of(ladder).name!r}, which none of the observers "
        f"asked for sees ({names}): its headline is that of the default, {observers[0].name!r}"
    )


def check_kinship(ladder: Ladder, observers: tuple[Observer, ...]) -> None:
    """Refuse an observer that sees with the weights of a model that it would judge."""
    for rung in ladder.rungs:
        for observer in observers:
            if rung.subject and observer.relation(rung.subject.family) == "itself":
                raise ThalwegError(
                    f"observer {observer.name!r} sees with the weights of rung {rung.name!r} of ladder "
                    f"{ladder.name!r}, and no model is judged by itself; choose another with --observer, as hog_vgg"
                )
