"""The columns of the tables of units and of factors."""

from collections.abc import Sequence

import polars as pl

MODEL_KEY = ["ladder", "rung", "kind", "seed", "control", "basis"]
NETWORK_KEY = ["ladder", "rung", "kind", "seed", "control"]  # what a network has in every basis
SCORE_KEY = ["measure", "observer", "band", "capacity"]


def in_main_basis(others: Sequence[str]) -> pl.Expr:
    """Which rows of a table are of the main basis of a run, and not of the `others` beside it; the rotated twin's are
    too, whatever its basis is called.
    """
    return ~pl.col("basis").is_in(list(others)) | (pl.col("control") == "rotated")


FACTORS = {
    "ladder": pl.String,
    "rung": pl.String,
    "kind": pl.String,
    "seed": pl.Int32,
    "control": pl.String,
    "factor": pl.String,
    "factor_version": pl.Int16,
    "layer": pl.String,  # empty: the whole model
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int32,  # stimuli or units that the number rests on
    "note": pl.String,  # why the value is missing
}
UNITS = {
    "ladder": pl.String,
    "rung": pl.String,
    "kind": pl.String,
    "seed": pl.Int32,
    "control": pl.String,  # none, untrained or rotated
    "layer": pl.String,
    "depth": pl.Int16,  # the layer's place, 0 first
    "reduction": pl.String,  # how values over places became one: max, mean
    "basis": pl.String,  # neurons or random
    "unit": pl.Int32,
    "measure": pl.String,
    "measure_version": pl.Int16,
    "observer": pl.String,  # empty where no observer takes part
    "band": pl.String,  # empty where the measure has none; "mean" over its bands
    "capacity": pl.String,  # empty: whole stimuli; else how many features the observer may use
    "exchanged": pl.Boolean,  # reference and query half exchanged, for the test-retest reliability
    "value": pl.Float32,
    "low": pl.Float32,
    "high": pl.Float32,
    "n": pl.Int32,
    "note": pl.String,  # why the value is missing
}
COUNTS = ("n_units", "n_measured")
INTERVAL = ("score", "low", "high")
OF_A_MODEL = {  # the columns of the tables that hold rows of models
    "scores": [*MODEL_KEY, *SCORE_KEY, *INTERVAL, *COUNTS, "n_failed", "coverage"],
    "layers": [*MODEL_KEY, "layer", "depth", *SCORE_KEY, *COUNTS, *INTERVAL],
    "populations": [*MODEL_KEY, "measure", "observer", "statistic", *INTERVAL, *COUNTS, "coverage"],
    "distributions": [*MODEL_KEY, "measure", "bin", "n"],
    "missing": [*MODEL_KEY, "measure", "note", "n"],
    "reliability": [*MODEL_KEY, "measure", "reliability"],
}
