"""The two headline measures, and which rows of a table are theirs."""

from collections.abc import Mapping

import polars as pl

from thalweg.measures.base import MEASURES

HEADLINES = {measure.headline: name for name, measure in MEASURES.items() if measure.headline}
PLAIN = "two_choice"


def is_headline(observers: Mapping[str, str]) -> pl.Expr:
    """Rows of the headline measures and of `two_choice`, over their bands, by each ladder's headline observer."""
    return (
        pl.col("measure").is_in([*HEADLINES.values(), PLAIN])
        & (pl.col("band") == "mean")
        & (pl.col("observer") == pl.col("ladder").replace(observers))
    )
