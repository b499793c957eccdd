"""Activation maximisation: pictures that drive units more, and less, than any natural stimulus.

Many units of a layer are optimised at once, nine pictures for each direction. The first climbs alone. The others climb
until they drive the unit more than its best natural stimulus; from there on they move apart, as long as they stay
above. Moving apart lowers the mean cosine similarity of their Gram matrices in the layer.

The published recipe (Zimmermann, Klein & Brendel 2023) looks for the largest weight of diversity at which the weakest
picture still exceeds the best natural one, by up to fifteen optimisations of each unit. Here diversity counts only
where a picture exceeds it, so that one optimisation does.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from thalweg.compute.adam import Adam
from thalweg.models.hooks import capture_activations, run
from thalweg.models.pooling import pooled, units_on_axis_1
from thalweg.models.records import Layer
from thalweg.synthetic.parametrisation import Size, coefficients, cropped, drawn, jittered
from thalweg.trials.building import REFERENCES

DIRECTIONS = (1, -1)  # pictures that drive the unit most, and least
EACH = len(DIRECTIONS) * REFERENCES  # pictures of a unit
LEARNING_RATE = 0.05
STEPS = 256
CLIMB = 0.2  # the last steps in which no picture moves apart
DIVERSITY = 1.0  # weight of the mean cosine beside a unit's value in its standard deviations
NEURONS = 64  # of the layer, at most, whose Gram matrix says how alike two pictures are
AT_ONCE = 16  # units: 288 pictures

Prepare = Callable[[Float[Tensor, "picture channel height width"]], Tensor]  # what the network is given of pictures


@dataclass(frozen=True, eq=False)
class Goals:
    """The units that pictures are made for, and what natural stimuli do to them.

    Attributes:
        units: Their numbers in the layer.
        best: Each unit's highest value on natural stimuli, and its lowest.
        scale: The standard deviation of each unit's values.
    """

    units: Int[Tensor, " unit"]
    best: Float[Tensor, "unit direction"]
    scale: Float[Tensor, " unit"]

    def part(self, which: slice) -> "Goals":
        """Some of the units."""
        return Goals(self.units[which], self.best[which], self.scale[which])


@dataclass(frozen=True, eq=False)
class Pictures:
    """Synthetic references of units: by direction (most, least), the one that climbed alone first.

    Attributes:
        units: The units' numbers in their layer.
        pixels: (unit, direction, picture, channel, height, width), one byte a channel.
        values: (unit, direction, picture), the unit's value on each, as it is shown.
        best: (unit, direction), the unit's value on its best natural stimulus of that direction.
    """

    units: Int[Tensor, " unit"]
    pixels: UInt8[Tensor, "unit direction picture channel height width"]
    values: Float[Tensor, "unit direction picture"]
    best: Float[Tensor, "unit direction"]

    @property
    def exceeds(self) -> Bool[Tensor, "unit direction"]:
        """Whether the strongest picture drives the unit beyond every natural stimulus."""
        signs = torch.tensor(DIRECTIONS)
        return (self.values * signs[:, None]).amax(2) > self.best * signs


@dataclass(frozen=True)
class Recipe:
    """How pictures are made: their size, what the network is given of them, how many steps, and the seed."""

    size: Size
    prepare: Prepare
    steps: int = STEPS
    seed: int = 0
    device: str = "cpu"


def maximise(network: nn.Module, layer: Layer, goals: Goals, recipe: Recipe) -> Iterator[Pictures]:
    """Make the synthetic references of some units of a layer, a few units at a time.

    Args:
        network: The network, on the recipe's device; its weights stay as they are.
        layer: The layer.
        goals: The units, and what natural stimuli do to them.
        recipe: How pictures are made.
    """
    network.eval()
    with _frozen(network), capture_activations(network, [layer], short=True) as outputs:

        def look(pictures: Tensor) -> Tensor:
            run(network, recipe.prepare(pictures))
            return units_on_axis_1(outputs[layer.name], layer)

        for start in range(0, len(goals.units), AT_ONCE):
            part = goals.part(slice(start, start + AT_ONCE))
            yield _optimised(look, layer, part, recipe)


@contextmanager
def _frozen(network: nn.Module) -> Generator[None]:
    """The network's weights take no gradients meanwhile."""
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in learnt:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)


def _optimised(look: Callable[[Tensor], Tensor], layer: Layer, goals: Goals, recipe: Recipe) -> Pictures:
    """The pictures of a few units."""
    generator = torch.Generator().manual_seed(_seed_of(goals.units, recipe.seed))
    count, device = len(goals.units), recipe.device
    spectrum = coefficients(count * EACH, recipe.size, generator).to(device).requires_grad_(True)
    optimiser = Adam([spectrum], LEARNING_RATE)
    signs = torch.tensor(DIRECTIONS, device=device).repeat_interleave(REFERENCES).repeat(count)
    unit = goals.units.to(device).repeat_interleave(EACH)
    scale = goals.scale.clamp_min(1e-6).to(device).repeat_interleave(EACH)
    best = goals.best.to(device).flatten().repeat_interleave(REFERENCES)
    alone = torch.arange(REFERENCES, device=device).repeat(count * len(DIRECTIONS)) == 0
    apart_until = round((1 - CLIMB) * recipe.steps)
    for step in range(recipe.steps):
        laid = look(jittered(drawn(spectrum, recipe.size), recipe.size, generator))
        value = pooled(laid, layer.reduction).gather(1, unit[:, None])[:, 0] * signs / scale
        reached = (value.detach() > best * signs / scale) & ~alone
        climbing = torch.where(reached, torch.zeros_like(value), -value) if step < apart_until else -value
        loss = climbing.sum()
        if step < apart_until and reached.any():
            loss = loss + DIVERSITY * (_likeness(laid, generator) * reached).sum()
        spectrum.grad = None
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        shown = (cropped(drawn(spectrum, recipe.size), recipe.size) * 255).round().to(torch.uint8)
        values = pooled(look(shown.float() / 255), layer.reduction).gather(1, unit[:, None])[:, 0]
    form = (count, len(DIRECTIONS), REFERENCES)
    return Pictures(goals.units, shown.cpu().unflatten(0, form), values.float().cpu().unflatten(0, form), goals.best)


def _likeness(laid: Float[Tensor, "picture neuron *place"], generator: torch.Generator) -> Float[Tensor, " picture"]:
    """How alike each picture is to the eight others of its unit and direction: the mean cosine of their Gram matrices
    in the layer, of some of its neurons.
    """
    neurons = torch.randperm(laid.shape[1], generator=generator)[:NEURONS].to(laid.device)
    values = laid[:, neurons].flatten(2) if laid.ndim > 2 else laid[:, neurons, None]
    gram = torch.einsum("inp,imp->inm", values, values).flatten(1)
    gram = gram / gram.norm(dim=1, keepdim=True).clamp_min(1e-12)
    groups = gram.unflatten(0, (-1, REFERENCES))
    cosines = groups @ groups.mT
    others: Tensor = cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)
    return others.flatten() / (REFERENCES - 1)


def _seed_of(units: Int[Tensor, " unit"], seed: int) -> int:
    """The seed of a few units' pictures."""
    return (1_000_003 * seed + int(units[0])) % (1 << 63)


def together(parts: Sequence[Pictures]) -> Pictures:
    """The pictures of all units of a layer."""
    return Pictures(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("units", "pixels", "values", "best"))
    )
