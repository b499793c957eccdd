"""The scores of all units as columns, cut into pieces that a page loads when it needs them.

A column is numbers of two bytes: 0 to 65534 over its range, 65535 where a unit has no score. A piece holds 8,192 units
of one column, so what a reader loads depends on what is looked at, not on how many units there are. Pieces are scripts,
for a page that is opened from disk may load no other files.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thalweg.explore.catalogue import Catalogue
from thalweg.files.names import file_name
from thalweg.measures.base import MEAN
from thalweg.runs.run import Run

PIECE = 8_192  # units
MISSING, TOP = 65_535, 65_534
HEADLINE = "headline"  # the observer of a column of headlines: that of each ladder
Key = tuple[str, str, str]  # measure, observer, capacity
JOINED = ["ladder", "rung", "seed", "control", "basis", "layer", "unit"]


@dataclass(frozen=True, eq=False)
class Column:
    """One score of every unit."""

    name: str  # as scripts and addresses name it
    label: str
    title: str  # in more words
    low: float
    high: float
    stored: NDArray[np.uint16]
    key: tuple[str, str, str] = ("", "", "")  # measure, observer, capacity
    shown: bool = False  # without being asked for

    def piece(self, number: int) -> str:
        """A piece as a script."""
        part = self.stored[number * PIECE : (number + 1) * PIECE]
        return script(self.name, number, part)


def script(name: str, number: int, part: NDArray[Any]) -> str:
    """A script that hands over a piece of a column."""
    code = base64.b64encode(part.astype(part.dtype.newbyteorder("<")).tobytes()).decode()
    return f"thalwegPiece({json.dumps(name)},{number},{json.dumps(code)});\n"


def columns(run: Run, catalogue: Catalogue) -> list[Column]:
    """All scores that units have, the headlines first: over the bands of trials, where a measure has several."""
    names = ["measure", "observer", "capacity", "band"]
    keys = run.scan_units().filter(~pl.col("exchanged")).select(names).unique().collect()
    bands: dict[Key, str] = {}
    for measure, observer, capacity, band in sorted(keys.iter_rows()):
        if bands.get((measure, observer, capacity)) != MEAN:
            bands[measure, observer, capacity] = band
    values = _values(run, catalogue, bands)
    return [_column(run, key, values[key]) for key in sorted(values, key=lambda key: _order(run, key))]


def _values(run: Run, catalogue: Catalogue, bands: Mapping[Key, str]) -> dict[Key, NDArray[np.float32]]:
    """The scores by measure, observer and capacity, of all units in the order of the index; headlines by the headline's
    observer of each ladder are one column.
    """
    names = ["measure", "observer", "capacity"]
    wanted = pl.DataFrame([(*key, band) for key, band in bands.items()], [*names, "band"], orient="row")
    rows = run.scan_units().filter(~pl.col("exchanged")).join(wanted.lazy(), on=wanted.columns, how="semi")
    values: dict[Key, NDArray[np.float32]] = {}
    for network in catalogue.networks:
        names_of = dict(zip(("ladder", "rung", "seed", "control", "basis"), network.key, strict=True))
        own = rows.filter(**names_of)
        for layer in network.layers:
            grouped = own.filter(layer=layer.name).group_by(names).agg("unit", "value").collect()
            for index, key in enumerate(grouped.select(names).iter_rows()):
                known = merged(run, network.ladder, key)
                column = values.setdefault(known, np.full(catalogue.count, np.nan, np.float32))
                units, scores = (grouped[name][index].to_numpy() for name in ("unit", "value"))
                column[layer.places(units)] = scores
    return values


def merged(run: Run, ladder: str, key: Key) -> Key:
    """The column that a score of a ladder belongs to."""
    measure, observer, capacity = key
    headline = measure in run.headlines.values() and observer == main_observers(run)[ladder]
    return (measure, HEADLINE, capacity) if headline else key


def main_observers(run: Run) -> dict[str, str]:
    """The headline's observer of each ladder."""
    return {ladder: about["observers"][0]["name"] for ladder, about in run.record["ladders"].items()}


def _order(run: Run, key: Key) -> tuple[Any, ...]:
    """Headlines first, then what no observer takes part in, then one observer after another."""
    measure, observer, capacity = key
    known = list(run.record["measures"])
    rank = known.index(measure) if measure in known else len(known)
    names = [HEADLINE, "", *observers_of(run)]
    return names.index(observer) if observer in names else len(names), rank, measure, len(capacity), capacity


def observers_of(run: Run) -> list[str]:
    """All observers of a run, those of headlines first."""
    listed = [[each["name"] for each in about["observers"]] for about in run.record["ladders"].values()]
    return list(dict.fromkeys([names[0] for names in listed] + [name for names in listed for name in names]))


def label_of(run: Run, measure: str, observer: str, capacity: str = "") -> str:
    """What a reader calls a score: a headline by its word, with the observer where it is not the headline's."""
    word = next((word for word, name in run.headlines.items() if name == measure), "")
    features = f", {capacity} feature{'' if capacity == '1' else 's'}" if capacity and not word else ""
    by = f" by {observer}" if observer and observer != HEADLINE else ""
    return f"{word or measure}{features}{by}"


def _column(run: Run, key: Key, values: NDArray[np.float32]) -> Column:
    """A score with its range: that of the measure, or that of the values."""
    measure, observer, capacity = key
    about = run.record["measures"].get(measure, {})
    known = values[np.isfinite(values)]
    least, most = about.get("range") or (None, None)
    low = float(least if least is not None else known.min(initial=0))
    high = float(most if most is not None else known.max(initial=low))
    high = high if high > low else low + 1
    scaled = np.clip(np.rint((values.astype(np.float64) - low) / (high - low) * TOP), 0, TOP)
    stored = np.where(np.isfinite(values), scaled, MISSING).astype(np.uint16)
    name = file_name("-".join(filter(None, (measure, observer, capacity))))
    title = f"{about.get('meaning', measure)} {about.get('unit', '')}".strip()
    return Column(name, label_of(run, *key), title, low, high, stored, key, observer == HEADLINE)


def pieces(count: int) -> int:
    """How many pieces a column of so many units has."""
    return -(-count // PIECE)


def note_codes(run: Run, catalogue: Catalogue) -> tuple[list[str], NDArray[np.uint16]]:
    """Why units have no headline score: the reasons, the first of which is none, and a code for each unit."""
    noted = (
        run.scan_units()
        .filter(
            pl.col("measure") == run.headlines["predictable"],
            pl.col("observer") == pl.col("ladder").replace_strict(main_observers(run), default=None),
            pl.col("band") == MEAN,
            ~pl.col("exchanged"),
            pl.col("note") != "",
        )
        .select(*JOINED, "note")
        .collect()
        .join(catalogue.places, on=JOINED)
    )
    reasons = ["", *sorted(noted["note"].unique())]
    codes = np.zeros(catalogue.count, np.uint16)
    codes[noted["place"].to_numpy()] = [reasons.index(note) for note in noted["note"]]
    return reasons, codes


def numbers(catalogue: Catalogue) -> NDArray[np.uint32]:
    """The number of each unit in its layer."""
    every: Sequence[NDArray[np.int64]] = [layer.numbers for network in catalogue.networks for layer in network.layers]
    return np.concatenate(every).astype(np.uint32) if every else np.zeros(0, np.uint32)
