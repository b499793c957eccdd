"""Holm's correction of p values for their number."""

import math
from collections.abc import Sequence


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values for their number; NaN, where nothing was tested, doesn't count.

    With m tests, the k-th smallest p becomes the largest of (m - j + 1) p_(j), j = 1..k, at most 1.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    adjusted = list(p)
    tested = sorted((i for i in range(len(p)) if not math.isnan(p[i])), key=lambda i: p[i])
    largest = 0.0
    for rank, i in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted
