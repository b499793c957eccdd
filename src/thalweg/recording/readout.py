"""From a layer's output to one value for each measured unit, in one basis."""

from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.models.pooling import highest_of_places, pooled, units_on_axis_1
from thalweg.models.records import Encode, Layer
from thalweg.recording.limits import DIRECTIONS, LEAST_DIRECTIONS

SPARSE = 8  # units of a layer for each that is measured, beyond which those measured are picked before they are pooled
AT_PLACES = 4  # as one in so many of these where each place has its product, which would cost more than the network
LARGEST_TURN = 1 << 27  # numbers in the directions of a layer: half a gigabyte
LARGEST_FACTORED = 1 << 20  # numbers in directions that are factored by reflections, and kept for the next pass
CACHED = 1 << 18  # values of a layer that are multiplied together on a CPU, whose cache holds what is made of them
ROTATION = 3  # the version of what a rotated twin is: it goes up when its values change
NEURONS, RANDOM = "neurons", "random"  # the bases a pass can read; the rotated twin is the random one


def rotation(units: int, *, seed: int) -> Float[Tensor, "unit unit"]:
    """A fixed random rotation: the orthogonal factor of a Gaussian matrix, signs set so that it is uniform (Mezzadri
    2007).
    """
    return _columns(units, units, seed)


