"""Single trials: one question, with the stimuli that it shows.

A `Question` holds ids alone; a `Trial` is a question about one unit of one model of a run, with an id of its own. Which
questions a unit is asked, and in which order its two queries are shown, comes from a hash of a seed and the ids of the
queries: it depends on no library's random numbers, and asking more questions repeats the first ones.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.markup import Fragment, bullets, element
from thalweg.stimuli.base import Stimuli
from thalweg.stimuli.showing import Shown
from thalweg.trials.building import REFERENCES, Pairs, TrialSet


@dataclass(frozen=True)
class Question:
    """One question by ids of stimuli: which of two queries drives a unit more? `high_first` says how to lay them out.

    `unit` is the unit's index in its `TrialSet`.
    """

    unit: int
    band: str
    high_references: tuple[int, ...]
    low_references: tuple[int, ...]
    high_query: int
    low_query: int
    high_first: bool


@dataclass(frozen=True)
class Trial:
    """One question about one unit: which of the two queries drives it more?

    `Run.trials` makes trials. Stimuli are named by their ids, which are positions in the ladder's pool. The stimuli
    themselves are loaded when they are first asked for.

    Attributes:
        id: Sixteen hexadecimal digits, a hash of all that is asked: the same trial has the same id on every machine.
        ladder: The ladder of the model.
        rung: The rung of the model.
        seed: The seed of the model.
        control: `trained`, or the twin that the unit is of.
        layer: The layer that the unit is in.
        reduction: How the unit's values over places became one: `max`, `mean` or `last`.
        basis: What the unit is: `neurons`, `random`, `pca`, `sae`.
        unit: The unit's number in its layer.
        band: How far apart the values of the two queries are: `extreme`, `v90`, `v75` or `v60`.
        high_references: Nine stimuli that drive the unit most, the highest first.
        low_references: Nine stimuli that drive it least, the lowest first.
        queries: The two stimuli to choose from, in the order in which they are shown.
        correct: Which of the two drives the unit more: 0 for the first, 1 for the second. Not to be shown.
        made_from: A hash of the stimuli and of what the model is made from: another one when it is made anew.
    """

    id: str
    ladder: str
    rung: str
    seed: int
    control: str
    layer: str
    reduction: str
    basis: str
    unit: int
    band: str
    high_references: tuple[int, ...]
    low_references: tuple[int, ...]
    queries: tuple[int, int]
    correct: int
    load: Callable[[], Stimuli] = field(repr=False, compare=False)
    made_from: str = ""

    @property
    def stimuli(self) -> Stimuli:
        """The ladder's pool, in which the ids are positions.

        Raises:
            ThalwegError: the stimuli cannot be made again, or are others than those of the run.
        """
        return self.load()

    def show(self) -> "ShownTrial":
        """The twenty stimuli as a person is shown them: pictures as PNG files, texts in pieces.

        Raises:
            ThalwegError: as `stimuli` does.
        """
        pool = self.stimuli
        high, low, queries = (
            tuple(pool.show(each) for each in ids) for ids in (self.high_references, self.low_references, self.queries)
        )
        return ShownTrial(high, low, queries)

    def _repr_html_(self) -> Fragment:
        """How a notebook shows it, without its answer."""
        about = f"{self.ladder}, {self.rung}, seed {self.seed}, {self.control}: {self.layer}, unit {self.unit}"
        return element("div", element("p", about, f", band {self.band}"), self.show()._repr_html_())


@dataclass(frozen=True)
class ShownTrial:
    """The stimuli of one trial, in the order in which they are shown. Their labels name their classes: show them only
    if the observer may know these.
    """

    high_references: tuple[Shown, ...]
    low_references: tuple[Shown, ...]
    queries: tuple[Shown, ...]

    def _repr_html_(self) -> Fragment:
        """How a notebook shows it: which of the two queries goes with the high references? Labels are left out."""
        rows = {"low": self.low_references, "high": self.high_references, "which is high?": self.queries}
        return element("div", *(shown_in_row(name, map(_unlabelled, stimuli)) for name, stimuli in rows.items()))


def _unlabelled(stimulus: Shown) -> Shown:
    """A stimulus without its label, which names its class; one that has nothing else keeps it."""
    return replace(stimulus, label="") if stimulus.png or stimulus.html or stimulus.pieces else stimulus


def shown_in_row(name: str, stimuli: Iterable[Shown]) -> Fragment:
    """Stimuli beside each other, for a notebook. Texts stand below each other."""
    shown = list(stimuli)
    if any(each.png or each.html for each in shown):
        return element("p", f"{name}: ", *(each._repr_html_() for each in shown))
    return element("div", element("p", name), bullets(each._repr_html_() for each in shown))


def draw(trials: TrialSet, unit: int, band: str, *, seed: int) -> Question | None:
    """One question about a unit at random, or None if the band has no query on one side. No stimulus is in it twice."""
    queries = trials.queries[band]
    sides = [side[unit][side[unit] >= 0] for side in (queries.high, queries.low)]
    if min(map(len, sides)) == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    high, low = (int(side[torch.randint(len(side), (), generator=generator)]) for side in sides)
    shown = [tuple(side[unit, :REFERENCES].tolist()) for side in (trials.high, trials.low)]
    return Question(unit, band, shown[0], shown[1], high, low, bool(torch.rand((), generator=generator) < 0.5))


def questions(
    trials: TrialSet, unit: int, bands: Sequence[str], count: int, *, seed: int, pairs: Pairs | None = None
) -> list[Question]:
    """Up to so many different questions about a unit, spread evenly over the bands: each band's pairs of queries in a
    random order, one band after another in turn. A unit without trials gives none.

    Args:
        trials: All trials of some units.
        unit: The unit's index among them.
        bands: The bands to ask about, the first one first.
        count: The most questions.
        seed: A number of 64 bits that the order comes from.
        pairs: By band, the pairs of queries that may be asked about; by default all.
    """
    if not bool(trials.alive[unit]):
        return []
    high, low = (tuple(side[unit, :REFERENCES].tolist()) for side in (trials.high, trials.low))
    by_band = [_ordered_pairs(trials, unit, band, seed, pairs) for band in bands]
    turns = zip_longest(*by_band)
    drawn = (
        Question(unit, band, high, low, pair[0], pair[1], pair[2])
        for turn in turns
        for band, pair in zip(bands, turn, strict=True)
        if pair is not None
    )
    return list(islice(drawn, count))


def _ordered_pairs(
    trials: TrialSet, unit: int, band: str, seed: int, pairs: Pairs | None
) -> Iterator[tuple[int, int, bool]]:
    """A band's pairs of queries in a random order: the high one, the low one, whether the high one is shown first."""
    queries = trials.queries[band]
    high, low = queries.high[unit].numpy(), queries.low[unit].numpy()
    allowed = (high >= 0)[:, None] & (low >= 0) & (high[:, None] != low)
    if pairs is not None:
        allowed &= pairs[band][unit].numpy()
    rows, columns = allowed.nonzero()
    keys = scrambled_pairs(high[rows], low[columns], seed)
    for index in keys.argsort(kind="stable"):
        yield int(high[rows[index]]), int(low[columns[index]]), bool(keys[index] & np.uint64(1))


def scrambled_pairs(high: NDArray[np.int64], low: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A random number of 64 bits for each pair of ids, by the finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    mixed = (high.astype(np.uint64) << np.uint64(32)) ^ low.astype(np.uint64) ^ np.uint64(seed)
    mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
