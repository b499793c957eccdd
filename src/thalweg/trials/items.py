"""Single trials: one question, with the stimuli that it shows."""

from dataclasses import dataclass

import torch

from thalweg.trials.building import REFERENCES, TrialSet


@dataclass(frozen=True)
class Trial:
    """One question to be shown: which of two queries drives the unit more? Ids of stimuli; `high_first` says how to lay
    them out.
    """

    unit: int
    band: str
    high_references: tuple[int, ...]
    low_references: tuple[int, ...]
    high_query: int
    low_query: int
    high_first: bool


def draw(trials: TrialSet, unit: int, band: str, *, seed: int) -> Trial | None:
    """One trial of a unit at random, or None if the band has no query on one side. No stimulus is in it twice."""
    queries = trials.queries[band]
    sides = [side[unit][side[unit] >= 0] for side in (queries.high, queries.low)]
    if min(map(len, sides)) == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    high, low = (int(side[torch.randint(len(side), (), generator=generator)]) for side in sides)
    shown = [tuple(side[unit, :REFERENCES].tolist()) for side in (trials.high, trials.low)]
    return Trial(unit, band, shown[0], shown[1], high, low, bool(torch.rand((), generator=generator) < 0.5))
