"""How often the 95 % intervals of numbers over rungs hold the truth: `thalweg.factors.relation`.

    python -m benchmarks.intervals_over_rungs --simulations 1000

Three normal numbers of each model: a factor and a score go with strength at .6, and with each other at 0, .5 or .8,
with strength held or not. Rungs have one model each, or three, of which the rung explains .8 of each number's variance.
The truth is Spearman's correlation of infinitely many models. A mean is of one such number. Beside the intervals of the
module stand percentiles of drawing rungs again.
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from thalweg.factors.relation import Relation, mean_over_rungs, partial_relation, relation, spearman

Numbers = NDArray[np.float64]
RUNGS = (5, 6, 8, 12, 20)
WITH_STRENGTH = 0.6
DRAWS = 400
PLANTED = (0.0, 0.5, 0.8)


def ranks_of(r: float) -> float:
    """Spearman's correlation of two normal numbers whose Pearson correlation is r."""
    return 6 / math.pi * math.asin(r / 2)


def partial(xy: Numbers | float, xz: Numbers | float, yz: Numbers | float) -> Numbers | float:
    """A correlation with a third number held."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))


class Drawn:
    """Models of rungs, and what is true of them."""

    def __init__(self, planted: float, share: float, *, held: bool) -> None:
        z = WITH_STRENGTH
        xy = planted * (1 - z**2) + z**2 if held else planted
        self.root = np.linalg.cholesky(np.array([[1, xy, z], [xy, 1, z], [z, z, 1]]))
        self.share, self.held = share, held
        self.truth = ranks_of(share * xy)
        if held:
            self.truth = float(partial(self.truth, ranks_of(share * z), ranks_of(share * z)))

    def models(self, rng: np.random.Generator, rungs: int, seeds: int) -> Numbers:
        """The three numbers of each model: (3, model)."""
        common = rng.standard_normal((rungs, 1, 3)) @ self.root.T
        own = rng.standard_normal((rungs, seeds, 3))
        return (math.sqrt(self.share) * common + math.sqrt(1 - self.share) * own).reshape(-1, 3).T

    def estimate(self, models: Numbers, names: list[str]) -> Relation:
        """The package's own."""
        if self.held:
            return partial_relation(*models.tolist(), names)
        return relation(*models[:2].tolist(), names)

    def percentiles(self, models: Numbers, times: Numbers) -> tuple[float, float]:
        """The interval of drawing rungs again."""
        x, y, z = models
        values = spearman(x, y, times)
        if self.held:
            values = partial(values, spearman(x, z, times), spearman(y, z, times))
        return tuple(np.nanpercentile(np.where(np.isfinite(values), values, np.nan), (2.5, 97.5)))


def times(rng: np.random.Generator, rungs: int, seeds: int) -> Numbers:
    """How often each model occurs in each draw of rungs."""
    drawn = rng.multinomial(rungs, np.full(rungs, 1 / rungs), DRAWS)
    return np.repeat(drawn, seeds, 1).astype(float)


def coverage(drawn: Drawn, rungs: int, seeds: int, simulations: int) -> tuple[float, float, float]:
    """How often the interval holds the truth, how often it leaves out 0, and how often percentiles hold the truth."""
    rng = np.random.default_rng(rungs)
    names = [str(index // seeds) for index in range(rungs * seeds)]
    held, found, before, count = 0, 0, 0, 0
    for _ in range(simulations):
        models = drawn.models(rng, rungs, seeds)
        estimate = drawn.estimate(models, names)
        low, high = drawn.percentiles(models, times(rng, rungs, seeds))
        if not math.isnan(estimate.low):
            count += 1
            held += estimate.low <= drawn.truth <= estimate.high
            found += not estimate.low <= 0 <= estimate.high
            before += low <= drawn.truth <= high
    return held / count, found / count, before / count


def means(rungs: int, seeds: int, simulations: int) -> tuple[float, float]:
    """How often the interval of a mean holds the truth, 0, and how often percentiles do."""
    rng = np.random.default_rng(rungs)
    names = [str(index // seeds) for index in range(rungs * seeds)]
    held, before = 0, 0
    for _ in range(simulations):
        x = Drawn(0, 1 if seeds == 1 else 0.8, held=False).models(rng, rungs, seeds)[0]
        estimate = mean_over_rungs(x.tolist(), names)
        weights = times(rng, rungs, seeds)
        low, high = np.percentile(weights @ x / weights.sum(1), (2.5, 97.5))
        held += estimate.low <= 0 <= estimate.high
        before += low <= 0 <= high
    return held / simulations, before / simulations


def lines(simulations: int) -> Iterator[str]:
    """A table in Markdown."""
    yield "| number | models a rung | truth | " + " | ".join(f"{n} rungs" for n in RUNGS) + " |"
    yield "|---|---|---|" + "---|" * len(RUNGS)
    for held in (True, False):
        for seeds in (1, 3):
            for planted in PLANTED:
                drawn = Drawn(planted, 1 if seeds == 1 else 0.8, held=held)
                cells = [coverage(drawn, rungs, seeds, simulations) for rungs in RUNGS]
                name = "correlation, strength held" if held else "correlation"
                shown = " | ".join(f"{now:.2f} ({before:.2f}), {found:.2f}" for now, found, before in cells)
                yield f"| {name} | {seeds} | {drawn.truth:.2f} | {shown} |"
    for seeds in (1, 3):
        cells = [means(rungs, seeds, simulations) for rungs in RUNGS]
        yield f"| mean | {seeds} | 0 | " + " | ".join(f"{now:.2f} ({before:.2f})" for now, before in cells) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    for line in lines(parser.parse_args().simulations):
        print(line, flush=True)
