"""Trials of the units of one model, derived from its recordings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg.errors import ThalwegError, unknown
from thalweg.files.identity import digest
from thalweg.measures.two_choice import MATCHED_BANDS, PLAIN_BANDS
from thalweg.observers import base
from thalweg.recording.result import concat_units
from thalweg.runs.recordings import ModelRecordings, RecordedHalves, read_recordings
from thalweg.scoring.units import chunks
from thalweg.stimuli.base import Stimuli, halves
from thalweg.trials.building import BANDS, build_trials, matched_pairs
from thalweg.trials.items import Question, Trial, questions

PER_UNIT = 12  # four for each of the three bands


@dataclass(frozen=True)
class TrialSettings:
    """Which trials of a model are asked for.

    Attributes:
        layer: The layer's name or several; by default all.
        units: The units' numbers; or so many units of each layer, drawn at random, the same ones of a model and of its
            twins; by default all. Units that make no trial (constant ones) are left out.
        band: The band or several; by default those of `two_choice` (`extreme`, `v90`, `v75`), or with `matched` those
            of `two_choice_matched` (`v90`, `v75`).
        per_unit: The most trials of a unit, over all bands.
        matched: Only pairs of queries that low-level statistics can't decide; this needs the stimuli.
    """

    layer: str | Sequence[str] | None = None
    units: int | Sequence[int] | None = None
    band: str | Sequence[str] | None = None
    per_unit: int = PER_UNIT
    matched: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers; none for all."""
        return _tuple(self.layer)

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands, the first one first."""
        return _tuple(self.band) or (MATCHED_BANDS if self.matched else PLAIN_BANDS)

    @property
    def unit_ids(self) -> tuple[int, ...] | None:
        """The units' numbers, where they are named."""
        return None if self.units is None or isinstance(self.units, int) else tuple(map(int, self.units))


def trial_settings(given: Mapping[str, Any]) -> TrialSettings:
    """The settings that a user gave by name, checked.

    Raises:
        ThalwegError: there is no such setting or band, or a number is out of range.
    """
    for name in given:
        if name not in TrialSettings.__dataclass_fields__:
            raise unknown("setting of trials", name, TrialSettings.__dataclass_fields__)
    settings = TrialSettings(**given)
    for name in settings.bands:
        if name not in BANDS:
            raise unknown("band", name, BANDS)
    counts = {"per_unit": settings.per_unit, **({"units": settings.units} if isinstance(settings.units, int) else {})}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ThalwegError(f"{name} is {count!r}; a whole number of at least 1 was expected")
    return settings


