"""What observers made of a unit: the trials that each got wrong, and the features that each chose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.explore.features import feature_names
from thalweg.files.whole import read_tensors
from thalweg.observers import base
from thalweg.observers.answers import Answers, answer, answer_by_features, separations
from thalweg.observers.embedding import ObserverView
from thalweg.pipeline.embed import embed_pool, write_views
from thalweg.pipeline.settings import Settings
from thalweg.progress import Stages
from thalweg.runs.recordings import RecordedHalves
from thalweg.runs.run import Run
from thalweg.stimuli.base import halves
from thalweg.trials.building import Pairs, TrialSet, matched_pairs
from thalweg.trials.one_sided import build_one_sided

WRONG = 4  # trials that are shown of each observer
CHOSEN = 3  # features of each observer
LOOKED_AT = 12  # features, or trials of a band, among which these are, as several may have one name or stimulus
EXAMPLES = 5  # stimuli that a feature is shown by


@dataclass(frozen=True, eq=False)
class Watching:
    """An observer with its view of the pool and the names of its features."""

    name: str
    control: bool
    view: ObserverView
    names: list[str]


@dataclass(frozen=True, eq=False)
class Watchers:
    """All observers of a ladder that can be asked again, and what trials are matched by."""

    observers: tuple[Watching, ...]
    missing: Mapping[str, str]  # observers that cannot be asked again, and why
    low_level: Float[Tensor, "stimulus statistic"]
    reference: Int[Tensor, " reference"]  # ids of the reference half


@dataclass(frozen=True)
class WrongTrial:
    """A pair of queries of which an observer picked the wrong one: ids of stimuli."""

    band: str
    driving: int
    typical: int


@dataclass(frozen=True)
class Wrong:
    """How an observer did on a unit's matched trials, and some of those that it got wrong, the surest first."""

    observer: str
    manner: str
    by_band: Mapping[str, tuple[float, int]]  # wrong ones, ties counting half, and all
    trials: tuple[WrongTrial, ...]

    @property
    def wrong(self) -> float:
        """How many it got wrong."""
        return sum(wrong for wrong, _ in self.by_band.values())

    @property
    def asked(self) -> int:
        """How many it was asked."""
        return sum(asked for _, asked in self.by_band.values())


@dataclass(frozen=True)
class Chosen:
    """A feature that tells a unit's references apart."""

    name: str
    more: bool  # whether what drives the unit has more of it
    separation: float
    examples: tuple[int, ...]  # the stimuli that have most of it


@dataclass(frozen=True, eq=False)
class Observed:
    """What observers made of one unit."""

    wrong: tuple[Wrong, ...]
    chosen: tuple[tuple[str, tuple[Chosen, ...]], ...]  # by observer


def watchers(run: Run, ladder: str, pool: Any, cache: Path, stages: Stages) -> Watchers:
    """The observers of a ladder, with what they see of the pool: from the cache, or looked at again."""
    settings = Settings(cache=cache, workers=1)
    trivial = base.find("trivial")
    files = embed_pool(pool, (trivial,), settings, stages)
    reference = halves(pool, seed=run.record["settings"]["seed"])[0]
    found: list[Watching] = []
    missing: dict[str, str] = {}
    for about in run.record["ladders"][ladder]["observers"]:
        name = about["name"]
        try:
            found.append(_watching(name, about["version"], pool, settings, stages))
        except ThalwegError as wrong:
            missing[name] = str(wrong)
    return Watchers(tuple(found), missing, read_tensors(files["trivial"])["features"], reference)


def _watching(name: str, version: int, pool: Any, settings: Settings, stages: Stages) -> Watching:
    observer = base.find_version(name, version)
    parts = tuple(base.find(part) for part in observer.parts) or (observer,)
    files = embed_pool(pool, parts, settings, stages)
    view = read_tensors(write_views(pool, (observer,), files, settings)[name])
    seen = {part.name: read_tensors(files[part.name]) for part in parts}
    names = feature_names(observer, seen, pool)
    return Watching(name, observer.control, ObserverView(view.get("embedding"), view["dictionary"]), names)


