"""The columns of the table of edits."""

import polars as pl

EDITS = {
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "control": pl.String,
    "layer": pl.String,  # that is edited
    "method": pl.String,
    "measure": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int32,  # facts
    "note": pl.String,
}

REDIRECT = "redirect"  # the method that redirects a network to another goal
REDIRECTED, REACHED, KEPT, GOALS_KNOWN = "redirected", "reached", "redirected_kept", "goals_known"  # its measures
