"""The columns of the table of concepts."""

import polars as pl

CONCEPTS = {
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "control": pl.String,  # trained, a twin, or shuffled: the trained network, with pairs of unrelated concepts
    "layer": pl.String,  # empty: the mean over layers, or the whole model
    "measure": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int32,  # concepts, or questions
    "note": pl.String,
}
