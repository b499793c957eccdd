"""What a run says of the things that it was measured with, so that its report needs no registry that may change."""

import math
from collections.abc import Sequence
from typing import Any

from thalweg.factors.base import Factor


def ends(bounds: tuple[float, float]) -> list[float | None]:
    """A range for JSON, where an end without bound is None."""
    return [end if math.isfinite(end) else None for end in bounds]


def of_factors(factors: Sequence[Factor]) -> dict[str, dict[str, Any]]:
    """What each factor means, by name."""
    return {
        factor.name: {
            "version": factor.version,
            "unit": factor.unit,
            "range": ends(factor.range),
            "higher_is": factor.higher_is,
            "cite": factor.cite,
            "meaning": factor.meaning,
        }
        for factor in factors
    }
