"""How far the scatter between seeds differs from rung to rung, and how sure each rung's own scatter is.

The seeds of a rung of two units may lie fifty times as far apart as those of a rung of a thousand. One pooled variance
for both makes a valley of the first rung's noise: where the logarithm of the rungs' standard deviations has a standard
deviation of 1.2, a flat curve of 12 rungs with three seeds had a turn in .20 of simulations. So the variances are
compared. Where they differ by more than chance, each rung has at least its own variance, and the null draws its noise
as unsurely as that is known. That brings false turns to about .05 (docs/shape-power.md).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import chdtrc, digamma, polygamma

LEAST_RUNGS = 4  # with fewer, nothing is known of how variances differ
LEVEL = (
    0.1  # of Bartlett's test: a rung's own variance costs power where all are equal, and saves it where they are not
)
MOST_DF = 1000.0  # variances that differ by less are as good as equal


@dataclass(frozen=True)
class VariancePrior:
    """What the variances of the rungs are drawn from: variance * df / chi-squared(df)."""

    variance: float  # of one seed
    df: float

    def moderated(
        self, spread: Float[np.ndarray, " rung"], df: Float[np.ndarray, " rung"]
    ) -> tuple[Float[np.ndarray, " rung"], Float[np.ndarray, " rung"]]:
        """The variance of each rung in the light of the others, and its degrees of freedom.

        s_i^2 = (df0 * s0^2 + spread_i) / (df0 + df_i): (y_i - mean) / s_i is then t distributed with df0 + df_i.
        """
        total = self.df + df
        return (self.df * self.variance + spread) / total, total


def unequal(spread: Float[np.ndarray, " rung"], df: Float[np.ndarray, " rung"]) -> VariancePrior | None:
    """The distribution of the rungs' variances; None where Bartlett's test finds them equal.

    With e_i = log(spread_i / df_i) - digamma(df_i / 2) + log(df_i / 2), whose variance is trigamma(df_i / 2) +
    trigamma(df0 / 2): df0 and s0^2 by the moments of e.

    Args:
        spread: (rung), sum of squared deviations of the seeds from their mean.
        df: (rung), seeds - 1.

    Source: Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3(1), section 6.2.
    """
    from scipy.optimize import brentq  # slow to import, and only needed here

    usable = (df > 0) & (spread > 0)
    if usable.sum() < LEAST_RUNGS or bartlett_p(spread[usable], df[usable]) >= LEVEL:
        return None
    half = df[usable] / 2
    e = np.log(spread[usable] / df[usable]) - digamma(half) + np.log(half)
    beyond = float(e.var(ddof=1) - polygamma(1, half).mean())
    if beyond <= polygamma(1, MOST_DF / 2):
        return None
    half0 = float(brentq(lambda half: polygamma(1, half) - beyond, 1e-6, MOST_DF / 2))
    return VariancePrior(float(np.exp(e.mean() + digamma(half0)) / half0), 2 * half0)


def bartlett_p(spread: Float[np.ndarray, " rung"], df: Float[np.ndarray, " rung"]) -> float:
    """The p of "all rungs have the same variance", from their sums of squares.

    Source: Bartlett 1937, Proceedings of the Royal Society A 160.
    """
    total = df.sum()
    statistic = total * np.log(spread.sum() / total) - df @ np.log(spread / df)
    correction = 1 + ((1 / df).sum() - 1 / total) / (3 * (len(df) - 1))
    return float(chdtrc(len(df) - 1, statistic / correction))


@dataclass(frozen=True, eq=False)
class SeedScatter:
    """The variance of each rung's mean over seeds, and how unsurely it is known."""

    variance: Float[np.ndarray, " rung"]
    drawn: Float[np.ndarray, " rung"] | None  # what the null draws by; None where the rungs scatter alike
    drawn_df: Float[np.ndarray, " rung"] | None

    def uncertain(
        self,
        share: Float[np.ndarray, " rung"],
        starts: Int[np.ndarray, " point"],
        floor: Float[np.ndarray, " point"],
        variance: Float[np.ndarray, " point"],
    ) -> Float[np.ndarray, "point 2"] | None:
        """For each point, the share of `variance` that its noise is drawn with, and its degrees of freedom.

        Of rungs averaged with shares w: variance sum w^2 s_i^2, df = (sum w^2 s_i^2)^2 / sum ((w^2 s_i^2)^2 / df_i).

        Source: Satterthwaite 1946, Biometrics Bulletin 2.
        """
        if self.drawn is None or self.drawn_df is None:
            return None
        parts = share**2 * self.drawn
        drawn = np.add.reduceat(parts, starts)
        df = drawn**2 / np.add.reduceat(parts**2 / self.drawn_df, starts)
        return np.stack([np.maximum(drawn, floor) / variance, df], axis=1)


def seed_scatter(spread: Float[np.ndarray, " rung"], seeds: Int[np.ndarray, " rung"]) -> SeedScatter:
    """The scatter of rungs with these spreads and numbers of seeds.

    s^2 = sum spread_i / sum (R_i - 1) for all; where the rungs differ by more than chance, max(s^2, spread_i / (R_i -
    1)) each. So a rung's variance may be too large, and p errs upwards; a stable rung is not taken for more exact than
    the others, for what makes one configuration unlike its neighbours is not in its seeds. The null draws the noise of
    a rung by its moderated variance, or its own if that is larger: with the moderated one alone false turns were .09.
    """
    df = (seeds - 1).astype(float)
    pooled = float(spread.sum() / df.sum())
    prior = unequal(spread, df)
    if prior is None:
        return SeedScatter(pooled / seeds, None, None)
    own = np.where(df > 0, spread / np.maximum(df, 1.0), 0.0)
    drawn, drawn_df = prior.moderated(spread, df)
    return SeedScatter(np.maximum(pooled, own) / seeds, np.maximum(drawn, own) / seeds, drawn_df)
