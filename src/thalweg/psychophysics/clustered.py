"""The interval of a proportion whose answers come in clusters: many about each unit, and many of each participant.

A unit that is easy once is easy again, and who is good once is good again, so such answers say less than as many
independent ones. The number right about a unit is taken as beta-binomial: each unit has a probability of its own,
beta-distributed, with mean mu and with rho = var / (mu (1 - mu)), the correlation of two answers about one unit; and
likewise of a participant. The mean over all n answers then has the variance mu (1 - mu) deff / n with the design effect

    deff = 1 + (sum of n_u^2 / n - 1) rho_unit + (sum of n_p^2 / n - 1) rho_participant

(Kish 1965), and Wilson's interval with n / deff answers in place of n.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import betabinom, binom

from thalweg.measures.base import Z, wilson

LEAST_RHO, MOST_RHO = 1e-6, 0.999
BOUND = 12.0  # of the logit of the mean: closer to 0 or 1 than any table can tell


@dataclass(frozen=True)
class Clustered:
    """A proportion with its 95 % interval, and the correlations of answers about one unit and of one participant."""

    value: float
    low: float
    high: float
    rho_unit: float
    rho_participant: float
    design_effect: float


def clustered(right: pl.Series, unit: pl.Series, participant: pl.Series) -> Clustered:
    """The mean over all answers, with its hierarchical interval.

    Args:
        right: Whether each answer is right.
        unit: Which unit it is about.
        participant: Whose it is.

    Returns:
        The proportion; NaN where there is no answer.

    Source:
        The beta-binomial model: Skellam 1948; the design effect: Kish 1965; the interval: Wilson 1927.
    """
    if right.is_empty():
        return Clustered(*[float("nan")] * 6)
    rows = pl.DataFrame({"right": right.cast(pl.Float64), "unit": unit, "participant": participant})
    n, effect = len(rows), 1.0
    rhos: list[float] = []
    for cluster in ("unit", "participant"):
        counts = rows.group_by(cluster, maintain_order=True).agg(pl.col("right").sum(), pl.len().cast(pl.Float64))
        rhos.append(correlation(counts["right"].to_numpy(), counts["len"].to_numpy()))
        effect += max(float((counts["len"] ** 2).sum()) / n - 1, 0.0) * rhos[-1]
    share, trials = (torch.tensor(each, dtype=torch.float64) for each in (rows["right"].mean(), n / effect))
    low, high = wilson(share, trials, Z)
    return Clustered(float(share), float(low), float(high), rhos[0], rhos[1], effect)


def correlation(right: Float[np.ndarray, " cluster"], n: Float[np.ndarray, " cluster"]) -> float:
    """The correlation of two answers of one cluster, by maximum likelihood; 0 where independence fits as well."""
    if len(n) < 2 or n.max() < 2:
        return 0.0
    mean = (right.sum() + 0.5) / (n.sum() + 1)
    start = [np.log(mean / (1 - mean)), np.log(0.1 / 0.9)]
    bounds = [(-BOUND, BOUND), (np.log(LEAST_RHO), np.log(MOST_RHO / (1 - MOST_RHO)))]
    found = minimize(_surprise, start, args=(right, n), method="L-BFGS-B", bounds=bounds)
    independent = -binom.logpmf(right, n, right.sum() / n.sum()).sum()
    return 0.0 if found.fun >= independent else float(expit(found.x[1]))


def _surprise(logits: Float[np.ndarray, " 2"], right: np.ndarray, n: np.ndarray) -> float:
    mean, rho = expit(logits)
    size = 1 / rho - 1
    return float(-betabinom.logpmf(right, n, mean * size, (1 - mean) * size).sum())
