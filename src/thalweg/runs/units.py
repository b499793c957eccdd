"""The table of units: a folder with a file for each model, whose names sort in the order of the models.

A file's name begins with the place of its model in the run. Any reader of Parquet takes the folder for one table.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files import whole
from thalweg.runs.directory import RunDirectory
from thalweg.scoring.columns import UNITS

UNITS_FOLDER = "units"
BEFORE = "units.parquet"  # the table of units of a run of format 7
NAME = re.compile(r"(?P<place>\d{6})-(?P<model>.+?)\.parquet")


def units_stem(place: int, model: str) -> str:
    """What the name of a model's file of units begins with."""
    return f"{place:06}-{model}"


def unit_files(run: Path, models: Sequence[str]) -> list[Path]:
    """The files of the table of units of a finished run, in its order; `models` are the models' names.

    Raises:
        ThalwegError: the file of a model is missing.
    """
    if (run / BEFORE).is_file() and not (run / UNITS_FOLDER).is_dir():
        return [run / BEFORE]
    files = []
    for place, model in enumerate(models):
        file = run / UNITS_FOLDER / f"{units_stem(place, model)}.parquet"
        if not file.is_file():
            raise ThalwegError(f"{readable(file)}: there is no such file; {whole.AGAIN}")
        files.append(file)
    return files


def read_units(files: Sequence[Path]) -> pl.DataFrame:
    """The whole table of units.

    Raises:
        ThalwegError: a file is damaged.
    """
    return pl.concat([whole.read_frame(file, UNITS, least=1) for file in files])


def scan_units(files: Sequence[Path]) -> pl.LazyFrame:
    """The table of units, to be read lazily.

    Raises:
        ThalwegError: a file is damaged.
    """
    for file in files:
        whole.check_columns(file, whole.read_columns(file), UNITS)
    return pl.scan_parquet(list(files))


def settle_places(run: RunDirectory, models: Sequence[str]) -> None:
    """Name the files of units by the places of their models: a rung that is new in a ladder moves those behind it."""
    places = {model: place for place, model in enumerate(models)}
    for file in _files(run.path):
        named = NAME.fullmatch(file.name)
        place = places.get(named["model"]) if named else None
        if named and place is not None and int(named["place"]) != place:
            renamed = f"{units_stem(place, named['model'])}.parquet"
            run.rename(f"measure-{named['model']}", f"{UNITS_FOLDER}/{file.name}", f"{UNITS_FOLDER}/{renamed}")


def remove_others(run: Path, models: Sequence[str]) -> None:
    """Remove the files of units of models that are no more in the run."""
    kept = {f"{units_stem(place, model)}.parquet" for place, model in enumerate(models)}
    for file in _files(run):
        if NAME.fullmatch(file.name) and file.name not in kept:
            file.unlink()


def _files(run: Path) -> list[Path]:
    folder = run / UNITS_FOLDER
    return sorted(folder.iterdir()) if folder.is_dir() else []
