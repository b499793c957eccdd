"""One unit of a run: its scores, and the stimuli that drive it most and least."""

from dataclasses import dataclass

import polars as pl

from thalweg.markup import Fragment, element, listing
from thalweg.measures.base import MEAN
from thalweg.stimuli.base import Stimuli
from thalweg.stimuli.showing import Shown
from thalweg.trials.building import REFERENCES
from thalweg.trials.items import shown_in_row


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit of a run, as `Run.unit` gives it. A notebook shows its stimuli and scores.

    Attributes:
        name: The model, layer and unit in words.
        scores: Its rows of the table of units, of every measure.
        highest: The ids of the stimuli of the reference half that drive it most, the highest first.
        highest_values: Its values for these.
        lowest: The ids of those that drive it least, the lowest first.
        lowest_values: Its values for these.
        stimuli: The ladder's pool, in which the ids are positions.
        headlines: The measures of the headlines, whose scores a notebook shows.
    """

    name: str
    scores: pl.DataFrame
    highest: tuple[int, ...]
    highest_values: tuple[float, ...]
    lowest: tuple[int, ...]
    lowest_values: tuple[float, ...]
    stimuli: Stimuli
    headlines: tuple[str, ...]

    def _repr_html_(self) -> Fragment:
        """How a notebook shows it: nine stimuli of each side, and the headline scores by each observer."""
        shown = self.scores.filter(~pl.col("exchanged") & (pl.col("band") == MEAN))
        shown = shown.filter(pl.col("measure").is_in(self.headlines))
        columns = ("measure", "observer", "value", "low", "high", "note")
        rows = ([_cell(value) for value in row] for row in shown.select(columns).iter_rows())
        return element(
            "div",
            element("p", element("b", self.name)),
            self._side("highest", self.highest, self.highest_values),
            self._side("lowest", self.lowest, self.lowest_values),
            listing(columns, rows),
        )

    def _side(self, name: str, ids: tuple[int, ...], values: tuple[float, ...]) -> Fragment:
        """The stimuli of one side, as many as there are references."""
        shown: list[Shown] = [self.stimuli.show(each) for each in ids[:REFERENCES]]
        span = f" ({values[0]:.3g} to {values[len(shown) - 1]:.3g})" if shown else ""
        return shown_in_row(name + span, shown)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
