"""How capable a model is: the axes a ladder can be ordered by.

`bits` is the default: bits of task information above the label entropy, on held-out stimuli. It is the only axis on
which different tasks and losses share a zero (a model that knows just the labels' frequencies has 0 bits). `accuracy`
saturates; `parameters` and `compute` are what a model costs, not what it can do. A shape survives any increasing
rescaling of an axis, but not a change of order.
"""

import math

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from thalweg.errors import ThalwegError, unknown
from thalweg.stimuli import Images

AXES = {
    "bits": "held-out bits above the label entropy",
    "accuracy": "held-out accuracy",
    "parameters": "trainable parameters",
    "compute": "training compute (FLOPs)",
}


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
    shares = labels.bincount().double() / len(labels)
    return float(-(shares * shares.clamp_min(1e-300).log2()).sum())


def evaluate(model: nn.Module, images: Images, *, batch_size: int = 250, device: str = "cpu") -> dict[str, float]:
    """`loss` (nats), `bits` above the label entropy and `accuracy` of a classifier: bits = H(labels) - loss / ln 2.

    Raises:
        ThalwegError: logits that are not finite, or not of shape (batch, class).
    """
    model = model.eval().to(device)
    loss, right = 0.0, 0
    with torch.inference_mode():
        for which in torch.arange(len(images)).split(batch_size):
            logits = model(images.batch(which).to(device))
            labels = images.labels[which].long().to(device)
            if not isinstance(logits, Tensor) or logits.shape != (len(which), len(images.label_names)):
                found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ThalwegError(
                    f"the model returned {found}; logits of shape {(len(which), len(images.label_names))} were expected"
                )
            if not logits.isfinite().all():
                raise ThalwegError(
                    "the model returned NaN or infinite logits; train it with a smaller learning rate or mend it"
                )
            loss += float(nn.functional.cross_entropy(logits.double(), labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
    loss /= len(images)
    return {"loss": loss, "bits": entropy(images.labels) - loss / math.log(2), "accuracy": right / len(images)}


def forward_flops(model: nn.Module, images: Images) -> int:
    """Floating-point operations of one forward pass over one stimulus, counted by running it."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(images.batch(slice(0, 1)))
    return int(counter.get_total_flops())
