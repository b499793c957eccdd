"""Wrong labels on purpose: a share of the stimuli gets the label of another class.

What a model says of these is learnt by heart or not at all, so they measure memorising (`memorised_fraction`).
"""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Stimuli


def with_wrong_labels(stimuli: Stimuli, share: float, seed: int) -> Stimuli:
    """The same stimuli, of which a share, drawn at random, has the label of one of the other classes, each as likely.

    Args:
        stimuli: With a label each.
        share: Of the stimuli, rounded to whole ones; 0 changes nothing.
        seed: Of the draws.

    Raises:
        ThalwegError: They have no labels that could be changed.
    """
    if not share:
        return stimuli
    check_changeable(stimuli)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(stimuli), generator=generator)[: round(share * len(stimuli))]
    classes = len(stimuli.label_names)
    labels = stimuli.labels.clone()
    shift = torch.randint(1, classes, (len(chosen),), generator=generator)
    labels[chosen] = ((labels[chosen].long() + shift) % classes).to(labels.dtype)
    changed: Any = stimuli
    noisy: Stimuli = replace(changed, labels=labels)
    return noisy


def check_changeable(stimuli: Stimuli) -> None:
    """Check that labels can be made wrong, and that they are what a model learns.

    Raises:
        ThalwegError: they cannot, or are not.
    """
    hint = "survey this ladder without label noise (--label-noise)"
    if hasattr(stimuli, "following"):
        raise ThalwegError(f"its models learn the next token, and label noise changes the classes of stimuli; {hint}")
    if not is_dataclass(stimuli) or "labels" not in {each.name for each in fields(stimuli)}:
        raise ThalwegError(
            f"the labels of its stimuli ({type(stimuli).__name__}) are no field that could be changed, as those of "
            f"thalweg.Images are; {hint}"
        )
    if len(stimuli.label_names) < 2:
        raise ThalwegError(f"its stimuli are of one class, and a wrong label is that of another; {hint}")
