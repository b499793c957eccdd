"""From the two recordings of a layer to a row for each unit and measure: trials are derived, observers answer, measures
are taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import ThalwegError, user_code
from thalweg.files.identity import is_packaged
from thalweg.measures.base import MEASURES, Measure, Score
from thalweg.observers.answers import Answers, answer, answer_by_features
from thalweg.observers.base import Observer
from thalweg.observers.embedding import ObserverView, consecutive_codes
from thalweg.recording.result import Recording, merge
from thalweg.recording.statistics import Indicators, Statistic
from thalweg.scoring.columns import UNITS
from thalweg.stimuli.base import Stimuli
from thalweg.trials.building import Pairs, TrialSet, build_trials, group_means, matched_pairs, matched_pairs_by_group

COMMON_TOKEN = 5  # windows of the pool that end in a token, for it to have a mean of its own
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
class ObserverOnPool:
    """An observer with its view of the pool."""

    observer: Observer
    view: ObserverView


@dataclass(frozen=True, eq=False)
class StimulusMetadata:
    """Metadata of every stimulus of the pool."""

    low_level: Float[Tensor, "stimulus statistic"]
    labels: Int[Tensor, " stimulus"]
    last_token: Int[Tensor, " stimulus"] | None = None  # codes of last tokens, those that are rare under one code

    def tables(self) -> dict[str, Statistic]:
        """The statistics whose products with the units' values a recording keeps."""
        return {"trivial": self.low_level, **_indicators(self.labels, self.last_token)}


def _indicators(labels: Tensor, last_token: Tensor | None) -> dict[str, Indicators]:
    codes = {"label": labels} | ({} if last_token is None else {"last_token": last_token})
    return {name: Indicators(each, int(each.max()) + 1 if len(each) else 1) for name, each in codes.items()}


def stimulus_metadata(pool: Stimuli, low_level: Float[Tensor, "stimulus statistic"]) -> StimulusMetadata:
    """The metadata of a pool: low-level statistics (standardised, with their squares), labels and last tokens."""
    return StimulusMetadata(low_level, consecutive_codes(pool.labels), _last_token(pool))


def _last_token(pool: Stimuli) -> Tensor | None:
    """Codes of last tokens, those that are rare under one code; none where there are no tokens."""
    tokens = pool.last_token()
    if tokens is None:
        return None
    counts = tokens.bincount()
    common = (counts >= COMMON_TOKEN).nonzero().flatten()
    code = torch.full((len(counts),), len(common))  # the code of all that are rare
    code[common] = torch.arange(len(common))
    return code[tokens]


def statistics_kept(pool: Stimuli) -> int:
    """How many statistics of a pool's stimuli a recording keeps products with, but for the few low-level ones."""
    return sum(table.count for table in _indicators(consecutive_codes(pool.labels), _last_token(pool)).values())


