"""Total interpretable capability (TIC): the bits that the best-scored units carry, beside what any other units carry.

All units but the best-scored quarter (or another share) of each analysed layer are replaced, and the network is weighed
in bits of strength with its confidence set right (`refit`). With m the bits of a set of units that stay,

    TIC = m(best) - m(none)        excess = m(best) - mean of m(random sets)        fraction = TIC / (m(all) - m(none))

A fraction alone says mostly how wide and redundant a network is, so the excess over random sets of the same size in
each layer stands beside it, with the share of random sets that do as well: p = (1 + those that do) / (1 + sets).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.special import ndtri
from torch import Tensor

from thalweg.capability.elimination import by_elimination
from thalweg.capability.masked import Ablation, MaskedModel
from thalweg.capability.sets import UnitSets
from thalweg.measures.base import Z

CUTS = (0.75, 0.5, 0.25, 0.1)
STATED = 0.25  # the cut that verdicts rest on
ABLATIONS: tuple[Ablation, ...] = ("mean", "resample")
DRAWS = 200  # random sets at the stated cut
MATCHED = 100  # random sets of like variance there, by mean ablation
FEW = 10  # random sets at the other cuts, for their mean and band alone
COMPARED = (125, 16)  # stimuli that random sets are weighed on, of classes and of windows of tokens
PERCENTILES = (0.025, 0.975)
SEEN = float(ndtri(0.95) + ndtri(0.8))  # standard deviations of a one-sided test at .05 with a power of .8

Gains = Float[Tensor, " stimulus"]  # nats over guessing
Row = dict[str, float | int | str]


@dataclass(frozen=True, eq=False)
class Scores:
    """What the units of one network scored.

    Attributes:
        values: Of the measured units of each layer; NaN where a unit has none.
        units: Their indices within the layer.
        reliability: The correlation of the scores with those of a second measurement, NaN where it is not known.
    """

    values: Sequence[Float[Tensor, "_"]]
    units: Sequence[Int[Tensor, "_"]]
    reliability: float = math.nan


def total_capability(
    model: MaskedModel, scores: Scores, *, draws: int = DRAWS, ablations: Sequence[Ablation] = ABLATIONS
) -> Iterator[Row]:
    """The rows of one network: one for each ablation and cut.

    What the best units carry is weighed on all stimuli of the model. Random sets are many, so they and the best are
    compared on some of these, evenly spread: their difference is that of the same stimuli.

    Args:
        model: The network.
        scores: Of its units.
        draws: How many random sets there are at the stated cut.
        ablations: How units are replaced.
    """
    sets = UnitSets(scores.values, scores.units, [len(each.fill) for each in model.moments], model.seed)
    variances = [each.variance[ids] for each, ids in zip(model.moments, scores.units, strict=True)]
    searched = [by_elimination(model, sets, fold) for fold in model.folds]
    few = min(len(model.stimuli), COMPARED[model.answers.by_token])
    fewer = model.on(torch.linspace(0, len(model.stimuli) - 1, few, dtype=torch.float64).long())
    for by in ablations:
        fixed = model.gains(torch.cat([sets.all(), sets.nothing()]), by)
        for cut in CUTS:
            by_loss = torch.cat([left[cut] for left in searched])
            chosen = torch.cat([sets.best(cut), sets.others(cut), by_loss])
            carried = _carried(model, torch.cat([fixed, model.gains(chosen, by)]))
            random = sets.random(cut, draws if cut == STATED else min(draws, FEW))
            alike = sets.matched(cut, min(draws, MATCHED) * (cut == STATED and by == "mean"), variances)
            compared = torch.cat([sets.best(cut), random, alike])
            weighed, again = fewer.gains(compared, by), (compared == compared[0]).all(1, keepdim=True)
            weighed = torch.where(again, weighed[0], weighed)  # the best drawn again is as good, to the last digit
            against = weighed.split([1, len(random), len(alike)])
            yield {
                "ablation": by,
                "cut": cut,
                **_counts(sets, scores, cut),
                "n_stimuli": len(model.stimuli),
                **carried,
                **_compared(fewer, float(carried["tic"]), Against(against[0][0], *against[1:]), scores.reliability),
            }


@dataclass(frozen=True, eq=False)
class Against:
    """The nats that stimuli gain over guessing with the best units and with each of many random sets."""

    best: Gains
    random: Float[Tensor, "set stimulus"]
    matched: Float[Tensor, "matched stimulus"]


def _counts(sets: UnitSets, scores: Scores, cut: float) -> dict[str, int]:
    """The units that the numbers rest on."""
    return {
        "n_units": sets.n_units,
        "n_measured": sets.n_measured,
        "n_scored": sum(int(each.isfinite().sum()) for each in scores.values),
        "n_kept": sum(sets.counts(cut)),
    }


def _carried(model: MaskedModel, gains: Float[Tensor, "6 stimulus"]) -> Row:
    """What the best units carry, the others, and those that were chosen by the loss: above what none carry."""
    everything, nothing, best, others, *searched = gains
    by_loss = torch.empty_like(best)
    for chosen, fold in zip(searched, reversed(model.folds), strict=True):  # weighed where it was not chosen
        by_loss[fold] = chosen[fold]
    bits = model.answers.bits
    tic, carried = (float(bits(each - nothing)) for each in (best, everything))
    return {
        "achievable": model.answers.achievable,
        "whole": float(bits(everything)),
        "floor": float(bits(nothing)),
        **_with_ends("tic", tic, _half(model, best - nothing)),
        "fraction": tic / carried if carried > _half(model, everything - nothing) else math.nan,
        "complement": float(bits(others - nothing)),
        "by_loss": float(bits(by_loss - nothing)),
    }


def _compared(model: MaskedModel, tic: float, against: Against, reliability: float) -> Row:
    """How the best units stand against random ones; `random` is what these carry, with its band."""
    bits = model.answers.bits
    best, random, matched = float(bits(against.best)), bits(against.random), bits(against.matched)
    excess = best - float(random.mean())
    low, high = (tic - best + float(random.quantile(each)) for each in PERCENTILES)
    return {
        "random": tic - excess,
        "random_low": low,
        "random_high": high,
        **_with_ends("excess", excess, _half(model, against.best - against.random.mean(0))),
        "p": _p(best, random),
        "excess_matched": best - float(matched.mean()),
        "p_matched": _p(best, matched),
        "n_sets": len(random),
        "n_matched": len(matched),
        "n_compared": len(model.stimuli),
        "least_excess": SEEN * float(random.std()) / math.sqrt(reliability) if reliability > 0 else math.nan,
        "reliability": reliability,
    }


def _with_ends(name: str, value: float, half: float) -> Mapping[str, float]:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def _p(best: float, random: Float[Tensor, " set"]) -> float:
    """The share of random sets that do as well, the best itself among them; NaN without any."""
    return (1 + int((random >= best).sum())) / (1 + len(random)) if len(random) else math.nan


def _half(model: MaskedModel, gains: Gains) -> float:
    """Half the width of a 95 % interval of bits, from how much stimuli differ; those of one document count together."""
    size, groups = model.answers.size, model.stimuli.groups()
    off = gains - gains.sum() / size.sum() * size
    if groups is not None:
        _, member = groups.unique(return_inverse=True)
        off = torch.zeros(int(member.max()) + 1, dtype=off.dtype).index_add_(0, member, off)
    count = len(off)
    return Z * math.sqrt(count / max(1, count - 1) * float(off.square().sum())) / float(size.sum())
