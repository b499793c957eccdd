"""What a user's trainer or evaluator returned, checked before it enters a table."""

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext

import numpy as np
from torch import Tensor

from thalweg.errors import ThalwegError, user_code
from thalweg.files.identity import is_packaged
from thalweg.pipeline.job import Model

PlainSummary = dict[str, float | int | str | None]  # what the tables say of a model


def _is_number(value: Tensor | np.ndarray | np.generic) -> bool:
    return (value.numel() if isinstance(value, Tensor) else value.size) == 1


@contextmanager
def code_of_user(what: str, model: Model, function: object) -> Generator[None]:
    """Run a function that trains or judges a model: where it is the user's own, an error names it and its line."""
    with nullcontext() if is_packaged(function) else user_code(_called(what, model)):
        yield


def _called(what: str, model: Model) -> str:
    return f"the function `{what}` of ladder {model.ladder.name!r}, rung {model.rung.name!r},"


def checked_summary(what: str, model: Model, result: object) -> PlainSummary:
    """What training returned, as plain numbers and words; a number that is not finite is missing.

    Raises:
        ThalwegError: no mapping, a value that is neither, or a loss that is not finite.
    """
    plain = plain_values(what, model, result)
    wrong = [name for name, value in plain.items() if isinstance(value, float) and not math.isfinite(value)]
    for name in wrong:
        if name.endswith("loss"):
            raise ThalwegError(
                f"{_called(what, model)} returned {name} = {plain[name]}: training diverged; train with a smaller "
                "learning rate"
            )
    return {**plain, **dict.fromkeys(wrong)}


def plain_values(what: str, model: Model, result: object) -> PlainSummary:
    """What a function of the user's says of a model, without arrays of one number."""
    expected = "a mapping of names to numbers or words was expected, as {'train_examples': 50000, 'train_loss': 0.1}"
    if not isinstance(result, Mapping):
        raise ThalwegError(f"{_called(what, model)} returned {type(result).__name__}; {expected}")
    plain: PlainSummary = {}
    for name, value in result.items():
        number = value.item() if isinstance(value, Tensor | np.ndarray | np.generic) and _is_number(value) else value
        if not isinstance(name, str) or not isinstance(number, float | int | str | None):
            raise ThalwegError(f"{_called(what, model)} returned {name!r}: {type(value).__name__}; {expected}")
        plain[name] = number
    return plain
