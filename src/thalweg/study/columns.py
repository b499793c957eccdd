"""The tables that an export of a study holds; the page on studies says what each column means."""

from typing import Any

import polars as pl

UTC = pl.Datetime("us", "UTC")
PARTICIPANTS: dict[str, Any] = {
    "participant": pl.String,
    "status": pl.String,  # started, finished, left, returned
    "condition": pl.String,
    "instruction_seconds": pl.Float64,
    "total_seconds": pl.Float64,
    "practice_attempts": pl.Int32,
    "source": pl.String,  # link, prolific, mturk
    "started_at": UTC,
    "finished_at": UTC,
}
RESPONSES: dict[str, Any] = {
    "participant": pl.String,
    "trial": pl.String,
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "control": pl.String,
    "layer": pl.String,
    "unit": pl.Int32,
    "band": pl.String,
    "kind": pl.String,  # practice, catch, main
    "position": pl.Int32,  # order in the session
    "picked": pl.Int8,  # 0 or 1, in the trial's order of queries
    "correct": pl.Boolean,
    "confidence": pl.Int8,  # 1 to 3
    "seconds": pl.Float64,
    "answered_at": UTC,
}
TRIALS: dict[str, Any] = {  # what the server knows of each trial, the right answer included
    "trial": pl.String,
    "kind": pl.String,
    "condition": pl.String,
    **{name: RESPONSES[name] for name in ("ladder", "rung", "seed", "control", "layer", "unit", "band")},
    "high": pl.List(pl.String),  # digests of the stimuli
    "low": pl.List(pl.String),
    "queries": pl.List(pl.String),
    "correct": pl.Int8,
}
STIMULI: dict[str, Any] = {"digest": pl.String, "png": pl.Binary, "pieces": pl.List(pl.String)}
LISTS: dict[str, Any] = {"condition": pl.String, "list": pl.Int32, "position": pl.Int32, "trial": pl.String}
