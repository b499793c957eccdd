"""Factors: functions from a model to one number, each declaring what the number means.

A factor stands beside a model's strength and score: how much it overfits, how many directions its activations fill, how
sparse they are. It may go with the score; whether it causes anything, an association cannot say.

A factor is a plain function in a file of its own; the decorator lists it and returns it unchanged. It asks for its
inputs by naming its parameters, which are those of `INPUTS`, and returns an `Estimate`. An input is made only if some
factor asks for it.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thalweg.errors import unknown
from thalweg.measures.base import Declared, Z

INPUTS = {
    "network": "the model, or its twin, with its weights: a PyTorch module in evaluation mode",
    "splits": "the stimuli for training and for validation, and the held-out pool",
    "recordings": "by layer, the recordings of the reference half and of the query half of the pool",
    "activations": "by layer, the units' values on the random sample of stimuli that all units share, as the layer "
    "passes them on: after the nonlinearity",
    "places": "by layer, the same at single places of some stimuli; as `activations` where units have one place only",
    "rows": "by layer, what its neurons give at single places, at most 8,192 in all, before the nonlinearity, and that "
    "nonlinearity; no layers for rotated twins and for units that are made of neurons",
    "references": "by layer, the ids of the stimuli of the pool that drive each unit most, at its main pole: thirty of "
    "each half, (unit, 2, reference); -1 where the unit rests",
    "embedding": "the vectors of length 1 by which the observer of the headlines compares the pool's stimuli; None if "
    "it compares no whole stimuli",
    "training_sample": "`activations` on at most 1,000 of the stimuli that the model was trained on, and what it is to "
    "say of each: the label, or the next token",
    "held_out_sample": "`activations` themselves, with the same",
    "training": "how well the model does on blocks of the stimuli that it was trained on",
    "held_out": "the same on blocks of the pool",
    "log": "what training returned: losses, examples, why it stopped",
    "wrong_labels": "what the model answers to at most 1,000 of the training stimuli whose label is wrong, and what it "
    "was taught of each",
    "retrained": "networks of its rung that were trained anew on random halves of the training stimuli: which of these "
    "each was trained on, and which it answers rightly",
    "latents": "as `places`, of the latents of the dictionaries that the survey trains beside the neurons, after their "
    "activation; no layers for rotated twins",
}
# What a survey must have for some factors to be computed
LABEL_NOISE, DICTIONARIES = "label noise", "dictionaries beside neurons"


@dataclass(frozen=True)
class Estimate:
    """A number of a model with its 95 % interval, how many stimuli or units it rests on, and why it is missing where it
    is. `layers` holds each layer's number, where the model's is their mean.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    note: str = ""
    layers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Blocks:
    """How well a model does on blocks of stimuli, as the ladder evaluates strength: `loss` in nats, and `accuracy`.

    Attributes:
        sizes: how many stimuli each block has.
        results: by name, the result on each block; a result that is missing is NaN.
        note: why there are no blocks, where there are none.
    """

    sizes: Int[Tensor, " block"]
    results: Mapping[str, Float[Tensor, " block"]]
    note: str = ""

    def mean(self, name: str) -> tuple[float, float]:
        """The mean over stimuli of a result and the variance of that mean, from how far blocks differ."""
        values = self.results.get(name, torch.full((len(self.sizes),), torch.nan)).double()
        shares = self.sizes.double() / self.sizes.sum()
        mean = (shares * values).sum()
        scatter = (shares * (values - mean).square()).sum() / max(1, len(values) - 1)
        return float(mean), float(scatter)


