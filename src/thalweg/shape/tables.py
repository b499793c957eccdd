"""Verdicts from a table: a CSV or Parquet file, or a polars frame, with one row a model."""

from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from thalweg.errors import ThalwegError, unknown
from thalweg.shape.judging import judge
from thalweg.shape.verdict import Verdict


def read_table(path: str | Path) -> pl.DataFrame:
    """Read a table of models from a CSV or Parquet file.

    Raises:
        ThalwegError: the file is missing, empty, unreadable, or of another kind.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in {".csv", ".parquet"}:
        raise ThalwegError(f"{file} is neither .csv nor .parquet; save the table as one of them")
    if not file.is_file():
        raise ThalwegError(f"{file} does not exist; give the path of a table with one row a model")
    try:
        frame = pl.read_csv(file, infer_schema_length=None) if kind == ".csv" else pl.read_parquet(file)
    except pl.exceptions.NoDataError as error:
        raise ThalwegError(f"{file} is empty; it needs a header and one row a model") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ThalwegError(f"{file} cannot be read as {kind[1:]}: {error}") from error
    if frame.is_empty():
        raise ThalwegError(f"{file} has a header and no rows; it needs one row a model")
    return frame


def _numbers(frame: pl.DataFrame, name: str) -> Float[np.ndarray, " row"]:
    """A numeric column as floats, nulls as NaN."""
    _has(frame, name)
    values = frame[name]
    if not (values.dtype.is_numeric() or values.dtype == pl.Null):
        found = next((value for value in values if value is not None), None)
        raise ThalwegError(
            f"column {name!r} holds {values.dtype}, for example {found!r}, not numbers; choose or convert another"
        )
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _has(frame: pl.DataFrame, name: str) -> None:
    if name not in frame.columns:
        raise unknown("column", name, frame.columns)


def judge_table(
    frame: pl.DataFrame,
    *,
    strength: str,
    score: str,
    se: str | None = None,
    group: str | None = None,
    seed: int = 0,
    draws: int = 4000,
    smallest_effect: float = 0.05,
    alpha: float = 0.05,
) -> Verdict:
    """`judge` on the named columns of a table; a null is a missing number.

    Raises:
        ThalwegError: a column does not exist or holds no numbers, or `judge` cannot use what it holds.
    """
    if group is not None:
        _has(frame, group)
    return judge(
        _numbers(frame, strength),
        _numbers(frame, score),
        se=None if se is None else _numbers(frame, se),
        group=None if group is None else frame[group].to_list(),
        seed=seed,
        draws=draws,
        smallest_effect=smallest_effect,
        alpha=alpha,
    )
