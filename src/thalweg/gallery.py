"""The stimuli to look at: for each rung its best, median and worst units, what drives them most and least, and one
trial.
"""

from collections.abc import Mapping

import polars as pl

from thalweg.recording import Recording
from thalweg.scores import PLAIN
from thalweg.stimuli import Images
from thalweg.trials import draw, exam

PLACES = ("best", "median", "worst")
BAND = "v75"  # of the trial that is shown
SCHEMA = {
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "place": pl.String,
    "layer": pl.String,
    "unit": pl.Int32,
    "measure": pl.String,
    "value": pl.Float64,
    "role": pl.String,  # high or low reference, high or low query
    "rank": pl.Int32,
    "first": pl.Boolean,  # of the two queries, the one that is shown first
    "stimulus": pl.Int32,
    "label": pl.String,
    "png": pl.Binary,
}


def gallery(
    units: pl.DataFrame,
    recordings: Mapping[str, tuple[Recording, Recording]],
    pool: Images,
    *,
    measure: str,
    observer: str,
    seed: int,
) -> pl.DataFrame:
    """The pictures of one model: `recordings` holds for each layer the reference and the query half's.

    Units are ranked by the measure; where no unit of the model has one, by `two_choice`.
    """
    rows = units.filter(~pl.col("exchanged") & (pl.col("observer") == observer) & (pl.col("band") == "mean"))
    rows = rows.filter(pl.col("value").is_not_nan())
    ranked = rows.filter(pl.col("measure") == measure)
    if ranked.is_empty():
        ranked = rows.filter(pl.col("measure") == PLAIN)
    ranked = ranked.sort("value", "depth", "unit", descending=[True, False, False])
    found = []
    for place, at in zip(PLACES, (0, len(ranked) // 2, len(ranked) - 1), strict=True):
        if ranked.is_empty():
            break
        unit = ranked.row(at, named=True)
        found += [
            {
                **{name: unit[name] for name in ("ladder", "rung", "seed", "layer", "unit", "measure", "value")},
                "place": place,
                **shown,
            }
            for shown in _shown(recordings[unit["layer"]], unit["unit"], pool, seed)
        ]
    return pl.DataFrame(found, schema=SCHEMA)


def _shown(halves: tuple[Recording, Recording], unit: int, pool: Images, seed: int) -> list[dict[str, object]]:
    trials = exam(*(half.units(slice(unit, unit + 1)) for half in halves))
    one = draw(trials, 0, BAND, seed=seed + unit) or draw(trials, 0, "extreme", seed=seed + unit)
    if one is None:
        return []
    shown = [
        ("high reference", one.high_references),
        ("low reference", one.low_references),
        ("high query", (one.high_query,)),
        ("low query", (one.low_query,)),
    ]
    return [
        {
            "role": role,
            "rank": rank,
            "first": one.high_first == (role == "high query"),
            "stimulus": stimulus,
            "label": pool.label_names[int(pool.labels[stimulus])],
            "png": pool.png(stimulus),
        }
        for role, stimuli in shown
        for rank, stimulus in enumerate(stimuli)
    ]