def _tuple(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


@dataclass(frozen=True, eq=False)
class RecordedModel:
    """One model or twin of a run, with all that its trials are derived from."""

    ladder: str
    rung: str
    seed: int
    control: str
    data_hash: str
    made_from: str  # the hash of what its weights are made from
    run_seed: int  # that the halves of the pool are dealt by
    file: Path  # of its recordings
    load: Callable[[], Stimuli]

    @cached_property
    def recordings(self) -> ModelRecordings:
        """Its recordings, read when they are first asked for."""
        return read_recordings(self.file)

    def question_seed(self, layer: str, unit: int) -> int:
        """The number that a unit's questions are drawn by."""
        return int(digest("questions", *self._key, layer, unit), 16)

    def unit_identity(self, layer: str, unit: int) -> str:
        """A hash of what a unit is: the stimuli, what its model is made from, and where it is in the model."""
        recordings = self.recordings
        basis = (recordings.reductions[layer], recordings.basis, recordings.basis_identity)
        return digest("unit", *self._key, layer, *basis, unit)

    def unit_order(self, layer: str, unit: int) -> str:
        """What the units of a layer are drawn by: the same ones of a model and of its twins."""
        return digest("units", self.data_hash, self.ladder, self.rung, self.run_seed, layer, unit)

    def trial(self, question: Question, layer: str, unit: int) -> Trial:
        """A question about a unit as a trial with an id."""
        queries = (question.high_query, question.low_query)
        queries = queries if question.high_first else queries[::-1]
        reduction, basis = self.recordings.reductions[layer], self.recordings.basis
        about_unit = (layer, reduction, basis, self.recordings.basis_identity, unit, question.band)
        references = (question.high_references, question.low_references)
        return Trial(
            id=digest("trial", *self._key, *about_unit, *references, queries),
            ladder=self.ladder,
            rung=self.rung,
            seed=self.seed,
            control=self.control,
            layer=layer,
            reduction=reduction,
            basis=basis,
            unit=unit,
            band=question.band,
            high_references=question.high_references,
            low_references=question.low_references,
            queries=queries,
            correct=0 if question.high_first else 1,
            load=self.load,
            made_from=self.identity,
        )

    @property
    def identity(self) -> str:
        """A hash of what the model is: another one when it is made anew from other stimuli or in another way."""
        return digest("model", *self._key)

    @property
    def _key(self) -> tuple[str | int, ...]:
        return (self.data_hash, self.made_from, self.ladder, self.rung, self.seed, self.control)


def check_settings(model: RecordedModel, settings: TrialSettings) -> None:
    """Check that a model has the layers and units that are asked about.

    Raises:
        ThalwegError: it has not.
    """
    known = model.recordings.layers
    for layer in settings.layers:
        if layer not in known:
            raise unknown(f"layer of rung {model.rung!r}", layer, known)
    layers = settings.layers or tuple(known)
    numbers = {unit for layer in layers for unit in known[layer].reference.unit_ids.tolist()}
    if isinstance(settings.unit_ids, tuple) and (absent := [unit for unit in settings.unit_ids if unit not in numbers]):
        raise ThalwegError(
            f"rung {model.rung!r} has no unit {absent[0]} in {', '.join(map(repr, layers))}; its {len(numbers)} units "
            f"there are numbered from {min(numbers)} to {max(numbers)}"
        )


def trials_of(model: RecordedModel, settings: TrialSettings) -> Iterator[Trial]:
    """The trials of a model, layer by layer and unit by unit; layers and units that it has not are passed over.

    Raises:
        ThalwegError: the stimuli are needed and can't be made again.
    """
    for layer in model.recordings.layers:
        if not settings.layers or layer in settings.layers:
            yield from _of_layer(model, layer, settings)


def _of_layer(model: RecordedModel, layer: str, settings: TrialSettings) -> Iterator[Trial]:
    """The trials of a layer; where so many units are drawn, of the first ones that have any."""
    recorded = model.recordings.layers[layer]
    unit_ids = recorded.reference.unit_ids.tolist()
    if settings.unit_ids is not None:
        indices = [unit_ids.index(unit) for unit in settings.unit_ids if unit in unit_ids]
    elif settings.units is None:
        indices = list(range(len(unit_ids)))
    else:
        indices = sorted(range(len(unit_ids)), key=lambda index: model.unit_order(layer, unit_ids[index]))
    left = settings.units if isinstance(settings.units, int) else len(indices)
    statistics = _statistics(model) if settings.matched else None
    for chunk in chunks(len(indices)):
        if left <= 0:
            return
        chosen = indices[chunk]
        part = RecordedHalves(*(concat_units([half.units(slice(i, i + 1)) for i in chosen]) for half in recorded))
        trials = build_trials(part.reference, part.query)
        pairs = matched_pairs(trials, part.reference, *statistics) if statistics else None
        for position, index in enumerate(chosen):
            unit = unit_ids[index]
            seed = model.question_seed(layer, unit)
            asked = questions(trials, position, settings.bands, settings.per_unit, seed=seed, pairs=pairs)
            if asked and left > 0:
                left -= 1
                yield from (model.trial(question, layer, unit) for question in asked)


def _statistics(model: RecordedModel) -> tuple[Tensor, Tensor]:
    """The low-level statistics of the stimuli (stimulus, statistic), and the ids of the reference half."""
    pool = model.load()
    return base.extract_features(base.find("trivial"), pool)["features"], halves(pool, seed=model.run_seed)[0]
