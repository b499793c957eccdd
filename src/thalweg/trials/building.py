"""From recordings to trials: which stimuli explain a unit, and which pairs of new stimuli are asked about.

References come from the recording of the reference half: the highest and lowest stimuli of each unit. Queries come from
the recording of the query half, in graded bands. `extreme` pairs its nine highest with its nine lowest. The bands
`v90`, `v75` and `v60` take, on each side, up to thirty stimuli whose values lie nearest to that fraction (and its
complement) of the way from the mean of the low references to the mean of the high ones, and nearer to it than to the
next band's: the bands never share a stimulus. Difficulty is graded by *value*; by percentile it would confuse
difficulty with sparsity.

Everything here is a pure function of two recordings, so trials are derived again, never stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from numpy.typing import NDArray
from torch import Tensor

from thalweg.recording.keys import MASK
from thalweg.recording.result import Recording
from thalweg.stimuli.base import LEAST_POOL

REFERENCES = 9  # a side, as in the published protocol (Zimmermann, Klein & Brendel 2023)
MANY_REFERENCES = LEAST_POOL // 4  # a side, to choose features from: nine were too few to find a planted one
EXTREME = 9  # queries a side
GRADED = 30  # queries a side, at most
GRADES = {"v90": (0.825, 0.90, 0.975), "v75": (0.675, 0.75, 0.825), "v60": (0.525, 0.60, 0.675)}  # edge, middle, edge
BANDS = ("extreme", *GRADES)
MATCH_WIDTH = 0.25  # of a unit's standard deviation: predictions nearer than this can't decide a pair
SHARED = 16  # different stimuli per query of a unit below which one matrix product is faster than gathering (measured)
ROUNDING = 1e-6  # of a value: eight times what a float32 resolves; a layer's constants differ by less
CACHED = 1_000_000  # numbers gathered at once
Pairs = Mapping[str, Bool[Tensor, "unit high low"]]  # by band
PLAIN, CONSTANT, NONFINITE = "", "constant", "non-finite values"


@dataclass(frozen=True, eq=False)
class Queries:
    """The queries of one band: ids of high and low stimuli, -1 where a unit has fewer."""

    high: Int64[Tensor, "unit high"]
    low: Int64[Tensor, "unit low"]


@dataclass(frozen=True, eq=False)
class QueryIndex:
    """The stimuli that units are asked about: ids, -1 where a unit has fewer; the different ones, and where each id is
    among these.
    """

    ids: Int64[Tensor, "unit query"]
    different: Int64[Tensor, " different"]
    position: Int64[Tensor, "unit query"]

    @classmethod
    def of(cls, ids: Int64[Tensor, "unit query"]) -> "QueryIndex":
        """These ids; an absent one counts as the first stimulus."""
        there = ids.clamp_min(0)
        asked = torch.zeros(int(there.max()) + 1, dtype=torch.bool)
        asked[there.flatten()] = True  # ids are positions in a pool: marking them is faster than sorting
        return cls(ids, asked.nonzero().flatten(), (asked.cumsum(0) - 1)[there])


@dataclass(frozen=True, eq=False)
class TrialSet:
    """All trials of some units: references, most extreme first, and queries by band."""

    high: Int64[Tensor, "unit reference"]
    low: Int64[Tensor, "unit reference"]
    queries: Mapping[str, Queries]
    alive: Bool[Tensor, " unit"]  # has trials at all
    notes: tuple[str, ...]  # why not, a note for each unit

    @cached_property
    def query_index(self) -> QueryIndex:
        """The queries of all bands side by side, the high ones of a band before the low ones."""
        return QueryIndex.of(
            torch.cat([side for queries in self.queries.values() for side in (queries.high, queries.low)], 1)
        )

    def by_band(self, values: Float[Tensor, "unit query"]) -> dict[str, list[Tensor]]:
        """The values for `query_index`, laid out by band again: the high queries' and the low ones'."""
        sizes = [side.shape[1] for queries in self.queries.values() for side in (queries.high, queries.low)]
        sides = iter(values.split(sizes, 1))
        return {band: [next(sides), next(sides)] for band in self.queries}


def build_trials(reference: Recording, query: Recording) -> TrialSet:
    """The trials that two halves' recordings give each unit.

    A unit that is constant on the references (up to rounding), or has non-finite values in either half, makes no trial.
    """
    (high_values, high), (low_values, low) = (
        (values[:, :MANY_REFERENCES], ids[:, :MANY_REFERENCES]) for values, ids in ends(reference)
    )
    top, bottom = high_values[:, :REFERENCES].mean(1), low_values[:, :REFERENCES].mean(1)  # (unit)
    failed = (reference.nonfinite > 0) | (query.nonfinite > 0)
    alive = (top - bottom > ROUNDING * torch.maximum(top.abs(), bottom.abs())) & ~failed
    values, ids = candidates(query)
    fraction = (values - bottom[:, None]) / (top - bottom)[:, None]  # (unit, candidate)
    queries = {"extreme": Queries(*(newest[:, :EXTREME] for _, newest in ends(query)))}
    for band, grade in GRADES.items():
        queries[band] = Queries(nearest(fraction, ids, grade), nearest(1 - fraction, ids, grade))
    return trial_set(high, low, queries, alive, failed)


def trial_set(
    high: Int64[Tensor, "unit reference"],
    low: Int64[Tensor, "unit reference"],
    queries: Mapping[str, Queries],
    alive: Bool[Tensor, " unit"],
    failed: Bool[Tensor, " unit"],
) -> TrialSet:
    """The trials of the units that are alive: the others have no stimuli, and a note that says why; `failed` are those
    with non-finite values.
    """

    def kept(ids: Tensor) -> Tensor:
        return torch.where(alive[:, None], ids, -1)

    return TrialSet(
        high=kept(high),
        low=kept(low),
        queries={band: Queries(kept(asked.high), kept(asked.low)) for band, asked in queries.items()},
        alive=alive,
        notes=tuple(
            NONFINITE if bad else PLAIN if good else CONSTANT
            for bad, good in zip(failed.tolist(), alive.tolist(), strict=True)
        ),
    )


@lru_cache(maxsize=2)  # as below
def ends(half: Recording) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Values and ids of the highest and of the lowest stimuli of each unit, the most extreme first. Not to be changed
    in place.
    """
    return half.highest(), half.lowest()


