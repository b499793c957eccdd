"""Attention sinks: places at the beginning of a stimulus where a model's values are far larger than anywhere else.

A transformer whose tokenizer puts nothing before a text uses the text's first token as a sink for attention (Xiao et
al. 2024), and the values there are enormous (Sun et al. 2024). In SmolLM2-135M's residual stream after block 14 they
have a norm of 23,209 where others have 155. So one place in 24 has 96 % of the sum of squares, and a dictionary trained
on all places learns that place alone. Places are told by their mean squared norm over a sample of stimuli.

Limits: only the first places are left out, up to the first that is not a sink. A value that is large in a few stimuli
at a later place stays. A layer that is pooled is measured at all its places, so none is left out unless the user says
so.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from thalweg.bases.streaming import outputs
from thalweg.errors import ThalwegError
from thalweg.models.records import Layer
from thalweg.stimuli.base import Stimuli

# Of a place's mean squared norm to the median place's. In SmolLM2 the first place has 20 to 20,000, the second, where a
# few windows sink, up to 74, and all others .7 to 1.4.
RATIO = 3.0
SAMPLE = 512  # stimuli over which norms are averaged


@dataclass(frozen=True)
class SkippedPlaces:
    """The places at the beginning of each stimulus that a dictionary is not trained on: so many of so many, and why."""

    count: int
    places: int
    reason: str


def mean_squared_norms(
    model: nn.Module, layer: Layer, stimuli: Stimuli, *, seed: int, device: str
) -> Float64[Tensor, " place"]:
    """The mean over a sample of stimuli of the squared norm of a layer's values at each place; empty where its values
    have no places, or these are no sequence.
    """
    ids = torch.randperm(len(stimuli), generator=torch.Generator().manual_seed(seed))[:SAMPLE]
    total = torch.zeros((), dtype=torch.float64)
    for laid in outputs(model, [replace(layer, reduction="max")], stimuli, ids, device=device):
        values = laid[layer.name]
        if values.ndim != 3:
            return torch.zeros(0, dtype=torch.float64)
        total = total + values.float().square().sum(1).cpu().double().sum(0)
    return total / len(ids)


def leading_sinks(norms: Float64[Tensor, " place"]) -> int:
    """How many places, from the first, have a mean squared norm over `RATIO` times the median place's; the last place
    is none of them.
    """
    if len(norms) < 2:
        return 0
    large = (norms > RATIO * norms.median())[:-1]
    return int(large.long().cumprod(0).sum())


def skipped_places(
    model: nn.Module, layer: Layer, stimuli: Stimuli, asked: int | None, *, seed: int, device: str
) -> SkippedPlaces:
    """The places that are left out: as many as the user `asked` for, or those found to be sinks where only the last
    place is measured.

    Raises:
        ThalwegError: the user asked for more than there are.
    """
    if asked is None and layer.reduction != "last":
        return SkippedPlaces(0, 0, "all places are measured")
    norms = mean_squared_norms(model, layer, stimuli, seed=seed, device=device)
    if asked is not None:
        if asked and asked >= len(norms):
            has = f"{len(norms)} places in a row" if len(norms) else "no places in a row"
            raise ThalwegError(
                f"layer {layer.name!r} has {has}, and {asked} were to be left out; give fewer (--skip-places)"
            )
        return SkippedPlaces(asked, len(norms), "as asked (--skip-places)")
    count = leading_sinks(norms)
    if not count:
        return SkippedPlaces(0, len(norms), f"no first place has {RATIO:g} times the median place's mean squared norm")
    ratios = [f"{float(norm / norms.median()):,.0f}" for norm in norms[:count]]
    text = ", ".join(ratios)
    return SkippedPlaces(count, len(norms), f"attention sinks: {text} times the median place's mean squared norm")
