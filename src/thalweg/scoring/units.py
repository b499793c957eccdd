"""From the two recordings of a layer to a row for each unit and measure: trials are derived, observers answer, measures
are taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
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
from thalweg.trials.one_sided import Tails, build_one_sided, tails

ROUNDING = 1e-6  # by which a measure's value may leave its range
COMMON_TOKEN = 5  # windows of the pool that end in a token, for it to have a mean of its own
CHUNK = 512  # units at a time: bounds memory
TOGETHER = 128  # units whose rows lie together in the table, measure by measure


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
class Questions:
    """The trials of some units, and which of their pairs of queries neither low-level statistics nor tokens decide;
    made when they are first asked for.
    """

    build: Callable[[], TrialSet]
    reference: Recording
    ids: Int[Tensor, " reference"]  # of the stimuli of that half
    metadata: StimulusMetadata

    @cached_property
    def trials(self) -> TrialSet:
        """The trials."""
        return self.build()

    @cached_property
    def matched_pairs(self) -> Pairs:
        """By band, the pairs that low-level statistics can't decide."""
        return matched_pairs(self.trials, self.reference, self.metadata.low_level, self.ids)

    @cached_property
    def matched_pairs_by_token(self) -> Pairs:
        """By band, the pairs that the identity of the last token can't decide."""
        assert self.metadata.last_token is not None
        return matched_pairs_by_group(self.trials, self.reference, self.metadata.last_token, self.ids)


@dataclass(frozen=True, eq=False)
class Answered:
    """Questions, and what an observer answers, each derived when it is first asked for."""

    questions: Questions
    watcher: ObserverOnPool | None

    @property
    def matched_pairs(self) -> Pairs:
        """By band, the pairs that low-level statistics can't decide."""
        return self.questions.matched_pairs

    @property
    def matched_pairs_by_token(self) -> Pairs:
        """By band, the pairs that the identity of the last token can't decide."""
        return self.questions.matched_pairs_by_token

    @cached_property
    def evidence(self) -> Answers:
        """Answers of the observer, comparing whole stimuli if it does, else by its one best feature."""
        return self.single if self.view.embedding is None else self.cosines

    @cached_property
    def cosines(self) -> Answers:
        """Answers of an observer that compares whole stimuli: differences of mean cosines."""
        assert self.view.embedding is not None
        return answer(self.questions.trials, self.view.embedding)

    @cached_property
    def by_capacity(self) -> Mapping[int | None, Answers]:
        """Answers of the observer for each capacity."""
        return answer_by_features(self.questions.trials, self.view.dictionary)

    @cached_property
    def single(self) -> Answers:
        """Answers of the observer with capacity 1."""
        if "by_capacity" in self.__dict__:
            return self.by_capacity[1]
        return answer_by_features(self.questions.trials, self.view.dictionary, (1,))[1]

    @property
    def view(self) -> ObserverView:
        """What the observer answers by."""
        if self.watcher is None:
            raise ThalwegError("this measure needs an observer")
        return self.watcher.view


TWO_SIDED, ONE_SIDED, OTHER_POLE = "", "one_sided_", "other_pole_"  # what the names of inputs begin with


