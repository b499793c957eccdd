"""Facts that are edited each by itself, and asked about side by side: every row of a batch has the edit of its fact.

The edit is a change of the edited matrix that is added to what the matrix gives. Weights stay as they are.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.edits.evaluation import ask
from thalweg.edits.methods import Setup
from thalweg.edits.projections import Projection
from thalweg.edits.requests import Request

NUMBERS_AT_ONCE = 1 << 24  # of the changes of all rows of a batch


def ask_beside(
    setup: Setup, requests: Sequence[Request], changes: Float[Tensor, "fact value key"]
) -> list[dict[str, float]]:
    """What `ask` returns for each fact, with a change of its own added to the last layer's matrix."""
    start = 0
    answered: list[dict[str, float]] = []
    for group in groups(setup, requests):
        mine = changes[start : start + len(group)]
        start += len(group)

        @contextmanager
        def edited(facts: Int[Tensor, " row"], mine: Tensor = mine) -> Generator[None]:
            with added_by_row(setup.last, mine, facts):
                yield

        answered += ask(setup.model, group, edited=edited)
    return answered


def groups(setup: Setup, requests: Sequence[Request]) -> list[Sequence[Request]]:
    """Facts whose changes fit into memory row by row; one fact where the matrix is large."""
    rows = max((sum(len(probe.prompts) for probe in request.asked().values()) for request in requests), default=1)
    size = max(1, NUMBERS_AT_ONCE // (rows * setup.last.weight.numel()))
    return [requests[start : start + size] for start in range(0, len(requests), size)]


@contextmanager
def added_by_row(
    projection: Projection, changes: Float[Tensor, "fact value key"], facts: Int[Tensor, " row"]
) -> Generator[None]:
    """Run a model with a change of its matrix for each row of the batch: that of the fact that the row is of."""

    def hook(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        keys = given[0]
        if len(changes) == 1:
            return output + keys @ changes[0].T.to(keys)
        return output + torch.einsum("rtk,rvk->rtv", keys, changes.to(keys)[facts.to(keys.device)])

    handle = projection.module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
