"""Checks of arguments and results that are made for a function when it is called first."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from beartype import beartype


def checked(function: Callable) -> Callable:
    """As `beartype.beartype`. A process of tests imports thousands of functions, and calls some of them."""
    made = None

    @wraps(function)
    def called(*args: Any, **settings: Any) -> Any:
        nonlocal made
        made = made or beartype(function)
        return made(*args, **settings)

    return called