def _columns(units: int, count: int, seed: int) -> Float[Tensor, "unit direction"]:
    gaussian = torch.randn(units, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orthogonal, upper = torch.linalg.qr(gaussian)
    uniform: Tensor = orthogonal * upper.diagonal().sign()
    return uniform.float()


def directions(units: int, measured: int, most: int = DIRECTIONS, *, at_places: bool = False) -> int:
    """How many random directions a layer of so many units is given, of which so many are measured.

    As many as these where the layer has at most `most` units, for it is rotated whole. Of a wider layer no more than
    `most`, which are a sample, and than fit into memory; a quarter where the highest of many places counts
    (`at_places`), as each place needs the product there.
    """
    limit = max(LEAST_DIRECTIONS, most // AT_PLACES) if at_places else most
    if units <= limit:
        return measured
    return min(measured, limit, max(LEAST_DIRECTIONS, LARGEST_TURN // units))


def random_directions(units: int, count: int, *, seed: int) -> Float[Tensor, "unit direction"]:
    """So many random directions at right angles to each other: columns of a uniform rotation without the rest of it,
    the thin QR factor of a Gaussian matrix. Both halves, all shards and all models of a process share them: they are
    not to be changed.
    """
    return (_shared if units * count <= LARGEST_FACTORED else _largest)(units, count, seed)


_shared = lru_cache(maxsize=128)(_columns)


@lru_cache(maxsize=1)  # one can be half a gigabyte
def _largest(units: int, count: int, seed: int) -> Float[Tensor, "unit direction"]:
    """The thin QR factor of a Gaussian matrix G by way of Cholesky, Q = G R^-1 with R'R = G'G, which is accurate as a
    matrix so much longer than wide has a condition number near 1, and is nothing but matrix products.
    """
    gaussian = torch.randn(units, count, generator=torch.Generator().manual_seed(seed))
    upper = torch.linalg.cholesky((gaussian.T @ gaussian).double(), upper=True)
    columns: Tensor = gaussian @ torch.linalg.inv(upper).float()
    return columns


def along_directions(
    values: Float[Tensor, "batch unit *place"], turned: Float[Tensor, "unit direction"]
) -> Float[Tensor, "batch direction *place"]:
    """The product with some directions at every place, without moving the values in memory."""
    if values.ndim == 2:
        return values @ turned
    flat = values.flatten(2)
    product = (flat.mT @ turned).mT if flat.stride(1) == 1 else turned.T @ flat
    at_places: Tensor = product.unflatten(2, values.shape[2:])
    return at_places


class Reader:
    """From a layer's output to one value for each measured unit, in one basis.

    `encode` makes a basis of its own from the layer's values, both on the last axis. A rotation takes each unit of the
    layer in the unit of its standard deviation, if `deviations` says what that is, and is a sample of `most` directions
    of a wider layer (see `directions`). It is multiplied in the precision that the layer's values have.
    """

    def __init__(
        self,
        layer: Layer,
        basis: str,
        *,
        seed: int,
        position: int,
        encode: Encode | None = None,
        deviations: Float[Tensor, " unit"] | None = None,
        most: int = DIRECTIONS,
    ) -> None:
        self.layer, self.basis, self.seed, self.position, self.encode = layer, basis, seed, position, encode
        self.deviations, self.most = deviations, most
        self.unit_ids: Tensor | None = None  # of the measured units, when the first output has been seen
        self.turned: Tensor | None = None  # what the rotation gives these units, (unit, measured)

    def __call__(self, output: Float[Tensor, "..."]) -> Float[Tensor, "batch measured"]:
        """The values of the units that are measured."""
        laid = units_on_axis_1(output, self.layer)
        unit_ids, reduction = self._unit_ids(laid), self.layer.reduction
        if self.turned is not None:
            if laid.ndim == 2:
                return along_directions(self._passed_on(laid), self.turned)
            if reduction == "mean":  # of the products it is the product of the mean
                return along_directions(pooled(self._passed_on(laid), reduction), self.turned)
            each = laid[:1].numel()
            step = max(1, CACHED // each) if laid.device.type == "cpu" else len(laid)
            parts = [
                pooled(along_directions(self._passed_on(part), self.turned), reduction) for part in laid.split(step)
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        laid = self._encoded(laid)
        units, measured = laid.shape[1], unit_ids.shape[0]
        if measured == units:
            return pooled(laid, reduction)
        if SPARSE * measured < units:
            return pooled(laid[:, unit_ids], reduction)
        return pooled(laid, reduction)[:, unit_ids]

    def along(self, output: Float[Tensor, "..."], unit: int) -> Float[Tensor, "batch *place"]:
        """The values of one of these units at every place, before they are pooled.

        Raises:
            ValueError: a unit that is not measured.
        """
        unit_ids = self._unit_ids(units_on_axis_1(output, self.layer))
        laid = units_on_axis_1(output, replace(self.layer, reduction="max"))
        if self.turned is None:
            return self._encoded(laid)[:, unit]
        position = unit_ids.tolist().index(unit)
        return along_directions(self._passed_on(laid), self.turned[:, [position]])[:, 0]

    def _encoded(self, laid: Float[Tensor, "batch neuron *place"]) -> Float[Tensor, "batch unit *place"]:
        return laid if self.encode is None else self.encode(laid.movedim(1, -1)).movedim(-1, 1)

    def _passed_on(self, laid: Float[Tensor, "batch neuron *place"]) -> Float[Tensor, "batch neuron *place"]:
        return self.layer.nonlinearity(laid) if self.layer.nonlinearity else laid

    def _unit_ids(self, laid: Float[Tensor, "batch neuron *place"]) -> Int64[Tensor, " measured"]:
        """Which units are measured: settled when the first output is seen."""
        if self.unit_ids is None:
            self.unit_ids = self._start(laid)
        return self.unit_ids

    def _start(self, laid: Float[Tensor, "batch neuron *place"]) -> Int64[Tensor, " measured"]:
        """Which units are measured: those named, or as many as the layer says, drawn at random, or all; of a wide layer
        that is rotated, a sample of directions, numbered from 0.
        """
        device, units = laid.device, self._encoded(laid[:1]).shape[1]
        seed, most = self.seed + 7919 * (self.position + 1), self.layer.max_units
        unit_ids = torch.arange(units, device=device)
        if self.layer.unit_ids:
            if max(self.layer.unit_ids) >= units or min(self.layer.unit_ids) < 0:
                wrong = max(self.layer.unit_ids) if max(self.layer.unit_ids) >= units else min(self.layer.unit_ids)
                raise ThalwegError(f"layer {self.layer.name!r} has units 0 to {units - 1}; unit {wrong} was asked for")
            unit_ids = torch.tensor(sorted(self.layer.unit_ids), device=device)
        elif most and most < units:
            order = torch.randperm(units, generator=torch.Generator().manual_seed(seed))
            unit_ids = order[:most].sort().values.to(device)
        if self.basis == RANDOM:
            at_places = highest_of_places(laid, self.layer)
            whole = directions(units, units, self.most, at_places=at_places) == units
            count = units if whole else directions(units, len(unit_ids), self.most, at_places=at_places)
            turned = random_directions(units, count, seed=seed).to(device)
            self.turned = self._standardised(turned[:, unit_ids] if whole else turned, laid.dtype)
            return unit_ids if whole else torch.arange(count, device=device)
        return unit_ids

    def _standardised(
        self, turned: Float[Tensor, "unit direction"], precision: torch.dtype
    ) -> Float[Tensor, "unit direction"]:
        """Directions in units of the standard deviations, if these are known, in this precision. A unit is left out
        that has none, or one so small that the precision does not reach its inverse.
        """
        if self.deviations is None:
            return turned.to(precision)
        deviations = self.deviations.to(turned.device)
        known = deviations * torch.finfo(precision).max > 1
        return (turned * torch.where(known, 1 / deviations, 0)[:, None]).to(precision)
