"""Activation functions of modules, as functions of tensors."""

import copy
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.models.tracing import Turn


def quick_gelu(values: Tensor) -> Tensor:
    """The approximation x * sigmoid(1.702 x) of GELU (Hendrycks & Gimpel 2016), which CLIP uses."""
    return values * torch.sigmoid(1.702 * values)


PLAIN: dict[str, Callable[[Tensor], Tensor]] = {  # by the lower-case name of the module's class, whoever wrote it
    "relu": torch.relu,
    "relu6": functional.relu6,
    "silu": functional.silu,
    "swish": functional.silu,
    "memoryefficientswish": functional.silu,
    "swishme": functional.silu,
    "mish": functional.mish,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelutanh": partial(functional.gelu, approximate="tanh"),
    "quickgelu": quick_gelu,
    "selu": functional.selu,
    "softplus": functional.softplus,
}
OTHERS = re.compile("gelu|relu|elu|celu|swish|mish|softsign|tanhshrink|hardtanh", re.IGNORECASE)


def is_activation(turn: Turn) -> bool:
    """Whether a module applies a nonlinearity to each value by itself."""
    named = type(turn.module).__name__.lower()
    known = named in PLAIN or OTHERS.search(named) is not None
    alone = not any(True for _ in turn.module.children())
    return known and alone and turn.gave is not None and turn.given is not None and turn.gave.shape == turn.given.shape


def as_function(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """An activation module as a function that changes nothing in place and can be sent to another process."""
    named = type(module).__name__.lower()
    if named in PLAIN:
        return PLAIN[named]
    if named == "gelu":
        approximate: Any = getattr(module, "approximate", "none")
        return partial(functional.gelu, approximate=approximate)
    if isinstance(module, nn.LeakyReLU):
        return partial(functional.leaky_relu, negative_slope=module.negative_slope)
    if isinstance(module, nn.ELU):
        return partial(functional.elu, alpha=module.alpha)
    copied = copy.deepcopy(module)
    if hasattr(copied, "inplace"):
        setattr(copied, "inplace", False)  # noqa: B010  (a module takes an attribute for a tensor or a module)
    return copied
