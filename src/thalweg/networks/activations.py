"""Activation functions that no library has."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def gelu(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GPT-2's activation function: the Gaussian error linear unit, by its approximation with a hyperbolic tangent."""
    return functional.gelu(values, approximate="tanh")


class SoftmaxLinear(nn.Module):
    """Softmax linear units: x * softmax(x), scaled by the width so that values keep their size.

    Units of a layer compete: one that is large makes the others small. It was made so that features need not share
    units. A layer norm should follow, as published.

    Source: Elhage et al. 2022, "Softmax Linear Units".
    """

    def forward(self, values: Float[Tensor, "*place unit"]) -> Float[Tensor, "*place unit"]:
        """The values, each weighed by its share of the softmax over the units."""
        return values * values.softmax(-1) * values.shape[-1]


def softmax_linear(width: int) -> nn.Sequential:
    """Softmax linear units and the layer norm that follows them."""
    return nn.Sequential(SoftmaxLinear(), nn.LayerNorm(width))
