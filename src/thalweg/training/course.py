"""How the training of a network goes: what its trainer notes at each look at it, kept with the network."""

from torch import nn

NOTED = "thalweg_course"


def note(model: nn.Module, step: int, **numbers: float) -> None:
    """Note numbers of a network in training after so many epochs, or tokens of text."""
    vars(model).setdefault(NOTED, []).append({"step": step, **numbers})


def noted(model: nn.Module) -> list[dict[str, float]]:
    """What was noted of a network so far: `step` and numbers."""
    return list(vars(model).get(NOTED, ()))
