"""How much better a model does on the stimuli that it was trained on than on new ones.

A model that knows its training stimuli by heart may hold features that fit those stimuli and nothing else. Overfitting
is therefore among the explanations of hard-to-read units. The gap is its usual measure: how far the training loss lies
below the loss on held-out stimuli. It is given in bits, the currency of strength, and in accuracy.
"""

import math

from scipy.special import stdtrit

from thalweg.factors.base import Blocks, Estimate, factor


@factor(
    version=2,
    unit="bits per prediction",
    range=(-math.inf, math.inf),
    higher_is="more overfitted",
    cite="Jiang, Neyshabur, Mobahi, Krishnan & Bengio 2020, Fantastic Generalization Measures and Where to Find Them",
)
def generalisation_gap_bits(training: Blocks, held_out: Blocks) -> Estimate:
    """Held-out loss minus training loss, in bits.

    gap = (L_pool - L_train) / ln 2, with L the mean cross-entropy in nats for each prediction: a label, a sum, a next
    token. Both are taken after training, on at most 1,000 stimuli each, evenly spread. The interval comes from ten
    blocks of neighbouring stimuli on either side, so the windows of one document count together; n counts stimuli.

    NaN where there are no training stimuli (published models), or where the loss is not known.

    How it can mislead: training stops when the validation loss does, so a small gap may say that training ended early;
    and a twin that was never trained has a gap near 0 whatever its design.
    """
    return _gap("loss", training, held_out, unit=-math.log(2))


@factor(
    version=2,
    unit="difference of two accuracies",
    range=(-1.0, 1.0),
    higher_is="more overfitted",
    cite="Jiang, Neyshabur, Mobahi, Krishnan & Bengio 2020, Fantastic Generalization Measures and Where to Find Them",
)
def generalisation_gap_accuracy(training: Blocks, held_out: Blocks) -> Estimate:
    """Accuracy on training stimuli minus accuracy on held-out ones.

    Both are taken after training, on at most 1,000 stimuli each, evenly spread. The interval comes from ten blocks of
    neighbouring stimuli on either side; n counts stimuli.

    NaN where there are no training stimuli (published models), or where the accuracy is not known.

    How it can mislead: accuracy saturates, so a model may go on overfitting in bits while this gap stays as it is.
    """
    return _gap("accuracy", training, held_out, unit=1.0)


def _gap(name: str, training: Blocks, held_out: Blocks, *, unit: float) -> Estimate:
    """How far the result on training stimuli lies above the held-out one, in a unit."""
    if training.note or held_out.note:
        return Estimate(math.nan, note=training.note or held_out.note)
    (here, here_variance), (there, there_variance) = training.mean(name), held_out.mean(name)
    value = (here - there) / unit
    if not math.isfinite(value):
        return Estimate(math.nan, note=f"the evaluation says no finite {name}")
    degrees = max(1, min(len(training.sizes), len(held_out.sizes)) - 1)
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(here_variance + there_variance) / abs(unit)
    return Estimate(value, value - half, value + half, int(training.sizes.sum() + held_out.sizes.sum()))
