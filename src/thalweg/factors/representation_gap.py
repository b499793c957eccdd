"""How much better units tell classes apart on training stimuli than on new ones.

A network that overfits says the right thing of its training stimuli, and not of new ones. Whether its *units* overfit
is another question: a layer may serve both alike, and only what reads it out learn by heart. So each unit is asked
itself, on training stimuli and on held-out ones: how often does it tell a stimulus of its class from another?

The class is what the model is to say: the label, or the token that follows a window of text. It is chosen for each unit
on one half of the training stimuli and asked about on the other, so that the choice favours neither side. No observer
takes part: it would have to see the training stimuli too, and a unit that learnt labels by heart would look no clearer
to it on these.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.stats import norm, rankdata
from torch import Tensor

from thalweg.factors.base import Estimate, Sample, factor, mean_of_layers, mean_of_units
from thalweg.factors.density import density
from thalweg.factors.relation import spearman

LEAST = 5  # stimuli of a class in each half of the training stimuli, and on the held-out side
LEAST_UNITS = 8  # of a layer, for a correlation


@factor(
    version=1,
    unit="difference of two proportions correct",
    range=(-1.0, 1.0),
    higher_is="more overfitted units",
    cite="thalweg; the 2AFC accuracy of a class is the area under the ROC curve (Green & Swets 1966)",
)
def representation_gap(training_sample: Sample, held_out_sample: Sample) -> Estimate:
    """How often a unit tells its class from others on training stimuli, minus how often on held-out ones; the mean over
    layers of the mean over units.

    For each unit and class c, A(c) is the probability that the unit's value is larger for a stimulus of c than for
    another (ties count half). On one half of at most 1,000 training stimuli the class is chosen whose A is furthest
    from 1/2, and the direction; the other half and the held-out sample (of about as many) then give A in that
    direction. Halves are exchanged, and the value is the mean of both differences. Values are taken as the layer passes
    them on. The interval comes from the scatter of units within layers; n counts units.

    Classes of fewer than five stimuli in either half or on the held-out side are left out, and constant units. NaN
    where no training stimuli are known (published models), or fewer than two classes are left.

    How it can mislead: a unit that serves no class has a gap near 0 whatever it has learnt by heart; the interval
    ignores that all units share the stimuli, so the gap of an untrained twin is the better yardstick; with many classes
    (next tokens, sums) only the frequent ones are asked about.
    """
    note = training_sample.note or held_out_sample.note
    if note:
        return Estimate(math.nan, note=note)
    gaps = unit_gaps(training_sample, held_out_sample)
    return mean_of_units(gaps, note="fewer than two classes have stimuli enough on both sides", least=-1.0, most=1.0)


@factor(
    version=1,
    unit="Spearman's correlation over units",
    range=(-1.0, 1.0),
    higher_is="overfitted units are active more often",
    cite="thalweg; the claim that overfit features are sparse is from the discussion of Olah's sketch",
)
def representation_gap_density(
    training_sample: Sample, held_out_sample: Sample, places: Mapping[str, Float[Tensor, "place unit"]]
) -> Estimate:
    """How the representation gap of units goes with how often they are active: the mean over layers of Spearman's
    correlation over the units of a layer.

    If overfit features are sparse, it is negative. The gap is that of `representation_gap`, the density that of
    `activation_density`. The interval is Fisher's, with 1.06 / (n - 3) as the variance of each layer's transformed
    correlation (Fieller, Hartley & Pearson 1957); n counts units.

    A layer of fewer than eight units with both numbers has none; NaN where no layer has one, and where there is no
    representation gap.

    How it can mislead: a sparse unit is active on few stimuli of a sample, so its gap is estimated with more noise, but
    not larger on average; the interval takes units for independent, and they share their stimuli; it is an association.
    """
    note = training_sample.note or held_out_sample.note
    if note:
        return Estimate(math.nan, note=note)
    gaps = unit_gaps(training_sample, held_out_sample)
    pairs = {name: (gap, density(places[name])) for name, gap in gaps.items() if len(gap) == places[name].shape[1]}
    correlations = {name: _correlation(*pair) for name, pair in pairs.items()}
    layers = {name: rho for name, (rho, _) in correlations.items()}
    counts = [n for rho, n in correlations.values() if not math.isnan(rho)]
    variance = sum(1.06 / (n - 3) for n in counts)
    half = float(norm.ppf(0.975)) * math.sqrt(variance) / max(1, len(counts))
    note = f"no layer has {LEAST_UNITS} units with a gap and a density"
    estimate = mean_of_layers(layers, 0.0, n=sum(counts), note=note)
    if not counts:
        return estimate
    middle = math.atanh(max(-0.999, min(0.999, estimate.value)))
    return Estimate(
        estimate.value, math.tanh(middle - half), math.tanh(middle + half), estimate.n, layers=estimate.layers
    )


def _correlation(gap: Float64[Tensor, " unit"], active: Float[Tensor, " unit"]) -> tuple[float, int]:
    """Spearman's correlation over the units that have both, and how many these are; NaN for few."""
    keep = ~(gap.isnan() | active.isnan())
    count = int(keep.sum())
    if count < LEAST_UNITS:
        return math.nan, count
    x, y = gap[keep].double().numpy(), active[keep].double().numpy()
    return float(spearman(x, y, np.ones((1, count)))[0]), count


