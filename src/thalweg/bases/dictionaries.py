"""Dictionaries: sparse autoencoders that read a layer as many latents, of which few are active at once.

    latents before their nonlinearity   p = W (n(x) - c) + b
    active latents                      z = the k largest of p, or p where it is above its threshold; never below 0
    reconstruction                      n(x)' = D'z + d, brought back to the scale of x; plus S x with a skip connection

`n` is a normalisation that some dictionaries were trained behind. Scales of activations, norms of decoder rows and
gates are folded into the weights when a dictionary is read (a gate that shares its directions with the magnitudes is a
threshold: Rajamanoharan et al. 2024), so this one form is all that runs.

Limits: weights and values are taken as float32, whatever precision the model runs in.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Activation = Literal["relu", "topk", "groupmax", "threshold"]
Normalisation = Literal["none", "constant_norm_rescale", "layer_norm"]
LATENTS = ("sae", "sae-active")  # the bases whose units are a dictionary's latents


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A trained dictionary, read.

    `hook` is where it was trained, as its library names it. `centred` says that it expects values less their mean over
    the neurons, as TransformerLens's `center_writing_weights` makes the residual stream. `groupmax` keeps the largest
    latent of each of `k` groups.
    """

    weight: Float[Tensor, "latent neuron"]
    bias: Float[Tensor, " latent"]
    centre: Float[Tensor, " neuron"]
    decoder: Float[Tensor, "latent neuron"]
    offset: Float[Tensor, " neuron"]
    activation: Activation = "relu"
    k: int = 0
    threshold: Float[Tensor, " latent"] | None = None
    skip: Float[Tensor, "neuron neuron"] | None = None
    normalisation: Normalisation = "none"
    centred: bool = False
    hook: str = ""

    @property
    def latents(self) -> int:
        """How many latents it has."""
        return self.weight.shape[0]

    @property
    def neurons(self) -> int:
        """How many neurons the layer has that it reads."""
        return self.weight.shape[1]

    def to(self, device: torch.device | str) -> "Dictionary":
        """The same on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def encode(self, values: Float[Tensor, "... neuron"]) -> Float[Tensor, "... latent"]:
        """The latents before their nonlinearity."""
        normal, _, _ = self._normalised(values.float())
        return nn.functional.linear(normal - self.centre, self.weight, self.bias)

    def activate(self, latents: Float[Tensor, "... latent"]) -> Float[Tensor, "... latent"]:
        """The latents after it."""
        active = latents.relu()
        if self.activation == "topk":
            kept = active.topk(self.k, -1, sorted=False)
            return torch.zeros_like(active).scatter(-1, kept.indices, kept.values)
        if self.activation == "groupmax":
            grouped = active.unflatten(-1, (self.k, -1))
            largest = grouped.argmax(-1, keepdim=True)
            return torch.zeros_like(grouped).scatter(-1, largest, grouped.gather(-1, largest)).flatten(-2)
        return active * (latents > self.threshold) if self.threshold is not None else active

    def reconstruct(self, values: Float[Tensor, "... neuron"]) -> Float[Tensor, "... neuron"]:
        """The values as the active latents give them back."""
        values = values.float()
        _, scale, shift = self._normalised(values)
        given_back = (self.activate(self.encode(values)) @ self.decoder + self.offset) * scale + shift
        return given_back if self.skip is None else given_back + nn.functional.linear(values, self.skip)

    def _normalised(self, values: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """The values as the dictionary expects them, and the scale and shift that bring them back.

        As SAELens does: a constant norm is the square root of the width; a layer norm divides by the unbiased standard
        deviation plus 1e-5, and brings back by the deviation alone.
        """
        mean: Tensor | float = 0.0
        if self.centred or self.normalisation == "layer_norm":
            mean = values.mean(-1, keepdim=True)
            values = values - mean
        if self.normalisation == "constant_norm_rescale":
            norm = values.norm(dim=-1, keepdim=True) / values.shape[-1] ** 0.5
            return values / norm.clamp_min(1e-30), norm, mean
        if self.normalisation == "layer_norm":
            deviation = values.std(-1, keepdim=True)
            return values / (deviation + 1e-5), deviation, mean
        return values, 1.0, mean


@dataclass(eq=False)
class Encoder:
    """A dictionary as an encoder; its weights follow the values from device to device."""

    dictionary: Dictionary
    active: bool = False

    def __call__(self, values: Float[Tensor, "... neuron"]) -> Float[Tensor, "... latent"]:
        """The latents of each value."""
        if self.dictionary.weight.device != values.device:
            self.dictionary = self.dictionary.to(values.device)
        latents = self.dictionary.encode(values)
        return self.dictionary.activate(latents) if self.active else latents
