"""Answers of observers that embed stimuli: evidence for every query of every unit at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.trials.building import MANY_REFERENCES, REFERENCES, TrialSet, readout

CAPACITIES = (1, 2, 5, 20, None)  # None: all features of the dictionary
LEAST_VARIANCE = 0.05  # of a feature's variance over the pool, added: thirty references can't show that it is less


@dataclass(frozen=True, eq=False)
class Evidence:
    """How much each query of a band looks like the high references rather than the low ones; NaN where there is no
    query.
    """

    high: Float[Tensor, "unit high"]
    low: Float[Tensor, "unit low"]


Answers = Mapping[str, Evidence]  # by band


def answer(trials: TrialSet, embedding: Float[Tensor, "stimulus feature"]) -> Answers:
    """Whole-stimulus evidence d(q) = s(q, E+) - s(q, E-), with s the mean similarity to nine references.

    The mean similarity to a set is the similarity to its mean: d(q) = e(q) . (mean of E+ - mean of E-).
    """
    weights = _mean(embedding, trials.high[:, :REFERENCES]) - _mean(embedding, trials.low[:, :REFERENCES])
    return _by_band(trials, readout(embedding, trials.query_index, weights))


def answer_by_features(
    trials: TrialSet, dictionary: Float[Tensor, "stimulus feature"], capacities: Sequence[int | None] = CAPACITIES
) -> dict[int | None, Answers]:
    """Evidence of an observer that may use only its c best features, for each capacity c (None: all).

    For each feature, over thirty references a side, separation = |m+ - m-| / sqrt(v), with v the mean of the two
    variances plus 0.05 pool variances. The c best are weighed by (m+ - m-) / v, a discriminant that takes
    features as independent.
    """
    difference, within = separations(trials, dictionary)
    weights = difference / within
    limited = [c for c in capacities if c is not None]
    best = (difference.square() / within).topk(min(max(limited, default=1), difference.shape[1]), 1).indices
    ids = trials.query_index.ids
    values = dictionary[ids.clamp_min(0)[:, :, None], best[:, None, :]]  # (unit, query, feature)
    sums = (values * weights.gather(1, best)[:, None, :]).cumsum(2).masked_fill((ids < 0)[:, :, None], torch.nan)
    answers: dict[int | None, Answers] = {}
    for c in capacities:
        evidence = (
            readout(dictionary, trials.query_index, weights) if c is None else sums[:, :, min(c, best.shape[1]) - 1]
        )
        answers[c] = _by_band(trials, evidence)
    return answers


def separations(
    trials: TrialSet, dictionary: Float[Tensor, "stimulus feature"]
) -> tuple[Float[Tensor, "unit feature"], Float[Tensor, "unit feature"]]:
    """How each feature tells a unit's references apart: m+ - m-, and v, the variance within the two sides plus 0.05;
    |m+ - m-| / sqrt(v) is the separation that features are chosen by.
    """
    high, low = trials.high[:, :MANY_REFERENCES], trials.low[:, :MANY_REFERENCES]
    high_mean, low_mean = _mean(dictionary, high), _mean(dictionary, low)
    difference = high_mean - low_mean  # (unit, feature)
    squares = dictionary.square()
    within = (_mean(squares, high) + _mean(squares, low)) / 2
    within -= (high_mean.square() + low_mean.square()) / 2
    return difference, within.clamp_min(0) + LEAST_VARIANCE


def _mean(table: Float[Tensor, "stimulus feature"], ids: Tensor) -> Float[Tensor, "unit feature"]:
    """The mean of some rows of a table, a set of rows for each unit."""
    return torch.nn.functional.embedding_bag(ids.clamp_min(0).contiguous(), table, mode="mean")


def _by_band(trials: TrialSet, evidence: Float[Tensor, "unit query"]) -> Answers:
    """The evidence for all queries, laid out by band again."""
    return {band: Evidence(high, low) for band, (high, low) in trials.by_band(evidence).items()}
