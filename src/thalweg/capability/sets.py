"""Sets of units that stay: the best by a score, the others, random ones, and random ones of like variance.

A set holds as many units of each layer as any other that it is compared with, for a cut over all layers at once would
starve those whose units score low. A unit without a score counts as worse than any that has one; ties are broken at
random. Units that were not measured, where only some of a layer's were drawn, are in every set.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

STRATA = 5  # of a layer's units, by variance
LEAST_STRATUM = 4  # units: of fewer, the best would leave nothing to draw


def kept_of(count: int, share: float) -> int:
    """How many of a layer's units a share is: rounded up, so that no layer is left without any."""
    return math.ceil(share * count - 1e-9)


class UnitSets:
    """The sets of one network.

    Args:
        scores: Of the measured units of each layer; NaN where a unit has none.
        measured: Their indices within the layer, for each layer.
        widths: How many units each layer has.
        seed: Of ties and random sets.
    """

    def __init__(
        self,
        scores: Sequence[Float[Tensor, "_"]],
        measured: Sequence[Int[Tensor, "_"]],
        widths: Sequence[int],
        seed: int,
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        starts = torch.tensor([0, *widths]).cumsum(0)[:-1]
        self.eligible = [ids.long() + start for ids, start in zip(measured, starts, strict=True)]  # of each layer
        self.n_units = sum(widths)
        ties = [torch.rand(len(each), generator=self.generator, dtype=torch.float64) for each in scores]
        filled = [each.double().nan_to_num(-math.inf) for each in scores]
        self.ranking = [_descending(score, tie) for score, tie in zip(filled, ties, strict=True)]

    @property
    def n_measured(self) -> int:
        """Units that can be kept or replaced."""
        return sum(map(len, self.eligible))

    def counts(self, share: float) -> list[int]:
        """How many units of each layer a share is."""
        return [kept_of(len(each), share) for each in self.eligible]

    def _whole(self, chosen: Sequence[Bool[Tensor, "set _"]]) -> Bool[Tensor, "set unit"]:
        """Sets of measured units as sets of all units."""
        sets = torch.ones(len(chosen[0]), self.n_units, dtype=torch.bool)
        for ids, part in zip(self.eligible, chosen, strict=True):
            sets[:, ids] = part
        return sets

    def all(self) -> Bool[Tensor, "1 unit"]:
        """Every unit."""
        return self._whole([torch.ones(1, len(each), dtype=torch.bool) for each in self.eligible])

    def nothing(self) -> Bool[Tensor, "1 unit"]:
        """No measured unit."""
        return self._whole([torch.zeros(1, len(each), dtype=torch.bool) for each in self.eligible])

    def best(self, share: float) -> Bool[Tensor, "1 unit"]:
        """The best of each layer."""
        return self.first(self.ranking, share)

    def first(self, ranking: Sequence[Int[Tensor, "_"]], share: float) -> Bool[Tensor, "1 unit"]:
        """The first of each layer in some order of its measured units."""
        parts = []
        for order, count in zip(ranking, self.counts(share), strict=True):
            part = torch.zeros(1, len(order), dtype=torch.bool)
            part[:, order[:count]] = True
            parts.append(part)
        return self._whole(parts)

    def others(self, share: float) -> Bool[Tensor, "1 unit"]:
        """All but the best."""
        return ~self.best(share) | self.nothing()

    def random(self, share: float, count: int) -> Bool[Tensor, "set unit"]:
        """Random sets of as many units a layer."""
        return self._whole([self._drawn(len(each), kept_of(len(each), share), count) for each in self.eligible])

    def matched(self, share: float, count: int, variances: Sequence[Float[Tensor, "_"]]) -> Bool[Tensor, "set unit"]:
        """Random sets with as many units a layer in each fifth of its variances as the best have there."""
        parts = []
        for order, variance, kept in zip(self.ranking, variances, self.counts(share), strict=True):
            best = torch.zeros(len(order), dtype=torch.bool)
            best[order[:kept]] = True
            part = torch.zeros(count, len(order), dtype=torch.bool)
            strata = max(1, min(STRATA, len(order) // LEAST_STRATUM))
            for stratum in variance.argsort(stable=True).tensor_split(strata):
                part[:, stratum] = self._drawn(len(stratum), int(best[stratum].sum()), count)
            parts.append(part)
        return self._whole(parts)

    def _drawn(self, among: int, kept: int, count: int) -> Bool[Tensor, "set unit"]:
        """So many random choices of so many units."""
        ranks = torch.rand(count, among, generator=self.generator).argsort(1).argsort(1)
        return ranks < kept


def _descending(score: Tensor, tie: Tensor) -> Int[Tensor, " measured"]:
    """The order from the highest score to the lowest, ties by a second number."""
    by_tie = tie.argsort()
    return by_tie[score[by_tie].argsort(descending=True, stable=True)]
