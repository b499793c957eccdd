"""What a run says of the things that it was measured with, so that its report needs no registry that may change."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from thalweg.factors.base import Factor
from thalweg.ladders import ships
from thalweg.measures.base import MEASURES, Declared
from thalweg.models.records import DerivedTwin, Ladder
from thalweg.models.rerandomised import DERIVED
from thalweg.observers.base import OBSERVERS, Observer, is_of_a_kind
from thalweg.pipeline.settings import OF_LADDERS, Settings


def ends(bounds: tuple[float, float]) -> list[float | None]:
    """A range for JSON, where an end without bound is None."""
    return [end if math.isfinite(end) else None for end in bounds]


def of_factors(factors: Sequence[Factor]) -> dict[str, dict[str, Any]]:
    """What each factor means, by name."""
    return {factor.name: _declaration(factor) for factor in factors}


def of_measures() -> dict[str, dict[str, Any]]:
    """What each measure means, by name."""
    return {
        name: _declaration(measure) | {"chance": measure.chance, "headline": measure.headline}
        for name, measure in MEASURES.items()
    }


def _declaration(declared: Declared) -> dict[str, Any]:
    """What a function that is listed says of its numbers."""
    return {
        "version": declared.version,
        "unit": declared.unit,
        "range": ends(declared.range),
        "higher_is": declared.higher_is,
        "cite": declared.cite,
        "meaning": declared.meaning,
    }


def of_observer(observer: Observer) -> str:
    """What an observer says that it sees."""
    documented = observer.parts or observer.description or (observer.features and observer.features.__doc__)
    return observer.sees if documented else "An observer of the user's own."


def of_twins(ladders: Sequence[Ladder]) -> dict[str, str]:
    """What each twin is that the ladders may have, by name."""
    twins = {name: twin for ladder in ladders for name, twin in ladder.twins.items()}
    made = {name: twin.description for name, twin in {**DERIVED, **twins}.items() if isinstance(twin, DerivedTwin)}
    trained = {name: TRAINED_TWINS.get(name, "the same network, trained in another way") for name in twins}
    return TWINS | trained | made


TWINS = {
    "untrained": "the same network with its first weights, never trained; running statistics that it normalises by are "
    "estimated on stimuli",
    "rotated": "the units of the trained layer, standardised, mixed by a fixed random rotation, of wide layers along a "
    "sample of its directions",
}
TRAINED_TWINS = {
    "memorising": "in the ladder of sums, the same network, trained without weight decay until it knows its training "
    "pairs by heart"
}


def command(settings: Mapping[str, Any], calls: Mapping[str, Sequence[str]]) -> str:
    """The command that makes the run again: for the shell, or for Python if ladders or observers are the user's own.

    Args:
        settings: those that results depend on.
        calls: by ladder, the command line that measures the same, where that is not `survey` and the ladder's name.
    """
    asked = [name for name in settings.get("observer", ()) if name not in _parts(settings["observer"])]
    settings = {**settings, "observer": asked}  # an observer brings its parts along
    usual = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}
    changed = {
        name: settings[name]
        for name, default in usual.items()
        if name in settings and _listed(settings[name]) != _listed(default)
    }
    unregistered = [name for name in asked if name not in OBSERVERS and not is_of_a_kind(name)]
    call = [word for words in calls.values() for word in words]
    if call and not unregistered:
        kept = {name: value for name, value in changed.items() if name not in OF_LADDERS}
        return shlex.join(["thalweg", *call, *_flags(kept)])
    if unregistered or not all(map(ships, calls)):
        arguments = [f"<ladder {ladder!r}>" if not ships(ladder) else repr(ladder) for ladder in calls]
        named = [f"{name}={value!r}" for name, value in changed.items()]
        return f"thalweg.survey({', '.join([*arguments, *named])})"
    return shlex.join(["thalweg", "survey", *calls, *_flags(changed)])


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they are given on a command line."""
    words: list[str] = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] if value else [f"--no-{name}"]
        else:
            words += [word for item in _listed(value) for word in (flag, str(item))]
    return words


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _parts(observers: Sequence[str]) -> set[str]:
    return {part for observer in observers if observer in OBSERVERS for part in OBSERVERS[observer].parts}
