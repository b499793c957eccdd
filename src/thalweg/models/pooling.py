"""From a unit's values over places to one value."""

from functools import lru_cache

from jaxtyping import Float
from torch import Tensor

from thalweg.models.records import Layer, Reduction

FEW = 16  # rows at least to which many places are put together before their maximum is taken; less than twice as many


def pooled(output: Float[Tensor, "batch unit *place"], reduction: Reduction) -> Float[Tensor, "batch unit"]:
    """One value a unit: the maximum, the mean or the last over the places, if the output has any."""
    if output.ndim == 2:
        return output
    flat = output.flatten(2)
    return highest(flat) if reduction == "max" else flat.mean(2) if reduction == "mean" else flat[:, :, -1]


def highest_of_places(laid: Float[Tensor, "batch neuron *place"], layer: Layer) -> bool:
    """Whether a unit's value is its highest of several places."""
    return layer.reduction == "max" and laid.shape[2:].numel() > 1


def highest(values: Float[Tensor, "batch unit place"]) -> Float[Tensor, "batch unit"]:
    """The maximum over the places.

    On a CPU PyTorch is slow where the units of a place lie beside each other in memory and there are many places: then
    it is given a few long rows, each of many places, and what is left of these (measured on channels-last ResNet-50: 7
    to 12 GB/s).
    """
    batch, units, positions = values.shape
    rows = few(positions)
    if not rows or values.stride(1) != 1 or values.stride(2) != units or values.device.type != "cpu":
        return values.amax(2)
    long = values.mT.reshape(batch, rows, -1)
    return long.amax(1).view(batch, -1, units).amax(1)


@lru_cache
def few(positions: int) -> int:
    """The most rows, of more than one place each, into which so many places divide: at least `FEW` and fewer than twice
    as many, or 0 where no such number divides them.
    """
    return max((rows for rows in range(FEW, 2 * FEW) if positions % rows == 0 and positions > rows), default=0)


def units_on_axis_1(output: Float[Tensor, "..."], layer: Layer) -> Float[Tensor, "batch neuron *place"]:
    """A layer's output with its neurons on axis 1 and its places after them; the last place alone where it is all that
    is looked at.
    """
    laid = output.movedim(layer.unit_axis, 1)[:, :, layer.skip :] if output.ndim > 2 else output
    return pooled(laid, "last") if layer.reduction == "last" else laid
