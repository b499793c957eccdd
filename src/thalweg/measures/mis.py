"""The published machine interpretability score, for comparison."""

import torch

from thalweg.measures.base import Score, Scores, Z, measure
from thalweg.observers.answers import Answers

TEMPERATURE = 0.16  # fitted to people's answers for one observer (Zimmermann et al. 2024); read as a temperature


@measure(
    version=1,
    unit="probability correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable",
    cite="Zimmermann, Klindt & Brendel 2024, Machine Interpretability Score",
)
def mis(cosines: Answers) -> Scores:
    """The mean probability of a right answer in the band `extreme`, if answers follow a logistic psychometric function.

    mean over pairs of sigmoid((d(high) - d(low)) / 0.16). The interval is normal, its variance DeLong's with the
    probabilities in place of wins. By the observer `dreamsim` similarity, temperature and nine references a side are
    the published ones. The trials are not: here the nine most extreme stimuli of one half explain all pairs of the nine
    most extreme of the other half, where the authors draw twenty tasks from the 200 most extreme stimuli a side, each
    with references of its own that span their ranks.

    A constant unit is NaN.

    How it can mislead: the temperature was fitted to people for DreamSim's similarities, so by any other observer
    values compare within that observer only. Published text writes a product with 0.16, which could never exceed 0.66
    for cosines; published values do, so it is a quotient here. The easiest band saturates.
    """
    margin = cosines["extreme"].high[:, :, None] - cosines["extreme"].low[:, None, :]  # (unit, high, low)
    there = ~margin.isnan()
    right = torch.sigmoid(margin / TEMPERATURE).where(there, 0)
    count = there.sum((1, 2))
    value = right.sum((1, 2)) / count
    influence = (right - value[:, None, None]).where(there, 0) / count[:, None, None]
    sides = [there.any(2).sum(1), there.any(1).sum(1)]
    squares = [influence.sum(2).square().sum(1), influence.sum(1).square().sum(1)]
    variances = [square * m / (m - 1).clamp_min(1) for square, m in zip(squares, sides, strict=True)]
    spread = torch.stack(variances).sum(0).sqrt()
    low, high = (value - Z * spread).clamp_min(0), (value + Z * spread).clamp_max(1)
    return {("extreme", ""): Score(value, low, high, torch.where(count > 0, sides[0] + sides[1], 0))}
