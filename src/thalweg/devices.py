"""Where models run, and in which precision."""

import torch
from torch import Tensor, nn

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def placed(model: nn.Module, device: str) -> nn.Module:
    """The model on the device; one that is spread over several devices stays where it is."""
    return model if getattr(model, "hf_device_map", None) else model.to(device)


def in_precision(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """The model with its numbers in this precision; one whose weights lie partly on disk keeps its own."""
    weights: list[Tensor] = [*model.parameters()] or [*model.buffers()]
    other = any(weight.is_floating_point() and weight.dtype != precision for weight in weights)
    offloaded = any(weight.is_meta for weight in weights)
    return model.to(precision) if other and not offloaded else model


def given(batch: Tensor, device: str, precision: torch.dtype = torch.float32) -> Tensor:
    """A batch on the device; numbers that are no whole numbers in this precision."""
    return batch.to(device, precision) if batch.is_floating_point() else batch.to(device)