def plain_name(name: str) -> str:
    """An input's name without what says which trials it is of."""
    return name.removeprefix(ONE_SIDED).removeprefix(OTHER_POLE)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What measures may ask for of some units of one layer, each derived when it is first asked for.

    Inputs that come from trials stand in `answered`, by what their names begin with.
    """

    reference: Recording
    query: Recording
    halves: Halves
    metadata: StimulusMetadata
    tails: Tails
    alive: Bool[Tensor, " unit"]
    answered: Mapping[str, Answered]
    watcher: ObserverOnPool | None = None

    def get(self, name: str) -> Any:
        """The input of this name."""
        plain = plain_name(name)
        if plain in FROM_TRIALS:
            return getattr(self.answered[name.removesuffix(plain)], plain)
        return getattr(self, name)

    @cached_property
    def both(self) -> Recording:
        """The recording of the whole pool."""
        return merge(self.reference, self.query)

    @property
    def activations(self) -> Float[Tensor, "stimulus unit"]:
        """Values on the random samples of both halves; NaN for units that failed."""
        values = torch.cat([self.reference.sample, self.query.sample])
        return values.where(self.alive, torch.nan)

    @property
    def embeddings(self) -> Float[Tensor, "stimulus feature"]:
        """The observer's embedding of those stimuli."""
        assert self._view.embedding is not None
        return self._view.embedding[torch.cat([self.reference.sample_ids(), self.query.sample_ids()])]

    @property
    def class_means(self) -> Float[Tensor, "label unit"]:
        """The mean value over the stimuli of each class; NaN for units that failed."""
        sums = self.both.products["label"][self._classes]
        return (sums / self._class_counts[:, None]).where(self.alive, torch.nan).float()

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
        return share.where(self.alive, torch.nan)

    @property
    def tail_share(self) -> Float[Tensor, " unit"]:
        """The upper tail's share of both; NaN for units that failed."""
        return self.tails.share.where(self.alive, torch.nan)

    @property
    def tail_share_error(self) -> Float[Tensor, " unit"]:
        """The standard error of that share."""
        return self.tails.share_error.where(self.alive, torch.nan)

    @property
    def _view(self) -> ObserverView:
        return self.answered[TWO_SIDED].view


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
        position = np.concatenate([np.arange(n) + at for n, at in zip(lengths, self.first, strict=True)])
        order = np.argsort(position // TOGETHER, kind="stable")
        which = np.repeat(np.arange(len(lengths)), lengths)[order]  # the score that each row belongs to
        rows = pl.concat([pl.DataFrame(self.constants)[which], units[position[order]]], how="horizontal").with_columns(
            *(
                pl.Series(name, torch.cat([getattr(score, name) for score in self.scores]).numpy()[order])
                for name in ("value", "low", "high", "n")
            ),
            pl.Series("unit_note", [note for notes in self.notes for note in notes])[order],
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
    poles: Tails | None = None,
) -> pl.DataFrame:
    """Take every measure of every unit with each observer: the rows of the table of units.

    `units` has a row for each unit of the recordings, which may be of many layers beside each other: ladder, rung,
    layer and whatever else the table says of it. The first observer is the headline's: its essential measures are also
    taken with the halves exchanged. Control observers are asked the essential measures only. `poles` are the units'
    tails as their layers pass them on; by default as they were recorded.
    """
    poles = poles or tails(reference, query)
    rows = Rows()
    for chunk in chunks(len(units)):
        reference_chunk, query_chunk = reference.units(chunk), query.units(chunk)
        for exchanged in (False, True):
            parts = reference_chunk, query_chunk, halves
            if exchanged:
                parts = query_chunk, reference_chunk, halves.exchanged()
            questions = _questions(*parts, metadata, poles.units(chunk).upper_is_main)
            alive, notes = questions[TWO_SIDED].trials.alive, questions[TWO_SIDED].trials.notes
            for watcher in observers[:1] if exchanged else [None, *observers]:
                answered = {side: Answered(asked, watcher) for side, asked in questions.items()}
                inputs = Inputs(*parts, metadata, poles.units(chunk), alive, answered, watcher)
                for measure in _measures(watcher, exchanged, metadata):
                    for (band, capacity), score in take(measure, inputs).items():
                        rows.add(
                            score,
                            notes,
                            chunk.start,
                            measure=measure.name,
                            measure_version=measure.version,
                            observer=watcher.observer.name if watcher else "",
                            band=band,
                            capacity=capacity,
                            exchanged=exchanged,
                        )
    return rows.frame(units)


def _questions(
    reference: Recording, query: Recording, halves: Halves, metadata: StimulusMetadata, upper: Bool[Tensor, " unit"]
) -> dict[str, Questions]:
    """All trials about some units, by what the names of inputs that come from them begin with."""
    builders = trial_builders(reference, query, upper)
    return {side: Questions(build, reference, halves.reference, metadata) for side, build in builders.items()}


def trial_builders(
    reference: Recording, query: Recording, upper: Bool[Tensor, " unit"]
) -> dict[str, Callable[[], TrialSet]]:
    """What makes each kind of trials about some units, by what the names of inputs that come from them begin with;
    `upper` says whether the main pole is the upper one.
    """
    return {
        TWO_SIDED: partial(build_trials, reference, query),
        ONE_SIDED: partial(build_one_sided, reference, query, upper),
        OTHER_POLE: partial(build_one_sided, reference, query, ~upper),
    }


def chunks(units: int) -> Iterator[slice]:
    """All units, some at a time."""
    for start in range(0, units, CHUNK):
        yield slice(start, min(start + CHUNK, units))


WHOLE = {"cosines", "embeddings"}  # what only an observer that compares whole stimuli can give
ANSWERED = {"evidence", "single", "by_capacity"} | WHOLE
BY_TOKEN = {"matched_pairs_by_token", "token_share"}
FROM_TRIALS = {"evidence", "cosines", "single", "by_capacity", "matched_pairs", "matched_pairs_by_token"}


def _measures(watcher: ObserverOnPool | None, exchanged: bool, metadata: StimulusMetadata) -> list[Measure]:
    """Those that ask for an observer, or those that don't; only the essential ones of controls and of exchanged
    halves; none that asks for what the stimuli or the observer lack.
    """
    needs = {name: {plain_name(need) for need in measure.needs} for name, measure in MEASURES.items()}
    measures = [measure for name, measure in MEASURES.items() if bool(ANSWERED & needs[name]) == (watcher is not None)]
    lacking = set() if metadata.last_token is not None else set(BY_TOKEN)
    lacking |= {"class_means"} if len(metadata.labels.unique()) == 1 else set()
    lacking |= WHOLE if watcher is not None and watcher.view.embedding is None else set()
    measures = [measure for measure in measures if not lacking & needs[measure.name]]
    if exchanged or (watcher is not None and watcher.observer.control):
        return [measure for measure in measures if measure.essential]
    return measures


def take(measure: Measure, inputs: Inputs) -> Mapping[tuple[str, str], Score]:
    """A measure's scores by band and capacity.

    Raises:
        ThalwegError: it is the user's own, and it failed, asks for what there is not, returned no scores, or values
            outside its range.
    """
    function: Callable[..., Any] = measure.function
    given = {name: inputs.get(name) for name in measure.needs}
    with nullcontext() if is_packaged(function) else user_code(f"measure {measure.name!r}"):
        result = function(**given)
    scores = {("", ""): result} if isinstance(result, Score) else result
    if not isinstance(scores, Mapping) or not all(isinstance(score, Score) for score in scores.values()):
        raise ThalwegError(
            f"measure {measure.name!r} returned {type(result).__name__}; a Score, or Scores by (band, capacity), were "
            "expected"
        )
    if not is_packaged(function):
        for score in scores.values():
            _check_range(measure, score)
    return scores


def _check_range(measure: Measure, score: Score) -> None:
    """Hold the values that a user's measure returned against the range that it declares.

    Raises:
        ThalwegError: one lies outside it by more than rounding.
    """
    least, greatest = measure.range
    outside = (score.value < least - ROUNDING) | (score.value > greatest + ROUNDING)  # false of NaN
    if outside.any():
        value = float(score.value[outside][0])
        raise ThalwegError(
            f"measure {measure.name!r} declares range=({least:g}, {greatest:g}) and returned {value:g} for a unit; "
            "correct the measure or the range, and raise its version"
        )
