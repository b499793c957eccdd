"""A mixed-effects logistic model of single answers, with crossed random effects of participants and of units.

    P(right) = logistic(beta_model + a_participant + b_unit),  a ~ N(0, sd_participant^2),  b ~ N(0, sd_unit^2)

Some people are better than others, and some units easier, so answers are not independent: neither those of one person
nor those about one unit. The model takes both into account at once. One half, chance, is 0 on its scale.

GPBoost fits it by maximum likelihood with Laplace's approximation. Its standard errors are good for differences from
the reference, so each model is the reference once.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from thalweg.errors import ThalwegError
from thalweg.measures.base import Z

MISSING = (
    "the mixed-effects model of people's answers needs the package gpboost; install it with "
    "`pip install 'thalweg[study]'`"
)
RESTARTS = 3  # of the optimiser, where its first step was no step
LEAST = 2  # participants and units
NOTHING_KNOWN = 3.0  # half an interval in the logarithm: from a twentieth of the estimate to twenty times it
NO_SPREAD = 1e-3  # a standard deviation below this cannot be told from none: its interval begins at 0


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """What the model says of one model: its mean on the logit scale, and the probability that a usual participant is
    right about a usual unit.
    """

    name: str
    logit: float
    se: float
    probability: Estimate


@dataclass(frozen=True)
class Mixed:
    """A fitted model, over `n` answers; `note` says why there is none."""

    effects: tuple[Effect, ...] = ()
    sd_participant: Estimate | None = None
    sd_unit: Estimate | None = None
    n: int = 0
    note: str = ""


def fit_mixed(
    right: Bool[np.ndarray, " answer"], model: Sequence[str], participant: Sequence[str], unit: Sequence[str]
) -> Mixed:
    """Fit the model to single answers.

    Args:
        right: Whether each answer is right.
        model: Which model each is about; each gets a mean of its own.
        participant: Whose answer each is.
        unit: Which unit each is about; units of different models have different names.

    Returns:
        Means with standard errors, and the two standard deviations with intervals.

    Raises:
        ThalwegError: gpboost is not installed.

    Source:
        Breslow & Clayton 1993, Approximate inference in generalized linear mixed models; GPBoost: Sigrist 2022.
    """
    people, units = (np.unique(np.asarray(names), return_inverse=True)[1] for names in (participant, unit))
    names, models = np.unique(np.asarray(model), return_inverse=True)
    if people.max(initial=0) + 1 < LEAST or units.max(initial=0) + 1 < LEAST:
        return Mixed(n=len(right), note="fewer than two participants or units")
    if right.all() or not right.any():
        return Mixed(n=len(right), note="all answers are right, or all wrong")
    groups = np.stack([people, units], 1)
    spreads = np.full((2, 2), np.nan)
    effects: list[Effect] = []
    for reference, name in enumerate(names):
        fitted = _fitted(right.astype(float), _design(models, len(names), reference), groups)
        (logit, se), spreads = fitted if reference == 0 else (fitted[0], spreads)
        effects.append(_effect(str(name), logit, se))
    sds = [_sd(variance, se) for variance, se in spreads.T]
    return Mixed(tuple(effects), sds[0], sds[1], len(right))


def _design(models: np.ndarray, count: int, reference: int) -> Float[np.ndarray, "answer coefficient"]:
    """An intercept, which is the reference's mean, and the differences of the other models from it."""
    others = [other for other in range(count) if other != reference]
    return np.stack([np.ones(len(models)), *(models == other for other in others)], 1).astype(float)


def _fitted(
    right: Float[np.ndarray, " answer"], design: Float[np.ndarray, "answer coefficient"], groups: np.ndarray
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"]]:
    """The intercept with its standard error; and of participants and units, the variance and its standard error."""
    model = _library().GPModel(group_data=groups, likelihood="bernoulli_logit", matrix_inversion_method="cholesky")
    model.fit(y=right, X=design, params={"max_num_restarts_lbfgs": RESTARTS})
    coefficients = np.asarray(model.get_coef(std_err=True))  # (estimate and error, coefficient)
    return coefficients[:, 0], np.asarray(model.get_cov_pars(std_err=True))


def _library() -> Any:
    try:
        import gpboost
    except ImportError as missing:
        raise ThalwegError(MISSING) from missing
    gpboost.register_logger(logging.getLogger("gpboost"))  # it would print to standard output
    return gpboost


def _effect(name: str, logit: float, se: float) -> Effect:
    ends = [float(expit(logit + side * Z * se)) for side in (-1, 1)]
    return Effect(name, float(logit), float(se), Estimate(float(expit(logit)), *ends))


def _sd(variance: float, se: float) -> Estimate:
    """A standard deviation with its interval, which is normal in the logarithm of the variance."""
    value = float(np.sqrt(variance))
    half = Z * se / (2 * variance)
    if value < NO_SPREAD or not half < NOTHING_KNOWN:
        return Estimate(value, 0.0, float("nan"))
    factor = float(np.exp(half))
    return Estimate(value, value / factor, value * factor)
