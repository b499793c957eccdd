"""Principal components of a layer's values over the reference half: means, covariance and eigenvectors, in one pass.

Over all places of a layer that is pooled (at most 64 a stimulus), over the last alone where only that is looked at.
Components come in the order of their variance; their sign, which means nothing, is fixed so that the largest weight is
positive. Directions in which nothing varies but rounding are no units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from thalweg.bases.streaming import BATCH, PLACES, outputs, rows, widths
from thalweg.compute.devices import all_finite
from thalweg.errors import ThalwegError
from thalweg.models.records import Encode, Layer
from thalweg.stimuli.base import Stimuli

WIDEST = 8192  # its covariance takes half a gigabyte, its eigenvectors minutes
VARIES = 1e-10  # of the largest variance; float32 values vary by less through rounding alone


@dataclass(eq=False)
class Projection:
    """The encoder of principal components: values less their mean, onto each direction."""

    mean: Float[Tensor, " neuron"]
    directions: Float[Tensor, "neuron unit"]

    def __call__(self, values: Float[Tensor, "... neuron"]) -> Float[Tensor, "... unit"]:
        """The components of each value."""
        if self.mean.device != values.device:
            self.mean, self.directions = self.mean.to(values.device), self.directions.to(values.device)
        return (values.float() - self.mean) @ self.directions


@dataclass(frozen=True)
class Components:
    """The basis `pca`."""

    name: str = "pca"
    identity: str = f"pca 1, {PLACES} places, batches of {BATCH}"

    def encoders(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
    ) -> Mapping[str, Encode]:
        """Each layer's projection, fitted to the stimuli with these ids.

        Raises:
            ThalwegError: a layer too wide for its covariance, or whose values are not all finite.
        """
        for name, width in widths(model, layers, stimuli, ids, device=device).items():
            if width > WIDEST:
                raise ThalwegError(
                    f"layer {name!r} has {width} units; principal components are made of at most {WIDEST}: leave the "
                    "layer out, or measure its neurons"
                )
        generator = torch.Generator().manual_seed(0)
        sums = {layer.name: Scatter() for layer in layers}
        for laid in outputs(model, layers, stimuli, ids, device=device):
            for name, values in laid.items():
                sums[name].add(rows(values, generator))
        return {name: _projection(name, scatter) for name, scatter in sums.items()}


class Scatter:
    """Count, mean and scatter matrix of rows, merged batch by batch (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, values: Float[Tensor, "row neuron"]) -> None:
        """Take in some rows; the products are summed where the rows are, the sums kept in double precision."""
        mean = values.mean(0)
        around = values - mean
        products, mean = (around.T @ around).cpu().double(), mean.cpu().double()
        if self.count == 0:
            self.mean, self.products = torch.zeros_like(mean), torch.zeros_like(products)
        apart, together = mean - self.mean, self.count + len(values)
        self.products += products + apart.outer(apart) * (self.count * len(values) / together)
        self.mean += apart * (len(values) / together)
        self.count = together


def _projection(name: str, scatter: Scatter) -> Projection:
    if not all_finite(scatter.products):
        raise ThalwegError(f"layer {name!r} gave values that are NaN or infinite; principal components can't be fitted")
    return Projection(scatter.mean.float(), directions(scatter.products / scatter.count).float())


def directions(covariance: Float64[Tensor, "neuron neuron"]) -> Float64[Tensor, "neuron unit"]:
    """The eigenvectors of a covariance as columns, that of the largest variance first, in which anything varies."""
    variances, vectors = torch.linalg.eigh(covariance)
    vectors = vectors.flip(1)[:, variances.flip(0) > VARIES * variances.amax().clamp_min(1e-300)]
    largest = vectors.take_along_dim(vectors.abs().argmax(0, keepdim=True), 0)
    signed: Tensor = vectors * largest.sign()
    return signed
