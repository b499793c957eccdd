"""The sums at which a network that adds may aim: each is a goal, and its cases are the pairs that have this sum."""

import torch

from thalweg.edits.goals import Goals

INSIDE = ("heads", "mlp_in", "residual")


def sum_goals(p: int, seed: int) -> tuple[Goals, ...]:
    """Every sum as a goal, each with every first number.

    Args:
        p: The modulus.
        seed: The run's; nothing is drawn.
    """
    numbers = torch.arange(p)
    first, total = numbers.expand(p, p), numbers[:, None].expand(p, p)
    inputs = torch.stack([first, (total - first) % p], 2)
    return (Goals(inputs, total.clone(), numbers, parts=INSIDE),)
