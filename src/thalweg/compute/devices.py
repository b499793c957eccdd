"""Where models run, in which precision, and how their numbers lie in memory."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def placed(model: nn.Module, device: str) -> nn.Module:
    """The model on the device; one that is spread over several devices stays where it is."""
    return model if getattr(model, "hf_device_map", None) else model.to(device)


def channels_last(model: Network) -> Network:
    """The model, whose convolutions from now on lay the channels of each place beside each other in memory.

    Values differ in their last digits, and on a CPU convnets are faster (measured on one thread: ResNet-50 by a sixth,
    GoogLeNet twice). A model that asks for a `view` of its feature maps fails; it should ask to `flatten` or `reshape`.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def in_precision(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """The model with its numbers in this precision; one whose weights lie partly on disk keeps its own."""
    weights: list[Tensor] = [*model.parameters()] or [*model.buffers()]
    other = any(weight.is_floating_point() and weight.dtype != precision for weight in weights)
    offloaded = any(weight.is_meta for weight in weights)
    return model.to(precision) if other and not offloaded else model


def given(batch: Tensor, device: str, precision: torch.dtype = torch.float32) -> Tensor:
    """A batch on the device; numbers that are no whole numbers in this precision."""
    return batch.to(device, precision) if batch.is_floating_point() else batch.to(device)
