"""Planted units: units whose truth is known, over any stimuli.

A *latent* is a sparse, non-negative function of the stimuli that an observer's dictionary can name: one of its features
over the pool, less its 97th percentile, and 0 below that. A feature that only says yes or no is 0 or a strength drawn
for each stimulus, since a unit varies where it is active. Latents are divided by the mean of their thirty highest
values, so that none outweighs another in a sum.

Features are tried in an order drawn by the seed. One is taken if it is active for enough stimuli of the pool and of
each half, for not too many, and if its correlation with every latent before it is at most .1 either way. So latents
overlap little, and a sum of them is many things.

Groups of units are made of the latents: single ones, sums, maxima, rotations. Beside them stand dense directions of the
dictionary, and noise. Nothing here knows of any measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.observers.embedding import ObserverView
from thalweg.recording.readout import rotation
from thalweg.scoring.units import Halves

UNITS = 40  # of a group, and latents, unless the user says otherwise
ACTIVE = 0.03  # of the pool: a latent's share of active stimuli, where the pool is large enough
LEAST_ACTIVE = 60  # stimuli of the pool: two halves of thirty references
LEAST_IN_HALF = 20  # active stimuli: where whole documents are dealt out, a half may have few of them
MOST_ACTIVE = 0.15  # of the pool: what is active for more is not sparse
OVERLAP = 0.1  # correlation of two latents, at most
LEAST_LATENTS = 4
SAME = 0.7  # correlation with a latent or its feature above which a feature is a name for it too
TOP = 30  # stimuli whose mean value is 1
STRENGTHS = (0.5, 1.5)  # of a feature that says yes or no, where it says yes
NOISE = 0.05  # standard deviation of what is added to a noisy latent, whose top is 1
SUMS = (2, 3, 5, 10, 20)
MAXIMA = (2, 5, 20)
TURNED = 8  # latents that are rotated together


@dataclass(frozen=True, eq=False)
class Latents:
    """Sparse functions of the stimuli, and the features that they are made of.

    Attributes:
        values: (stimulus, latent), not negative; the mean of the thirty highest of each is 1.
        features: (stimulus, latent), the feature of the dictionary that each is made of.
        graded: (latent), whether that feature has values of its own where it is active, and no drawn strength.
    """

    values: Float[Tensor, "stimulus latent"]
    features: Float[Tensor, "stimulus latent"]
    graded: Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """Units of one sort.

    Attributes:
        name: What the tables call the group.
        kind: `one` (a latent or a feature by itself), `sum`, `max`, `rotation`, `direction` or `noise`.
        latents: How many latents a unit is made of; 0 for noise, None for directions, which are made of features.
        values: (stimulus, unit).
    """

    name: str
    kind: str
    latents: int | None
    values: Float[Tensor, "stimulus unit"]


def draw_latents(
    dictionary: Float[Tensor, "stimulus feature"], parts: Halves, *, seed: int, most: int = UNITS
) -> Latents:
    """Draw latents from the features of a dictionary, at most so many.

    Args:
        dictionary: (stimulus, feature), the named features of an observer, with mean 0 and variance 1 over the pool.
        parts: The pool's halves; a latent is active in both.
        seed: It decides the order in which features are tried, and the strengths of those that say yes or no.
        most: How many latents are drawn at most.

    Raises:
        ThalwegError: the dictionary names fewer than four sparse things that do not overlap.
    """
    generator = torch.Generator().manual_seed(seed)
    taken: list[tuple[Tensor, bool, Tensor]] = []  # values, whether they are graded, feature
    directions = torch.empty(len(dictionary), 0)  # the latents so far, centred, of length 1
    for column in torch.randperm(dictionary.shape[1], generator=generator).tolist():
        latent = _latent_of(dictionary[:, column], parts, generator)
        if latent is None:
            continue
        direction = torch.nn.functional.normalize(latent[0] - latent[0].mean(), dim=0)
        if bool(((direction @ directions).abs() > OVERLAP).any()):
            continue
        directions = torch.cat([directions, direction[:, None]], 1)
        taken.append((*latent, dictionary[:, column]))
        if len(taken) == most:
            break
    if len(taken) < LEAST_LATENTS:
        raise ThalwegError(
            f"the observer's dictionary names {len(taken)} sparse things that do not overlap (active for "
            f"{LEAST_ACTIVE} of the {len(dictionary)} stimuli at least, and for {MOST_ACTIVE:.0%} at most); at least "
            f"{LEAST_LATENTS} were expected: give more stimuli, or another --observer"
        )
    values, graded, features = zip(*taken, strict=True)
    return Latents(torch.stack(values, 1), torch.stack(features, 1), torch.tensor(graded))


def _latent_of(
    feature: Float[Tensor, " stimulus"], parts: Halves, generator: torch.Generator
) -> tuple[Float[Tensor, " stimulus"], bool] | None:
    """The latent that a feature makes, and whether its strengths are the feature's; None where it makes none."""
    values = _rectified(feature)
    if values is None or any(int((values[ids] > 0).sum()) < LEAST_IN_HALF for ids in (parts.reference, parts.query)):
        return None
    graded = values[values > 0].unique().numel() > 1
    if not graded:
        low, high = STRENGTHS
        values = (values > 0) * (low + (high - low) * torch.rand(len(values), generator=generator))
    return values / values.topk(TOP).values.mean(), graded


