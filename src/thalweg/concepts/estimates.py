"""Numbers with intervals, from a score for each concept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

RESAMPLES = 500
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Scores:
    """A number, and the scores whose mean it is, or stands for.

    Attributes:
        value: The number.
        parts: A score for each concept or question, or a jackknife pseudo-value for each group of concepts.
        n: Concepts or questions.
        note: What is to be known of it.
    """

    value: float
    parts: Float[Tensor, " part"]
    n: int
    note: str = ""

    def interval(self, seed: int) -> tuple[float, float]:
        """The percentile bootstrap interval of 95 %: the parts are drawn again, with replacement."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(self.parts), (RESAMPLES, len(self.parts)), generator=generator)
        means = self.parts.double()[drawn].mean(1) - self.parts.double().mean() + self.value
        low, high = means.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)).tolist()
        return low, high


def mean_of(parts: Float[Tensor, " part"], note: str = "") -> Scores:
    """The mean of some scores, one for each concept."""
    return Scores(float(parts.double().mean()), parts, len(parts), note)


def averaged(scores: Sequence[Scores], note: str = "") -> Scores:
    """The mean over layers of the same measure: concept by concept, so its interval knows that they go together."""
    value = sum(each.value for each in scores) / len(scores)
    return Scores(value, torch.stack([each.parts.double() for each in scores]).mean(0), scores[0].n, note)
