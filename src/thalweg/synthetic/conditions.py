"""The curves of both conditions: scores of models with natural and with synthetic references, and their verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.files.whole import write_json
from thalweg.measures.base import MEAN, Z
from thalweg.measures.choices import mean_over_layers
from thalweg.runs import synthetic
from thalweg.runs.run import Run
from thalweg.shape import judge
from thalweg.synthetic.scoring import CONDITIONS

MODEL = ["ladder", "rung", "kind", "seed", "control"]
SHOWN = {  # what a page shows, by the measure
    "two_choice": "both ends, all trials: the published condition",
    "two_choice_matched": "both ends, trials that low-level statistics can't decide",
    "one_sided": "predictable: the main pole against typical stimuli",
    "one_sided_single": "crisp: the same by one feature",
}
POINTS: dict[str, Any] = {
    **dict.fromkeys(("ladder", "rung", "kind"), pl.String),
    "seed": pl.Int32,
    **dict.fromkeys(("control", "measure", "references"), pl.String),
    **dict.fromkeys(("score", "low", "high", "coverage"), pl.Float64),
    **dict.fromkeys(("n_units", "n_measured"), pl.Int64),
}


@dataclass(frozen=True, eq=False)
class Conditions:
    """The scores of models in both conditions, and the verdicts on the trained ones' curves.

    Attributes:
        points: A row for each model, measure and condition: the mean over layers of the mean over units with a 95 %
            interval over units.
        verdicts: By ladder, measure and condition; of ladders with several rungs.
    """

    points: pl.DataFrame
    verdicts: Mapping[tuple[str, str, str], dict[str, Any]]


def conditions(run: Run, table: pl.DataFrame) -> Conditions:
    """What `visualise` found, by model.

    Args:
        run: The run, for the strengths of its models.
        table: What `visualise` returns.
    """
    points = _points(table)
    axis, seed = run.record["settings"]["strength"], run.record["settings"]["seed"]
    strengths = run.models.filter(control="trained").select("ladder", "rung", pl.col("seed").cast(pl.Int32), axis)
    placed = points.filter(control="trained").join(strengths.unique(), on=["ladder", "rung", "seed"])
    verdicts = {}
    for (ladder, measure, condition), rows in placed.group_by("ladder", "measure", "references", maintain_order=True):
        if rows["rung"].n_unique() > 1:
            rows = rows.drop_nulls("score").sort(axis, "rung", "seed")
            se = ((rows["high"] - rows["low"]) / (2 * Z)).to_numpy()
            verdict = judge(
                rows[axis].to_numpy(), rows["score"].to_numpy(), se=se, group=rows["rung"].to_list(), seed=seed
            )
            verdicts[str(ladder), str(measure), str(condition)] = verdict.to_record()
    return Conditions(points, verdicts)


def keep(run: Run, found: Conditions) -> None:
    """Keep both conditions in the run, where the report finds them."""
    names = ("ladder", "measure", "references")
    verdicts = [dict(zip(names, key, strict=True)) | verdict for key, verdict in found.verdicts.items()]
    content = {"points": found.points.to_dicts(), "verdicts": verdicts, "measures": SHOWN}
    write_json(run.path / synthetic.TABLE, {"made_from": synthetic.made_from(run.path), **content})


def _points(table: pl.DataFrame) -> pl.DataFrame:
    """The mean over layers of the mean over units, for each model, measure and condition."""
    rows = []
    shown = table.filter(pl.col("band") == MEAN, pl.col("measure").is_in(list(SHOWN)))
    for key, units in shown.group_by(*MODEL, "measure", "references", maintain_order=True):
        there = units.filter(pl.col("value").is_not_nan())
        layers = [
            part["value"].to_numpy().astype(np.float64) for _, part in there.group_by("layer", maintain_order=True)
        ]
        score, low, high = (value if np.isfinite(value) else None for value in mean_over_layers(layers))
        counts = {"n_units": len(units), "n_measured": len(there), "coverage": len(there) / len(units)}
        named = dict(zip((*MODEL, "measure", "references"), key, strict=True))
        rows.append({**named, "score": score, "low": low, "high": high, **counts})
    return pl.DataFrame(rows, schema=POINTS)


def sentences(found: Conditions) -> list[str]:
    """What it comes to: the mean over trained models in each condition, and the verdicts."""
    said = []
    trained = found.points.filter(control="trained")
    for (ladder, measure), rows in trained.group_by("ladder", "measure", maintain_order=True):
        scores = [rows.filter(references=condition)["score"].drop_nulls().to_numpy() for condition in CONDITIONS]
        if not all(map(len, scores)):
            continue
        natural, synthetic = (f"{each.mean():.2f}" for each in scores)
        verdicts = [found.verdicts.get((str(ladder), str(measure), condition)) for condition in CONDITIONS]
        words = [each["verdict"] for each in verdicts if each]
        curves = "" if len(words) < len(CONDITIONS) else f"; verdicts: {words[0]}, and {words[1]}"
        curves = f"; verdict of both: {words[0]}" if len(words) == len(CONDITIONS) and len({*words}) == 1 else curves
        said.append(f"{ladder}, {measure}: {natural} with natural references, {synthetic} with synthetic ones{curves}.")
    return said
