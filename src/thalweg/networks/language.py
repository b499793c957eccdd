"""Language models: a unigram, sets and bags of words, transformers."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thalweg.networks.activations import gelu

INITIAL = 0.02  # standard deviation of GPT-2's initial weights


class Unigram(nn.Module):
    """The same logits at every place: how often each token occurs."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.logits = nn.Identity()

    def extra_repr(self) -> str:
        """What the submodules do not show."""
        return f"vocabulary={len(self.bias)}"

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token vocabulary"]:
        """The bias, once for each token."""
        logits: Tensor = self.logits(self.bias.expand(*tokens.shape, -1))
        return logits


class SetOfTokens(nn.Module):
    """A linear map of the set of tokens seen so far: at each place, the distinct tokens' vectors and a bias, summed."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.tokens.weight, std=INITIAL)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token unit"]:
        """The sums: only a token's first occurrence adds to them."""
        vectors: Tensor = self.tokens(tokens) * first_occurrence(tokens)[:, :, None]
        return vectors.cumsum(1) + self.bias


def first_occurrence(tokens: Int[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
    """Whether a token has not occurred earlier in its window."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return ~same.tril(-1).any(2)


class BagOfWords(nn.Module):
    """The set of the window's tokens so far, hidden rectified units, logits."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.hidden = SetOfTokens(vocabulary, width)
        self.active = nn.ReLU()
        self.read_out = nn.Linear(width, vocabulary)

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token vocabulary"]:
        """Logits of the next token at each place."""
        logits: Tensor = self.read_out(self.active(self.hidden(tokens)))
        return logits


class Block(nn.Module):
    """A block of GPT-2, with or without its multilayer perceptron: normalise, compute, add to the residual stream.

    Units are the outputs of `heads` (all heads' outputs side by side, before they are written to the stream), of
    `neurons` (before their activation function) and of `residual` (the stream after the block).

    Args:
        width: Of the residual stream.
        n_heads: They share the width.
        neurons: Of the multilayer perceptron; 0 for none.
        activation: Makes the module that neurons are activated by, from their number; GPT-2's function by default.
    """

    def __init__(
        self, width: int, n_heads: int, *, neurons: int, activation: Callable[[int], nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before_attention = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.heads = nn.Identity()
        self.after_attention = nn.Linear(width, width)
        if neurons:
            self.before_neurons = nn.LayerNorm(width)
            self.neurons = nn.Linear(width, neurons)
            self.activation = activation(neurons) if activation else None  # a function is no part of what is printed
            self.after_neurons = nn.Linear(neurons, width)
        self.residual = nn.Identity()

    def extra_repr(self) -> str:
        """What the submodules do not show."""
        return f"n_heads={self.n_heads}"

    def forward(self, stream: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """The residual stream after the block."""
        return self._after(stream, self._attend(self.before_attention(stream)))

    def last(self, stream: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch 1 width"]:
        """The residual stream after the block at the last token, which alone is computed."""
        normal, width = self.before_attention(stream), stream.shape[2]
        weight, bias = self.attention.weight, self.attention.bias
        query = functional.linear(normal[:, -1:], weight[:width], bias[:width])
        key, value = functional.linear(normal, weight[width:], bias[width:]).chunk(2, 2)
        query, key, value = (part.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for part in (query, key, value))
        gathered = functional.scaled_dot_product_attention(query, key, value)
        return self._after(stream[:, -1:], gathered.transpose(1, 2).flatten(2))

    def _after(
        self, stream: Float[Tensor, "batch token width"], gathered: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        """The stream with what heads gathered and what the perceptron makes of it."""
        stream = stream + self.after_attention(self.heads(gathered))
        if hasattr(self, "neurons"):
            neurons = self.neurons(self.before_neurons(stream))
            stream = stream + self.after_neurons(self.activation(neurons) if self.activation else gelu(neurons))
        after: Tensor = self.residual(stream)
        return after

    def _attend(self, stream: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """What each head gathers from the tokens up to each place, head after head."""
        query, key, value = (
            part.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for part in self.attention(stream).chunk(3, 2)
        )  # each (batch, head, token, width of a head)
        gathered = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return gathered.transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """GPT-2 of any size, without dropout; the logits are read out with the token vectors themselves.

    Raises:
        ValueError: the heads do not share the width evenly.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        *,
        blocks: int = 1,
        n_heads: int = 1,
        neurons: int = 0,
        activation: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"{n_heads} heads cannot share a width of {width} evenly")
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(
            Block(width, n_heads, neurons=neurons, activation=activation) for _ in range(blocks)
        )
        self.before_logits = nn.LayerNorm(width)
        self.apply(_initialise)
        written = [
            part.weight for name, part in self.named_modules() if name.endswith((".after_attention", ".after_neurons"))
        ]
        for weight in written:  # as GPT-2 does, so that the stream's variance does not grow with depth
            nn.init.normal_(weight, std=INITIAL / math.sqrt(len(written)))

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token vocabulary"]:
        """Logits of the next token at each place."""
        stream = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            stream = block(stream)
        return functional.linear(self.before_logits(stream), self.tokens.weight)


def _initialise(part: nn.Module) -> None:
    """GPT-2's initial weights; layer norms keep PyTorch's, which are the same."""
    if isinstance(part, nn.Linear | nn.Embedding):
        nn.init.normal_(part.weight, std=INITIAL)
    if isinstance(part, nn.Linear):
        nn.init.zeros_(part.bias)
