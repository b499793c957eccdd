"""What is done when a device runs out of memory: a model is given fewer stimuli at once."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from thalweg.errors import ThalwegError

Result = TypeVar("Result")
LOG = logging.getLogger("thalweg")


def ran_out(wrong: BaseException | None) -> bool:
    """Whether an error, or what it comes from, says that a device ran out of memory."""
    while wrong is not None:
        if isinstance(wrong, torch.cuda.OutOfMemoryError) or "MPS backend out of memory" in str(wrong):
            return True
        wrong = wrong.__cause__
    return False


class Pieces:
    """How a batch is given to a model: whole or, once memory has run out, in pieces of half the size, and so on.

    A smaller size is kept for the batches that follow. What is made of the pieces is put together again, so whoever
    takes in results sees the same batches, and the results stay the same.

    Args:
        size: Stimuli of a piece, at most.
        device: Where the model runs, for messages.
        again: Called before a batch that memory was too small for is begun again.
    """

    def __init__(self, size: int, device: str, again: Callable[[], None] = lambda: None) -> None:
        self.size, self.device, self.again = size, device, again

    def __call__(self, call: Callable[[slice], Result], count: int) -> list[Result]:
        """What a function makes of each piece of a batch of so many stimuli.

        Raises:
            ThalwegError: a single stimulus needs more memory than there is.
        """
        while True:
            try:
                return [call(slice(start, min(start + self.size, count))) for start in range(0, count, self.size)]
            except Exception as wrong:
                if not ran_out(wrong):
                    raise
                if min(self.size, count) <= 1:
                    raise ThalwegError(
                        f"memory ran out on {self.device} with a single stimulus; choose a device with more memory "
                        "(--device cpu), measure fewer layers at once, or a lower --precision"
                    ) from wrong
            self.size = -(-min(self.size, count) // 2)  # here, for an error at hand keeps what the model made
            LOG.warning(
                "memory ran out on %s: a model is given %d stimuli at once from here on; the results stay the same",
                self.device,
                self.size,
            )
            self.again()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def rows(self, call: Callable[[Tensor], Tensor], ids: Int[Tensor, " batch"]) -> Tensor:
        """The rows that a function makes of the stimuli of a batch, one for each."""
        parts = self(lambda part: call(ids[part]), len(ids))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
