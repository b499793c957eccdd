"""A network some of whose units are replaced, run for many sets of units at once.

A set says which units stay. All others are replaced at every analysed layer at the same time, at all places but those
that a layer skips:

- by *mean* ablation with one number, the value with which the unit passes on its mean (where a nonlinearity f follows,
  f of it is the mean of f of the unit's values: the mean before f would take away the unit's average drive as well);
- by *resample* ablation with the unit's values on another stimulus, at the same places. All sets take the same other
  stimuli, and all units of a stimulus come from the same one. Which one it is does not depend on the size of batches.

Several sets share one pass: the stimuli are given once for each, and each row knows its set.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from thalweg.capability.answers import NO_LOGITS, Answers, Missing, answers_to
from thalweg.capability.refit import Folds, gains
from thalweg.compute.devices import all_finite, given, in_precision, placed
from thalweg.models.hooks import answer_in, capture_activations, replacing_values
from thalweg.models.pooling import units_on_axis_1
from thalweg.models.records import Layer
from thalweg.stimuli.base import Stimuli, halves

Ablation = Literal["mean", "resample"]
HELD = 1 << 21  # numbers of the largest layer that a pass may hold: 8 MB, which a processor's cache still helps with
GRID, HALVINGS = 33, 40
NOT_FINITE = "the model's outputs are not finite"

Sets = Shaped[Tensor, "set unit"]  # whether each unit of all layers, one after another, stays


@dataclass(frozen=True, eq=False)
class Moments:
    """What one layer passes on: its units' mean and variance over stimuli and places, and what replaces a unit."""

    fill: Float[Tensor, " unit"]
    variance: Float[Tensor, " unit"]


