"""How capable a model is: the axes a ladder can be ordered by.

`bits` is the default: bits of task information above the label entropy, on held-out stimuli (of text: bits per byte
above the unigram model). It is the only axis on which different tasks and losses share a zero: a model that knows just
the labels' frequencies has 0 bits. `accuracy` saturates; `parameters` and `compute` are what a model costs, not what it
can do; a linear `probe` is what published models of different trainings have in common. A shape survives any increasing
rescaling of an axis, but not a change of order.

`SHARE` is the axis that ladders of different tasks have in common: the bits as a share of all that can be gained, which
is the entropy of the labels' frequencies. Its weakness: labels of digits and sums can be known for certain, so 1 can be
reached. The next word cannot be known, so a language model stays far below 1 however strong it is.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from thalweg.compute.devices import all_finite, in_double, placed
from thalweg.compute.memory import Pieces
from thalweg.errors import ThalwegError, unknown
from thalweg.stimuli.base import Stimuli

AXES = {
    "bits": "held-out bits above guessing by frequency",
    "accuracy": "held-out accuracy",
    "parameters": "trainable parameters",
    "compute": "training compute (FLOPs)",
    "probe": "accuracy of a linear probe on the same stimuli",
}

SHARE = "share"
WORDING = "held-out bits above the label entropy"  # what a bit of a classifier's strength is
LEAST_ENTROPY = 1e-9  # bits: what labels of one class leave unknown is nothing but rounding


def check(axis: str) -> str:
    """The axis's own name.

    Raises:
        ThalwegError: there is no such axis.
    """
    if axis not in AXES:
        raise unknown("strength axis", axis, AXES)
    return axis


def entropy(labels: Tensor) -> float:
    """The entropy of the labels' frequencies, in bits: what guessing by frequency alone leaves unknown."""
    shares = (labels - labels.min().clamp_max(0)).bincount().double() / len(labels)  # some mark no label by -1
    return float(-(shares * shares.clamp_min(1e-300).log2()).sum())


ONE_CLASS = "all stimuli are of one class: there is nothing to be gained, and so no share of it"
Strength = dict[str, Any]  # numbers, missing ones as None with a note of why


def evaluate(model: nn.Module, stimuli: Stimuli, *, batch_size: int = 250, device: str = "cpu") -> Strength:
    """How well a classifier does: `loss` (nats), `bits` above the label entropy, their `share` of it, and `accuracy`.

    bits = H(labels) - loss / ln 2; share = bits / H(labels), which is missing where all labels are the same.

    Raises:
        ThalwegError: logits that are not finite, or not of shape (batch, class).
    """
    model = placed(model.eval(), device)
    loss, right = 0.0, 0
    all_labels = stimuli.labels.long()
    pieces = Pieces(batch_size, device)
    with torch.inference_mode():
        for which in torch.arange(len(stimuli)).split(batch_size):
            logits = pieces.rows(lambda ids: _logits(model(stimuli.batch(ids).to(device)), stimuli, len(ids)), which)
            labels = all_labels[which].to(logits.device)
            if not all_finite(logits):
                raise ThalwegError(
                    "the model returned NaN or infinite logits; train it with a smaller learning rate or mend it"
                )
            exact = in_double(logits)
            loss += float(nn.functional.cross_entropy(exact, labels.to(exact.device), reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
    return _strength(loss / len(stimuli), right / len(stimuli), all_labels)


def _logits(logits: object, stimuli: Stimuli, count: int) -> Tensor:
    """What a model returned of so many stimuli, if it has a number for each class.

    Raises:
        ThalwegError: it returned something else.
    """
    expected = (count, len(stimuli.label_names))
    if not isinstance(logits, Tensor) or logits.shape != expected:
        returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ThalwegError(f"the model returned {returned}; logits of shape {expected} were expected")
    return logits


def _strength(loss: float, accuracy: float, labels: Tensor) -> Strength:
    unknown_bits = entropy(labels)
    bits = unknown_bits - loss / math.log(2)
    if unknown_bits < LEAST_ENTROPY:
        return {"loss": loss, "bits": bits, SHARE: None, "accuracy": accuracy, f"{SHARE}_note": ONE_CLASS}
    return {"loss": loss, "bits": bits, SHARE: bits / unknown_bits, "accuracy": accuracy}


def from_logits(logits: Float[Tensor, "stimulus class"], labels: Int[Tensor, " stimulus"]) -> Strength:
    """The same, of logits that are there already; all NaN where these are not finite."""
    loss = float(nn.functional.cross_entropy(logits.double(), labels.long()))
    right = float((logits.argmax(1) == labels).double().mean())
    return _strength(loss, right if math.isfinite(loss) else math.nan, labels.long())


class _FlopCounter(TorchDispatchMode):
    """Counts what PyTorch's `FlopCounterMode` counts, without PyTorch's compiler, which takes seconds to import."""

    total: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch's way to keep the compiler out of a mode is to import it

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            with self:  # operators that consist of others come whole in inference mode
                result = func.decompose(*args, **named)
            if result is not NotImplemented:
                return result
        result = func(*args, **named)
        if count is not None:
            self.total += int(count(*args, **named, out_val=result))
        return result


def forward_flops(model: nn.Module, stimuli: Stimuli) -> int:
    """Floating-point operations of one forward pass over one stimulus, counted by running it."""
    counter = _FlopCounter()
    with counter:
        model.eval()(stimuli.batch(slice(0, 1)))
    return counter.total
