"""Count, mean and sum of squared deviations of the union of two disjoint sets."""

from jaxtyping import Float64, Int64
from torch import Tensor

Moments = tuple[Int64[Tensor, " unit"], Float64[Tensor, " unit"], Float64[Tensor, " unit"]]  # count, mean, deviations


def moments_of_union(first: Moments, second: Moments) -> Moments:
    """Count, mean and sum of squared deviations of two disjoint sets together, exact however far the values lie from
    zero.

    With d the difference of the means: mean = m1 + d n2 / n and deviations = s1 + s2 + d^2 n1 n2 / n (Chan, Golub &
    LeVeque 1983).
    """
    count = first[0] + second[0]
    share = second[0].double() / count.clamp_min(1)
    difference = second[1] - first[1]
    return count, first[1] + difference * share, first[2] + second[2] + difference.square() * first[0] * share
