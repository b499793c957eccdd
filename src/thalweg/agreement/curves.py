"""The curve of an observer that answers single trials, and its verdict by the rule of every other curve."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import norm

from thalweg.measures.base import MEAN, Z
from thalweg.measures.choices import mean_over_layers, score_choices
from thalweg.shape import judge
from thalweg.shape.sentences import models as count_of_models

ANSWERS = "answers"  # the measure, in a verdict
CHANCE, LEVEL = 0.5, 0.05
GUESSED = "the answers do not stand above chance in any model"
FIXED = {  # what is the same in each verdict
    "kind": "all",
    "control": "trained",
    "measure": ANSWERS,
    "headline": "",
    "band": MEAN,
    "capacity": "",
    "statistic": MEAN,
}
OBSERVED = ["observer", "version", "ladder", "rung", "control"]
POINTS: dict[str, Any] = {
    **dict.fromkeys(("observer", "ladder", "rung", "kind", "control"), pl.String),
    **dict.fromkeys(("version", "seed"), pl.Int32),  # seed: missing for a rung
    **dict.fromkeys(("score", "low", "high", "coverage"), pl.Float64),
    **dict.fromkeys(("n_units", "n_measured", "n", "n_failed"), pl.Int64),
}


def answer_points(answers: pl.DataFrame, models: pl.DataFrame) -> pl.DataFrame:
    """The scores of models by each observer that answered single trials: a row for each seed, and one for each rung.

    A score is the mean over layers of the mean over units of the proportion correct; chance is 0.5. A rung's interval
    comes from the differences between units within its seeds' layers.

    Args:
        answers: Rows of a run's table of answers.
        models: The run's table of models, for the kinds of rungs and the units that there are.
    """
    scores = score_choices(answers)
    kinds = dict(models.select("rung", "kind").unique(maintain_order=True).iter_rows())
    rows = [{**row, "score": row.pop("value")} for row in scores.models.to_dicts()]
    for names, units in scores.units.group_by(OBSERVED, maintain_order=True):
        asked = units.filter(pl.col("n") > 0)
        layers = [part["value"].to_numpy() for _, part in asked.group_by("seed", "layer", maintain_order=True)]
        score, low, high = mean_over_layers(layers)
        counts = {"n_units": len(asked), "n": int(units["n"].sum()), "n_failed": int(units["n_failed"].sum())}
        rows.append({**dict(zip(OBSERVED, names, strict=True)), "score": score, "low": low, "high": high, **counts})
    full = {"coverage": 1.0, "seed": None}  # every unit that is asked about has a score
    finished = [{**full, **row, "kind": kinds.get(row["rung"], ""), "n_measured": row["n_units"]} for row in rows]
    return pl.DataFrame([{name: row[name] for name in POINTS} for row in finished], schema=POINTS)


def answer_verdicts(
    points: pl.DataFrame, models: pl.DataFrame, *, axis: str, seed: int = 0
) -> dict[tuple[str, int, str], dict[str, Any]]:
    """The verdict on the curve of each answering observer, by observer, version and ladder, over the trained models.

    Args:
        points: What `answer_points` returns.
        models: The run's table of models.
        axis: The strength axis, a column of that table.
        seed: Of the simulated null curves.
    """
    strengths = models.filter(control="trained").select("ladder", "rung", pl.col("seed").cast(pl.Int32), axis)
    trained = points.filter(pl.col("seed").is_not_null(), control="trained")
    placed = trained.join(strengths, on=["ladder", "rung", "seed"], how="inner", maintain_order="left")
    found = {}
    for (observer, version, ladder), rows in placed.group_by("observer", "version", "ladder", maintain_order=True):
        found[str(observer), int(str(version)), str(ladder)] = {
            **FIXED,
            **{"ladder": ladder, "observer": observer, "axis": axis},
            **_judged(rows[axis].cast(pl.Float64).to_list(), rows, seed),
        }
    return found


def _judged(strength: Sequence[float], rows: pl.DataFrame, seed: int) -> Mapping[str, Any]:
    """The record of a verdict."""
    score, se = rows["score"].to_numpy(), ((rows["high"] - rows["low"]) / (2 * Z)).to_numpy()
    return judged_scores(strength, score, se, rows["rung"].to_list(), seed=seed)


def judged_scores(
    strength: Sequence[float],
    score: Float[np.ndarray, " model"],
    se: Float[np.ndarray, " model"],
    names: Sequence[str],
    *,
    seed: int,
) -> dict[str, Any]:
    """The record of the verdict on proportions correct. Where no model stands above chance it is `cannot tell`: who
    only guesses says nothing of the models, even if the curve is flat.
    """
    record = judge(np.array(strength), score, se=se, group=names, seed=seed).to_record()
    if at_chance(score, se):
        sentence = f"Cannot tell from {count_of_models(record['n_models'])}: {GUESSED}."
        record |= {"verdict": "cannot tell", "reason": GUESSED, "sentence": sentence}
    return record


def at_chance(score: Float[np.ndarray, " model"], se: Float[np.ndarray, " model"]) -> bool:
    """Whether neither the mean over models nor any one of them (after Bonferroni's correction) is above chance."""
    known = np.isfinite(score) & np.isfinite(se) & (se > 0)
    if not known.any():
        return False
    above, error = score[known] - CHANCE, se[known]
    each = above / error
    together = above.sum() / np.sqrt((error**2).sum())
    return bool(norm.sf(together) > LEVEL and norm.sf(each.max()) > LEVEL / len(each))
