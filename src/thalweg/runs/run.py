"""A finished run, to be read: its tables as polars frames, its verdicts, its report."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files import whole
from thalweg.runs import directory
from thalweg.runs.directory import RunDirectory
from thalweg.scoring import columns

SCORE = [*columns.MODEL_KEY, "measure", "observer", "score", "low", "high", "n_units", "n_measured"]
COUNTED = ["ladder", "rung", "control", "measure", "n"]
COLUMNS: dict[str, list[str]] = {  # by which a table is known; a model's summary may have any others
    "models": [*columns.MODEL_KEY, "order", "n_units", "n_failed"],
    "units": list(columns.UNITS),
    "scores": [*SCORE, "band", "capacity", "coverage", "n_failed"],
    "layers": [*SCORE, "layer", "depth"],
    "distributions": [*COUNTED, "bin"],
    "missing": [*COUNTED, "note"],
    "factors": [*columns.FACTORS],
    "relations": ["ladder", "kind", "factor", "headline", "rho", "low", "high", "n_models", "n_rungs", "note"],
    "gallery": ["ladder", "rung", "seed", "place", "layer", "unit", "role", "rank", "first", "png", "pieces", "values"],
}
NEVER_EMPTY = ("models", "units", "scores")
LADDER = {"observers": list, "strength": str, "stimuli": dict, "data_hash": str, "description": str}


@dataclass(frozen=True)
class Run:
    """The run in a directory; every table is read when it is first asked for."""

    path: Path

    def _frame(self, name: str) -> pl.DataFrame:
        return whole.read_frame(self.path / f"{name}.parquet", COLUMNS[name], least=int(name in NEVER_EMPTY))

    def _objects(self, name: str) -> list[dict[str, Any]]:
        """A JSON file that is a list of objects."""
        path = self.path / name
        objects = whole.read_json(path)
        if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
            raise whole.Damaged(path, "a list of objects was expected")
        return objects

    @cached_property
    def models(self) -> pl.DataFrame:
        """A row per model and control."""
        frame = self._frame("models")
        whole.check_columns(self.path / "models.parquet", frame, [*self.record["axes"], *self.headlines])
        return frame

    @cached_property
    def units(self) -> pl.DataFrame:
        """A row per unit and measure."""
        return self._frame("units")

    @cached_property
    def scores(self) -> pl.DataFrame:
        """A row per model or rung (seed missing) and measure."""
        return self._frame("scores")

    @cached_property
    def layers(self) -> pl.DataFrame:
        """A row per model, layer and headline measure."""
        return self._frame("layers")

    @cached_property
    def distributions(self) -> pl.DataFrame:
        """How units spread over a headline's range."""
        return self._frame("distributions")

    @cached_property
    def missing(self) -> pl.DataFrame:
        """How many units have no headline score, and why."""
        return self._frame("missing")

    @cached_property
    def factors(self) -> pl.DataFrame:
        """A row per model, control and factor, and one per layer where the model's number is the layers' mean."""
        return self._frame("factors")

    @cached_property
    def relations(self) -> pl.DataFrame:
        """How factors go with the headlines over models: a row per ladder, kind, factor and headline."""
        return self._frame("relations")

    @cached_property
    def gallery(self) -> pl.DataFrame:
        """The stimuli of the best, median and worst units."""
        return self._frame("gallery")

    @cached_property
    def shape(self) -> list[dict[str, Any]]:
        """The verdicts, one for each ladder, kind, measure, observer, band and strength axis."""
        verdicts = self._objects("shape.json")
        if not verdicts and any(len(rungs) > 1 for rungs in self._rungs().values()):
            raise whole.Damaged(self.path / "shape.json", "it holds no verdict, and a ladder has several rungs")
        return verdicts

    def _rungs(self) -> dict[str, set[str]]:
        """The rungs of each ladder."""
        rungs_of: dict[str, set[str]] = {}
        for ladder, rung in self.models.select("ladder", "rung").iter_rows():
            rungs_of.setdefault(ladder, set()).add(rung)
        return rungs_of

    @cached_property
    def comparison(self) -> list[dict[str, Any]]:
        """Whether ladders have the same shape: one for each headline and pair of ladders."""
        return self._objects("comparison.json")

    @cached_property
    def record(self) -> dict[str, Any]:
        """Settings, versions, hashes, seconds and peak memory."""
        path = self.path / "run.json"
        record = directory.read_record(path)
        for name in ("settings", "ladders", "versions", "measures", "factors", "twins", "axes"):
            if not isinstance(record.get(name), dict):
                raise whole.Damaged(path, f"an object named {name!r} was expected in it")
        for ladder, about in record["ladders"].items():
            wrong = [name for name, kind in LADDER.items() if not isinstance(about, dict) or not _is(about, name, kind)]
            if wrong or not about["observers"]:
                raise whole.Damaged(
                    path, f"what it says of ladder {ladder!r} lacks {wrong[0] if wrong else 'observers'}"
                )
        return record

    @property
    def headlines(self) -> dict[str, str]:
        """The measure of each headline, {"predictable": "two_choice_matched", ...}, as the run was measured."""
        return {about["headline"]: name for name, about in self.record["measures"].items() if about["headline"]}

    @property
    def verdict(self) -> dict[str, dict[str, Any]]:
        """The headline verdicts, {ladder: {"predictable": ..., "crisp": ...}}, over all kinds of rungs."""
        overall = {(record["ladder"], record["headline"]): record for record in self.shape if record["kind"] == "all"}
        return {
            ladder: {word: overall[ladder, word] for word in self.headlines if (ladder, word) in overall}
            for ladder in self.record["ladders"]
        }


def _is(about: dict[str, Any], name: str, kind: type) -> bool:
    return isinstance(about.get(name), kind)


def open_run(path: str | Path) -> Run:
    """The run in a directory.

    Raises:
        ThalwegError: there is none, or it was made in another format.
    """
    run = RunDirectory(Path(path))
    if not ((run / "run.json").exists() or (run / "settings.json").exists()):
        what = "there is no run in it" if run.path.exists() else "there is no such file or folder"
        raise ThalwegError(f"{readable(run.path)}: {what}; the folder of a survey was expected, as runs/mnist")
    if not (run / "run.json").is_file() and (run / "settings.json").is_file():
        raise ThalwegError(
            f"{readable(run.path)}: this run is not finished: run.json, its last file, is not there; wait for the "
            "survey that is at work, or give its command again"
        )
    directory.read_record(run / "run.json")
    return Run(Path(path))
