"""Bases: what the units of a layer are, where they are not its neurons.

A basis gives each layer an encoder, a function from the layer's values to its units' on the last axis; the recording
pass applies it before pooling. `random` is a random rotation, the control: where neurons do not stand above it, being a
neuron is nothing special. `pca` are the directions of largest variance, fitted to the reference half alone. `sae` are
the latents of a small dictionary that a survey trains for each layer. `sae:FOLDER` are the latents of a trained
dictionary as SAELens or sparsify leave it on disk, as they are before their nonlinearity, like everything else that is
measured; `sae-active:FOLDER` as they are after it, when most are zero. In place of FOLDER may stand RELEASE/ID of
SAELens's table, or OWNER/NAME of the hub.

Limits: an encoder makes all units of a layer, even where few are measured, so a convolution's latents need memory for
batch times places times latents; smaller batches are the remedy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from thalweg.bases.components import Components
from thalweg.bases.latents import Latents
from thalweg.bases.streaming import outputs
from thalweg.bases.trained import MOST_LATENTS, TrainedHere
from thalweg.errors import ThalwegError, unknown
from thalweg.models.pooling import highest_of_places
from thalweg.models.records import Basis, Encode, Layer
from thalweg.recording.limits import DIRECTIONS
from thalweg.recording.readout import NEURONS, RANDOM, directions
from thalweg.stimuli.base import Stimuli

NAMES = (NEURONS, RANDOM, "pca", "sae:FOLDER-or-RELEASE/ID", "sae-active:FOLDER-or-RELEASE/ID")
OF_SURVEYS = (NEURONS, "sae", RANDOM, "pca")


@dataclass(frozen=True)
class Rotation:
    """A random rotation of each layer's units, which the recording pass makes by itself from its seed."""

    name: str = RANDOM
    identity: str = RANDOM

    def encoders(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
    ) -> Mapping[str, Encode]:
        """None: nothing is fitted."""
        return {}


def find(text: str) -> Basis | None:
    """The basis of this name: None for `neurons`, else `random`, `pca`, `sae:DICTIONARY` or `sae-active:DICTIONARY`.

    Raises:
        Missing: the dictionary is not on this machine.
        ThalwegError: no such basis, or a folder that holds no dictionary that can be used.
    """
    kind, colon, dictionary = text.partition(":")
    if text == NEURONS:
        return None
    if text == RANDOM:
        return Rotation()
    if text == "pca":
        return Components()
    if kind in ("sae", "sae-active"):
        if not dictionary:
            raise ThalwegError(
                f"basis {text!r}: the folder of a dictionary was expected after the colon, as sae:dictionary, or "
                "RELEASE/ID of SAELens; make one with `thalweg train-dictionary`"
            )
        return Latents.of(dictionary, active=kind == "sae-active")
    if colon:
        raise unknown("kind of basis", kind, ("sae", "sae-active"))
    raise unknown("basis", text, NAMES)


def find_for_survey(name: str, *, expansion: int, active: int, seed: int) -> Basis | None:
    """The basis of this name in which all models of a ladder can be measured: None for `neurons`. The numbers are those
    of `TrainedHere`, the basis `sae`.

    Raises:
        ThalwegError: no such basis, or one of dictionaries that exist already, which belong to one model; or more
            active latents than there will be.
    """
    if name == "sae":
        if active > MOST_LATENTS:
            raise ThalwegError(
                f"active is {active}; a dictionary that a survey trains has {MOST_LATENTS:,} latents at most (--active)"
            )
        return TrainedHere(expansion, active, seed)
    if name.startswith(("sae:", "sae-active")):
        raise ThalwegError(
            f"basis {name!r} is of one model, and a survey has many: name 'sae', for which it trains a dictionary for "
            "each layer of each; a dictionary of yours goes with `thalweg measure SUBJECT --basis sae:FOLDER`"
        )
    if name not in OF_SURVEYS:
        raise unknown("basis", name, OF_SURVEYS)
    return find(name)


def layers_for(
    basis: Basis | None,
    model: nn.Module,
    layers: Sequence[Layer],
    stimuli: Stimuli,
    *,
    named: bool,
    device: str = "cpu",
) -> tuple[Layer, ...]:
    """The layers to measure in a basis: where its dictionaries belong, unless the user has `named` layers; else these.

    Raises:
        ThalwegError: a dictionary belongs to a layer that the model does not have; its layers are listed.
    """
    if named or not isinstance(basis, Latents):
        return tuple(layers)
    return basis.layers(model, layers, stimuli, device=device)


def unit_counts(
    basis: Basis,
    model: nn.Module,
    layers: Sequence[Layer],
    stimuli: Stimuli,
    *,
    device: str = "cpu",
    most: int = DIRECTIONS,
) -> dict[str, int]:
    """How many units each layer has in a basis: a dictionary's latents, else as many directions as the layer has
    neurons, of a wide layer's random ones a sample of `most`. Principal components may be fewer, where some do not
    vary.

    Raises:
        ThalwegError: a layer that has no dictionary, or one of another width.
    """
    if isinstance(basis, Latents):
        return basis.latents(model, layers, stimuli, device=device)
    values = next(outputs(model, layers, stimuli, torch.arange(1), device=device))
    counts = {layer.name: values[layer.name].shape[1] for layer in layers}
    if basis.name != RANDOM:
        return counts
    return {
        layer.name: directions(n, n, most, at_places=highest_of_places(values[layer.name], layer))
        for layer, n in zip(layers, counts.values(), strict=True)
    }
