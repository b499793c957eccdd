"""From the two recordings of a layer to a row for each unit and measure: trials are derived, observers answer, measures
are taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.measures import MEASURES, Measure, Score
from thalweg.observers import Answers, Observer, Prepared, answer, answer_by_features
from thalweg.recording import Recording, merge
from thalweg.tables import UNITS
from thalweg.trials import Exam, Pairs, exam, undecided

CHUNK = 128  # units at a time: bounds memory


@dataclass(frozen=True, eq=False)
class Halves:
    """The ids of a pool's reference half and query half."""

    reference: Int[Tensor, " reference"]
    query: Int[Tensor, " query"]

    def exchanged(self) -> "Halves":
        """The two in each other's place."""
        return Halves(self.query, self.reference)


@dataclass(frozen=True, eq=False)
class Watcher:
    """An observer with its view of the pool."""

    observer: Observer
    view: Prepared


@dataclass(frozen=True, eq=False)
class Inputs:
    """What measures may ask for of some units of one layer, each derived when it is first asked for."""

    reference: Recording
    query: Recording
    halves: Halves
    statistics: Float[Tensor, "stimulus statistic"]
    labels: Int[Tensor, " stimulus"]
    exam: Exam
    undecided: Pairs
    watcher: Watcher | None = None

    @cached_property
    def evidence(self) -> Answers:
        """Answers of the observer, comparing whole stimuli."""
        return answer(self.exam, self._view.embedding)

    @cached_property
    def by_capacity(self) -> Mapping[int | None, Answers]:
        """Answers of the observer for each capacity."""
        return answer_by_features(self.exam, self._view.dictionary)

    @cached_property
    def single(self) -> Answers:
        """Answers of the observer with capacity 1."""
        if "by_capacity" in self.__dict__:
            return self.by_capacity[1]
        return answer_by_features(self.exam, self._view.dictionary, (1,))[1]

    @cached_property
    def both(self) -> Recording:
        """The recording of the whole pool."""
        return merge(self.reference, self.query)

    @property
    def activations(self) -> Float[Tensor, "stimulus unit"]:
        """Values on the random samples of both halves; NaN for units that failed."""
        values = torch.cat([self.reference.sample, self.query.sample])
        return values.where(self.exam.alive, torch.nan)

    @property
    def embeddings(self) -> Float[Tensor, "stimulus feature"]:
        """The observer's embedding of those stimuli."""
        return self._view.embedding[torch.cat([self.reference.sample_ids(), self.query.sample_ids()])]

    @property
    def class_means(self) -> Float[Tensor, "label unit"]:
        """The mean value over the stimuli of each class; NaN for units that failed."""
        sums = self.both.products["label"]
        return (sums / self._class_counts[:, None]).where(self.exam.alive, torch.nan).float()

    @property
    def class_errors(self) -> Float[Tensor, "label unit"]:
        """The standard errors of the class means, from the variance within classes."""
        share = self._class_counts / self._class_counts.sum()
        between = (share[:, None] * (self.class_means.double() - self.both.mean).square()).sum(0)
        within = (self.both.variance() - between).clamp_min(0)
        return (within / self._class_counts[:, None]).sqrt().float()

    @property
    def _class_counts(self) -> Tensor:
        return self.labels.bincount().double()

    @property
    def _view(self) -> Prepared:
        if self.watcher is None:
            raise ThalwegError("this measure needs an observer")
        return self.watcher.view


@dataclass
class Rows:
    """Rows of the table of units, gathered column by column."""

    constants: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    notes: list[tuple[str, ...]] = field(default_factory=list)
    first: list[int] = field(default_factory=list)

    def add(self, score: Score, notes: tuple[str, ...], first: int, **constants: Any) -> None:
        """One number for each of some units, of which the first stands at `first` among all."""
        self.scores.append(score)
        self.notes.append(notes)
        self.first.append(first)
        self.constants.append(constants)

    def frame(self, units: pl.DataFrame) -> pl.DataFrame:
        """All rows as one table in the schema of units; `units` says of each unit what the rows don't."""
        lengths = [len(score.value) for score in self.scores]
        which = np.repeat(np.arange(len(lengths)), lengths)  # the score that each row belongs to
        place = np.concatenate([np.arange(n) + at for n, at in zip(lengths, self.first, strict=True)])
        rows = pl.concat([pl.DataFrame(self.constants)[which], units[place]], how="horizontal").with_columns(
            *(
                pl.Series(name, torch.cat([getattr(score, name) for score in self.scores]).numpy())
                for name in ("value", "low", "high", "n")
            ),
            pl.Series("unit_note", [note for notes in self.notes for note in notes]),
            pl.Series("score_note", [score.note for score in self.scores])[which],
        )
        reason = pl.when(pl.col("unit_note") != "").then("unit_note").otherwise("score_note")
        note = pl.when(pl.col("value").is_nan()).then(reason).otherwise(pl.lit("")).alias("note")
        return rows.with_columns(note).select(pl.col(name).cast(dtype) for name, dtype in UNITS.items())


def score_units(
    reference: Recording,
    query: Recording,
    units: pl.DataFrame,
    *,
    halves: Halves,
    watchers: Sequence[Watcher],
    statistics: Float[Tensor, "stimulus statistic"],
    labels: Int[Tensor, " stimulus"],
) -> pl.DataFrame:
    """Take every measure of every unit with each observer: the rows of the table of units.

    `units` has a row for each unit of the recordings, which may be of many layers beside each other: ladder, rung,
    layer and whatever else the table says of it. The first observer is the headline's: its essential measures are also
    taken with the halves exchanged. Control observers are asked the essential measures only.
    """
    rows = Rows()
    for some in chunks(len(units)):
        one, other = reference.units(some), query.units(some)
        for exchanged in (False, True):
            parts = (other, one, halves.exchanged()) if exchanged else (one, other, halves)
            trials = exam(parts[0], parts[1])
            pairs = undecided(trials, parts[0], statistics, parts[2].reference)
            for watcher in watchers[:1] if exchanged else [None, *watchers]:
                inputs = Inputs(*parts, statistics, labels, trials, pairs, watcher)
                for measure in _measures(watcher, exchanged):
                    for (band, capacity), score in _take(measure, inputs).items():
                        rows.add(
                            score,
                            trials.notes,
                            some.start,
                            measure=measure.name,
                            measure_version=measure.version,
                            observer=watcher.observer.name if watcher else "",
                            band=band,
                            capacity=capacity,
                            exchanged=exchanged,
                        )
    return rows.frame(units)


def chunks(units: int) -> Iterator[slice]:
    """All units, some at a time."""
    for start in range(0, units, CHUNK):
        yield slice(start, min(start + CHUNK, units))


def _measures(watcher: Watcher | None, exchanged: bool) -> list[Measure]:
    """Those that ask for an observer, or those that don't; only the essential ones of controls and of exchanged
    halves.
    """
    asks = {"evidence", "single", "by_capacity", "embeddings"}
    found = [measure for measure in MEASURES.values() if bool(asks & set(measure.needs)) == (watcher is not None)]
    if exchanged or (watcher is not None and watcher.observer.control):
        return [measure for measure in found if measure.essential]
    return found


def _take(measure: Measure, inputs: Inputs) -> Mapping[tuple[str, str], Score]:
    function: Callable[..., Any] = measure.function
    result = function(**{name: getattr(inputs, name) for name in measure.needs})
    return {("", ""): result} if isinstance(result, Score) else result
