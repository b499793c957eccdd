"""Concepts that are said in two languages: what a network is shown, and where it is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from thalweg.errors import ThalwegError


@dataclass(frozen=True, eq=False)
class Questions:
    """What a network is asked in the language that never told it.

    Attributes:
        tokens: The beginnings of sentences.
        candidates: Among which tokens the answer is.
        right: The index of the right one.
    """

    tokens: Int[Tensor, "question token"]
    candidates: Int[Tensor, "question choice"]
    right: Int[Tensor, " question"]


@dataclass(frozen=True, eq=False)
class ConceptPairs:
    """Concepts, each in some contexts of two languages.

    Attributes:
        tokens: What the network is given; shorter contexts are filled up at their end.
        places: Where the last token of the concept's word stands.
        ends: Where the last token of the context stands: the prediction there is what patching changes.
        patched: How many of the contexts, the first ones, are patched; 0 for no patching.
        classes: For probes: what is true of the concepts, a class for each, or -1 where nothing is known.
        questions: Facts that are asked in the language that never stated them, if there are any.

    Raises:
        ThalwegError: There are fewer than four concepts.
    """

    tokens: Int[Tensor, "2 concept context token"]
    places: Int[Tensor, "2 concept context"]
    ends: Int[Tensor, "2 concept context"]
    patched: int = 1
    classes: Int[Tensor, "task concept"] | None = None
    questions: Questions | None = None

    def __post_init__(self) -> None:
        if len(self) < 4:
            raise ThalwegError(f"there are {len(self)} pairs of concepts; at least 4 were expected")

    def __len__(self) -> int:
        """The number of concepts."""
        return self.tokens.shape[1]

    def take(self, which: Tensor) -> "ConceptPairs":
        """The concepts at these places; questions stay as they are."""
        classes = None if self.classes is None else self.classes[:, which]
        chosen = {name: getattr(self, name)[:, which] for name in ("tokens", "places", "ends")}
        return replace(self, classes=classes, **chosen)


def padded(
    contexts: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "context token"], Int[Tensor, " context"]]:
    """Contexts in one tensor, filled up at their end, and the place of each one's last token."""
    longest = max(map(len, contexts))
    tokens = torch.tensor([[*context, *[0] * (longest - len(context))] for context in contexts])
    return tokens, torch.tensor([len(context) - 1 for context in contexts])


def unrelated(count: int, seed: int) -> Int[Tensor, " concept"]:
    """For each of so many concepts another one, drawn at random: the next in a random cycle through all."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other
