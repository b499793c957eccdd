"""Which units a run has, and where each one's page is.

A unit's address is made of the names that the tables know it by, so a link to it lasts: it is the same whenever and
wherever the pages are made again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from thalweg.files.names import file_name
from thalweg.measures.base import MEAN
from thalweg.report import rows
from thalweg.runs.run import Run
from thalweg.scoring.columns import MODEL_KEY

UNIT_KEY = [*MODEL_KEY, "layer", "depth", "unit"]
TRAINED = "trained"
UP = 6  # folders between a unit's page and the root of the site


@dataclass(frozen=True, eq=False)
class LayerUnits:
    """The units of one layer of a network: their numbers in the layer, and where the first stands in the index."""

    name: str
    numbers: NDArray[np.int64]
    first: int

    @cached_property
    def position(self) -> dict[int, int]:
        """Of each unit's number, its place among those that are measured."""
        return {int(number): place for place, number in enumerate(self.numbers)}

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.numbers, kind="stable")
        return order, self.numbers[order]

    def places(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where units of these numbers stand in the index."""
        order, numbers = self._sorted
        places: NDArray[np.int64] = self.first + order[np.searchsorted(numbers, units)]
        return places


@dataclass(frozen=True, eq=False)
class Network:
    """One model or twin in one basis, with the layers whose units have pages."""

    ladder: str
    rung: str
    kind: str
    seed: int
    control: str
    basis: str
    main: bool  # whether it is in the main basis
    layers: tuple[LayerUnits, ...]

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        """What it is known by."""
        return self.ladder, self.rung, self.seed, self.control, self.basis

    @property
    def name(self) -> str:
        """What a reader calls it."""
        basis = "" if self.main else f", {self.basis}"
        return f"{self.rung}, seed {self.seed}{basis}" + ("" if self.control == TRAINED else f", {self.control} twin")

    @property
    def folder(self) -> str:
        """Where its pages are."""
        state = self.control if self.main else f"{self.control}-{self.basis}"
        return "/".join(("units", *map(file_name, (self.ladder, self.rung, str(self.seed), state))))

    @property
    def count(self) -> int:
        """How many units it has."""
        return sum(len(layer.numbers) for layer in self.layers)

    def address(self, layer: str, unit: int) -> str:
        """Where the page of a unit is."""
        return f"{self.folder}/{file_name(layer)}/{unit}.html"

    def layer(self, name: str) -> LayerUnits:
        """The layer of this name."""
        return next(layer for layer in self.layers if layer.name == name)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All networks of a run in the order of the index: ladders, rungs by strength, seeds, the trained one first."""

    networks: tuple[Network, ...]

    @property
    def count(self) -> int:
        """How many units there are."""
        return sum(network.count for network in self.networks)

    @cached_property
    def places(self) -> pl.DataFrame:
        """A row for each unit, with its place in the index."""
        frames = [
            pl.DataFrame({"unit": layer.numbers, "place": np.arange(len(layer.numbers)) + layer.first}).with_columns(
                *(pl.lit(getattr(network, name)).alias(name) for name in ("ladder", "rung", "control", "basis")),
                pl.lit(network.seed, pl.Int32).alias("seed"),
                pl.lit(layer.name).alias("layer"),
                pl.col("unit").cast(pl.Int32),
            )
            for network in self.networks
            for layer in network.layers
        ]
        return pl.concat(frames)

    @cached_property
    def _by_folder(self) -> dict[str, tuple[Network, str]]:
        return {
            f"{network.folder}/{file_name(layer.name)}": (network, layer.name)
            for network in self.networks
            for layer in network.layers
        }

    def find(self, address: str) -> tuple[Network, str, int] | None:
        """The network, layer and unit whose page has this address, or None."""
        folder, _, file = address.rpartition("/")
        number, _, ending = file.partition(".")
        if folder not in self._by_folder or ending != "html" or not number.isdecimal() or len(number) > 12:
            return None
        network, layer = self._by_folder[folder]
        known = str(int(number)) == number and int(number) in network.layer(layer).position
        return (network, layer, int(number)) if known else None

    def twins(self, network: Network) -> Iterator[Network]:
        """The trained network and all its twins, in the same basis or in that of directions."""
        for other in self.networks:
            if (other.ladder, other.rung, other.seed, other.main) == (*network.key[:3], network.main):
                yield other

    def stronger(self, network: Network) -> Network | None:
        """The same kind of network of the next stronger rung, if there is one: of the same seed, or else the first."""
        same = [
            other
            for other in self.networks
            if other.ladder == network.ladder and (other.control, other.main) == (network.control, network.main)
        ]
        rungs = list(dict.fromkeys(other.rung for other in same))
        after = rungs.index(network.rung) + 1
        if after == len(rungs):
            return None
        those = [other for other in same if other.rung == rungs[after]]
        return next((other for other in those if other.seed == network.seed), those[0])


def catalogue(run: Run, *, rungs: Sequence[str] = ()) -> Catalogue:
    """All units of a run, or those of some rungs.

    Raises:
        ThalwegError: a file of the run is missing or damaged.
    """
    main = {ladder: about["observers"][0]["name"] for ladder, about in run.record["ladders"].items()}
    listed = (
        run.scan_units()
        .filter(
            pl.col("measure") == run.headlines["predictable"],
            pl.col("observer") == pl.col("ladder").replace_strict(main, default=None),
            pl.col("band") == MEAN,
            ~pl.col("exchanged"),
            pl.col("rung").is_in(list(rungs)) if rungs else pl.lit(True),
        )
        .select(UNIT_KEY)
        .collect()
    )
    axis = run.record["settings"]["strength"]
    parts = listed.sort("depth", maintain_order=True).partition_by(MODEL_KEY, as_dict=True, maintain_order=True)
    order: dict[str, list[str]] = {ladder: rows.rung_order(run, ladder, axis) for ladder in run.record["ladders"]}
    controls = {ladder: ["trained", *rows.controls(run, ladder)] for ladder in order}

    def standing(key: tuple[Any, ...]) -> tuple[int, int, int, int]:
        ladder, rung, _, seed, control, _ = key
        return (
            list(order).index(str(ladder)),
            order[str(ladder)].index(str(rung)),
            int(seed),
            controls[str(ladder)].index(str(control)) if control in controls[str(ladder)] else 99,
        )

    first = 0
    networks: list[Network] = []
    for key in sorted(parts, key=standing):
        layers = []
        for layer in parts[key].partition_by("layer", maintain_order=True):
            layers.append(LayerUnits(layer["layer"][0], layer["unit"].to_numpy().astype(np.int64), first))
            first += len(layer)
        beside = key[5] in run.bases[1:] and key[4] != "rotated"
        networks.append(Network(*key, main=not beside, layers=tuple(layers)))
    return Catalogue(tuple(networks))
