"""What each model's task leaves of its scores in the run directory, which the tables are put together from: its rows of
the tables, and bootstrap draws, which the intervals of rungs need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from thalweg.files import whole
from thalweg.pipeline.job import Model
from thalweg.scoring.aggregate import ModelScores, frame
from thalweg.scoring.columns import MODEL_KEY, OF_A_MODEL, SCORE_KEY
from thalweg.scoring.populations import Population, rows_of
from thalweg.scoring.summary import Summary

TABLE = "table"  # the column that says which table a row is of
POPULATIONS = "populations"


def write_summary(model: Model, summary: Summary) -> list[str]:
    """Write what the tables say of a model; returns the names of the files in the run directory."""
    scores = [summary.scores[control] for control in model.controls]
    tables = {
        "scores": pl.concat(map(frame, scores)),
        "layers": pl.concat(each.layers for each in scores),
        POPULATIONS: rows_of(summary.populations),
        **summary.tables,
    }
    rows = [table.select(pl.lit(name).alias(TABLE), *OF_A_MODEL[name]) for name, table in tables.items()]
    whole.write_frame(model.run / model.summary_file, pl.concat(rows, how="diagonal"))
    draws = {control: torch.from_numpy(summary.scores[control].draws) for control in model.controls}
    if summary.populations:
        draws[POPULATIONS] = torch.from_numpy(np.stack([each.draws for each in summary.populations]))
    whole.write_tensors(model.run / model.draws_file, draws)
    return [model.summary_file, model.draws_file]


@dataclass(frozen=True, eq=False)
class Part:
    """What the tables say of one model and its twins."""

    rows: pl.DataFrame

    def table(self, name: str) -> pl.DataFrame:
        """The rows of one table."""
        return self.rows.filter(pl.col(TABLE) == name).select(OF_A_MODEL[name])


def read_part(model: Model) -> Part:
    """What the tables say of a model, from its file.

    Raises:
        ThalwegError: it is missing or damaged.
    """
    return Part(whole.read_frame(model.run / model.summary_file, [TABLE], least=1))


def read_draws(model: Model) -> dict[str, Tensor]:
    """The bootstrap draws of a model's scores by control, (resample, column), and of its populations, (population,
    resample).

    Raises:
        ThalwegError: the file is missing or damaged.
    """
    return whole.read_tensors(model.run / model.draws_file)


def scores_of(part: Part, control: str, draws: Mapping[str, Tensor]) -> ModelScores:
    """The scores of a model or a twin as its task had them; without those of its layers."""
    rows = part.table("scores").filter(control=control)
    first = rows.row(0, named=True)
    return ModelScores(
        {name: first[name] for name in MODEL_KEY},
        rows.select(SCORE_KEY),
        rows["score"].to_numpy(),
        draws[control].numpy(),
        first["n_units"],
        rows["n_measured"].to_numpy().astype(np.int64),
        first["n_failed"],
        pl.DataFrame(),
    )


def populations_again(part: Part, draws: Mapping[str, Tensor]) -> Sequence[Population]:
    """The statistics of a model's units, and of its twins', as its task had them."""
    rows = part.table(POPULATIONS)
    key = [name for name in rows.columns if name in (*MODEL_KEY, *SCORE_KEY)]
    return [
        Population(
            {name: row[name] for name in (*key, "statistic")},
            row["score"],
            draws[POPULATIONS][index].numpy(),
            row["n_units"],
            row["n_measured"],
        )
        for index, row in enumerate(rows.iter_rows(named=True))
    ]