@lru_cache(maxsize=2)  # the trials of both poles, of both sides and of exchanged halves ask for the same
def candidates(query: Recording) -> tuple[Float[Tensor, "unit candidate"], Int64[Tensor, "unit candidate"]]:
    """Values and ids of all that the query half kept of each unit, each stimulus once: repeats have the value NaN.
    Not to be changed in place.
    """
    (high_values, high), (low_values, low) = ends(query)
    sample = query.sample_ids()
    sampled = torch.zeros(max(int(part.max()) for part in (high, low, sample)) + 2, dtype=torch.bool)
    sampled[sample] = True  # ids are positions in a pool: looking them up is faster than searching
    repeats = [sampled[high], sampled[low], torch.zeros(len(high), len(sample), dtype=torch.bool)]
    if int(query.count.min()) < 2 * query.k:  # only then can a stimulus be among the highest and the lowest
        repeats[1] |= among(low, high)
    ids = torch.cat([high, low, sample.expand(len(high), -1)], 1)
    values = torch.cat([high_values, low_values, query.sample.T], 1)
    return values.masked_fill(torch.cat(repeats, 1) | (ids < 0), torch.nan), ids


def among(ids: Int64[Tensor, "unit one"], others: Int64[Tensor, "unit other"]) -> Bool[Tensor, "unit one"]:
    """Which ids are among the others of the same unit; in memory for these alone, not for every pair."""
    ordered = others.sort(1).values
    place = torch.searchsorted(ordered, ids).clamp(max=ordered.shape[1] - 1)
    return ordered.gather(1, place) == ids


def nearest(
    fraction: Float[Tensor, "unit candidate"], ids: Int64[Tensor, "unit candidate"], grade: tuple[float, float, float]
) -> Int64[Tensor, "unit query"]:
    """Ids of the up to thirty candidates nearest to a band's middle, -1 beyond its edges; ties as the recording broke
    them.
    """
    least, middle, most = map(np.float32, grade)
    places, count = fraction.numpy(), fraction.shape[1]
    away = np.abs(places - middle)
    away = np.where((places >= least) & (places < most), away, np.float32(np.inf))  # NumPy compares faster than PyTorch
    keys = packed(away, np.arange(count - 1, -1, -1))  # of equal ones the last first
    kept = torch.from_numpy(smallest(keys, min(GRADED, count)))
    rank = count - 1 - (kept & MASK)
    return torch.where(kept < INFINITE, ids.gather(1, rank), -1)


