"""A finished run, to be read: its tables as polars frames, its verdicts, its report."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from thalweg import tables
from thalweg.scores import HEADLINES
from thalweg.tables import RunDirectory


@dataclass(frozen=True)
class Run:
    """The run in a directory; every table is read when it is first asked for."""

    path: Path

    def _frame(self, name: str) -> pl.DataFrame:
        return tables.read_frame(self.path / f"{name}.parquet")

    @cached_property
    def models(self) -> pl.DataFrame:
        """A row per model and control."""
        return self._frame("models")

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
    def gallery(self) -> pl.DataFrame:
        """The stimuli of the best, median and worst units."""
        return self._frame("gallery")

    @cached_property
    def shape(self) -> list[dict[str, Any]]:
        """The verdicts, one for each ladder, kind, measure, observer, band and strength axis."""
        return tables.read_json(self.path / "shape.json")  # type: ignore[no-any-return]

    @cached_property
    def comparison(self) -> list[dict[str, Any]]:
        """Whether ladders have the same shape: one for each headline and pair of ladders."""
        return tables.read_json(self.path / "comparison.json")  # type: ignore[no-any-return]

    @cached_property
    def record(self) -> dict[str, Any]:
        """Settings, versions, hashes, seconds and peak memory."""
        return tables.read_json(self.path / "run.json")  # type: ignore[no-any-return]

    @property
    def verdict(self) -> dict[str, dict[str, Any]]:
        """The headline verdicts, {ladder: {"predictable": ..., "crisp": ...}}, over all kinds of rungs."""
        overall = {(one["ladder"], one["headline"]): one for one in self.shape if one["kind"] == "all"}
        return {
            ladder: {word: overall[ladder, word] for word in HEADLINES if (ladder, word) in overall}
            for ladder in self.record["ladders"]
        }

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, by default as `report.html` into the run directory, and return its path."""
        from thalweg.report import write

        return write(self, Path(path) if path else self.path / "report.html")


def open_run(path: str | Path) -> Run:
    """The run in a directory.

    Raises:
        ThalwegError: there is none.
    """
    tables.read_json(RunDirectory(Path(path)) / "run.json")
    return Run(Path(path))
