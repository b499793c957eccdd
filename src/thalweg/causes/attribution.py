"""What the effects go through, and how much of the scores each cause explains: both rest on assumptions.

*Mixed model*: units' crisp scores by the six factors and their interactions of two, with the network as random
intercept. *Mediation*: how much of a factor's effect goes through overfitting (the gap in bits) and superposition
together, from linear models with their interaction. Randomising a factor does not randomise the mediators, so this
holds only if nothing unseen moves both a mediator and the score; rho says how strongly the two would have to go
together for the indirect effect to vanish (Imai et al. 2010). *Shares*: the Shapley decomposition of R2.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, combinations
from math import factorial

import numpy as np
import polars as pl

from thalweg.causes.design import FACTORS, INTERVENTIONS
from thalweg.causes.hypotheses import columns_of, factorial_rows
from thalweg.causes.regression import (
    Column,
    Columns,
    bootstrap,
    coefficients,
    explained,
    interval,
    residual,
)

MEDIATED = ("examples", "label_noise", "width", "density", "modality")
GROUPS = ("capacity", "overfitting", "superposition", "modality", "interactions")
CHECKED = ("crisp", "superposition", "memorised", "gap_bits", "strength_bits")


def mixed_effects(networks: pl.DataFrame, units: pl.DataFrame) -> pl.DataFrame:
    """Main effects and interactions of two factors on units' scores, from low to high, by the mixed model."""
    frame = factorial_rows(networks)
    joined = units.filter(pl.col("crisp").is_not_nan()).join(
        frame.select("network", *(f"x_{name}" for name in FACTORS)), on="network", maintain_order="left"
    )
    terms: list[tuple[str, ...]] = [*((name,) for name in FACTORS), *combinations(FACTORS, 2)]
    columns = columns_of(joined)
    design = [np.prod([columns[f"x_{name}"] for name in term], axis=0) for term in terms]
    exog = np.column_stack([np.ones(len(joined)), *design])
    slopes, errors, model = _fitted(columns["crisp"], exog, columns["network"])
    return pl.DataFrame(
        [
            {
                "term": " x ".join(term),
                "effect": 2 * slope,
                "low": 2 * (slope - 1.96 * error),
                "high": 2 * (slope + 1.96 * error),
                "model": model,
            }
            for term, slope, error in zip(terms, slopes.tolist(), errors.tolist(), strict=True)
        ]
    )


def _fitted(scores: Column, exog: Column, network: Column) -> tuple[Column, Column, str]:
    """The slopes, their standard errors and which model gave them: the mixed model, or least squares with errors that
    are robust within networks where the mixed model finds no variance between networks and does not converge.
    """
    from statsmodels.regression.linear_model import OLS
    from statsmodels.regression.mixed_linear_model import MixedLM

    with warnings.catch_warnings(), suppress(np.linalg.LinAlgError):
        warnings.simplefilter("ignore")  # of a variance near 0: what follows asks for it
        mixed = MixedLM(scores, exog, groups=network).fit(method=["bfgs"])  # lbfgs ends in nonsense near 0
        slopes, errors = np.asarray(mixed.fe_params), np.asarray(mixed.bse_fe)
        if mixed.converged and np.isfinite(errors).all():
            return slopes[1:], errors[1:], "mixed"
    plain = OLS(scores, exog).fit(cov_type="cluster", cov_kwds={"groups": network.astype(int)})
    return np.asarray(plain.params)[1:], np.asarray(plain.bse)[1:], "clustered"


def indirect(columns: Columns, factor: str) -> Column:
    """The effects of a factor from low to high: all of it, and what goes through overfitting, through superposition and
    through both.
    """
    x = columns[f"x_{factor}"]
    others = [columns[f"x_{name}"] for name in FACTORS if name != factor]
    over, shared = columns["gap_bits"], columns["superposition"]
    over, shared = over - over.mean(), shared - shared.mean()
    total = 2 * coefficients(columns["crisp"], x, *others)[0]
    to_over, to_shared = (2 * coefficients(each, x, *others)[0] for each in (over, shared))
    slopes = coefficients(columns["crisp"], over, shared, over * shared, x, *others)
    by_over, by_shared, by_both = to_over * slopes[0], to_shared * slopes[1], to_over * to_shared * slopes[2]
    return np.array([total, by_over, by_shared, by_over + by_shared + by_both])


