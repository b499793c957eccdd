"""Optional packages, some of which import torchvision, imported so that it does not stand in their way.

A torchvision that was compiled for CUDA, as registries carry it, beside a PyTorch for CPU lacks two operators and says
so when it is imported; transformers, timm, open_clip and SAELens then fail with it, or say that some other thing is
missing. No model here uses these operators; where they are declared first, the import goes through.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
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
    prepare_torchvision()
    try:
        return import_module(name)
    except ImportError as missing:
        raise ThalwegError(f"{said} ({missing})") from missing


def prepare_torchvision() -> None:
    """Let torchvision, whoever imports it next in this process, have the operators declared that it may lack.

    It is not imported by this: that takes more than a second, and most models do without.
    """
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())


class _TorchvisionFinder(MetaPathFinder):
    """Finds torchvision where it is installed, and has it loaded by `_TorchvisionLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where torchvision is; None for every other module, which other finders look for."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == "torchvision" else None
        if spec is not None and spec.loader is not None:
            spec.loader = _TorchvisionLoader(spec.loader)
        return spec


class _TorchvisionLoader(Loader):
    """Imports torchvision as Python does and, if it lacks operators, once more with these declared."""

    def __init__(self, python: Loader) -> None:
        self.python = python

    def __getattr__(self, name: str) -> object:
        """All else, such as its source, is as of Python's own loader."""
        return getattr(self.python, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The empty module."""
        return self.python.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module.

        Raises:
            ThalwegError: it goes with another PyTorch in more than these operators.
        """
        try:
            self.python.exec_module(module)
            return
        except RuntimeError as lacking:
            if "torchvision::" not in str(lacking):
                raise
        for half_imported in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[half_imported]
        if not _declared:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
        try:
            self.python.exec_module(module)
        except RuntimeError as wrong:
            raise ThalwegError(
                f"torchvision does not go with this PyTorch, {torch.__version__} ({wrong}); install the one of its "
                "release"
            ) from wrong
