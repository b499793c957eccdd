"""The stimuli to look at: for each rung its best, median and worst units, what drives them most and least, and one
trial.
"""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from thalweg.measures.headlines import PLAIN
from thalweg.recording.result import Recording
from thalweg.stimuli.showing import Shown
from thalweg.trials.building import build_trials
from thalweg.trials.items import draw

PLACES = ("best", "median", "worst")
BAND = "v75"  # of the trial that is shown
SCHEMA: dict[str, Any] = {
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "standing": pl.String,
    "layer": pl.String,
    "unit": pl.Int32,
    "measure": pl.String,
    "value": pl.Float64,
    "role": pl.String,  # high or low reference, high or low query
    "rank": pl.Int32,
    "first": pl.Boolean,  # of the two queries, the one that is shown first
    "stimulus": pl.Int32,
    "label": pl.String,
    "png": pl.Binary,  # of a picture
    "html": pl.String,  # of anything else
    "pieces": pl.List(pl.String),  # of a text
    "values": pl.List(pl.Float32),  # of the unit at each piece, where it has them
}

Trace = Callable[
    [str, int, list[int]], list[list[float]]
]  # (layer, unit, stimuli): its values along each, if it has any
Show = Callable[[int, list[float]], Shown]  # (stimulus, a unit's values along it from 0 to 1): what a person sees


def gallery(
    units: pl.DataFrame,
    recordings: Mapping[str, tuple[Recording, Recording]],
    *,
    show: Show,
    trace: Trace,
    measure: str,
    observer: str,
    seed: int,
) -> pl.DataFrame:
    """The gallery of one model. `recordings` holds for each layer those of the reference and of the query half.

    Units are ranked by the measure; where no unit of the model has one, by `two_choice`.
    """
    rows = units.filter(~pl.col("exchanged") & (pl.col("observer") == observer) & (pl.col("band") == "mean"))
    rows = rows.filter(pl.col("value").is_not_nan())
    ranked = rows.filter(pl.col("measure") == measure)
    if ranked.is_empty():
        ranked = rows.filter(pl.col("measure") == PLAIN)
    ranked = ranked.sort("value", "depth", "unit", descending=[True, False, False])
    records: list[dict[str, Any]] = []
    for standing, at in zip(PLACES, (0, len(ranked) // 2, len(ranked) - 1), strict=True):
        if ranked.is_empty():
            break
        unit = ranked.row(at, named=True)
        records += [
            {
                **{name: unit[name] for name in ("ladder", "rung", "seed", "layer", "unit", "measure", "value")},
                "standing": standing,
                **shown,
            }
            for shown in _shown(recordings[unit["layer"]], unit, show, trace, seed)
        ]
    return pl.DataFrame(records, schema=SCHEMA)


def _shown(
    halves: tuple[Recording, Recording], unit: Mapping[str, Any], show: Show, trace: Trace, seed: int
) -> list[dict[str, object]]:
    at = halves[0].unit_ids.tolist().index(unit["unit"])
    trials = build_trials(*(half.units(slice(at, at + 1)) for half in halves))
    trial = draw(trials, 0, BAND, seed=seed + at) or draw(trials, 0, "extreme", seed=seed + at)
    if trial is None:
        return []
    roles = [
        *(("high reference", rank, stimulus) for rank, stimulus in enumerate(trial.high_references)),
        *(("low reference", rank, stimulus) for rank, stimulus in enumerate(trial.low_references)),
        ("high query", 0, trial.high_query),
        ("low query", 0, trial.low_query),
    ]
    values = trace(unit["layer"], unit["unit"], [stimulus for _, _, stimulus in roles])
    every = [value for along in values for value in along] or [0.0]
    low, high = min(every), max(every)
    records: list[dict[str, object]] = []
    for index, (role, rank, stimulus) in enumerate(roles):
        along = values[index] if values else []
        shown = show(stimulus, [(value - low) / ((high - low) or 1) for value in along])
        records.append(
            {
                "role": role,
                "rank": rank,
                "first": trial.high_first == (role == "high query"),
                "stimulus": stimulus,
                "label": shown.label,
                "png": shown.png,
                "html": shown.html,
                "pieces": list(shown.pieces),
                "values": along if len(along) == len(shown.pieces) else [],
            }
        )
    return records