def unit_gaps(training: Sample, held_out: Sample) -> dict[str, Float64[Tensor, " unit"]]:
    """The gap of each unit, by layer; NaN for a unit that has none."""
    first, second = (torch.arange(half, len(training.classes), 2) for half in (0, 1))
    sides = [training.classes[first], training.classes[second], held_out.classes]
    classes = torch.tensor([code for code in sides[2].unique().tolist() if code >= 0], dtype=torch.int64)
    counts = torch.stack([(side[:, None] == classes).sum(0) for side in sides])
    classes = classes[(counts >= LEAST).all(0)]
    gaps = {}
    for name, values in training.values.items():
        new = held_out.values[name]
        if len(classes) < 2:
            gaps[name] = torch.full((values.shape[1],), torch.nan, dtype=torch.float64)
            continue
        parts = (values[first], sides[0]), (values[second], sides[1]), (new, sides[2])
        areas = _Areas(*(telling(part, codes, classes) for part, codes in parts))
        constant = (values == values[0]).all(0) | ~(values.isfinite().all(0) & new.isfinite().all(0))
        gaps[name] = areas.gap().masked_fill(constant, torch.nan)
    return gaps


@dataclass(frozen=True, eq=False)
class _Areas:
    """How often each unit tells each class from the others, on both halves of the training stimuli and on new ones."""

    first: Float64[Tensor, "unit category"]
    second: Float64[Tensor, "unit category"]
    held_out: Float64[Tensor, "unit category"]

    def gap(self) -> Float64[Tensor, " unit"]:
        """Training minus held-out, of the class and direction that the other half chooses, over both halves."""
        return (self._chosen_by(self.first, self.second) + self._chosen_by(self.second, self.first)) / 2

    def _chosen_by(
        self, choosing: Float64[Tensor, "unit category"], asked: Float64[Tensor, "unit category"]
    ) -> Float64[Tensor, " unit"]:
        best = (choosing - 0.5).abs().argmax(1, keepdim=True)
        sign = (choosing.gather(1, best) - 0.5).sign()
        gap: Tensor = (sign * (asked - self.held_out).gather(1, best))[:, 0]
        return gap


def telling(
    values: Float[Tensor, "stimulus unit"], codes: Int64[Tensor, " stimulus"], classes: Int64[Tensor, " category"]
) -> Float64[Tensor, "unit category"]:
    """The probability that a unit's value is larger for a stimulus of a class than for another, ties counting half."""
    ranks = torch.from_numpy(rankdata(values.numpy(), axis=0))  # ties at their mean rank
    member = (codes[:, None] == classes).double()
    inside = member.sum(0)
    above: Tensor = (ranks.T @ member - inside * (inside + 1) / 2) / (inside * (len(codes) - inside))
    return above
