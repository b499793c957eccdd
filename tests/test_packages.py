"""Optional packages: torchvision beside a PyTorch that it was not made for."""

import sys
from collections.abc import Callable
from importlib.abc import Loader
from types import ModuleType

import pytest
import torch

from thalweg import ThalwegError, packages
from thalweg.packages import imported, prepare_torchvision

LACKING = "operator torchvision::nms does not exist"


class Python(Loader):
    """What fills the module, time after time."""

    def __init__(self, *fills: Callable[[], None]) -> None:
        self.fills = list(fills)

    def exec_module(self, module: ModuleType) -> None:
        self.fills.pop(0)()
        module.filled = True


def fails(said: str) -> Callable[[], None]:
    def fill() -> None:
        sys.modules["torchvision.half"] = ModuleType("torchvision.half")
        raise RuntimeError(said)

    return fill


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[torch.library.Library]:
    """Where no operators are declared and torchvision is not imported."""
    monkeypatch.setattr(sys, "modules", {n: m for n, m in sys.modules.items() if n.partition(".")[0] != "torchvision"})
    monkeypatch.setattr(packages, "_declared", [])
    monkeypatch.setattr(packages, "OPERATORS", ("thalweg_nms",))  # this process may have the real one's
    return packages._declared


def test_operators_are_declared_where_they_are_lacking(declared: list[torch.library.Library]):
    module = ModuleType("torchvision")
    packages._TorchvisionLoader(Python(fails(LACKING), lambda: None)).exec_module(module)
    assert module.filled
    assert len(declared) == 1
    assert "torchvision.half" not in sys.modules


def test_a_torchvision_that_lacks_nothing_is_left_alone(declared: list[torch.library.Library]):
    module = ModuleType("torchvision")
    packages._TorchvisionLoader(Python(lambda: None)).exec_module(module)
    assert module.filled
    assert not declared


def test_one_that_lacks_more_is_told_and_other_errors_stay(declared: list[torch.library.Library]):
    module = ModuleType("torchvision")
    with pytest.raises(ThalwegError, match=r"does not go with this PyTorch.*roi_pool.*install the one of its release"):
        packages._TorchvisionLoader(
            Python(fails(LACKING), fails("operator torchvision::roi_pool does not exist"))
        ).exec_module(module)
    with pytest.raises(RuntimeError, match="out of memory"):
        packages._TorchvisionLoader(Python(fails("out of memory"))).exec_module(module)


def test_it_is_prepared_once_and_imported_by_whoever_needs_it():
    prepare_torchvision()
    before = len(sys.meta_path)
    prepare_torchvision()
    assert len(sys.meta_path) == before
    torchvision = imported("torchvision", said="torchvision is needed")
    assert torchvision.ops.nms.__name__ == "nms"
    with pytest.raises(ThalwegError, match=r"^numbers are needed \(No module named 'nombres'\)$"):
        imported("nombres", said="numbers are needed")