def _rectified(feature: Float[Tensor, " stimulus"]) -> Float[Tensor, " stimulus"] | None:
    """A feature above its 97th percentile, or above the value that leaves enough stimuli active; None where ties leave
    too few or too many.
    """
    count = len(feature)
    active = max(LEAST_ACTIVE, round(ACTIVE * count))
    if active >= count:
        return None
    threshold = feature.topk(active + 1).values[-1]
    if int((feature > threshold).sum()) < LEAST_ACTIVE:  # ties: all that have this value are active
        below = feature[feature < threshold]
        if not len(below):
            return None
        threshold = below.max()
    values = (feature - threshold).clamp_min(0)
    return values if LEAST_ACTIVE <= int((values > 0).sum()) <= max(LEAST_ACTIVE, MOST_ACTIVE * count) else None


def planted_groups(
    latents: Latents, dictionary: Float[Tensor, "stimulus feature"], *, seed: int, units: int = UNITS
) -> list[Group]:
    """Groups of planted units, of at most so many units each.

    Groups for which there are too few latents are left out.

    Args:
        latents: What the units are made of.
        dictionary: (stimulus, feature), what dense directions are made of.
        seed: It decides which latents a unit is made of, the rotations, the directions and the noise.
        units: How many units a group has at most.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    values, count = latents.values, latents.values.shape[1]
    noise = torch.randn(len(values), count, generator=generator)
    groups = [
        Group("one latent", "one", 1, values[:, :units]),
        Group("one latent, noisy", "one", 1, (values + NOISE * noise)[:, :units]),
    ]
    if int(latents.graded.sum()) >= LEAST_LATENTS:
        groups.append(Group("one feature, dense", "one", 1, latents.features[:, latents.graded][:, :units]))
    for size in (size for size in SUMS if size < count):
        groups.append(Group(f"sum of {size}", "sum", size, _members(values, size, units, generator).sum(2)))
    for size in (size for size in MAXIMA if size < count):
        groups.append(Group(f"max of {size}", "max", size, _members(values, size, units, generator).amax(2)))
    groups += _rotations(values, units, seed)
    groups += _directions(dictionary, units, generator)
    order = torch.rand(len(values), count, generator=generator).argsort(0)  # each column's stimuli shuffled
    groups.append(Group("noise", "noise", 0, torch.randn(len(values), units, generator=generator)))
    groups.append(Group("sparse noise", "noise", 0, values.gather(0, order)[:, :units]))
    return groups


def _members(
    values: Float[Tensor, "stimulus latent"], size: int, units: int, generator: torch.Generator
) -> Float[Tensor, "stimulus unit {size}"]:
    """The values of so many different latents for each unit."""
    chosen = torch.stack([torch.randperm(values.shape[1], generator=generator)[:size] for _ in range(units)])
    return values[:, chosen]


def _rotations(values: Float[Tensor, "stimulus latent"], units: int, seed: int) -> list[Group]:
    """Blocks of eight latents rotated, and all of them rotated together."""
    count = values.shape[1]
    groups = []
    if count >= TURNED:
        blocks = [
            values[:, start : start + TURNED] @ rotation(TURNED, seed=seed + start)
            for start in range(0, count - TURNED + 1, TURNED)
        ]
        groups.append(Group(f"rotation of {TURNED}", "rotation", TURNED, torch.cat(blocks, 1)[:, :units]))
    if count > TURNED:
        turned = values @ rotation(count, seed=seed)
        groups.append(Group("rotation of all", "rotation", count, turned[:, :units]))
    return groups


def _directions(dictionary: Float[Tensor, "stimulus feature"], units: int, generator: torch.Generator) -> list[Group]:
    """Dense directions: random sums of all features as they are, rectified, and standardised."""
    weights = torch.randn(dictionary.shape[1], units, generator=generator) / dictionary.shape[1] ** 0.5
    dense = dictionary @ weights
    top = dense.topk(max(LEAST_ACTIVE, round(ACTIVE * len(dense))) + 1, 0).values[-1]
    return [
        Group("direction", "direction", None, dense),
        Group("direction, rectified", "direction", None, (dense - top).clamp_min(0)),
        Group("direction, standardised", "direction", None, (dense - dense.mean(0)) / dense.std(0)),
    ]


def without_names(view: ObserverView, latents: Latents) -> ObserverView:
    """An observer's view without the names of the latents: the same embedding, and a dictionary that lacks every
    feature whose correlation with a latent, or with the feature that it is made of, is above .7 either way.

    Where nothing is left, the dictionary is one feature of zeros, which tells nothing apart.
    """
    named = torch.cat([latents.values, latents.features], 1)
    named = torch.nn.functional.normalize(named - named.mean(0), dim=0)
    lengths = view.dictionary.norm(dim=0).clamp_min(1e-12)
    keeps = ((named.T @ view.dictionary).abs() / lengths).amax(0) <= SAME
    kept = view.dictionary[:, keeps]
    return ObserverView(view.embedding, kept if kept.shape[1] else torch.zeros(len(kept), 1))


def side_by_side(groups: Sequence[Group]) -> tuple[Float[Tensor, "stimulus unit"], Int[Tensor, " unit"]]:
    """The values of all units, and the place of the group of each."""
    places = torch.cat([torch.full((group.values.shape[1],), place) for place, group in enumerate(groups)])
    return torch.cat([group.values for group in groups], 1), places