def observe(watchers: Watchers, recorded: RecordedHalves, upper: Sequence[bool]) -> tuple[TrialSet, list[Observed]]:
    """The one-sided trials of some units of one layer, and what each observer made of them. `upper` says whether a
    unit's main pole is the upper one.
    """
    trials = build_one_sided(recorded.reference, recorded.query, torch.tensor(upper))
    pairs = matched_pairs(trials, recorded.reference, watchers.low_level, watchers.reference)
    wrong: list[list[Wrong]] = [[] for _ in upper]
    chosen: list[list[tuple[str, tuple[Chosen, ...]]]] = [[] for _ in upper]
    for place, each in enumerate(watchers.observers):
        manners: dict[str, Answers] = {}
        if each.view.embedding is not None:
            manners["comparing whole stimuli"] = answer(trials, each.view.embedding)
        if each.view.embedding is None or place == 0:
            manners["by its one best feature"] = answer_by_features(trials, each.view.dictionary, (1,))[1]
        features = None if each.control else _features(trials, each)
        for unit in range(len(upper)):
            wrong[unit] += [_wrong(each.name, manner, given, trials, pairs, unit) for manner, given in manners.items()]
            if features and bool(trials.alive[unit]):
                chosen[unit].append((each.name, features[unit]))
    return trials, [Observed(tuple(w), tuple(c)) for w, c in zip(wrong, chosen, strict=True)]


def _wrong(name: str, manner: str, given: Answers, trials: TrialSet, pairs: Pairs, unit: int) -> Wrong:
    """How an observer did on one unit. A tie counts as half a wrong answer, as in the scores."""
    shown: list[tuple[float, WrongTrial]] = []
    by_band: dict[str, tuple[float, int]] = {}
    for band, queries in trials.queries.items():
        margin = (given[band].high[unit][:, None] - given[band].low[unit]).numpy()
        allowed = pairs[band][unit].numpy() & ~np.isnan(margin)
        missed = allowed & (margin < 0)
        ties = float((allowed & (margin == 0)).sum())
        by_band[band] = float(missed.sum()) + ties / 2, int(allowed.sum())
        high, low = missed.nonzero()
        for place in margin[high, low].argsort(kind="stable")[:LOOKED_AT]:
            one = int(queries.high[unit, high[place]]), int(queries.low[unit, low[place]])
            shown.append((float(margin[high[place], low[place]]), WrongTrial(band, *one)))
    surest = sorted(shown, key=lambda each: each[0])
    return Wrong(name, manner, by_band, _different([trial for _, trial in surest]))


def _different(trials: Sequence[WrongTrial]) -> tuple[WrongTrial, ...]:
    """The first ones, no stimulus in two of them."""
    kept: list[WrongTrial] = []
    for trial in trials:
        taken = {each for other in kept for each in (other.driving, other.typical)}
        if len(kept) < WRONG and not taken & {trial.driving, trial.typical}:
            kept.append(trial)
    return tuple(kept)


def _features(trials: TrialSet, watching: Watching) -> list[tuple[Chosen, ...]]:
    """The features that tell each unit's references apart best, the best first, no name twice."""
    dictionary = watching.view.dictionary
    difference, within = separations(trials, dictionary)
    separation = difference.abs() / within.sqrt()
    best = separation.topk(min(LOOKED_AT, separation.shape[1]), 1).indices
    examples: dict[int, tuple[int, ...]] = {}
    every = []
    for unit, features in enumerate(best.tolist()):
        found: dict[str, Chosen] = {}
        for feature in features:
            name = watching.names[feature]
            if name in found or len(found) == CHOSEN:
                continue
            if feature not in examples:
                top = dictionary[:, feature].topk(min(EXAMPLES, len(dictionary))).indices
                examples[feature] = tuple(top.tolist())
            more = bool(difference[unit, feature] > 0)
            found[name] = Chosen(name, more, float(separation[unit, feature]), examples[feature])
        every.append(tuple(found.values()))
    return every
