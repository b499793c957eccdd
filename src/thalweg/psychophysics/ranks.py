"""The published protocol's tests: bootstrap over units, Kruskal and Wallis across models, Conover's comparisons."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.stats import kruskal, rankdata, t

from thalweg.shape.holm import holm

DRAWS = 10_000  # as published
ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Pair:
    """Two models compared; `p` is after Holm's correction."""

    first: str
    second: str
    difference: float  # of the mean scores of their units
    p: float


@dataclass(frozen=True)
class Comparison:
    """Whether the units of some models differ in score, and which models."""

    statistic: float
    p: float
    pairs: tuple[Pair, ...]
    note: str = ""


def bootstrapped(values: Float[np.ndarray, " unit"], seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over units, from drawing units again; NaN for fewer than two.

    The published study takes SciPy's bias-corrected interval, which differs in the third decimal.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(len(values), size=(500, len(values)))].mean(1) for _ in range(DRAWS // 500)]
    low, high = np.quantile(np.concatenate(means), ENDS)
    return float(low), float(high)


def compare_models(units: Mapping[str, Float[np.ndarray, " unit"]]) -> Comparison:
    """Kruskal and Wallis's test across models on the scores of their units, and Conover's test of each pair.

    t = (mean rank 1 - mean rank 2) / sqrt(S^2 (N - 1 - H) / (N - k) (1 / n_1 + 1 / n_2)) with N - k degrees of freedom,
    where S^2 is the variance of all ranks, ties averaged, and H the statistic across models.

    Args:
        units: The scores of each model's units.

    Source:
        Kruskal & Wallis 1952; Conover & Iman 1979; Holm 1979; as in Zimmermann, Klein & Brendel 2023.
    """
    kept = {name: values for name, values in units.items() if len(values)}
    together = np.concatenate([np.zeros(0), *kept.values()])
    if len(kept) < 2 or np.ptp(together) == 0:
        return Comparison(float("nan"), float("nan"), (), "fewer than two models, or all scores are the same")
    statistic, p = kruskal(*kept.values())
    ranks = rankdata(together)
    ends = np.cumsum([len(values) for values in kept.values()])[:-1]
    means = dict(zip(kept, (part.mean() for part in np.split(ranks, ends)), strict=True))
    free = len(together) - len(kept)
    scale = ranks.var(ddof=1) * (len(together) - 1 - statistic) / free if free else float("nan")
    compared = list(combinations(kept, 2))
    raw = []
    for one, two in compared:
        spread = np.sqrt(scale * (1 / len(kept[one]) + 1 / len(kept[two])))
        raw.append(2 * float(t.sf(abs(means[one] - means[two]) / spread, free)) if spread > 0 else 0.0)
    pairs = [
        Pair(one, two, float(kept[one].mean() - kept[two].mean()), p)
        for (one, two), p in zip(compared, holm(raw), strict=True)
    ]
    return Comparison(float(statistic), float(p), tuple(pairs))
