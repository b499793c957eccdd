"""The curve of people's scores over strength, and its verdict: with the run's strengths, or those of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thalweg.agreement.curves import answer_points, answer_verdicts, judged_scores
from thalweg.errors import ThalwegError
from thalweg.measures.base import Z
from thalweg.psychophysics.summary import as_answers
from thalweg.runs.run import Run
from thalweg.shape import read_table
from thalweg.shape.axes import is_less_better
from thalweg.shape.tables import labels_of, numbers


@dataclass(frozen=True)
class Strengths:
    """The strength of each model, by its name."""

    axis: str
    of: Mapping[str, float]
    turned: bool = False  # it was negated, as less of it is better


def read_strengths(path: str | Path, column: str, models: str = "model") -> Strengths:
    """Read a table with a row for each model.

    Args:
        path: A CSV or Parquet file.
        column: The column of the strength; a loss or an error is negated.
        models: The column of the models' names.

    Raises:
        ThalwegError: the table cannot be read, has no such column, or names a model twice.
    """
    table = read_table(path)
    names, values = labels_of(table, models), numbers(table, column)[0].tolist()
    for name in names:
        if names.count(name) > 1:
            raise ThalwegError(f"{table.source}: model {name!r} stands there twice; give each model one row")
    turned = is_less_better(column)
    return Strengths(column, dict(zip(names, (-each if turned else each for each in values), strict=True)), turned)


def judged(
    summary: Mapping[str, Any],
    main: pl.DataFrame,
    study: str,
    run: Run | None,
    strengths: Strengths | None,
    seed: int,
) -> dict[str, Any]:
    """A summary with the strengths of its models, and with the verdicts on its curves; neither where no strengths are
    known.

    Args:
        summary: What `summarise` returns.
        main: The responses that it is of.
        study: The study's name.
        run: The run that the models are of.
        strengths: The strengths of models without a run.
        seed: Of the simulated null curves.

    Raises:
        ThalwegError: a model has no strength.
    """
    verdicts: list[dict[str, Any]] = []
    known: Mapping[Any, float | None] = {}
    models = [dict(row) for row in summary["models"]]
    if strengths is not None:
        known = {(row["ladder"], row["rung"], row["seed"]): strengths.of.get(row["rung"]) for row in models}
        verdicts = _by_table(models, strengths, seed)
    elif run is not None:
        axis = run.record["settings"]["strength"]
        trained = run.models.filter(control="trained")
        known = {
            (ladder, rung, each): value for ladder, rung, each, value in trained["ladder", "rung", "seed", axis].rows()
        }
        verdicts = _by_run(as_answers(main, study), run.in_basis(run.bases[0]), axis)
    for row in models:
        row["strength"] = known.get((row["ladder"], row["rung"], row["seed"]))
    if known:
        models.sort(key=lambda row: (row["ladder"], row["strength"] is None, row["strength"] or 0.0, row["control"]))
    return {**summary, "models": models, "verdicts": verdicts}


def _by_run(answers: pl.DataFrame, run: Run, axis: str) -> list[dict[str, Any]]:
    """The verdicts on a run's ladders, as the run's report has them."""
    verdicts: list[dict[str, Any]] = []
    for ladder in answers["ladder"].unique(maintain_order=True):
        models = run.models.filter(ladder=ladder)
        points = answer_points(answers.filter(ladder=ladder), models)
        verdicts += answer_verdicts(points, models, axis=axis, seed=run.record["settings"]["seed"]).values()
    return verdicts


def _by_table(models: Sequence[Mapping[str, Any]], strengths: Strengths, seed: int) -> list[dict[str, Any]]:
    """The verdict on the scores of each ladder's models: means over units, as published."""
    lost = sorted({str(row["rung"]) for row in models} - set(strengths.of))
    if lost:
        raise ThalwegError(
            f"--strengths names no model {', '.join(map(repr, lost))}; it names {', '.join(sorted(strengths.of))}: "
            "give every model of the answers a row"
        )
    found = []
    for ladder in dict.fromkeys(row["ladder"] for row in models):
        rows = [row for row in models if row["ladder"] == ladder]
        scores = [row["mean_of_units"] for row in rows]
        names = [str(row["rung"]) for row in rows]
        values = np.array([score["value"] for score in scores])
        errors = np.array([(score["high"] - score["low"]) / (2 * Z) for score in scores])
        about = {"ladder": ladder, "axis": strengths.axis, "turned": strengths.turned}
        x = [strengths.of[name] for name in names]
        found.append({**about, **judged_scores(x, values, errors, names, seed=seed)})
    return found
