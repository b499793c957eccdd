"""The columns of the table of capability."""

import polars as pl

CAPABILITY = {
    "ladder": pl.String,
    "rung": pl.String,
    "kind": pl.String,
    "seed": pl.Int32,
    "control": pl.String,  # trained or untrained
    "measure": pl.String,  # the score by which units are the best
    "observer": pl.String,
    "ablation": pl.String,  # mean or resample; empty in the one row of a model that could not be weighed
    "cut": pl.Float64,  # the share of a layer's units that stays
    "n_units": pl.Int32,  # of all analysed layers
    "n_measured": pl.Int32,  # of these, that were measured; the others always stay
    "n_scored": pl.Int32,  # of these, that have a score
    "n_kept": pl.Int32,  # measured units that stay
    "n_stimuli": pl.Int32,
    "achievable": pl.Float64,  # bits that guessing by frequency leaves open
    "whole": pl.Float64,  # bits of the whole model, its confidence set right
    "floor": pl.Float64,  # bits that are left without any measured unit
    "tic": pl.Float64,
    "tic_low": pl.Float64,
    "tic_high": pl.Float64,
    "fraction": pl.Float64,
    "complement": pl.Float64,
    "by_loss": pl.Float64,
    "random": pl.Float64,
    "random_low": pl.Float64,
    "random_high": pl.Float64,
    "excess": pl.Float64,
    "excess_low": pl.Float64,
    "excess_high": pl.Float64,
    "p": pl.Float64,
    "excess_matched": pl.Float64,
    "p_matched": pl.Float64,
    "n_sets": pl.Int32,
    "n_matched": pl.Int32,
    "n_compared": pl.Int32,  # stimuli that sets are compared on
    "least_excess": pl.Float64,
    "reliability": pl.Float64,
    "note": pl.String,  # why numbers are missing, or what they leave out
}
