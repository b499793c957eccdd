"""What is true of a unit where the features of the task are known.

*The best single feature*: the R2 of the regression of a unit's values on one known feature, the largest over all. A
unit that is one feature has 1.

*Feature dimensionality* (Elhage et al. 2022): the share of a dimension that a feature has to itself in a layer,
D_f = |W_f|^2 / sum over g of (W_f . W_g / |W_f|)^2, where W_f, the feature's direction, is its coefficient in the
regression of the layer's values on all features. An orthogonal feature has 1, one of an antipodal pair 1/2, one of a
pentagon 2/5. It does not depend on how values are scaled, nor on any dictionary that is trained.

*The observer that knows the features* answers two-alternative trials as thalweg's observers of capacity 1 do: one
feature, chosen by the references alone.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.measures.base import MEAN
from thalweg.measures.one_sided import over_bands
from thalweg.observers.answers import answer_by_features
from thalweg.observers.embedding import standardised
from thalweg.recording.keys import Scramble
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import Recording
from thalweg.recording.settings import DEFAULTS
from thalweg.trials.one_sided import build_one_sided, tails

RIDGE = 1e-6  # of the mean square of a feature: two features that never differ share their direction
SILENT = 1e-6  # of the layer's largest standard deviation: a unit that varies less is silent


def silent(values: Float[Tensor, "stimulus unit"]) -> Tensor:
    """(unit), which units do not vary: they are never on, or always the same."""
    deviation = values.std(0)
    quiet: Tensor = deviation <= SILENT * deviation.max().clamp_min(1e-12)
    return quiet


def best_feature(
    values: Float[Tensor, "stimulus unit"], features: Float[Tensor, "stimulus feature"]
) -> tuple[Float[Tensor, " unit"], Int[Tensor, " unit"]]:
    """The R2 of each unit's best single feature, and which it is; NaN for a silent unit."""
    units, known = (_normalised(each.double()) for each in (values, features))
    explained = (units.T @ known).square()  # (unit, feature)
    best = explained.max(1)
    return best.values.float().masked_fill(silent(values), torch.nan), best.indices


def _normalised(values: Float[Tensor, "stimulus column"]) -> Float[Tensor, "stimulus column"]:
    centred = values - values.mean(0)
    return torch.nn.functional.normalize(centred, dim=0)


def feature_directions(
    values: Float[Tensor, "stimulus unit"], features: Float[Tensor, "stimulus feature"]
) -> Float[Tensor, "feature unit"]:
    """The direction of each feature in a layer: its coefficients in the regression of the units on all features."""
    design, target = (each.double() - each.double().mean(0) for each in (features, values))
    gram = design.T @ design
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    directions: Tensor = torch.linalg.solve(gram + ridge, design.T @ target)
    return directions.float()


def dimensionality(directions: Float[Tensor, "feature unit"]) -> Float[Tensor, " feature"]:
    """The share of a dimension that each feature has to itself; 0 for one that is not represented."""
    lengths = directions.norm(dim=1)
    along = torch.nn.functional.normalize(directions, dim=1) @ directions.T  # (feature, feature)
    shares: Tensor = lengths.square() / along.square().sum(1).clamp_min(1e-12)
    return shares


def mean_dimensionality(directions: Float[Tensor, "feature unit"]) -> float:
    """The mean over features, each weighed by the square of its direction's length: what is hardly represented hardly
    counts. NaN for a layer without any.
    """
    weights = directions.square().sum(1).double()
    return float((weights * dimensionality(directions).double()).sum() / weights.sum())


def single_feature_score(
    values: Float[Tensor, "stimulus unit"], features: Float[Tensor, "stimulus feature"], *, seed: int
) -> Float[Tensor, " unit"]:
    """How often one known feature, chosen by the references, tells what drives a unit from typical stimuli.

    The trials are those of `one_sided_single`; no pair is left out, for here no low-level statistics are known.

    Args:
        values: (stimulus, unit), as the layer passes them on.
        features: (stimulus, feature).
        seed: Of the halves and of what the recordings sample.

    Returns:
        (unit), chance 0.5; NaN for a silent unit, or one without queries.
    """
    reference, query = (_record(values, ids, seed) for ids in _halves(len(values), seed))
    trials = build_one_sided(reference, query, tails(reference, query).upper_is_main)
    answers = answer_by_features(trials, standardised(features.clone()), (1,))[1]
    pairs = {band: (each.high >= 0)[:, :, None] & (each.low >= 0)[:, None, :] for band, each in trials.queries.items()}
    score: Tensor = over_bands(answers, pairs, capacity="1")[MEAN, "1"].value
    return score.masked_fill(silent(values), torch.nan)


def _halves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // 2].sort().values, order[count // 2 :].sort().values


def _record(values: Float[Tensor, "stimulus unit"], ids: Int[Tensor, " half"], seed: int) -> Recording:
    """The recording of one half of the stimuli."""
    scramble = Scramble.seeded(seed)
    recorder = Recorder(k=DEFAULTS.k, sample=DEFAULTS.sample, scramble=scramble, statistics={})
    recorder.update(values[ids], ids)
    return recorder.compute()
