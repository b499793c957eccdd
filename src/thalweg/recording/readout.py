"""From a layer's output to one value for each measured unit, in one basis."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.models.pooling import pooled, units_on_axis_1
from thalweg.models.records import Encode, Layer

SPARSE = 8  # units of a layer for each that is measured, beyond which those measured are picked before they are pooled
WIDEST_ROTATION = 4096  # units of a layer that is rotated whole: half a gigabyte and ten seconds
MOST_DIRECTIONS, LEAST_DIRECTIONS = 1024, 64  # of a wider layer: they are a sample, and more would sharpen little
LARGEST_TURN = 1 << 27  # numbers in the directions of a layer: half a gigabyte
ROTATION = 2  # the version of what a rotated twin is: it goes up when its values change
NEURONS, RANDOM = "neurons", "random"  # the bases a pass can read; the rotated twin is the random one


def rotation(units: int, *, seed: int) -> Float[Tensor, "unit unit"]:
    """A fixed random rotation: the orthogonal factor of a Gaussian matrix, signs set so that it is uniform (Mezzadri
    2007).
    """
    gaussian = torch.randn(units, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orthogonal, upper = torch.linalg.qr(gaussian)
    uniform: Tensor = orthogonal * upper.diagonal().sign()
    return uniform.float()


def directions(units: int, measured: int) -> int:
    """How many random directions a layer of so many units is given, of which so many are measured: as many as these, of
    a layer that is rotated whole; of a wider one no more than make a sample and fit into memory.
    """
    if units <= WIDEST_ROTATION:
        return measured
    return min(measured, MOST_DIRECTIONS, max(LEAST_DIRECTIONS, LARGEST_TURN // units))


@lru_cache(maxsize=1)  # both halves and all shards of a model ask for the same, and one can be half a gigabyte
def random_directions(units: int, count: int, *, seed: int) -> Float[Tensor, "unit direction"]:
    """So many random directions at right angles to each other: the columns that a rotation would begin with, without
    the rest of it.

    The thin QR factor of a Gaussian matrix G by way of Cholesky, Q = G R^-1 with R'R = G'G, which is accurate as such a
    matrix has a condition number near 1, and is nothing but matrix products.
    """
    gaussian = torch.randn(units, count, generator=torch.Generator().manual_seed(seed))
    upper = torch.linalg.cholesky((gaussian.T @ gaussian).double(), upper=True)
    directions: Tensor = gaussian @ torch.linalg.inv(upper).float()
    return directions


class Reader:
    """From a layer's output to one value for each measured unit, in one basis.

    `encode` makes a basis of its own from the layer's values, both on the last axis. A rotation takes each unit of the
    layer in the unit of its standard deviation, if `deviations` says what that is.
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
    ) -> None:
        self.layer, self.basis, self.seed, self.position, self.encode = layer, basis, seed, position, encode
        self.deviations = deviations
        self.unit_ids: Tensor | None = None  # of the measured units, when the first output has been seen
        self.turned: Tensor | None = None  # what the rotation gives these units, (unit, measured)

    def __call__(self, output: Float[Tensor, "..."]) -> Float[Tensor, "batch measured"]:
        """The values of the units that are measured."""
        laid, unit_ids = self._in_basis(output)
        reduction, units, measured = self.layer.reduction, laid.shape[1], unit_ids.shape[0]
        if self.turned is not None or measured == units:
            return pooled(laid, reduction)
        if SPARSE * measured < units:
            return pooled(laid[:, unit_ids], reduction)
        return pooled(laid, reduction)[:, unit_ids]

    def along(self, output: Float[Tensor, "..."], unit: int) -> Float[Tensor, "batch *place"]:
        """The values of one of these units before they are pooled.

        Raises:
            ValueError: a unit that is not measured.
        """
        laid, unit_ids = self._in_basis(output)
        return laid[:, unit if self.turned is None else unit_ids.tolist().index(unit)]

    def _in_basis(
        self, output: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "batch unit *place"], Int64[Tensor, " measured"]]:
        """The layer's values in the basis, of rotated ones those measured alone; and which units are measured."""
        laid = units_on_axis_1(output, self.layer)
        if self.encode is not None:
            laid = self.encode(laid.movedim(1, -1)).movedim(-1, 1)
        if self.unit_ids is None:
            self.unit_ids = self._start(laid.shape[1], laid.device)
        if self.turned is not None:
            passed_on = self.layer.nonlinearity(laid) if self.layer.nonlinearity else laid
            laid = torch.einsum("bu...,uv->bv...", passed_on.float(), self.turned)
        return laid, self.unit_ids

    def _start(self, units: int, device: torch.device) -> Int64[Tensor, " measured"]:
        """Which units are measured: those named, or as many as the layer says, drawn at random, or all."""
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
        if self.basis == RANDOM and units > WIDEST_ROTATION:
            count = directions(units, len(unit_ids))
            self.turned = self._standardised(random_directions(units, count, seed=seed).to(device))
            return torch.arange(count, device=device)
        if self.basis == RANDOM:
            self.turned = self._standardised(rotation(units, seed=seed).to(device)[:, unit_ids])
        return unit_ids

    def _standardised(self, turned: Float[Tensor, "unit direction"]) -> Float[Tensor, "unit direction"]:
        """Directions in units of the standard deviations, if these are known; a unit without any is left out."""
        if self.deviations is None:
            return turned
        deviations = self.deviations.to(turned.device)
        return turned * torch.where(deviations > 0, 1 / deviations, 0)[:, None]
