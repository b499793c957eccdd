"""Least squares, the bootstrap over networks within cells, and intervals from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Column = NDArray[np.float64]
Columns = Mapping[str, Column]


def coefficients(target: Column, *predictors: Column) -> Column:
    """The slopes of a least-squares regression with a constant, in the order of the predictors."""
    design = np.column_stack([np.ones(len(target)), *predictors])
    return np.asarray(np.linalg.lstsq(design, target, rcond=None)[0], dtype=np.float64)[1:]


def explained(target: Column, *predictors: Column) -> float:
    """R2 of a regression with a constant; 0 without predictors."""
    if not predictors:
        return 0.0
    design = np.column_stack([np.ones(len(target)), *predictors])
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    total = ((target - target.mean()) ** 2).sum()
    return float(1 - ((target - fitted) ** 2).sum() / total) if total > 0 else 0.0


def residual(target: Column, *predictors: Column) -> Column:
    """What a regression with a constant leaves of the target."""
    design = np.column_stack([np.ones(len(target)), *predictors])
    left: Column = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return left


@dataclass(frozen=True)
class Estimate:
    """An effect with its 95 % interval and two-sided p value."""

    effect: float
    low: float
    high: float
    p: float


def resampled(cells: Sequence[str], generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of rows, drawn again with replacement within each cell."""
    groups: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        groups.setdefault(cell, []).append(place)
    return np.concatenate([generator.choice(places, len(places)) for places in groups.values()])


def bootstrap(
    estimate: Callable[[Columns], Column], columns: Columns, cells: Sequence[str], *, draws: int, seed: int
) -> tuple[Column, Column, int]:
    """An estimate of one or several numbers, its standard errors, and their degrees of freedom.

    Networks are drawn again within their cells. A cell of r networks shows only (r - 1) / r of its variance in this
    way, so deviations are stretched by sqrt(r / (r - 1)), with the mean r. The degrees of freedom are those of the
    networks within cells.
    """
    generator = np.random.default_rng(seed)
    whole = np.atleast_1d(estimate(columns))
    n_cells = len(set(cells))
    size = len(cells) / n_cells
    values = []
    for _ in range(draws):
        rows = resampled(cells, generator)
        values.append(np.atleast_1d(estimate({name: column[rows] for name, column in columns.items()})))
    errors = np.std(values, axis=0) * np.sqrt(size / max(size - 1, 0.5))
    return whole, errors, max(1, len(cells) - n_cells)


def interval(effect: float, error: float, df: int) -> Estimate:
    """The interval and the p value of an effect with this standard error, by Student's distribution."""
    half = float(stats.t.ppf(0.975, df)) * error
    p = float(2 * stats.t.sf(abs(effect) / error, df)) if error > 0 else float(effect == 0)
    return Estimate(effect, effect - half, effect + half, p)
