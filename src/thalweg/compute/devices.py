"""Where models run, in which precision, and how their numbers lie in memory."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError, unknown

Network = TypeVar("Network", bound=nn.Module)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")  # what a user can name; cuda:0 stands for any number


def check_device(device: str, *, here: bool = True) -> None:
    """Check the name of a device and, unless the work is done elsewhere (not `here`), that it is there.

    Raises:
        ThalwegError: no device is called so, it is not there, or it names a card of a machine that is not known.
    """
    kind, colon, number = str(device).partition(":")
    if kind not in DEVICES or (colon and (kind != "cuda" or not number.isdecimal())):
        raise unknown("device", str(device), DEVICES)
    if not here:
        if colon:
            raise ThalwegError(f"device is {device!r}, but a cluster chooses the cards of its tasks; use --device cuda")
        return
    if kind == "cuda" and not torch.cuda.is_available():
        raise ThalwegError(f"device is {device!r}, but PyTorch finds no CUDA device here; use --device cpu")
    if colon and int(number) >= (count := torch.cuda.device_count()):
        names = ", ".join(f"cuda:{index}" for index in range(count))
        raise ThalwegError(f"device is {device!r}, but PyTorch finds these CUDA devices here: {names}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ThalwegError("device is 'mps', but PyTorch finds no GPU of Apple's here; use --device cpu")


def resolved(device: str) -> str:
    """The device that models run on here. `auto` is a CUDA device where there is one, else the CPU; `cuda` is the card
    that the task was given.
    """
    if device == "mps":
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return "cuda" if device == "auto" else device


IDENTICAL, NOT_IDENTICAL = "byte-identical", "not byte-identical on this device"  # what the same command gives again
WORKSPACE = ":4096:8"  # of cuBLAS: with it, the same products are the same to the last bit


def repeats(device: str) -> str:
    """What the same command gives again on a device: the same bytes on a CPU. On a GPU there is no such promise, as
    some algorithms have no deterministic form there.
    """
    return IDENTICAL if device == "cpu" else NOT_IDENTICAL


@contextmanager
def repeatable(device: str) -> Generator[None]:
    """On a CUDA device, deterministic algorithms where there are such, and products in the precision that was asked
    for (no TF32), for as long as the context lasts. Elsewhere nothing changes.
    """
    if not device.startswith("cuda"):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)  # read when cuBLAS is first used
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # a module whose type is not known
    filled = memory.fill_uninitialized_memory
    in_tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # nothing is read before it is written
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        memory.fill_uninitialized_memory = filled
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = in_tf32


def all_finite(values: Tensor) -> bool:
    """Whether there is no NaN and nothing infinite: its largest and its smallest value are finite. (To ask each value
    takes 20 times as long on a CPU.)
    """
    if values.is_complex():
        values = torch.view_as_real(values)
    return not values.numel() or bool(values.amax().isfinite() & values.amin().isfinite())


def in_double(values: Tensor) -> Tensor:
    """The values in double precision: on their device, or on the CPU where that has none (MPS)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def placed(model: nn.Module, device: str) -> nn.Module:
    """The model on the device; one that is spread over several devices stays where it is."""
    return model if getattr(model, "hf_device_map", None) else model.to(device)


def channels_last(model: Network) -> Network:
    """The model, whose convolutions from now on lay the channels of each place beside each other in memory.

    Values differ in their last digits, and on a CPU convnets are faster (measured on one thread: ResNet-50 by a sixth,
    GoogLeNet twice). A model that asks for a `view` of its feature maps fails; it should ask to `flatten` or `reshape`.
    """
    model.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]  # not in its types
    return model


def in_precision(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """The model with its numbers in this precision; one with weights that are quantised or on disk keeps its own."""
    weights: list[Tensor] = [*model.parameters()] or [*model.buffers()]
    other = any(weight.is_floating_point() and weight.dtype != precision for weight in weights)
    offloaded = any(weight.is_meta for weight in weights)
    return model.to(precision) if other and not offloaded and not is_quantised(model) else model


def is_quantised(model: nn.Module) -> bool:
    """Whether a library of quantisation holds the model's weights, packed and in a layout of its own."""
    return bool(getattr(model, "is_quantized", False))  # as transformers marks it


def given(batch: Tensor, device: str, precision: torch.dtype = torch.float32) -> Tensor:
    """A batch on the device; numbers that are no whole numbers in this precision."""
    return batch.to(device, precision) if batch.is_floating_point() else batch.to(device)
