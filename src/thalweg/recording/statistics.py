"""Statistics of the stimuli, whose products with the units' values a recording keeps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Indicators:
    """A table of statistics with a column for each code, 1 where a stimulus has that code, else 0. Only the codes are
    held, and rows are made when they are asked for: a whole table grows with the stimuli times the codes.
    """

    codes: Int64[Tensor, " stimulus"]
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        """How many stimuli and codes."""
        return len(self.codes), self.count

    def __getitem__(self, ids: Int64[Tensor, " some"]) -> Float32[Tensor, "some code"]:
        codes = self.codes[ids]
        return torch.zeros(len(codes), self.count, device=codes.device).scatter_(1, codes[:, None], 1)

    def to(self, device: str) -> "Indicators":
        """The same on another device."""
        return Indicators(self.codes.to(device), self.count)


Statistic = Float[Tensor, "all statistic"] | Indicators
