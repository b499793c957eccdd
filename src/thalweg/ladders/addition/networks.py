"""Networks that add two numbers modulo p: linear, perceptron, transformer."""

import math
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

HEADS = 4  # as published


def _gaussian(*shape: int, variance: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * math.sqrt(variance))


class Linear(nn.Module):
    """Logits that are linear in one-hot a and one-hot b: it cannot add, only prefer answers."""

    def __init__(self, p: int) -> None:
        super().__init__()
        self.tables = _gaussian(2, p, p, variance=1 / (2 * p))
        self.bias = nn.Parameter(torch.zeros(p))
        self.logits = nn.Identity()

    def neurons(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """Its units are its logits."""
        logits: Tensor = self.logits(self.tables[0][pairs[:, 0]] + self.tables[1][pairs[:, 1]] + self.bias)
        return logits

    def forward(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """The logits."""
        return self.neurons(pairs)

    def embedding(self) -> Float[Tensor, "p feature"]:
        """What a number is to the model: a row of both tables."""
        return torch.cat([*self.tables], 1)

    def readout(self) -> Float[Tensor, "p answer"]:
        """What its units, the logits, say of each answer: themselves."""
        return torch.eye(len(self.bias))


class Perceptron(nn.Module):
    """A hidden layer of rectified units on one-hot a and one-hot b."""

    def __init__(self, p: int, width: int) -> None:
        super().__init__()
        self.tables = _gaussian(2, p, width, variance=1 / 2)  # two ones enter each unit
        self.bias = nn.Parameter(torch.zeros(width))
        self.outward = _gaussian(width, p, variance=1 / width)
        self.outward_bias = nn.Parameter(torch.zeros(p))
        self.mlp_in = nn.Identity()

    def neurons(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair unit"]:
        """The hidden units before the rectifier."""
        before: Tensor = self.mlp_in(self.tables[0][pairs[:, 0]] + self.tables[1][pairs[:, 1]] + self.bias)
        return before

    def forward(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """The logits."""
        return torch.addmm(self.outward_bias, self.neurons(pairs).relu(), self.outward)

    def embedding(self) -> Float[Tensor, "p feature"]:
        """What a number is to the model: a row of both tables."""
        return torch.cat([*self.tables], 1)

    def readout(self) -> Float[Tensor, "p unit"]:
        """What each hidden unit says of each answer."""
        return self.outward.T


class Transformer(nn.Module):
    """One layer of attention and one of rectified neurons on the tokens a, b and "=", read at "="; no layer norm.

    With e, s and W the token embeddings, position embeddings and weight matrices, x_0 = e_a + s_0, x_1 = e_b + s_1, x_2
    = e_= + s_2: each head mixes values x_j W_V by the softmax over j of x_2 W_Q (x_j W_K)' / sqrt(head width); x = x_2
    + (heads) W_O; neurons = x W_in + bias; residual = x + relu(neurons) W_out + bias; logits = residual W_U. Initial
    weights are normal with variance 1 / width, those of W_U with 1 / p, biases 0.
    """

    def __init__(self, p: int, width: int, neurons: int) -> None:
        super().__init__()
        draw = partial(_gaussian, variance=1 / width)
        self.tokens, self.positions = draw(p + 1, width), draw(3, width)
        self.to_query, self.to_key, self.to_value, self.from_heads = (draw(width, width) for _ in range(4))
        self.into_mlp, self.mlp_bias = draw(width, neurons), nn.Parameter(torch.zeros(neurons))
        self.from_mlp, self.from_mlp_bias = draw(neurons, width), nn.Parameter(torch.zeros(width))
        self.unembedding = _gaussian(width, p, variance=1 / p)
        self.heads, self.mlp_in, self.residual = nn.Identity(), nn.Identity(), nn.Identity()

    def neurons(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair unit"]:
        """The neurons before the rectifier."""
        return self._block(pairs)[1]

    def forward(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """The logits at "="."""
        before, neurons = self._block(pairs)
        after: Tensor = self.residual(before + torch.addmm(self.from_mlp_bias, neurons.relu(), self.from_mlp))
        return after @ self.unembedding

    def _block(self, pairs: Int[Tensor, "pair 2"]) -> tuple[Float[Tensor, "pair width"], Float[Tensor, "pair unit"]]:
        """The residual stream at "=" after attention, and the neurons."""
        last = self.tokens[-1] + self.positions[2]
        before = last + self.heads(self._attention(pairs, last)) @ self.from_heads
        neurons: Tensor = self.mlp_in(torch.addmm(self.mlp_bias, before, self.into_mlp))
        return before, neurons

    def _attention(self, pairs: Int[Tensor, "pair 2"], last: Float[Tensor, " width"]) -> Float[Tensor, "pair width"]:
        """What the heads bring to "=", from one row for each thing that can stand at a place."""
        if len(pairs) < len(self.tokens) - 1:  # few pairs: a row for each of their numbers
            first, second = self.tokens[pairs[:, 0]], self.tokens[pairs[:, 1]]
            a = torch.arange(len(pairs), device=pairs.device)
            b = a + len(pairs)
        else:  # a row for each number at each place
            first = second = self.tokens[:-1]
            a, b = pairs[:, 0], pairs[:, 1] + len(first)
        rows = torch.cat([first + self.positions[0], second + self.positions[1], last[None]])
        query = (last @ self.to_query).unflatten(0, (HEADS, -1))  # (head, head width)
        asked = torch.einsum("whe,he->wh", self.to_key.unflatten(1, (HEADS, -1)), query) / math.sqrt(query.shape[1])
        scores, values = rows @ asked, (rows @ self.to_value).unflatten(1, (HEADS, -1))
        share = torch.stack([scores[a], scores[b], scores[-1].expand(len(a), -1)]).softmax(0)[..., None]
        mixed: Tensor = share[0] * values[a] + share[1] * values[b] + share[2] * values[-1]
        return mixed.flatten(1)

    def embedding(self) -> Float[Tensor, "p width"]:
        """What a number is to the model: its token's embedding."""
        return self.tokens[:-1]

    def readout(self) -> Float[Tensor, "p unit"]:
        """What each neuron says of each answer: (W_out W_U)'."""
        return (self.from_mlp @ self.unembedding).T


Adder = Linear | Perceptron | Transformer
