"""Hooks that capture or replace a layer's output."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError, unknown
from thalweg.models.records import Layer

INPUT = ":in"  # after a module's name: what it is given


class StopForward(BaseException):
    """Ends a forward pass early, when every layer has run. Not an `Exception`, which a model may catch."""


def run(model: nn.Module, inputs: Tensor) -> object:
    """Run the model, whole or until a hook raises `StopForward`; returns its output, or nothing if it was stopped."""
    with suppress(StopForward):
        return model(inputs)
    return None


@contextmanager
def capture_activations(
    model: nn.Module,
    layers: Sequence[Layer],
    *,
    read: Callable[[str, Tensor], Any] | None = None,
    short: bool = False,
) -> Generator[dict[str, Any]]:
    """A dictionary that holds what each layer gave in the last forward pass, for as long as the context lasts.

    Of a layer that returns several things, the first tensor counts. With `read`, what that makes of it is held instead,
    and it is called at once: the output itself can be freed or changed in place by what runs next. With `short`, `run`
    goes through the whole model once, which shows whether a layer runs twice, and from then on no further than the last
    of the layers; a model that is spread over devices runs whole, as it puts its weights back only then.

    Raises:
        ThalwegError: a layer that the model does not have, that ran twice in one pass, or whose output is no tensor of
            shape (batch, unit, ...).
    """
    modules = dict(model.named_modules())
    short = short and not getattr(model, "hf_device_map", None)
    in_place = any(getattr(module, "inplace", False) for module in modules.values())  # a later one would alter them
    capture = _Capture(len(layers), read or (lambda _, tensor: tensor.clone() if in_place else tensor), short=short)
    handles = [model.register_forward_pre_hook(capture.start), model.register_forward_hook(capture.end)]
    try:
        for layer in layers:
            module, at_input = module_at(layer.name, modules)
            if at_input:
                handles.append(
                    module.register_forward_pre_hook(lambda _m, given, name=layer.name: capture.keep(name, given))
                )
            else:
                handles.append(
                    module.register_forward_hook(lambda _m, _given, output, name=layer.name: capture.keep(name, output))
                )
        yield capture.outputs
    finally:
        for handle in handles:
            handle.remove()


class _Capture:
    """The outputs of so many layers in the forward pass that is under way."""

    def __init__(self, layers: int, read: Callable[[str, Tensor], Any], *, short: bool) -> None:
        self.layers, self.read, self.short = layers, read, short
        self.outputs: dict[str, Any] = {}
        self.went_through = False  # the whole model, once

    def start(self, _module: nn.Module, _inputs: object) -> None:
        """A pass begins: forget the one before."""
        self.outputs.clear()

    def end(self, _module: nn.Module, _inputs: object, _output: object) -> None:
        """A pass came to the end of the model."""
        self.went_through = True

    def keep(self, name: str, output: object) -> None:
        """Keep a layer's output; where passes are short, the last layer ends this one."""
        if name in self.outputs:
            raise ThalwegError(f"layer {name!r} ran twice in one pass; name layers that run once")
        tensor = first_tensor(output)
        if tensor is None or tensor.ndim < 2:
            got = type(output).__name__ if tensor is None else f"a tensor of shape {tuple(tensor.shape)}"
            raise ThalwegError(f"layer {name!r} gave {got}; units need a tensor of shape (batch, unit, ...)")
        self.outputs[name] = self.read(name, tensor)
        if self.short and self.went_through and len(self.outputs) == self.layers:
            raise StopForward


def module_at(layer: str, modules: Mapping[str, nn.Module]) -> tuple[nn.Module, bool]:
    """The module that a layer's name means, and whether its input is meant; a module's own name may end in ":in".

    Raises:
        ThalwegError: the model has no such module.
    """
    if layer in modules and layer:
        return modules[layer], False
    name = layer.removesuffix(INPUT)
    if name not in modules or not name:
        raise unknown("layer of the model", layer, (known for known in modules if known))
    return modules[name], name != layer


@contextmanager
def skip_logits(model: nn.Module, layers: Sequence[Layer]) -> Generator[None]:
    """Do not compute logits that nobody reads, for as long as the context lasts, in a model that can leave them out.

    A language model that has `logits_unread` need not compute its logits, which with a large vocabulary cost more than
    the layers; unless one of the layers is the module that computes them, its `read_out`.
    """
    read_out: Any = getattr(model, "read_out", "")
    able = (
        bool(read_out)
        and hasattr(model, "logits_unread")
        and not any(layer.name.startswith(read_out) for layer in layers)
    )
    if able:
        model.logits_unread = True  # pyrefly: ignore[bad-argument-type]  # a plain attribute
    try:
        yield
    finally:
        if able:
            model.logits_unread = False  # pyrefly: ignore[bad-argument-type]  # a plain attribute


def first_tensor(output: object) -> Tensor | None:
    """The output, or the first tensor in it where a module returns several things: in a mapping, a sequence or a
    dataclass, however deep.
    """
    if isinstance(output, Tensor):
        return output
    if is_dataclass(output) and not isinstance(output, Mapping):
        output = tuple(getattr(output, field.name) for field in fields(output))
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, Sequence) and not isinstance(output, str):
        return next((tensor for part in output if (tensor := first_tensor(part)) is not None), None)
    return None


def answer_in(output: object) -> Tensor | None:
    """What a model says in the end: its `logits` where it returns several things by name, else the first tensor."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else first_tensor(output)


@contextmanager
def replacing_values(model: nn.Module, layer: Layer, way: Callable[[Tensor], Tensor]) -> Generator[None]:
    """The model with a layer's values replaced by what a function on the last axis makes of them, at all places but
    those that the layer skips.

    Raises:
        ThalwegError: no such layer, or it gives no tensor.
    """
    module, at_input = module_at(layer.name, dict(model.named_modules()))

    def replaced(given: Any) -> Any:
        tensor = first_tensor(given)
        if tensor is None:
            raise ThalwegError(f"layer {layer.name!r} gave {type(given).__name__}; a tensor was expected")
        return _with_first(given, tensor, _changed(tensor, layer, way))

    if at_input:
        handle = module.register_forward_pre_hook(lambda _module, inputs: replaced(inputs))
    else:
        handle = module.register_forward_hook(lambda _module, _inputs, output: replaced(output))
    try:
        yield
    finally:
        handle.remove()


def _changed(values: Tensor, layer: Layer, way: Callable[[Tensor], Tensor]) -> Tensor:
    laid = values.movedim(layer.unit_axis, 1)
    skip = layer.skip if values.ndim > 2 else 0
    kept, rest = (laid[:, :, :skip], laid[:, :, skip:]) if skip else (None, laid)
    made = way(rest.movedim(1, -1)).movedim(-1, 1).to(values.dtype)
    return (made if kept is None else torch.cat([kept, made], 2)).movedim(1, layer.unit_axis)


def _with_first(given: Any, old: Tensor, new: Tensor) -> Any:
    """A module's input or output with one tensor replaced by another."""
    if given is old:
        return new
    if isinstance(given, (tuple, list)):
        return type(given)(_with_first(part, old, new) for part in given)
    if isinstance(given, Mapping):
        made: Any = type(given)
        return made({name: _with_first(part, old, new) for name, part in given.items()})
    return given
