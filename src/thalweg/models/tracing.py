"""A model is run once, and every call of a module is noted."""

import inspect
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from thalweg.errors import ThalwegError, line_of
from thalweg.errors import reason as reason_of
from thalweg.models.hooks import first_tensor
from thalweg.models.loading import quiet
from thalweg.stimuli.files import SIDE
from thalweg.stimuli.modalities import NOISE_SIDE

TOO_MUCH = re.compile("out of (range|bounds)|must match|too long|maximum|exceed")  # of an embedding and its user


@dataclass(eq=False)
class Turn:
    """One module's turn in a pass: what it was given and what it gave, with the versions of both."""

    name: str
    module: nn.Module
    given: Tensor | None
    given_version: int
    gave: Tensor | None = None
    gave_version: int = 0


def traced(model: nn.Module, batch: Shaped[Tensor, "batch ..."]) -> list[Turn]:
    """Each module's turn in one forward pass, in the order in which they begin.

    Raises:
        ThalwegError: the model cannot be run on the batch.
    """
    with torch.no_grad(), _noting(model.eval()) as turns, quiet():  # inference mode would keep no versions
        try:
            model(batch)
        except ThalwegError:
            raise
        except Exception as wrong:
            raise cannot_run(model, batch, wrong) from wrong
    return turns


def cannot_run(model: nn.Module, batch: Shaped[Tensor, "batch ..."], wrong: Exception) -> ThalwegError:
    """The error for a model that fails on a batch: the reason, and what is most often behind it."""
    numbers = "" if batch.dtype == torch.float32 else f" of {batch.dtype}"
    return ThalwegError(
        f"the model cannot be run on a batch of shape {tuple(batch.shape)}{numbers} "
        f"({reason_of(wrong)}){line_of(wrong)}{_remedy(model, batch, str(wrong))}"
    )


def _remedy(model: nn.Module, batch: Shaped[Tensor, "batch ..."], message: str) -> str:
    """What to do about a model that fails on a batch, where that is known."""
    by_name = [
        name
        for name, given in inspect.signature(model.forward).parameters.items()
        if given.kind is given.KEYWORD_ONLY and given.default is given.empty
    ]
    if by_name:
        return (
            f"; its forward takes {by_name[0]!r} by name alone: return from `load` a module whose "
            f"forward(self, inputs) returns self.model({by_name[0]}=inputs)"
        )
    if ("cuda" in message.lower() or "nvidia" in message.lower()) and not torch.cuda.is_available():
        return "; it asks for a GPU, and PyTorch finds none here: write .to(inputs.device) where it says .cuda()"
    if torch.is_inference_mode_enabled() and "grad" in message:
        return "; models are run in torch.inference_mode(), in which nothing can be differentiated"
    if not batch.is_floating_point() and batch.ndim == 2 and TOO_MUCH.search(message):
        return (
            f"; these texts have {batch.shape[1]:,} tokens, up to number {int(batch.max()):,}: perhaps the model has "
            "fewer places, or knows fewer tokens than its tokenizer"
        )
    if not batch.is_floating_point() and batch.ndim == 4:
        return (
            "; the `view` gives whole numbers, and most models take float32: end it with ToTensor(), or divide by 255"
        )
    if len(batch) > 1 and _runs(model, batch[:1]):
        return (
            "; it takes one stimulus at a time, and batches are needed: return from `load` a module that runs it on "
            "each stimulus and concatenates what it returns"
        )
    if batch.shape[1:] in ((3, SIDE, SIDE), (3, NOISE_SIDE, NOISE_SIDE)):
        return (
            f"; without a `view` a model is given pictures of {SIDE} x {SIDE} in three colours, and `thalweg layers` "
            f"tries such ones ({NOISE_SIDE} x {NOISE_SIDE} before a `view`): give the subject a `view` that makes the "
            "model's own size and colours of any picture"
        )
    return ""


def _runs(model: nn.Module, batch: Shaped[Tensor, "batch ..."]) -> bool:
    try:
        with torch.no_grad():
            model(batch)
    except Exception:  # whatever it is: it does not run
        return False
    return True


@contextmanager
def _noting(model: nn.Module) -> Generator[list[Turn]]:
    turns: list[Turn] = []
    running: list[Turn] = []

    def begin(name: str, module: nn.Module, inputs: object, named: object) -> None:
        tensor = first_tensor(inputs) if inputs else None
        tensor = first_tensor(named) if tensor is None else tensor
        turns.append(Turn(name, module, tensor, _version(tensor)))
        running.append(turns[-1])

    def end(output: object) -> None:
        turn = running.pop()
        turn.gave = first_tensor(output)
        turn.gave_version = _version(turn.gave)

    handles = []
    for name, module in model.named_modules():
        handles.append(
            module.register_forward_pre_hook(
                lambda its, inputs, named, name=name: begin(name, its, inputs, named), with_kwargs=True
            )
        )
        handles.append(module.register_forward_hook(lambda _its, _inputs, output: end(output)))
    try:
        yield turns
    finally:
        for handle in handles:
            handle.remove()


def _version(tensor: Tensor | None) -> int:
    """How often a tensor was changed in place."""
    return 0 if tensor is None or tensor.is_inference() else tensor._version
