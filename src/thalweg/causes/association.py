"""How a survey's own factors go with its curve: associations, which prove no cause.

The experiment moves one thing at a time; a survey's ladder moves many at once. What a survey can say is whether a
factor goes with the score beyond what strength says, and whether strength still goes with it where the factor is held.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl

from thalweg.factors.relation import partial_relation, relation
from thalweg.measures.headlines import HEADLINES
from thalweg.pipeline.verdicts import LEAST_COVERAGE
from thalweg.runs.run import Run

SCHEMA = {
    "ladder": pl.String,
    "headline": pl.String,
    "factor": pl.String,
    "rho": pl.Float64,
    "beyond_strength": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "strength": pl.Float64,
    "strength_beyond_factor": pl.Float64,
    "n_models": pl.Int32,
    "n_rungs": pl.Int32,
    "note": pl.String,
}


def associations(run: Run) -> pl.DataFrame:
    """Relate each factor of a run to each headline over the trained models of each ladder.

    All numbers are Spearman's rank correlations over models. A partial one, of x and y with z held, is
    (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)).

    Args:
        run: A finished run.

    Returns:
        A row for each ladder, headline and factor: `rho` of factor and score; `beyond_strength`, the same with strength
        held, with its 95 % interval `low` to `high` (rungs count, not models); `strength`, the
        correlation of strength and score; `strength_beyond_factor`, the same with the factor held; `n_models`,
        `n_rungs`; `note` says why a number is missing (NaN).

    Example:
        >>> import thalweg
        >>> from thalweg.causes.association import associations
        >>> table = associations(thalweg.open_run("runs/mnist"))
        >>> table.columns[:4]
        ['ladder', 'headline', 'factor', 'rho']
    """
    axis: str = run.record["settings"]["strength"]
    factors = list(run.record["factors"])
    trained = run.in_basis(run.bases[0]).models.filter(pl.col("control") == "trained")
    rows = []
    for (ladder,), models in trained.group_by("ladder", maintain_order=True):
        for word, factor in product(HEADLINES, factors):
            scored = models.filter(pl.col(f"{word}_coverage") >= LEAST_COVERAGE)
            x, y, z = (scored[name].cast(pl.Float64).fill_null(math.nan).to_list() for name in (factor, word, axis))
            key = {"ladder": ladder, "headline": word, "factor": factor}
            rows.append(key | _row(x, y, z, scored["rung"].to_list()))
    return pl.DataFrame(rows, schema=SCHEMA)


def _row(
    factor: Sequence[float], score: Sequence[float], strength: Sequence[float], rungs: Sequence[str]
) -> dict[str, Any]:
    known = np.flatnonzero(np.isfinite(np.array([factor, score, strength], float)).all(0)).tolist()
    x, y, z = ([values[index] for index in known] for values in (factor, score, strength))
    names = [rungs[index] for index in known]
    plain = relation(x, y, names)
    beyond = partial_relation(x, y, z, names)
    return {
        "rho": plain.rho,
        "beyond_strength": beyond.rho,
        "low": beyond.low,
        "high": beyond.high,
        "strength": relation(z, y, names).rho,
        "strength_beyond_factor": partial_relation(z, y, x, names).rho,
        "n_models": plain.n_models,
        "n_rungs": plain.n_rungs,
        "note": beyond.note or plain.note,
    }
