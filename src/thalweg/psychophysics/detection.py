"""Sensitivity, bias and lapses, by signal detection theory for two alternatives."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from scipy.special import betaincinv, ndtri

from thalweg.measures.base import ALPHA, Z, wilson
from thalweg.psychophysics.clustered import Clustered
from thalweg.psychophysics.mixed import Estimate

LAPSE_PRIOR = (2.0, 50.0)  # of the share of wrong answers to a trial that everyone can answer (Kuss et al. 2005)
BIASED = 0.2  # a criterion beyond this: the proportion correct is too low for the sensitivity


@dataclass(frozen=True)
class Sides:
    """The sensitivity with the bias to one side taken off, and the criterion, which is that bias: below 0, the second
    query is picked too often. `biased` says that the proportion correct is too low a measure of the sensitivity.
    """

    d_prime: float
    criterion: float
    criterion_low: float
    criterion_high: float
    biased: bool


def d_prime(share: Clustered, n: int) -> Estimate:
    """The sensitivity of two-alternative choices, d' = sqrt(2) z(p), with the ends of the proportion's interval.

    Proportions are moved off 0 and 1 as the log-linear correction moves them: (right + 0.5) / (n + 1).

    Args:
        share: The proportion correct.
        n: Over how many answers.

    Source:
        Green & Swets 1966; Macmillan & Creelman 2005, chapter 7; the correction: Hautus 1995.
    """
    ends = [(each * n + 0.5) / (n + 1) for each in (share.value, share.low, share.high)]
    return Estimate(*(float(np.sqrt(2) * ndtri(each)) for each in ends))


def by_sides(picked: pl.Series, right: pl.Series) -> Sides | None:
    """Sensitivity and criterion from how often the second query is picked where it is right, and where it is not.

    d' = (z(H) - z(F)) / sqrt(2), c = -(z(H) + z(F)) / 2, with log-linear corrected rates; the variance of z(H) is
    H (1 - H) / (n phi(z(H))^2).

    Args:
        picked: 0 for the first query, 1 for the second.
        right: Whether that is right.

    Returns:
        None where the choices are not known, or all right answers lie on one side.

    Source:
        Macmillan & Creelman 2005, chapter 7; the variance: Gourevitch & Galanter 1967.
    """
    rows = pl.DataFrame({"picked": picked.cast(pl.Int8), "right": right}).drop_nulls()
    second = rows.filter((pl.col("picked") == 1) == pl.col("right"))  # where the second query is right
    first = rows.filter((pl.col("picked") == 1) != pl.col("right"))
    if second.is_empty() or first.is_empty():
        return None
    rates = [(float((side["picked"] == 1).sum()) + 0.5, len(side) + 1.0) for side in (second, first)]
    z = [float(ndtri(count / n)) for count, n in rates]
    variance = [(c / n) * (1 - c / n) / (n * _density(each) ** 2) for (c, n), each in zip(rates, z, strict=True)]
    criterion, half = -(z[0] + z[1]) / 2, Z * float(np.sqrt(sum(variance))) / 2
    sensitivity = (z[0] - z[1]) / np.sqrt(2)
    return Sides(float(sensitivity), criterion, criterion - half, criterion + half, abs(criterion) >= BIASED)


def _density(z: float) -> float:
    return float(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))


def lapse_of_one(wrong: int, n: int) -> Estimate:
    """How often one participant answers without looking, from the trials that everyone can answer.

    Who lapses is right half of the time, so the lapse rate is twice the share of wrong answers. That share has a beta
    prior, so the estimate of few trials is drawn towards the usual 4 %, and its interval is the posterior's.

    Args:
        wrong: How many catch trials were answered wrongly.
        n: Of how many.

    Source:
        Wichmann & Hill 2001; the prior: Kuss, Jaekel & Wichmann 2005, Beta(2, 50).
    """
    a, b = LAPSE_PRIOR[0] + wrong, LAPSE_PRIOR[1] + n - wrong
    ends = [min(1.0, 2 * float(betaincinv(a, b, at))) for at in (ALPHA / 2, 1 - ALPHA / 2)]
    return Estimate(min(1.0, 2 * a / (a + b)), *ends)


def lapse_of_all(wrong: int, n: int) -> Estimate:
    """The lapse rate over all participants: twice the share of catch trials that were answered wrongly, with twice
    Wilson's interval; NaN without catch trials.
    """
    share = torch.tensor(wrong / n if n else float("nan"), dtype=torch.float64)
    low, high = wilson(share, torch.tensor(float(n), dtype=torch.float64), Z)
    return Estimate(*(min(1.0, 2 * float(each)) if n else float("nan") for each in (share, low, high)))


def without_lapses(share: float, lapse: float) -> float:
    """The proportion correct of the answers that are no lapses: (p - l / 2) / (1 - l); NaN where all are."""
    return (share - lapse / 2) / (1 - lapse) if lapse < 1 else float("nan")
