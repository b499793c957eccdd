"""The networks of the experiment: fully connected ones, whose hidden layers' units are measured."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.networks.activations import SoftmaxLinear

RECTIFIER, SOFTMAX_LINEAR = "rectifier", "softmax-linear"


class Perceptron(nn.Module):
    """Hidden layers of one width, and an output for each circuit: the log-odds of yes.

    Args:
        n_inputs: Numbers of a stimulus.
        width: Units of each hidden layer.
        depth: Hidden layers.
        n_outputs: Circuits.
        nonlinearity: `rectifier` or `softmax-linear`; the latter is followed by a layer norm, as published.
        dropout: The share of units that are dropped in training.
    """

    def __init__(
        self,
        n_inputs: int,
        width: int,
        depth: int,
        n_outputs: int,
        *,
        nonlinearity: str = RECTIFIER,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [n_inputs, *[width] * depth]
        self.linear = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        soft = nonlinearity == SOFTMAX_LINEAR
        self.act: nn.Module = SoftmaxLinear() if soft else nn.ReLU()
        self.norm = nn.ModuleList(nn.LayerNorm(width) if soft else nn.Identity() for _ in range(depth))
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(width, n_outputs)

    def hidden(self, shown: Float[Tensor, "batch input"]) -> list[Float[Tensor, "batch unit"]]:
        """What the units of each hidden layer pass on."""
        return self.with_hidden(shown)[0]

    def forward(self, shown: Float[Tensor, "batch input"]) -> Float[Tensor, "batch circuit"]:
        """The log-odds of yes."""
        return self.with_hidden(shown)[1]

    def with_hidden(
        self, shown: Float[Tensor, "batch input"]
    ) -> tuple[list[Float[Tensor, "batch unit"]], Float[Tensor, "batch circuit"]]:
        """What the hidden layers pass on, and the log-odds."""
        values = shown
        kept: list[Tensor] = []
        for linear, norm in zip(self.linear, self.norm, strict=True):
            kept.append(self.act(linear(values)))
            values = self.drop(norm(kept[-1]))
        return kept, self.head(values)


def build(
    n_inputs: int,
    width: int,
    depth: int,
    n_outputs: int,
    *,
    seed: int,
    nonlinearity: str = RECTIFIER,
    dropout: float = 0.0,
) -> Perceptron:
    """A network with weights drawn by the seed, whatever else is drawn in this process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Perceptron(n_inputs, width, depth, n_outputs, nonlinearity=nonlinearity, dropout=dropout)
