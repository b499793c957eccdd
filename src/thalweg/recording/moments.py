"""Count, mean and sum of squared deviations of the union of two disjoint sets."""

from jaxtyping import Float64, Int64
from torch import Tensor

Moments = tuple[Int64[Tensor, " unit"], Float64[Tensor, " unit"], Float64[Tensor, " unit"]]  # count, mean, deviations


def moments_of_union(one: Moments, other: Moments) -> Moments:
    """Count, mean and sum of squared deviations of two disjoint sets together, exact however far the values lie from
    zero.

    With d the difference of the means: mean = m1 + d n2 / n and deviations = s1 + s2 + d^2 n1 n2 / n (Chan, Golub &
    LeVeque 1983).
    """
    count = one[0] + other[0]
    share = other[0].double() / count.clamp_min(1)
    difference = other[1] - one[1]
    return count, one[1] + difference * share, one[2] + other[2] + difference.square() * one[0] * share
