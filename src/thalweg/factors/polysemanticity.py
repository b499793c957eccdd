"""Whether the stimuli that drive a unit are of one kind or of several.

A unit that stands for one thing is driven by stimuli that are all alike. One that superposition makes stand for several
things is driven by stimuli of several kinds: alike within a kind, and not across. How alike two stimuli are, the
observer of the headlines says, by its vectors; it knows nothing of the model.

No clusters are formed, and no number of clusters is chosen. If the stimuli that drive a unit are of kinds with shares
p, alike by s within a kind and not at all across kinds, then similarity has over pairs the mean s sum p^2, and its
square the mean s^2 sum p^2. The square of the first over the second is sum p^2, the probability that two of the stimuli
are of one kind (Simpson's index), whatever s is. Random pairs have similarities too, whose mean square is taken away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Float64, Int64
from scipy.stats import binom
from torch import Tensor

from thalweg.factors.base import Estimate, factor, mean_of_units

UNITS = 100  # of each layer, evenly spread: a mean over units is then known to about .03
DRAWS = 500  # of random stimuli, for the null
LEVEL = 0.01  # of the units of a random layer that pass for alike
LEAST = 9  # stimuli of each half
CHUNK = 20  # units at a time: bounds memory


@factor(
    version=1,
    unit="probability",
    range=(0.0, 1.0),
    higher_is="driven by more kinds of stimuli",
    cite="Simpson 1949, Measurement of Diversity (1 - sum p^2); applied to a unit's stimuli by thalweg",
)
def polysemanticity(
    references: Mapping[str, Int64[Tensor, "unit 2 reference"]], embedding: Float[Tensor, "stimulus feature"] | None
) -> Estimate:
    """The probability that two of the stimuli that drive a unit most are of different kinds, by the observer of the
    headlines; the mean over layers of the mean over units.

    With g the cosine of the vectors of a stimulus from the reference half's thirty highest and one from the query
    half's, value = 1 - mean(g)^2 / (mean(g^2) - r), where r is the mean of g^2 over random pairs of the pool. One kind
    gives 0, two equal ones 1/2, four 3/4. Stimuli on which the unit rests are left out. At most 100 units of a layer
    are taken. The interval comes from the scatter of units within layers; n counts units.

    A unit is left out whose stimuli are no more alike than random ones, at a level of 1 %, or that is active on fewer
    than nine stimuli of a half. A layer has no number if no more of its units pass than would by chance; NaN where no
    layer has one, and where the observer does not compare whole stimuli.

    How it can mislead: kinds are what the observer sees, and an observer that cannot see what a unit stands for leaves
    the unit out, so a model with many such units is judged by the others; with few classes in the stimuli, kinds are
    unlike each other by necessity, which raises the number for three or more; a unit that grades one thing (from thin
    to bold) may look like more than one.
    """
    if embedding is None:
        return Estimate(torch.nan, note="the observer does not compare whole stimuli")
    chance = _chance(embedding)
    values = {name: _of_layer(evenly(ids, UNITS), embedding, chance) for name, ids in references.items()}
    note = "the stimuli that drive units are no more alike than random ones"
    return mean_of_units(values, note=note, least=0.0, most=1.0)


def evenly(ids: Int64[Tensor, "unit 2 reference"], most: int) -> Int64[Tensor, "taken 2 reference"]:
    """At most so many of the units, evenly spread."""
    return ids[torch.linspace(0, len(ids) - 1, min(most, len(ids)), dtype=torch.float64).long()]


@dataclass(frozen=True, eq=False)
class _Likeness:
    """How alike the stimuli are that drive each unit, over pairs of one from each half: their mean similarity, that
    of its square, and the root of the number of pairs.
    """

    mean: Float64[Tensor, " unit"]
    square: Float64[Tensor, " unit"]
    root: Float64[Tensor, " unit"]


def _likeness(ids: Int64[Tensor, "unit 2 reference"], embedding: Float[Tensor, "stimulus feature"]) -> _Likeness:
    parts = []
    for chunk in ids.split(CHUNK):
        first, second = (embedding[chunk[:, half]] * (chunk[:, half] >= 0)[:, :, None] for half in (0, 1))
        similarity = (first @ second.mT).double()  # (unit, stimulus, stimulus)
        parts.append(torch.stack([similarity.sum((1, 2)), similarity.square().sum((1, 2))]))
    mean, square = torch.cat(parts, 1) / (pairs := (ids >= 0).sum(2).prod(1).double())
    return _Likeness(mean, square, pairs.sqrt())


@dataclass(frozen=True, eq=False)
class _Chance:
    """What random stimuli of the pool have: the mean square of their similarity, and the mean that one set in a hundred
    exceeds, times the root of the number of pairs.
    """

    square: float
    most: float


def _random_sets(count: int) -> list[Int64[Tensor, "2 reference"]]:
    """Two times thirty, at most, of so many stimuli, drawn many times; without the permutations that they come from,
    each of which is as long as the pool.
    """
    generator = torch.Generator().manual_seed(0)
    half = min(30, count // 2)
    return [torch.randperm(count, generator=generator)[: 2 * half].view(2, half).clone() for _ in range(DRAWS)]


@lru_cache(maxsize=2)  # all models of a ladder share the embedding
def _chance(embedding: Float[Tensor, "stimulus feature"]) -> _Chance:
    likeness = _likeness(torch.stack(_random_sets(len(embedding))), embedding)
    return _Chance(float(likeness.square.mean()), float((likeness.mean * likeness.root).quantile(1 - LEVEL)))


def _of_layer(
    ids: Int64[Tensor, "unit 2 reference"], embedding: Float[Tensor, "stimulus feature"], chance: _Chance
) -> Float64[Tensor, " unit"]:
    """The number of each unit of a layer; NaN where it has none."""
    likeness = _likeness(ids, embedding)
    enough = ((ids >= 0).sum(2) >= LEAST).all(1)
    alike = enough & (likeness.mean * likeness.root > chance.most)
    if alike.sum() <= binom.ppf(1 - LEVEL, int(enough.sum()), LEVEL):
        return torch.full_like(likeness.mean, torch.nan)
    beyond = (likeness.square - chance.square).clamp_min(1e-12)
    return (1 - likeness.mean.square() / beyond).clamp(0, 1).where(alike, torch.nan)
