"""The units that are driven by the same stimuli: in the same model, and in the next stronger one.

Two units are as near as their values correlate (Pearson) over the random sample of stimuli that all units of a ladder
share. Of very many units fewer stimuli are compared, so that memory stays bounded.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thalweg.explore.catalogue import Catalogue, Network
from thalweg.runs.recordings import read_recordings, recordings_file
from thalweg.runs.run import Run

SHOWN = 5  # units of each model
KEPT = 2  # networks in memory
NUMBERS = 1 << 26  # of a network in memory: 256 MB
LOOKS = 3  # stimuli that a near unit is shown by


@dataclass(frozen=True)
class Near:
    """A unit that is driven by the same stimuli."""

    network: Network
    layer: str
    unit: int
    correlation: float
    highest: tuple[int, ...]  # the stimuli that drive it most


@dataclass(frozen=True, eq=False)
class Compared:
    """A network's units as they are compared: values of mean 0 and length 1 over the shared sample."""

    units: list[tuple[str, int]]
    values: Float[Tensor, "unit stimulus"]
    sample: Int64[Tensor, " stimulus"]
    highest: Int64[Tensor, "unit look"]


@dataclass(frozen=True, eq=False)
class Nearest:
    """What finds the nearest units; the networks that were compared last are kept."""

    run: Run
    catalogue: Catalogue
    _kept: "OrderedDict[tuple[object, ...], Compared]" = field(default_factory=OrderedDict)

    def of(self, network: Network, layer: str, units: Sequence[int]) -> list[list[tuple[str, list[Near]]]]:
        """For each of some units, the nearest ones in its own model and in the next stronger one."""
        own = self._compared(network)
        known = {unit: place for place, unit in enumerate(own.units)}
        mine = [known[layer, unit] for unit in units]
        found = [[("the same model", near)] for near in self._nearest(own, own, mine, network)]
        stronger = self.catalogue.stronger(network)
        if stronger is not None:
            other = self._compared(stronger)
            if torch.equal(own.sample, other.sample):
                for each, near in zip(found, self._nearest(own, other, mine, stronger), strict=True):
                    each.append((f"the next stronger rung, {stronger.name}", near))
        return found

    def _nearest(self, own: Compared, other: Compared, mine: Sequence[int], network: Network) -> list[list[Near]]:
        products = own.values[list(mine)] @ other.values.T
        if own is other:
            products[torch.arange(len(mine)), torch.tensor(list(mine))] = -2
        best = products.topk(min(SHOWN, max(1, products.shape[1] - (own is other))), 1)
        return [
            [_near(network, other, place, value) for place, value in zip(places, values, strict=True) if value > 0]
            for places, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _compared(self, network: Network) -> Compared:
        if network.key not in self._kept:
            self._kept[network.key] = self._read(network)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(network.key)
        return self._kept[network.key]

    def _read(self, network: Network) -> Compared:
        basis = "" if network.main else network.basis
        name = recordings_file(network.ladder, network.rung, network.seed, network.control, basis)
        recorded = read_recordings(self.run.path / name).layers
        most = max(16, NUMBERS // max(1, 2 * network.count))  # stimuli of each half
        units: list[tuple[str, int]] = []
        values: list[Tensor] = []
        highest: list[Tensor] = []
        for layer in network.layers:
            halves = recorded[layer.name]
            sample = torch.cat([half.sample[:most] for half in halves]).T
            centred = torch.nan_to_num(sample - sample.mean(1, keepdim=True))
            values.append(centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12))
            highest.append(halves.reference.highest()[1][:, :LOOKS])
            units += [(layer.name, int(unit)) for unit in layer.numbers]
        ids = torch.cat([half.sample_ids()[:most] for half in recorded[network.layers[0].name]])
        return Compared(units, torch.cat(values), ids, torch.cat(highest))


def _near(network: Network, compared: Compared, place: int, correlation: float) -> Near:
    layer, unit = compared.units[place]
    return Near(network, layer, unit, correlation, tuple(compared.highest[place].tolist()))
