"""Rank correlation of two observers' scores, with what noise in the answers takes from it.

Scores from a few answers are noisy, so they correlate with nothing perfectly, not even with themselves. Their
*reliability* is the correlation of scores from two random halves of the answers, brought to their full number by
Spearman (1910) and Brown (1910): 2 r / (1 + r). A correlation divided by the square root of the reliability is what it
would be without that noise (Spearman 1904). Scores that an observer of vectors takes over all pairs of the same stimuli
have none.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from thalweg.factors.relation import spearman

DRAWS = 500  # bootstrap samples
LEAST = 5  # things below which nothing is said
LEAST_RELIABILITY = 0.1  # of a draw: below it a correction is mostly noise
TOO_FEW = f"fewer than {LEAST} have both scores"
ALIKE = "all scores of one side are the same"
UNRELIABLE = "no correction: the reliability may be 0"
ENDS = (0.025, 0.975)


@dataclass(frozen=True, eq=False)
class Scores:
    """What an observer says of some things, which are units or models.

    `first` and `second` are the scores from halves of its answers, one pair a split; None for scores without noise.
    """

    value: Float[np.ndarray, " thing"]
    first: Float[np.ndarray, "split thing"] | None = None
    second: Float[np.ndarray, "split thing"] | None = None

    def at(self, which: np.ndarray) -> "Scores":
        """The scores of some of the things; these themselves where all are taken."""
        if which.dtype == bool and which.all():
            return self
        if self.first is None or self.second is None:
            return Scores(self.value[which])
        return Scores(self.value[which], self.first[:, which], self.second[:, which])

    def through(self, weights: Float[np.ndarray, "new thing"]) -> "Scores":
        """The scores of other things, each a weighted sum of these: a model's, from its units'."""
        if self.first is None or self.second is None:
            return Scores(weights @ self.value)
        return Scores(weights @ self.value, self.first @ weights.T, self.second @ weights.T)


@dataclass(frozen=True)
class Agreement:
    """A rank correlation with a 95 % interval, the reliability of the answers, and the correlation without their noise.

    NaN where there is no such number; `note` says why.
    """

    rho: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    reliability: float = float("nan")
    reliability_low: float = float("nan")
    reliability_high: float = float("nan")
    corrected: float = float("nan")
    corrected_low: float = float("nan")
    corrected_high: float = float("nan")
    n: int = 0
    note: str = ""


def correlate(answered: Scores, other: Scores, *, seed: int = 0) -> Agreement:
    """Spearman's correlation of an answering observer's scores with another's, over the things that both have scored.

    The intervals come from drawing the things again. Where both sides come from answers, the correction is by the
    reliabilities of both; `reliability` is that of the first.
    """
    both = ~(np.isnan(answered.value) | np.isnan(other.value))
    answered, other, n = answered.at(both), other.at(both), int(both.sum())
    if n < LEAST:
        return Agreement(n=n, note=TOO_FEW)
    rho = spearman(answered.value, other.value, drawn(n, seed))
    if np.isnan(rho[0]):
        return Agreement(n=n, note=ALIKE)
    reliability = reliabilities(answered, seed)
    noise = reliability * (1.0 if other.first is None else reliabilities(other, seed))
    with np.errstate(invalid="ignore", divide="ignore"):
        corrected = np.where(noise >= LEAST_RELIABILITY, rho / np.sqrt(noise), np.nan)
    reliable = all(ends(draws[1:])[0] > 0 for draws in (reliability, noise))
    if not reliable:
        corrected[:] = np.nan
    numbers: dict[str, Any] = {"n": n, "note": "" if reliable else UNRELIABLE}
    for name, draws in (("reliability", reliability), ("corrected", corrected)):
        low, high = ends(draws[1:])
        numbers |= {name: float(draws[0]), f"{name}_low": low, f"{name}_high": high}
    low, high = ends(rho[1:])
    return Agreement(rho=float(rho[0]), low=low, high=high, **numbers)


def drawn(n: int, seed: int) -> Float[np.ndarray, "draw thing"]:
    """How often each bootstrap draw holds each of so many things; the first row holds each once."""
    every = np.concatenate([np.arange(n)[None], np.random.default_rng(seed).integers(n, size=(DRAWS, n))])
    return np.stack([np.bincount(draw, minlength=n) for draw in every]).astype(float)


@lru_cache(maxsize=64)  # one observer's scores are compared with those of many
def reliabilities(scores: Scores, seed: int) -> Float[np.ndarray, " draw"]:
    """The split-half reliability in each draw of things: the mean correlation over the splits, at full length."""
    times = drawn(len(scores.value), seed)
    if scores.first is None or scores.second is None:
        return np.full(len(times), np.nan)
    halves = [spearman(first, second, times) for first, second in zip(scores.first, scores.second, strict=True)]
    together = np.stack(halves)
    counted = (~np.isnan(together)).sum(0)
    mean = np.where(counted > 0, np.nansum(together, 0) / np.maximum(counted, 1), np.nan)
    return spearman_brown(mean)


def spearman_brown(half: Float[np.ndarray, " ..."]) -> Float[np.ndarray, " ..."]:
    """The reliability of all answers, from the correlation of two halves; 0 where that is negative."""
    half = np.maximum(half, 0.0)
    whole: np.ndarray = 2 * half / (1 + half)
    return whole


def ends(draws: Float[np.ndarray, " draw"]) -> tuple[float, float]:
    """The ends of the 95 % interval; NaN where more than a twentieth of the draws have no number."""
    there = draws[~np.isnan(draws)]
    if len(there) < 0.95 * len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(there, ENDS)
    return float(low), float(high)
