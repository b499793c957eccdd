"""Pairs of numbers to be added modulo a number: the stimuli of the algorithmic ladder."""

import hashlib
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from thalweg.stimuli.showing import Shown


@dataclass(frozen=True, eq=False)
class NumberPairs:
    """Pairs (a, b) of numbers from 0 to p - 1; the label is (a + b) mod p.

    Attributes:
        numbers: (stimulus, 2).
        p: The number that sums are taken modulo.
        modality: `pair`.

    Example:
        >>> import torch, thalweg
        >>> thalweg.NumberPairs(torch.tensor([[3, 4], [6, 6]]), p=7).labels.tolist()
        [0, 5]
    """

    numbers: Int[Tensor, "stimulus 2"]
    p: int
    modality: str = "pair"

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def labels(self) -> Int[Tensor, " stimulus"]:
        """The sums, modulo p."""
        return self.numbers.sum(1) % self.p

    @property
    def label_names(self) -> tuple[str, ...]:
        """The numbers from 0 to p - 1."""
        return tuple(map(str, range(self.p)))

    def take(self, which: Int[Tensor, " taken"] | slice) -> "NumberPairs":
        """The pairs at these places, in this order."""
        return replace(self, numbers=self.numbers[which])

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Int[Tensor, "taken 2"]:
        """What a model is given: the two numbers."""
        return self.numbers[which]

    def low_level(self) -> Float[Tensor, "stimulus statistic"]:
        """The two numbers, as amounts."""
        return self.numbers.float() / self.p

    def last_token(self) -> None:
        """A pair has no tokens to speak of."""

    def groups(self) -> None:
        """Pairs stand for themselves."""

    def show(self, which: int) -> Shown:
        """The sum to be done."""
        a, b = self.numbers[which].tolist()
        return Shown(str((a + b) % self.p), pieces=(f"{a}", " + ", f"{b}", f" mod {self.p}"))

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever a pair or the order does."""
        digest = hashlib.sha256(repr((tuple(self.numbers.shape), self.p)).encode())
        digest.update(self.numbers.long().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
