"""How much of what is wrong a model has learnt by heart.

With label noise, a share of the training stimuli has the label of another class, drawn at random. Nothing in such a
stimulus leads to its label, so a model that answers as labelled has memorised it. That makes the fraction a cleaner
measure of memorising than a gap between training and held-out stimuli, which also grows when the two differ.
"""

import math

import torch
from jaxtyping import Bool, Shaped
from scipy.stats import binomtest
from torch import Tensor

from thalweg.factors.base import LABEL_NOISE, Estimate, WrongLabels, factor


@factor(
    version=1,
    unit="share of wrong labels",
    range=(-1.0, 1.0),
    higher_is="more learnt by heart",
    cite="Zhang, Bengio, Hardt, Recht & Vinyals 2017, Understanding Deep Learning Requires Rethinking Generalization",
    only_with=LABEL_NOISE,
)
def memorised_fraction(wrong_labels: WrongLabels) -> Estimate:
    """The share of wrongly labelled training stimuli that the model answers as labelled, less what chance gives.

    With a the share and C the number of classes, (a - 1/C) / (1 - 1/C): 1 if all wrong labels are learnt by heart, 0
    for guessing, and -1 / (C - 1) for a model that answers none of them as labelled, as one that answers all rightly.
    The interval is Wilson's for a proportion; n counts stimuli. Labels are made wrong by `--label-noise`, or by a
    rung's `label_noise`, the same ones for all models of a ladder.

    NaN where no training label is wrong, and where the model gives no logits for the classes.

    How it can mislead: a model that stops when its validation loss is lowest has learnt little by heart, however much
    it could; the trained twins are taught the same labels, the untrained one none, and guesses.
    """
    if wrong_labels.note:
        return Estimate(math.nan, note=wrong_labels.note)
    answered, taught, classes = wrong_labels.answered, wrong_labels.taught, wrong_labels.n_classes
    every = torch.ones(len(taught), dtype=torch.bool)
    ends = binomtest(int((answered == taught).sum()), len(taught)).proportion_ci(method="wilson")
    low, high = (above_chance(end, classes) for end in ends)
    return Estimate(learnt_by_heart(answered, taught, every, classes), low, high, len(taught))


def learnt_by_heart(
    answered: Shaped[Tensor, "*question"],
    taught: Shaped[Tensor, "*question"],
    wrong: Bool[Tensor, "*question"],
    classes: int,
) -> float:
    """The share of wrong labels that are answered as taught, less what chance gives; NaN without any.

    Args:
        answered: The class that a model answers.
        taught: The class that it was taught.
        wrong: Where that is the wrong one.
        classes: How many there are.
    """
    count = int(wrong.sum())
    return above_chance(int(((answered == taught) & wrong).sum()) / count, classes) if count else math.nan


def above_chance(share: float, classes: int) -> float:
    """A share of right guesses among so many classes on a scale on which chance is 0 and 1 stays 1."""
    return (share - 1 / classes) / (1 - 1 / classes)
