"""How good a dictionary is: explained variance, dead latents, and the loss that it recovers."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.bases.dictionaries import Dictionary
from thalweg.bases.streaming import outputs, rows
from thalweg.errors import ThalwegError
from thalweg.models import interventions
from thalweg.models.records import Evaluate, Layer
from thalweg.stimuli.base import Stimuli

LEAST_GAP = 1e-6  # nats: an ablation that costs less costs nothing


def unpooled(layer: Layer) -> Layer:
    """The layer with all its places: of one that is pooled none are left out, and rows are made before that."""
    return replace(layer, reduction="max")


def assess(
    model: nn.Module,
    layer: Layer,
    dictionary: Dictionary,
    stimuli: Stimuli,
    *,
    evaluate: Evaluate | None = None,
    device: str = "cpu",
) -> dict[str, float | None]:
    """How well a dictionary does on stimuli it was not trained on: `explained_variance`, `dead`, and with `evaluate`
    the model's losses and the shares recovered.
    """
    dictionary = dictionary.to(device)
    count, error = 0, 0.0
    mean = deviations = torch.zeros(dictionary.neurons, dtype=torch.float64)
    active = torch.zeros(dictionary.latents, dtype=torch.bool, device=device)
    for laid in outputs(model, [unpooled(layer)], stimuli, torch.arange(len(stimuli)), device=device):
        for values in rows(laid[layer.name]).split(8192):
            active |= (dictionary.activate(dictionary.encode(values)) > 0).any(0)
            error += float((values - dictionary.reconstruct(values)).square().sum())
            part, spread = values.mean(0).cpu().double(), values.var(0, unbiased=False).cpu().double() * len(values)
            together = count + len(values)
            deviations = deviations + spread + (part - mean).square() * (count * len(values) / together)
            mean = mean + (part - mean) * (len(values) / together)
            count = together
    summary: dict[str, float | None] = {
        "explained_variance": 1 - error / max(float(deviations.sum()), 1e-30),
        "dead": 1 - float(active.float().mean()),
    }
    if evaluate is None:
        return summary
    return summary | recovered(model, layer, dictionary, mean.float(), stimuli, evaluate=evaluate, device=device)


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
