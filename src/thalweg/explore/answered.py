"""The trials that people, language models and other observers answered one by one, and got wrong.

The table of answers has the ids of trials; what a trial shows is derived from the recordings again, until all that were
answered are found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError
from thalweg.explore.catalogue import Network
from thalweg.runs.run import Run
from thalweg.trials.building import BANDS
from thalweg.trials.items import Trial

SHOWN = 4  # trials of each observer
DEPTHS = (48, 400, 4000)  # trials of a unit that are looked through for those that were answered


@dataclass(frozen=True)
class AnsweredWrong:
    """How an observer answered trials about a unit, and some of those that it got wrong."""

    observer: str
    wrong: int
    asked: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True, eq=False)
class SingleAnswers:
    """The answers to single trials of a run."""

    run: Run

    @cached_property
    def _by_unit(self) -> Mapping[tuple[Any, ...], pl.DataFrame]:
        answers = self.run.answers.filter(pl.col("correct").is_not_null())
        return answers.partition_by("ladder", "rung", "seed", "control", "layer", "unit", as_dict=True)

    def of(self, network: Network, layer: str, unit: int) -> Sequence[AnsweredWrong]:
        """How observers answered trials about a unit of the main basis."""
        rows = self._by_unit.get((*network.key[:4], layer, unit))
        if rows is None or not network.main:
            return ()
        wrong = rows.filter(~pl.col("correct"))
        trials = self._trials(network, layer, unit, set(wrong["trial"]))
        found = []
        for (observer,), own in rows.partition_by("observer", as_dict=True, maintain_order=True).items():
            missed = own.filter(~pl.col("correct"))["trial"].to_list()
            shown = tuple(trials[each] for each in missed if each in trials)[:SHOWN]
            found.append(AnsweredWrong(str(observer), len(missed), len(own), shown))
        return found

    def _trials(self, network: Network, layer: str, unit: int, wanted: set[str]) -> dict[str, Trial]:
        """The trials with these ids, as far as they can be derived again."""
        found: dict[str, Trial] = {}
        for depth in DEPTHS if wanted else ():
            try:
                listed = self.run.trials(
                    network.ladder,
                    network.rung,
                    seed=network.seed,
                    control=network.control,
                    layer=layer,
                    units=[unit],
                    band=BANDS,
                    per_unit=depth,
                )
            except ThalwegError:
                return found
            found = {trial.id: trial for trial in listed if trial.id in wanted}
            if len(found) == len(wanted) or len(listed) < depth:
                break
        return found
