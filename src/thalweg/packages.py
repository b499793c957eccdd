"""Optional packages, some of which import torchvision, imported so that it does not stand in their way.

A torchvision that was compiled for CUDA, as registries carry it, beside a PyTorch for CPU lacks two operators and says
so when it is imported; transformers, timm, open_clip and SAELens then fail with it, or say that some other thing is
missing. No model here uses these operators; where they are declared first, the import goes through.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

from thalweg.errors import ThalwegError

OPERATORS = ("nms", "qnms")
_declared: list[torch.library.Library] = []  # a library's operators live as long as it does


def imported(name: str, *, said: str) -> ModuleType:
    """The package or module of this name; `said` is the error's text where it cannot be imported.

    Raises:
        ThalwegError: it is not installed, or cannot be imported.
    """
    torchvision_first()
    try:
        return import_module(name)
    except ImportError as missing:
        raise ThalwegError(f"{said} ({missing})") from missing


def torchvision_first() -> None:
    """Import torchvision, if it is installed, with the operators declared that it may lack.

    Raises:
        ThalwegError: it goes with another PyTorch in more than these operators.
    """
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        import_module("torchvision")
        return
    except RuntimeError as lacking:
        if "torchvision::" not in str(lacking):
            raise
    for half_imported in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[half_imported]
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in OPERATORS:
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
    try:
        import_module("torchvision")
    except RuntimeError as wrong:
        raise ThalwegError(
            f"torchvision does not go with this PyTorch, {torch.__version__} ({wrong}); install the one of its release"
        ) from wrong