def packed(distances: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers that are ordered as the distances are, and then as `order`, which must not be negative: a distance's bits
    grow with it.
    """
    return (distances.view(np.int32).astype(np.int64) << 32) | order


INFINITE = int(packed(np.array([np.inf], np.float32), np.zeros(1, np.int64))[0])


def smallest(keys: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The smallest keys of each row, in order; NumPy's partition is several times faster than a top-k of PyTorch."""
    return np.sort(np.partition(keys, count - 1, axis=1)[:, :count], axis=1)


def readout(
    features: Float[Tensor, "stimulus feature"], asked: QueryIndex, weights: Float[Tensor, "unit feature"]
) -> Float[Tensor, "unit query"]:
    """Each unit's queries, read out linearly: sum over f of features[id, f] weights[unit, f].

    Absent queries give NaN. Where the units ask about few different stimuli, all of those are read out for every unit
    in one matrix product; else each unit's own are gathered, a few units at a time, so that they stay in the
    processor's cache.
    """
    ids = asked.ids
    if len(asked.different) < SHARED * ids.shape[1]:
        values = (weights @ features[asked.different].T).gather(1, asked.position)
    else:
        step = max(1, CACHED // (ids.shape[1] * features.shape[1]))
        pairs = zip(ids.clamp_min(0).split(step), weights.split(step), strict=True)
        values = torch.cat([torch.bmm(features[rows], weight[:, :, None])[:, :, 0] for rows, weight in pairs])
    return torch.where(ids < 0, torch.nan, values)


def matched_pairs(
    trials: TrialSet,
    reference: Recording,
    statistics: Float[Tensor, "stimulus statistic"],
    ids: Int[Tensor, " recorded"],
) -> Pairs:
    """For each band, the pairs of queries that low-level statistics can't decide.

    A unit's values on the reference half (the stimuli `ids`) are regressed on the statistics and a constant, beta =
    (X'X)^-1 X'v, where X'v is the recording's product "trivial"; a pair is kept if the predictions for its queries
    differ by less than a quarter of the unit's standard deviation. Statistics are standardised first, and a ridge of
    1e-6 keeps collinear ones harmless; one that does not vary decides nothing.
    """
    mean, spread = statistics[ids].mean(0), statistics[ids].std(0)
    spread = torch.where(spread > ROUNDING * mean.abs(), spread.clamp_min(1e-9), torch.inf)
    design = ((statistics - mean) / spread).double()
    sums = (reference.products["trivial"] - mean[:, None] * reference.mean * reference.count) / spread[
        :, None
    ]  # (statistic, unit)
    gram = design[ids].T @ design[ids] + 1e-6 * len(ids) * torch.eye(design.shape[1], dtype=torch.float64)
    slopes = torch.linalg.solve(gram, sums) / reference.variance().sqrt()  # in the unit's standard deviations
    predictions = trials.by_band(readout(design.float(), trials.query_index, slopes.T.float()))
    return {band: _nearer(high, low, MATCH_WIDTH) for band, (high, low) in predictions.items()}


def _nearer(
    high: Float[Tensor, "unit high"], low: Float[Tensor, "unit low"], width: float
) -> Bool[Tensor, "unit high low"]:
    """Which pairs are nearer to each other than a width, with the units beside each other in memory: so they are
    counted fastest.
    """
    one, other = (side.T.contiguous() for side in (high, low))
    apart = (one[:, None] - other[None]).abs_()  # (high, low, unit)
    return torch.from_numpy(apart.numpy() < np.float32(width)).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class GroupMeans:
    """What the group of a stimulus (its last token) says of each unit's value.

    With n_g stimuli of mean m_g in group g, N stimuli in G groups of overall mean m: within = the mean square in
    groups, between = the variance of the groups' true means by the method of moments, and the prediction for a group is
    its mean, shrunken: m + (m_g - m) n_g between / (n_g between + within).
    """

    predictions: Float[Tensor, "group unit"]
    share: Float[Tensor, " unit"]  # of variance that groups explain: 1 - within / total mean square, not below 0


def group_means(recording: Recording, groups: Int[Tensor, " recorded"], product: str) -> GroupMeans:
    """The shrunken group means of a recording whose sums by group are its product of that name.

    `groups` holds the group of each recorded stimulus.
    """
    sums = recording.products[product]  # (group, unit)
    sizes = groups.bincount(minlength=len(sums)).double()[:, None]
    there = int((sizes > 0).sum())
    total = float(sizes.sum())
    centre = recording.mean
    apart = torch.where(sizes > 0, sums / sizes.clamp_min(1) - centre, 0)  # of a group's mean from the overall one
    explained = (sizes * apart.square()).sum(0)
    within = (recording.variance() * total - explained).clamp_min(0) / max(1.0, total - there)
    typical = (total - float(sizes.square().sum()) / total) / max(1, there - 1)
    between = ((explained / max(1, there - 1) - within) / typical).clamp_min(0)
    trust = sizes * between / (sizes * between + within).clamp_min(1e-300)
    share = 1 - within / (recording.variance() * total / (total - 1)).clamp_min(1e-300)
    return GroupMeans((centre + trust * apart).float(), share.clamp(0, 1).float())


def matched_pairs_by_group(
    trials: TrialSet,
    reference: Recording,
    groups: Int[Tensor, " stimulus"],
    ids: Int[Tensor, " recorded"],
    *,
    product: str = "last_token",
) -> Pairs:
    """For each band, the pairs of queries that the stimuli's groups can't decide: their predictions from the reference
    half (the stimuli `ids`) differ by less than a quarter of the unit's standard deviation.
    """
    predictions = group_means(reference, groups[ids], product).predictions / reference.variance().sqrt().float()
    pairs = {}
    for band, queries in trials.queries.items():
        high, low = (predictions.T.gather(1, groups[side.clamp_min(0)]) for side in (queries.high, queries.low))
        near = (high[:, :, None] - low[:, None, :]).abs() < MATCH_WIDTH
        pairs[band] = near & (queries.high >= 0)[:, :, None] & (queries.low >= 0)[:, None, :]
    return pairs
