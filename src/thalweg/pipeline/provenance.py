"""What run.json says of how a run was made."""

import platform
import resource
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from thalweg.compute.devices import repeats
from thalweg.factors.claims import HYPOTHESES, SMALLER_CLAIMS
from thalweg.models.records import Ladder
from thalweg.observers.base import Observer
from thalweg.pipeline.descriptions import command, of_factors, of_measures, of_observer, of_twins
from thalweg.pipeline.job import Model, factors_of
from thalweg.pipeline.settings import Settings
from thalweg.pipeline.twins import twin_note
from thalweg.progress import Stages
from thalweg.runs import directory
from thalweg.runs.stimuli import source_record
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Source, notes_of
from thalweg.strength.axes import AXES, WORDING

PACKAGES = ("thalweg", "torch", "numpy", "scipy", "scikit-image", "polars")


def _relatives(ladder: Ladder, observer: Observer) -> list[str]:
    """The rungs whose network is of the family that an observer sees with."""
    return [rung.name for rung in ladder.rungs if rung.subject and observer.relation(rung.subject.family)]


def _notes_on_twins(model: Model) -> dict[str, str]:
    """How a model's twins were made, where there is something to note."""
    return {control: note for control in model.controls[1:] if (note := twin_note(model, control))}


def _notes_on_labels(models: list[Model], ladder: Ladder) -> list[str]:
    """How many training labels are wrong on a ladder, and of which rungs."""
    mine = [model for model in models if model.ladder.name == ladder.name]
    rungs: dict[float, dict[str, None]] = {}
    for model in mine:
        rungs.setdefault(model.label_noise, {})[model.rung.name] = None
    count = len(mine[0].splits.train)
    return [
        f"label noise: {round(share * count):,} of {count:,} training labels are wrong"
        + (f", of {', '.join(names)}" if len(rungs) > 1 else "")
        for share, names in rungs.items()
        if share
    ]


def _strength_in_words(ladder: Ladder) -> str:
    """What a bit of strength is on a ladder."""
    modality = modalities.of(ladder)
    as_classifiers = modality.tokens and ladder.evaluate is None  # not by the next token, as is usual with tokens
    return ladder.strength or ("" if as_classifiers else modality.strength) or WORDING


def _of_ladder(model: Model, models: list[Model], source: Source) -> dict[str, Any]:
    """What run.json says of a ladder: of one of its models, and of how the twins of all of them were made."""
    return {
        "description": model.ladder.description,
        "call": list(model.ladder.call),
        "modality": modalities.of(model.ladder).name,
        "strength": _strength_in_words(model.ladder),
        "observers": [
            {
                "name": observer.name,
                "version": observer.version,
                "control": observer.control,
                "relatives": _relatives(model.ladder, observer),
                "sees": of_observer(observer),
            }
            for observer in model.observers
        ],
        "data_hash": model.data_hash,
        "weights": {
            other.rung.name: weights
            for other in models
            if other.ladder.name == model.ladder.name and (weights := other.existing_weights())
        },
        "source": source_record(source, model.ladder.stimuli_from),
        "notes": [*notes_of(model.splits.pool), *_notes_on_labels(models, model.ladder)],
        "warnings": list(model.notes),
        "twins": {
            other.rung.name: notes
            for other in models
            if other.ladder.name == model.ladder.name and (notes := _notes_on_twins(other))
        },
        "left_out": list(getattr(model.splits.pool, "left_out", ())),
        "stimuli": {part: len(getattr(model.splits, part)) for part in ("train", "validation", "pool")},
    }


def run_record(
    models: list[Model], settings: Settings, sources: Mapping[str, Source], stages: Stages
) -> dict[str, Any]:
    """What run.json says: how to do it again, on what it rests, and what it cost. `sources` are those of each ladder's
    stimuli.
    """
    affecting = settings.affecting() | {"capability": settings.capability}
    affecting |= {"factors": list(settings.factors)} if settings.factors else {}
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "format": directory.FORMAT,
        "settings": affecting,
        "ladders": {model.ladder.name: _of_ladder(model, models, sources[model.ladder.name]) for model in models},
        "command": command(affecting, {model.ladder.name: model.ladder.call for model in models}),
        "measures": of_measures(),
        "factors": of_factors(factors_of(models)),
        "claims": {**HYPOTHESES, **SMALLER_CLAIMS},
        "capability": [*dict.fromkeys(model.ladder.name for model in models if model.settings.weighs_capability)],
        "edits": [*dict.fromkeys(model.ladder.name for model in models if model.ladder.edited)],
        "concepts": [*dict.fromkeys(model.ladder.name for model in models if model.ladder.concepts)],
        "twins": of_twins([model.ladder for model in models]),
        "axes": dict(AXES),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": settings.resolved_device,
        "repeats": repeats(settings.resolved_device),
        "seconds": stages.seconds,
        "peak_memory_mib": round(peak / 1024),
    }
