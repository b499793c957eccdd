"""How good a dictionary is: explained variance, dead latents, and the loss that it recovers.

The first two are told of the places that are measured and of the others. Of a layer that is measured at its last place,
a dictionary may be good at all others and of no use.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from thalweg.bases.dictionaries import Dictionary
from thalweg.bases.streaming import outputs, rows
from thalweg.errors import ThalwegError
from thalweg.models import interventions
from thalweg.models.records import Evaluate, Layer, Reduction
from thalweg.stimuli.base import Stimuli

LEAST_GAP = 1e-6  # nats: an ablation that costs less costs nothing
ROWS = 8192  # that are encoded at once
LOSS_STIMULI = 500  # at most, over which the loss is evaluated: four passes through the whole model


def unpooled(layer: Layer) -> Layer:
    """The layer with all its places: of one that is pooled none are left out, and rows are made before that."""
    return replace(layer, reduction="max")


@dataclass(frozen=True, eq=False)
class Fit:
    """How well a dictionary gives some rows back: their number, the sum of its squared errors, their mean, the sum of
    the squared deviations from it, and which latents were active.
    """

    count: int
    error: float
    mean: Float64[Tensor, " neuron"]
    deviations: Float64[Tensor, " neuron"]
    active: Bool[Tensor, " latent"]

    @classmethod
    def of(cls, dictionary: Dictionary, values: Float[Tensor, "row neuron"]) -> "Fit":
        """That of so many rows."""
        if not len(values):
            zeros = torch.zeros(dictionary.neurons, dtype=torch.float64)
            return cls(0, 0.0, zeros, zeros, torch.zeros(dictionary.latents, dtype=torch.bool))
        active = (dictionary.activate(dictionary.encode(values)) > 0).any(0).cpu()
        error = float((values - dictionary.reconstruct(values)).square().sum())
        mean, variance = values.mean(0).cpu().double(), values.var(0, unbiased=False).cpu().double()
        return cls(len(values), error, mean, variance * len(values), active)

    def merged(self, other: "Fit") -> "Fit":
        """That of both's rows together (Chan, Golub & LeVeque 1983)."""
        together = max(self.count + other.count, 1)
        apart = other.mean - self.mean
        return Fit(
            self.count + other.count,
            self.error + other.error,
            self.mean + apart * (other.count / together),
            self.deviations + other.deviations + apart.square() * (self.count * other.count / together),
            self.active | other.active,
        )

    @property
    def explained_variance(self) -> float | None:
        """The share of the rows' variance that the dictionary explains; missing where there are no rows."""
        return 1 - self.error / max(float(self.deviations.sum()), 1e-30) if self.count else None

    @property
    def dead(self) -> float | None:
        """The share of latents that no row activates."""
        return 1 - float(self.active.float().mean()) if self.count else None


def fits(model: nn.Module, layer: Layer, dictionary: Dictionary, stimuli: Stimuli, *, device: str) -> tuple[Fit, Fit]:
    """How well a dictionary gives a layer's values back at the places that are measured, and at the others."""
    nothing = torch.zeros(0, dictionary.neurons, device=device)
    measured = others = Fit.of(dictionary, nothing)
    for laid in outputs(model, [unpooled(layer)], stimuli, torch.arange(len(stimuli)), device=device):
        at_measured, at_others = _by_place(laid[layer.name], layer.reduction)
        for values in at_measured.split(ROWS):
            measured = measured.merged(Fit.of(dictionary, values))
        for values in at_others.split(ROWS):
            others = others.merged(Fit.of(dictionary, values))
    return measured, others


def _by_place(
    laid: Float[Tensor, "stimulus neuron *place"], reduction: Reduction
) -> tuple[Float[Tensor, "measured neuron"], Float[Tensor, "other neuron"]]:
    """The rows at the places that are measured, and at the others."""
    if reduction != "last" or laid.ndim == 2:
        return rows(laid), laid.new_zeros(0, laid.shape[1])
    flat = laid.flatten(2)
    return rows(flat[:, :, -1]), rows(flat[:, :, :-1])


def assess(
    model: nn.Module,
    layer: Layer,
    dictionary: Dictionary,
    stimuli: Stimuli,
    *,
    evaluate: Evaluate | None = None,
    device: str = "cpu",
) -> dict[str, float | None]:
    """How well a dictionary does on stimuli it was not trained on: `explained_variance` and `dead` over all places, of
    the measured ones and of the others alone (missing where there are none), and with `evaluate` the model's losses and
    the shares recovered, over at most 500 of the stimuli.
    """
    dictionary = dictionary.to(device)
    measured, others = fits(model, layer, dictionary, stimuli, device=device)
    every = measured.merged(others)
    summary: dict[str, float | None] = {
        "explained_variance": every.explained_variance,
        "explained_variance_measured": measured.explained_variance,
        "explained_variance_elsewhere": others.explained_variance,
        "dead": every.dead,
        "dead_measured": measured.dead,
        "dead_elsewhere": others.dead,
    }
    if evaluate is None:
        return summary
    mean = every.mean.float()
    if len(stimuli) > LOSS_STIMULI:
        drawn = torch.randperm(len(stimuli), generator=torch.Generator().manual_seed(0))[:LOSS_STIMULI]
        stimuli = stimuli.take(drawn.sort().values)
    return summary | recovered(model, layer, dictionary, mean, stimuli, evaluate=evaluate, device=device)


def recovered(
    model: nn.Module,
    layer: Layer,
    dictionary: Dictionary,
    mean: Float[Tensor, " neuron"],
    stimuli: Stimuli,
    *,
    evaluate: Evaluate,
    device: str,
) -> dict[str, float | None]:
    """The model's loss, with its layer's values replaced, and the share of it that the dictionary recovers.

    A share is missing where the ablation costs the model nothing.
    """
    mean = mean.to(device)
    changes: Mapping[str, AbstractContextManager[None]] = {
        "reconstructed": interventions.replace(model, layer, dictionary.reconstruct),
        "zero": interventions.ablate(model, layer, "zero"),
        "mean": interventions.ablate(model, layer, "mean", values=mean[None]),
    }
    clean = _loss(evaluate, model, stimuli, device)
    losses = {}
    for name, change in changes.items():
        with change:
            losses[name] = _loss(evaluate, model, stimuli, device)
    summary: dict[str, float | None] = {"loss": clean, **{f"loss_{name}": loss for name, loss in losses.items()}}
    for ablated in ("zero", "mean"):
        gap = losses[ablated] - clean
        share = (losses[ablated] - losses["reconstructed"]) / gap if gap > LEAST_GAP else None
        summary[f"recovered_from_{ablated}"] = share
    return summary


def _loss(evaluate: Evaluate, model: nn.Module, stimuli: Stimuli, device: str) -> float:
    loss = evaluate(model, stimuli, device=device)["loss"]
    if loss is None:
        raise ThalwegError("the model has no loss over these stimuli, so none can be recovered")
    return float(loss)
