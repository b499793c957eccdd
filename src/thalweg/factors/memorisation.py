"""How much a model knows of its training stimuli only because it was trained on them.

A stimulus is memorised if a network answers it rightly when it was trained on it, and wrongly when it was not (Feldman
& Zhang 2020). No single network can say so: networks of the same rung are trained anew, each on a random half of the
training stimuli, two and two on halves that exclude each other.

On request (`--factors memorisation`), since each model is trained 20 times more, on half of its stimuli: about ten
times what its training took.
"""

import math

import torch
from jaxtyping import Float64
from scipy.special import stdtrit
from scipy.stats import binom
from torch import Tensor

from thalweg.factors.base import Estimate, Retrained, factor

ASKED = "memorisation"
PAIRS = 10  # of networks: a stimulus is then in ten trainings, and out of ten
MEMORISED = 0.25  # Feldman & Zhang's line


@factor(
    version=1,
    unit="difference of two proportions correct",
    range=(-1.0, 1.0),
    higher_is="more memorised",
    cite="Feldman & Zhang 2020, What Neural Networks Memorize and Why, section 2",
    on_request=ASKED,
)
def memorisation(retrained: Retrained) -> Estimate:
    """How much more often networks answer a training stimulus rightly when they were trained on it: the mean over
    stimuli.

    mem(i) = P(right on i | trained on i) - P(right on i | not), over ten pairs of networks. In each pair both are
    trained on random halves of the training stimuli that exclude each other, with first weights and an order of their
    own; the validation stimuli stay as they are. *Right* is as labelled, so with label noise a wrong label counts. The
    interval is Student's, from how far pairs differ; n counts stimuli. One stimulus's mem(i) alone is known to about
    0.2 (a standard error) where its answers vary.

    NaN where nothing was trained here (published models, untrained twins), for twins with a training of their own, for
    checkpoints of one run, and where the model gives no logits for the labels. Rotated twins are the trained network.

    How it can mislead: it is about networks trained on half of the stimuli, which memorise more of fewer; the interval
    is about these stimuli, and leaves out that others might have been drawn.
    """
    if retrained.note:
        return Estimate(math.nan, note=retrained.note)
    differences = _differences(retrained)
    by_pair = differences.mean(1)
    return _estimate(float(by_pair.mean()), float(by_pair.std()) / math.sqrt(len(by_pair)), differences)


@factor(
    version=1,
    unit="share of training stimuli",
    range=(-1.0, 1.0),
    higher_is="more memorised",
    cite="Feldman & Zhang 2020, What Neural Networks Memorize and Why; the correction for chance is thalweg's",
    on_request=ASKED,
)
def memorised_share(retrained: Retrained) -> Estimate:
    """The share of training stimuli whose memorisation is above a quarter, less what chance gives.

    mem(i) is that of `memorisation`. With ten pairs it is so uncertain that stimuli whose answers vary for other
    reasons pass the line too. If membership did not matter, each of the D pairs that disagree on i would be as likely
    to disagree either way, so mem(i) would pass with the probability P_i = P(2 B - D > 10 / 4), B binomial with (D,
    1/2). The value is the mean over stimuli of (1[mem(i) > .25] - P_i) / (1 - P_i): 1 if all are memorised in every
    pair, 0 on average if none is. The interval is from leaving out each pair (jackknife); n counts stimuli.

    NaN as `memorisation`.

    How it can mislead: as `memorisation`; a stimulus memorised by chance in some trainings only counts in part.
    """
    if retrained.note:
        return Estimate(math.nan, note=retrained.note)
    differences = _differences(retrained)
    pairs = len(differences)
    value = _share(differences)
    without = torch.tensor([_share(differences[torch.arange(pairs) != pair]) for pair in range(pairs)])
    return _estimate(value, math.sqrt((pairs - 1) * float(without.var(correction=0))), differences)


def _differences(retrained: Retrained) -> Float64[Tensor, "pair stimulus"]:
    """Right in the network that was trained on it, less right in the other: 1, 0 or -1."""
    sign = 2 * retrained.trained_on.double() - 1
    return (sign * retrained.right.double()).sum(1)


def _estimate(value: float, error: float, differences: Float64[Tensor, "pair stimulus"]) -> Estimate:
    """A value with Student's interval, from its standard error over pairs."""
    pairs, stimuli = differences.shape
    half = float(stdtrit(pairs - 1, 0.975)) * error
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half), stimuli)


def _share(differences: Float64[Tensor, "pair stimulus"]) -> float:
    """The share of stimuli above the line, corrected for chance."""
    pairs = len(differences)
    disagree = differences.abs().sum(0)
    line = MEMORISED * pairs
    most = torch.floor((disagree + line) / 2)  # of pairs in its favour: with more, it passes
    by_chance = torch.from_numpy(binom.sf(most.numpy(), disagree.numpy(), 0.5))
    above = (differences.sum(0) > line).double()
    return float(((above - by_chance) / (1 - by_chance)).mean())
