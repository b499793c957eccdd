"""What the tables of a run say of one model and its twins, made from the rows of their units.

The rows come in parts, of which one is in memory at a time: of each row only its score is kept, and of the headlines'
rows what the gallery and the statistics of populations need.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES, PLAIN
from thalweg.scoring.aggregate import (
    LayerValues,
    ModelScores,
    UnitValues,
    added_up,
    distributions,
    exchanged_pairs,
    missing,
    model_scores,
    reliability,
)
from thalweg.scoring.columns import MODEL_KEY, SCORE_KEY
from thalweg.scoring.populations import Population, populations_of
from thalweg.trials.building import CONSTANT, NONFINITE

WORDS = ("ladder", "rung", "kind", "control", "basis", "layer", "measure", "observer", "band")
KEPT = [*WORDS, "seed", "depth", "unit", "exchanged", "value"]  # of the headlines' rows


@dataclass(frozen=True, eq=False)
class Summary:
    """What the tables say of one model and its twins."""

    scores: Mapping[str, ModelScores]  # by control
    populations: Sequence[Population]
    tables: Mapping[str, pl.DataFrame]  # rows of `distributions`, `missing` and `reliability`
    headlines: pl.DataFrame  # the rows of units for each headline and `two_choice`, by the headline's observer


def summarise(parts: Iterable[pl.DataFrame], observer: str, *, resamples: int, seed: int) -> Summary:
    """The scores of one model and its twins.

    Args:
        parts: The rows of their units, one part after another; a unit's rows are all in one part.
        observer: The headline's observer.
        resamples: How often units are drawn again.
        seed: It decides which units are drawn.
    """
    collected = Collected(observer)
    for part in parts:
        collected.add(part)
    headlines = pl.concat(collected.headlines)
    return Summary(
        {
            control: model_scores(values, resamples=resamples, seed=seed)
            for control, values in collected.unit_values().items()
        },
        populations_of(headlines, observer, resamples=resamples, seed=seed),
        {
            "distributions": added_up(collected.distributions),
            "missing": added_up(collected.missing),
            "reliability": reliability(pl.concat(collected.pairs)),
        },
        headlines,
    )


@dataclass(eq=False)
class _Layer:
    """The scores of one layer's units, part by part."""

    name: str
    unit_ids: list[NDArray[np.int32]] = field(default_factory=list)
    values: list[NDArray[np.float32]] = field(default_factory=list)  # (unit, column)

    def joined(self) -> NDArray[np.float32]:
        """All of them, in the order of the units' numbers."""
        unit_ids, values = np.concatenate(self.unit_ids), np.concatenate(self.values)
        self.unit_ids, self.values = [unit_ids], [values]
        ascending = bool((np.diff(unit_ids) > 0).all())
        return values if ascending else values[np.argsort(unit_ids, kind="stable")]


@dataclass(eq=False)
class Collected:
    """What is kept of the rows of one model's units."""

    observer: str
    keys: dict[str, dict[str, object]] = field(default_factory=dict)  # by control
    columns: dict[str, pl.DataFrame] = field(default_factory=dict)  # by control
    layers: dict[tuple[str, int], _Layer] = field(default_factory=dict)  # by control and depth
    failed: Counter[str] = field(default_factory=Counter)  # by control
    headlines: list[pl.DataFrame] = field(default_factory=list)
    pairs: list[pl.DataFrame] = field(default_factory=list)
    distributions: list[pl.DataFrame] = field(default_factory=list)
    missing: list[pl.DataFrame] = field(default_factory=list)

    def add(self, part: pl.DataFrame) -> None:
        """Add the rows of some units."""
        observers = {part["ladder"][0]: self.observer}
        self.distributions.append(distributions(part, observers))
        self.missing.append(missing(part, observers))
        self.pairs.append(exchanged_pairs(part))
        plain = part.filter(~pl.col("exchanged"))
        shown = pl.col("measure").is_in([*HEADLINES.values(), PLAIN]) & (pl.col("band") == MEAN)
        rows = plain.filter(shown & (pl.col("observer") == self.observer)).select(KEPT)
        self.headlines.append(rows.with_columns(pl.col(WORDS).cast(pl.Categorical)))
        for (control,), mine in plain.group_by("control", maintain_order=True):
            self._add_values(str(control), mine)

    def _add_values(self, control: str, rows: pl.DataFrame) -> None:
        """Add the rows of some units of one model.

        Raises:
            ValueError: they have other measures than the units before them.
        """
        columns = rows.select(SCORE_KEY).unique(maintain_order=True)
        self.keys.setdefault(control, rows.select(MODEL_KEY).row(0, named=True))
        if not self.columns.setdefault(control, columns).equals(columns):
            raise ValueError(f"some units of {self.keys[control]} have other measures than the others")
        dead = rows.filter(pl.col("note").is_in([CONSTANT, NONFINITE]))
        self.failed[control] += dead.select("depth", "unit").n_unique() if len(dead) else 0
        for (depth,), layer in rows.select("depth", "layer", "unit", "value").group_by("depth", maintain_order=True):
            ordered = layer.sort("unit", maintain_order=True)
            into = self.layers.setdefault((control, int(depth)), _Layer(str(layer["layer"][0])))
            into.values.append(ordered["value"].to_numpy().reshape(-1, len(columns)))
            into.unit_ids.append(ordered["unit"].to_numpy()[:: len(columns)])

    def unit_values(self) -> dict[str, UnitValues]:
        """The scores of all units, by control."""
        return {
            control: UnitValues(
                key,
                self.columns[control],
                [
                    LayerValues(layer.name, depth, layer.joined())
                    for (of, depth), layer in sorted(self.layers.items())
                    if of == control
                ],
                self.failed[control],
            )
            for control, key in self.keys.items()
        }