@dataclass(frozen=True, eq=False)
class Sample:
    """Units' values on some stimuli, and what the model is to say of these.

    Attributes:
        values: by layer, as the layer passes them on.
        classes: of each stimulus, the label or the next token; negative where it is not known.
        note: why there are no values, where there are none.
    """

    values: Mapping[str, Float[Tensor, "stimulus unit"]]
    classes: Int[Tensor, " stimulus"]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Rows:
    """What the neurons of a layer give at single places, and what the layer makes of it before it passes it on."""

    before: Float[Tensor, "row neuron"]
    nonlinearity: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class WrongLabels:
    """What a model answers to training stimuli that have a wrong label.

    Attributes:
        answered: The class with the highest logit.
        taught: The wrong label.
        n_classes: How many classes there are.
        note: why there are none, where there are none.
    """

    answered: Int[Tensor, " stimulus"]
    taught: Int[Tensor, " stimulus"]
    n_classes: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class Retrained:
    """Networks that were trained anew, two and two: the second on the half that the first was not trained on.

    Attributes:
        trained_on: which of the stimuli each was trained on.
        right: which of them it answers as they are labelled.
        note: why there are none, where there are none.
    """

    trained_on: Bool[Tensor, "pair 2 stimulus"]
    right: Bool[Tensor, "pair 2 stimulus"]
    note: str = ""


@dataclass(frozen=True)
class Factor(Declared):
    """A function from a model to one number.

    Attributes:
        function: What makes the number of its inputs.
        on_request: What it must be asked for by, if it takes long.
        only_with: What a survey must have for it to be computed, if it is not computed always.
    """

    function: Callable[..., Estimate]
    on_request: str = ""
    only_with: str = ""


FACTORS: dict[str, Factor] = {}


def factor(**declaration: Any) -> Callable[[Callable[..., Estimate]], Callable[..., Estimate]]:
    """Declare a function as a factor and list it; the function itself is returned unchanged.

    Args:
        **declaration: the fields of `Factor` but for the function.

    Raises:
        ValueError: another factor has the name.
        ThalwegError: it asks for an input that there is not.
    """

    def declare(function: Callable[..., Estimate]) -> Callable[..., Estimate]:
        declared = Factor(function, **declaration)
        if declared.name in FACTORS:
            raise ValueError(f"two factors are called {declared.name!r}")
        for name in declared.needs:
            if name not in INPUTS:
                raise unknown("input of a factor", name, INPUTS)
        FACTORS[declared.name] = declared
        return function

    return declare


def factors_for(asked: Sequence[str], has: Collection[str] = ()) -> tuple[Factor, ...]:
    """The factors that are computed: all that take little time, and those that are asked for.

    Args:
        asked: The names of what is computed on request.
        has: What the survey has that some factors need: `LABEL_NOISE`, `DICTIONARIES`.

    Raises:
        ThalwegError: there is nothing of this name that can be asked for.
    """
    known = {factor.on_request for factor in FACTORS.values() if factor.on_request}
    for name in asked:
        if name not in known:
            raise unknown("factor on request", name, known)
    return tuple(
        factor for factor in FACTORS.values() if factor.on_request in ("", *asked) and factor.only_with in ("", *has)
    )


def mean_of_layers(
    layers: Mapping[str, float], half: float, *, n: int, note: str, least: float = -math.inf, most: float = math.inf
) -> Estimate:
    """The mean over the layers that have a number, with an interval of so much on either side, within bounds.

    Args:
        layers: each layer's number; NaN where it has none.
        half: half the width of the interval.
        n: how many stimuli or units the mean rests on.
        note: the reason if no layer has a number.
        least: the smallest value that the factor can take.
        most: the largest.
    """
    there = [value for value in layers.values() if not math.isnan(value)]
    if not there:
        return Estimate(math.nan, note=note, layers=layers)
    value = sum(there) / len(there)
    return Estimate(value, max(least, value - half), min(most, value + half), n, layers=layers)


def mean_of_units(
    values: Mapping[str, Float[Tensor, " unit"]], *, note: str, least: float = -math.inf, most: float = math.inf
) -> Estimate:
    """The mean over layers of the mean over units, with an interval from the scatter of units within layers.

    Args:
        values: each layer's units; NaN for a unit without a value, which is left out.
        note: the reason if no unit has a value.
        least: the smallest value that the factor can take.
        most: the largest.
    """
    present = {name: each[~each.isnan()].double() for name, each in values.items()}
    layers = {name: float(each.mean()) for name, each in present.items()}
    variance = sum(float(each.var()) / len(each) for each in present.values() if len(each) > 1)
    counted = sum(len(each) > 0 for each in present.values())
    half = Z * math.sqrt(variance) / max(1, counted)
    return mean_of_layers(layers, half, n=sum(map(len, present.values())), note=note, least=least, most=most)