@dataclass(frozen=True, eq=False)
class MaskedModel:
    """A network with its analysed layers, and the stimuli that it is weighed on.

    Attributes:
        network: In evaluation mode, on the device.
        layers: Where units are replaced.
        stimuli: All that are weighed.
        answers: What should be said to them.
        folds: The stimuli of each half: what is fitted on one is weighed on the other.
        moments: Of each layer.
        at_once: Stimuli that the network is given at once, at most.
        largest: Numbers of the largest layer for each stimulus.
        seed: It decides which other stimulus each takes values from.
    """

    network: nn.Module
    layers: Sequence[Layer]
    stimuli: Stimuli
    answers: Answers
    folds: Folds
    moments: Sequence[Moments]
    at_once: int
    largest: int
    seed: int
    device: str
    slices: Sequence[slice] = field(init=False)

    def __post_init__(self) -> None:
        ends = [0, *torch.tensor([len(each.fill) for each in self.moments]).cumsum(0).tolist()]
        object.__setattr__(self, "slices", [slice(*each) for each in pairwise(ends)])

    @property
    def n_units(self) -> int:
        """Units of all layers."""
        return self.slices[-1].stop if self.slices else 0

    def on(self, which: Int[Tensor, " taken"]) -> "MaskedModel":
        """The same, weighed on the stimuli at these places alone; what replaces a unit stays the same."""
        stimuli = self.stimuli.take(which)
        return replace(self, stimuli=stimuli, answers=self.answers.take(which), folds=_folds(stimuli, self.seed))

    def gains(self, sets: Bool[Tensor, "set unit"], by: Ablation = "mean") -> Float[Tensor, "set stimulus"]:
        """The nats that each stimulus gains over guessing by frequency while only these units stay, set by set."""
        sets = sets.to(self.device)
        group = max(1, HELD // (self.largest * min(self.at_once, len(self.stimuli))))
        with torch.inference_mode():
            parts = [gains(self._logits(few, by), self.answers, self.folds) for few in sets.split(group)]
        return torch.cat(parts)

    def _logits(self, sets: Bool[Tensor, "set unit"], by: Ablation) -> Float[Tensor, "set stimulus *place class"]:
        change, others = (_replaced, None) if by == "mean" else (_resampled, self._others())
        parts = []
        for chunk in torch.arange(len(self.stimuli)).split(self.at_once):
            inputs = given(self.stimuli.batch(chunk), self.device)
            rows = inputs.repeat(len(sets), *[1] * (inputs.ndim - 1))
            if others is not None:
                rows = torch.cat([rows, given(self.stimuli.batch(others[chunk]), self.device)])
            with self._changing(change, sets):
                logits = _logits_of(self.network, rows)
            parts.append(logits[: len(sets) * len(chunk)].float().unflatten(0, (len(sets), len(chunk))))
        return torch.cat(parts, 1)

    def soft_logits(self, keep: Float[Tensor, " unit"], fold: Tensor) -> Float[Tensor, "stimulus *place class"]:
        """What the network says to some stimuli while each unit keeps a part of its distance from its mean."""
        parts = []
        with self._changing(_weighted, keep[None]):
            for chunk in fold.split(self.at_once):
                parts.append(_logits_of(self.network, given(self.stimuli.batch(chunk), self.device)).float())
        return torch.cat(parts)

    @contextmanager
    def _changing(self, change: Callable[..., Tensor], sets: Sets) -> Generator[None]:
        """The network whose layers' values are changed, for as long as the context lasts."""

        def way(part: slice, moments: Moments) -> Callable[[Tensor], Tensor]:
            return lambda values: change(values, sets[:, part].to(values.device), moments.fill.to(values))

        with ExitStack() as stack:
            for layer, part, moments in zip(self.layers, self.slices, self.moments, strict=True):
                stack.enter_context(replacing_values(self.network, layer, way(part, moments)))
            yield

    def _others(self) -> Int[Tensor, " stimulus"]:
        """For each stimulus another one: the next in a random order."""
        order = torch.randperm(len(self.stimuli), generator=torch.Generator().manual_seed(self.seed))
        others = torch.empty_like(order)
        others[order] = order.roll(-1)
        return others


def _replaced(values: Tensor, keep: Tensor, fill: Tensor) -> Tensor:
    """Values (set * stimulus, *place, unit) with those of the units that do not stay replaced by one number each."""
    apart = values.unflatten(0, (len(keep), -1))
    return torch.where(_beside(keep, apart), apart, fill).flatten(0, 1)


def _resampled(values: Tensor, keep: Tensor, _fill: Tensor) -> Tensor:
    """The same with the values of other stimuli, which are the last rows: nothing is replaced in these."""
    apart = values.unflatten(0, (len(keep) + 1, -1))
    other = apart[-1:]
    return torch.cat([torch.where(_beside(keep, apart[:-1]), apart[:-1], other), other]).flatten(0, 1)


def _weighted(values: Tensor, keep: Tensor, fill: Tensor) -> Tensor:
    return fill + keep[0] * (values - fill)


def _beside(keep: Tensor, apart: Tensor) -> Tensor:
    """Sets (set, unit) in a shape that goes with values (set, stimulus, *place, unit)."""
    return keep.reshape(len(keep), *[1] * (apart.ndim - 2), -1)


def masked_model(
    network: nn.Module,
    layers: Sequence[Layer],
    stimuli: Stimuli,
    pool: Stimuli,
    *,
    at_once: int,
    seed: int,
    device: str,
) -> MaskedModel:
    """The network, with the means of its units over these stimuli of a pool.

    Raises:
        Missing: there is nothing that could be weighed.
    """
    network = in_precision(placed(network.eval(), device), torch.float32)
    answers, folds = answers_to(stimuli, pool), _folds(stimuli, seed)
    values: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    shape = torch.Size()
    first = []  # logit of each place: their shape is all that counts
    with torch.inference_mode(), capture_activations(network, layers) as captured:
        for chunk in torch.arange(len(stimuli)).split(at_once):
            logits = _logits_of(network, given(stimuli.batch(chunk), device))
            if not all_finite(logits):
                raise Missing(NOT_FINITE)
            shape = logits.shape
            first.append(logits[..., :1].cpu())
            for layer in layers:
                values[layer.name].append(_rows(captured[layer.name], layer).cpu())
    answers = answers.for_logits(torch.cat(first).expand(*[-1] * (len(shape) - 1), shape[-1]))
    rows = {name: torch.cat(parts) for name, parts in values.items()}
    largest = max([shape[1:].numel(), *(each.numel() // len(stimuli) for each in rows.values())])
    moments = [_moments(rows[layer.name], layer) for layer in layers]
    return MaskedModel(network, layers, stimuli, answers, folds, moments, at_once, largest, seed, device)


def _folds(stimuli: Stimuli, seed: int) -> Folds:
    """The stimuli's halves, each class spread over both: else what one has more of, the other has less of, and a bias
    fitted on one is wrong for the other. No document feeds both.
    """
    if stimuli.groups() is not None:
        return halves(stimuli, seed=seed)
    order = torch.randperm(len(stimuli), generator=torch.Generator().manual_seed(seed))
    by_class = order[stimuli.labels[order].argsort(stable=True)]
    return by_class[::2].sort().values, by_class[1::2].sort().values


def _logits_of(network: nn.Module, batch: Tensor) -> Tensor:
    """The network's logits.

    Raises:
        Missing: it gives none.
    """
    logits = answer_in(network(batch))
    if logits is None or logits.ndim < 2:
        raise Missing(NO_LOGITS)
    return logits


def _rows(output: Tensor, layer: Layer) -> Float[Tensor, "row unit"]:
    """A layer's values, a row for each place of each stimulus that it does not skip."""
    every = Layer(layer.name, "max", unit_axis=layer.unit_axis, skip=layer.skip)  # all its places
    return units_on_axis_1(output, every).movedim(1, -1).flatten(0, -2).float()


def _moments(values: Float[Tensor, "row unit"], layer: Layer) -> Moments:
    passed_on = layer.nonlinearity(values) if layer.nonlinearity else values
    mean, variance = passed_on.double().mean(0), passed_on.double().var(0, correction=0)
    fill = _solved(values, mean.float(), layer.nonlinearity) if layer.nonlinearity else mean.float()
    return Moments(fill, variance)


def _solved(
    values: Float[Tensor, "row unit"], mean: Float[Tensor, " unit"], function: Callable[[Tensor], Tensor]
) -> Float[Tensor, " unit"]:
    """The value at which a nonlinearity gives the mean, by halving the way from where it is least to the highest
    value.
    """
    low, high = values.amin(0), values.amax(0)
    grid = low + torch.linspace(0, 1, GRID)[:, None] * (high - low)
    low = grid.gather(0, function(grid).argmin(0, keepdim=True))[0]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = function(middle[None])[0] < mean
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