@dataclass(frozen=True, eq=False)
class Inputs:
    """What measures may ask for of some units of one layer, each derived when it is first asked for."""

    reference: Recording
    query: Recording
    halves: Halves
    metadata: StimulusMetadata
    trials: TrialSet
    matched_pairs: Pairs
    matched_pairs_by_token: Pairs
    watcher: ObserverOnPool | None = None

    @cached_property
    def evidence(self) -> Answers:
        """Answers of the observer, comparing whole stimuli if it does, else by its one best feature."""
        return self.single if self._view.embedding is None else self.cosines

    @cached_property
    def cosines(self) -> Answers:
        """Answers of an observer that compares whole stimuli: differences of mean cosines."""
        assert self._view.embedding is not None
        return answer(self.trials, self._view.embedding)

    @cached_property
    def by_capacity(self) -> Mapping[int | None, Answers]:
        """Answers of the observer for each capacity."""
        return answer_by_features(self.trials, self._view.dictionary)

    @cached_property
    def single(self) -> Answers:
        """Answers of the observer with capacity 1."""
        if "by_capacity" in self.__dict__:
            return self.by_capacity[1]
        return answer_by_features(self.trials, self._view.dictionary, (1,))[1]

    @cached_property
    def both(self) -> Recording:
        """The recording of the whole pool."""
        return merge(self.reference, self.query)

    @property
    def activations(self) -> Float[Tensor, "stimulus unit"]:
        """Values on the random samples of both halves; NaN for units that failed."""
        values = torch.cat([self.reference.sample, self.query.sample])
        return values.where(self.trials.alive, torch.nan)

    @property
    def embeddings(self) -> Float[Tensor, "stimulus feature"]:
        """The observer's embedding of those stimuli."""
        assert self._view.embedding is not None
        return self._view.embedding[torch.cat([self.reference.sample_ids(), self.query.sample_ids()])]

    @property
    def class_means(self) -> Float[Tensor, "label unit"]:
        """The mean value over the stimuli of each class; NaN for units that failed."""
        sums = self.both.products["label"][self._classes]
        return (sums / self._class_counts[:, None]).where(self.trials.alive, torch.nan).float()

    @property
    def class_errors(self) -> Float[Tensor, "label unit"]:
        """The standard errors of the class means, from the variance within classes."""
        share = self._class_counts / self._class_counts.sum()
        between = (share[:, None] * (self.class_means.double() - self.both.mean).square()).sum(0)
        within = (self.both.variance() - between).clamp_min(0)
        return (within / self._class_counts[:, None]).sqrt().float()

    @property
    def _class_counts(self) -> Tensor:
        return self.metadata.labels.bincount()[self._classes].double()

    @property
    def _classes(self) -> Tensor:
        """Those that the pool has any stimuli of."""
        return self.metadata.labels.bincount().nonzero().flatten()

    @property
    def token_share(self) -> Float[Tensor, " unit"]:
        """The share of each unit's variance that the identity of the last token explains; NaN for units that failed."""
        assert self.metadata.last_token is not None
        recorded = torch.cat([self.halves.reference, self.halves.query])
        share = group_means(self.both, self.metadata.last_token[recorded], "last_token").share
        return share.where(self.trials.alive, torch.nan)

    @property
    def _view(self) -> ObserverView:
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
        """Add a score for consecutive units; `first` is the index of the first of them."""
        self.scores.append(score)
        self.notes.append(notes)
        self.first.append(first)
        self.constants.append(constants)

    def frame(self, units: pl.DataFrame) -> pl.DataFrame:
        """All rows as one table in the schema of units; `units` says of each unit what the rows don't."""
        lengths = [len(score.value) for score in self.scores]
        which = np.repeat(np.arange(len(lengths)), lengths)  # the score that each row belongs to
        position = np.concatenate([np.arange(n) + at for n, at in zip(lengths, self.first, strict=True)])
        rows = pl.concat([pl.DataFrame(self.constants)[which], units[position]], how="horizontal").with_columns(
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
    observers: Sequence[ObserverOnPool],
    metadata: StimulusMetadata,
) -> pl.DataFrame:
    """Take every measure of every unit with each observer: the rows of the table of units.

    `units` has a row for each unit of the recordings, which may be of many layers beside each other: ladder, rung,
    layer and whatever else the table says of it. The first observer is the headline's: its essential measures are also
    taken with the halves exchanged. Control observers are asked the essential measures only.
    """
    rows = Rows()
    for chunk in chunks(len(units)):
        reference_chunk, query_chunk = reference.units(chunk), query.units(chunk)
        for exchanged in (False, True):
            parts = (
                (query_chunk, reference_chunk, halves.exchanged())
                if exchanged
                else (reference_chunk, query_chunk, halves)
            )
            trials = build_trials(parts[0], parts[1])
            pairs = matched_pairs(trials, parts[0], metadata.low_level, parts[2].reference)
            by_token = pairs
            if metadata.last_token is not None:
                by_token = matched_pairs_by_group(trials, parts[0], metadata.last_token, parts[2].reference)
            for watcher in observers[:1] if exchanged else [None, *observers]:
                inputs = Inputs(*parts, metadata, trials, pairs, by_token, watcher)
                for measure in _measures(watcher, exchanged, metadata):
                    for (band, capacity), score in _take(measure, inputs).items():
                        rows.add(
                            score,
                            trials.notes,
                            chunk.start,
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


WHOLE = {"cosines", "embeddings"}  # what only an observer that compares whole stimuli can give
ANSWERED = {"evidence", "single", "by_capacity"} | WHOLE
BY_TOKEN = {"matched_pairs_by_token", "token_share"}


def _measures(watcher: ObserverOnPool | None, exchanged: bool, metadata: StimulusMetadata) -> list[Measure]:
    """Those that ask for an observer, or those that don't; only the essential ones of controls and of exchanged
    halves; none that asks for what the stimuli or the observer lack.
    """
    measures = [
        measure for measure in MEASURES.values() if bool(ANSWERED & set(measure.needs)) == (watcher is not None)
    ]
    lacking = set() if metadata.last_token is not None else set(BY_TOKEN)
    lacking |= {"class_means"} if len(metadata.labels.unique()) == 1 else set()
    lacking |= WHOLE if watcher is not None and watcher.view.embedding is None else set()
    measures = [measure for measure in measures if not lacking & set(measure.needs)]
    if exchanged or (watcher is not None and watcher.observer.control):
        return [measure for measure in measures if measure.essential]
    return measures


def _take(measure: Measure, inputs: Inputs) -> Mapping[tuple[str, str], Score]:
    """A measure's scores by band and capacity.

    Raises:
        ThalwegError: it is the user's own, and it failed, asks for what there is not, or returned no scores.
    """
    function: Callable[..., Any] = measure.function
    given = {name: getattr(inputs, name) for name in measure.needs}
    with nullcontext() if is_packaged(function) else user_code(f"measure {measure.name!r}"):
        result = function(**given)
    scores = {("", ""): result} if isinstance(result, Score) else result
    if not isinstance(scores, Mapping) or not all(isinstance(score, Score) for score in scores.values()):
        raise ThalwegError(
            f"measure {measure.name!r} returned {type(result).__name__}; a Score, or Scores by (band, capacity), were "
            "expected"
        )
    return scores