def mediation(networks: pl.DataFrame, *, draws: int, seed: int) -> pl.DataFrame:
    """For each factor, its total effect and what goes through the mediators, with intervals and rho."""
    rows = factorial_rows(networks)
    columns = columns_of(rows)
    lines: list[dict[str, object]] = []
    for factor in MEDIATED:
        whole, errors, df = bootstrap(
            lambda drawn, factor=factor: indirect(drawn, factor),
            columns,
            rows["cell"].to_list(),
            draws=draws,
            seed=seed,
        )
        for place, path in enumerate(("total", "overfitting", "superposition", "both")):
            estimate = interval(float(whole[place]), float(errors[place]), df)
            lines.append(
                {
                    "factor": factor,
                    "path": path,
                    "effect": estimate.effect,
                    "low": estimate.low,
                    "high": estimate.high,
                    "rho": sensitivity(columns, factor, path),
                }
            )
    return pl.DataFrame(lines)


def sensitivity(columns: Columns, factor: str, path: str) -> float:
    """The correlation of the errors of mediator and score at which the indirect effect vanishes: that of what the
    factors leave of both (Imai, Keele & Yamamoto 2010). NaN for a path of several mediators.
    """
    mediator = {"overfitting": "gap_bits", "superposition": "superposition"}.get(path)
    if mediator is None:
        return float("nan")
    factors = [columns[f"x_{name}"] for name in FACTORS]
    left = [residual(columns[name], *factors) for name in (mediator, "crisp")]
    spread = np.sqrt((left[0] @ left[0]) * (left[1] @ left[1]))
    return float(left[0] @ left[1] / spread) if spread > 0 else float("nan")


def _groups(columns: Columns) -> dict[str, list[Column]]:
    """The predictors of each group."""
    width, over, shared, image = (columns[name] for name in ("x_width", "gap_bits", "superposition", "x_modality"))
    over, shared = over - over.mean(), shared - shared.mean()
    return {
        "capacity": [width, columns["x_depth"]],
        "overfitting": [over, columns["memorised"]],
        "superposition": [shared],
        "modality": [image],
        "interactions": [over * shared, width * shared, image * width, image * shared],
    }


def dominance(columns: Columns) -> Column:
    """The Shapley share of R2 of each group: the mean gain of R2 over all orders in which groups enter."""
    groups = _groups(columns)

    def fit(names: Sequence[str]) -> float:
        return explained(columns["crisp"], *chain.from_iterable(groups[name] for name in names))

    fits = {frozenset(names): fit(names) for size in range(len(GROUPS) + 1) for names in combinations(GROUPS, size)}
    shares = []
    for group in GROUPS:
        rest = [name for name in GROUPS if name != group]
        share = 0.0
        for size in range(len(GROUPS)):
            weight = factorial(size) * factorial(len(GROUPS) - size - 1) / factorial(len(GROUPS))
            for names in combinations(rest, size):
                share += weight * (fits[frozenset((*names, group))] - fits[frozenset(names)])
        shares.append(share)
    return np.array(shares)


def shares(networks: pl.DataFrame, *, draws: int, seed: int) -> pl.DataFrame:
    """The share of the networks' scores that each group of causes explains, with intervals."""
    rows = factorial_rows(networks)
    whole, errors, df = bootstrap(dominance, columns_of(rows), rows["cell"].to_list(), draws=draws, seed=seed)
    estimates = [interval(float(value), float(error), df) for value, error in zip(whole, errors, strict=True)]
    return pl.DataFrame(
        [
            {"cause": group, "share": each.effect, "low": each.low, "high": each.high}
            for group, each in zip(GROUPS, estimates, strict=True)
        ]
    )


def manipulations(networks: pl.DataFrame) -> pl.DataFrame:
    """What each intervention moved: the mean difference from its base over seeds and modalities, with an interval, and
    whether it moved what it is meant to move.
    """
    frame = networks.filter(arm="intervention")
    keys = ["seed", "modality", "examples"]
    base = frame.filter(intervention="none").select(*keys, *(pl.col(name).alias(f"base_{name}") for name in CHECKED))
    lines = []
    for name, each in INTERVENTIONS.items():
        rows = frame.filter(intervention=name).join(base, on=keys, maintain_order="left")
        for outcome in CHECKED:
            apart = (rows[outcome] - rows[f"base_{outcome}"]).to_numpy()
            error = float(apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else float("nan")
            estimate = interval(float(apart.mean()), error, max(1, len(apart) - 1))
            lower = estimate.low if each.sign > 0 else -estimate.high
            meant = outcome == each.moves
            numbers = {"difference": estimate.effect, "low": estimate.low, "high": estimate.high}
            lines.append(
                {"intervention": name, "outcome": outcome, **numbers, "n": len(apart), "meant": meant}
                | {"moved": lower > 0 if meant else None}
            )
    return pl.DataFrame(lines, schema_overrides={"moved": pl.Boolean})
