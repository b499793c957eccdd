"""Units scored with natural and with synthetic references, by the same observer on the same queries.

Synthetic pictures are put behind the pool's, so that trials name them by ids beyond it; all else is what a survey does.
Both conditions have nine references a side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import polars as pl
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from thalweg.measures.base import MEASURES
from thalweg.observers.base import Features, Observer
from thalweg.observers.embedding import ObserverView, centring, named_features, part_weights, standards
from thalweg.recording.result import Recording
from thalweg.runs.recordings import RecordedHalves
from thalweg.scoring.units import (
    ONE_SIDED,
    OTHER_POLE,
    TWO_SIDED,
    Answered,
    Halves,
    Inputs,
    ObserverOnPool,
    Questions,
    Rows,
    StimulusMetadata,
    take,
    trial_builders,
)
from thalweg.stimuli.base import Stimuli
from thalweg.synthetic.maximise import DIRECTIONS, EACH, Pictures
from thalweg.trials.building import REFERENCES
from thalweg.trials.one_sided import Tails

MEASURED = ("two_choice", "two_choice_matched", "two_choice_single", "one_sided", "one_sided_single")
CONDITIONS = ("natural", "synthetic")


def view_beyond(
    observer: Observer, pool: Mapping[str, Features], made: Mapping[str, Features], stimuli: Stimuli
) -> ObserverView:
    """What an observer answers by, of the pool and of pictures that stand behind it.

    Means, spreads and deviations are the pool's, so its own rows are as ever. What class a made picture is of is not
    known: features that name classes have their mean there.

    Args:
        observer: The observer.
        pool: What it, or each of its parts, saw of the pool.
        made: What they saw of the pictures.
        stimuli: The pool.
    """
    names = observer.parts or (observer.name,)
    embedding = None
    if observer.whole:
        pairs = [centring(pool[name]["features"], made[name]["features"], observer.centred) for name in names]
        weights = part_weights([own for own, _ in pairs])
        embedding = torch.cat([w * torch.cat(pair) for w, pair in zip(weights, pairs, strict=True)], 1)
    known = named_features(observer, pool, stimuli)
    seen = torch.cat([made[name].get("dictionary", made[name]["features"]) for name in names], 1)
    mean, deviation, varies = standards(known)
    unnamed = mean[seen.shape[1] :].expand(len(seen), -1)
    every = torch.cat([known, torch.cat([seen, unnamed], 1)])
    dictionary = ((every - mean) / deviation)[:, varies] if varies.any() else torch.zeros(len(every), 1)
    return ObserverView(embedding, dictionary)


@dataclass(frozen=True, eq=False)
class Asked:
    """Some units of a layer: their recordings, the poles that they are asked about, and what they are scored with."""

    part: RecordedHalves
    poles: Tails
    halves: Halves
    metadata: StimulusMetadata
    watcher: ObserverOnPool


def score_conditions(asked: Asked, pictures: Pictures, first: int, units: pl.DataFrame) -> pl.DataFrame:
    """Rows for each unit, measure and band, with natural and with synthetic references.

    Args:
        asked: The units, in the order of the pictures.
        pictures: Their synthetic references.
        first: The id of the first picture: the size of the pool.
        units: A row for each unit: what the table says of it.

    Returns:
        The columns of the table of units, and `references`: `natural` or `synthetic`.
    """
    upper = asked.poles.upper_is_main
    tables = []
    for condition in CONDITIONS:
        questions = dict(_questions(asked, upper, condition, first))
        alive, notes = questions[TWO_SIDED].trials.alive, questions[TWO_SIDED].trials.notes
        answered = {side: Answered(each, asked.watcher) for side, each in questions.items()}
        inputs = Inputs(*asked.part, asked.halves, asked.metadata, asked.poles, alive, answered, asked.watcher)
        rows = Rows()
        for name in MEASURED:
            for (band, capacity), score in take(MEASURES[name], inputs).items():
                about = {"measure": name, "measure_version": MEASURES[name].version, "band": band, "capacity": capacity}
                rows.add(score, notes, 0, observer=asked.watcher.observer.name, exchanged=False, **about)
        tables.append(rows.frame(units).with_columns(pl.lit(condition).alias("references")))
    return pl.concat(tables)


def _questions(
    asked: Asked, upper: Bool[Tensor, " unit"], condition: str, first: int
) -> Iterator[tuple[str, Questions]]:
    """The trials of each kind, with nine references a side."""
    reference, query = asked.part
    most, least = (_ids(reference, first, direction) for direction in range(len(DIRECTIONS)))
    made = {
        TWO_SIDED: (most, least),
        ONE_SIDED: (torch.where(upper[:, None], most, least), None),
        OTHER_POLE: (torch.where(upper[:, None], least, most), None),
    }
    for side, build in trial_builders(reference, query, upper).items():
        trials = build()
        new = made[side] if condition == "synthetic" else (None, None)
        high, low = (
            torch.where(trials.alive[:, None], (own if other is None else other)[:, :REFERENCES], -1)
            for own, other in zip((trials.high, trials.low), new, strict=True)
        )
        yield (
            side,
            Questions(partial(replace, trials, high=high, low=low), reference, asked.halves.reference, asked.metadata),
        )


def _ids(reference: Recording, first: int, direction: int) -> Int64[Tensor, "unit reference"]:
    """The ids of the pictures of each unit in one direction."""
    count = len(reference.unit_ids)
    every = first + torch.arange(count * EACH).view(count, len(DIRECTIONS), REFERENCES)
    return every[:, direction]
