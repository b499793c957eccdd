"""Synthetic participants: how they choose is known, so that an analysis can be held against the truth."""

import math
import random
from dataclasses import dataclass, field

from thalweg.study.design import Item
from thalweg.study.settings import Crowd

PLAIN = 4.0  # d' of trials whose answer is plain
PREFIX = "simulated-"


def person_of(crowd: Crowd, number: int) -> "Person":
    """One of a crowd, always the same by number."""
    rng = random.Random(f"{crowd.seed} {number}")
    return Person(
        name=f"{PREFIX}{number:04}",
        sensitivity=crowd.sensitivity + rng.gauss(0, crowd.person_sd),
        bias=rng.gauss(0, crowd.side_bias),
        careless=rng.random() < crowd.careless,
        leaves=rng.random() if rng.random() < crowd.dropout else None,
        says_so=rng.random() < 0.5,
        crowd=crowd,
        rng=rng,
    )


@dataclass
class Person:
    """A synthetic participant.

    Attributes:
        name: The opaque id.
        sensitivity: d' of the mean unit.
        bias: Added to the evidence for the first query.
        careless: Whether answers are given without looking.
        leaves: After which share of the main trials, if ever.
        says_so: Whether the study is then left by its button, and not by closing the page.
        crowd: What the person is drawn from.
        rng: The person's chance.
        learnt: Right answers of the practice, remembered.
    """

    name: str
    sensitivity: float
    bias: float
    careless: bool
    leaves: float | None
    says_so: bool
    crowd: Crowd
    rng: random.Random
    learnt: dict[str, int] = field(default_factory=dict)

    def choose(self, item: Item, unit: str) -> tuple[int, int, float]:
        """Which query, how sure (1 to 3), and after how many seconds: equal-variance signal detection, with lapses."""
        seconds = self.rng.lognormvariate(math.log(0.8 if self.careless else 4.5), 0.4)
        if item.trial in self.learnt:
            return self.learnt[item.trial], 3, seconds
        if self.careless or self.rng.random() < self.crowd.lapse:
            return self.rng.randrange(2), self.rng.randint(1, 3), seconds
        strength = PLAIN if item.kind != "main" else self.sensitivity + self.unit_effect(unit)
        evidence = (1 if item.correct == 0 else -1) * strength / math.sqrt(2) + self.bias + self.rng.gauss(0, 1)
        confidence = 1 + (abs(evidence) > 0.6) + (abs(evidence) > 1.4)
        return (0 if evidence > 0 else 1), confidence, seconds

    def unit_effect(self, unit: str) -> float:
        """How much clearer than the mean a unit is: the same for everyone."""
        return random.Random(f"unit {unit}").gauss(0, self.crowd.unit_sd)

    def reading(self) -> float:
        """How many seconds the instructions take."""
        return self.rng.uniform(2, 8) if self.careless else self.rng.uniform(25, 60)

    def gone(self, share: float) -> bool:
        """Whether the person leaves, so far into the main trials."""
        return self.leaves is not None and share >= self.leaves
