"""What a layer gives, batch by batch: the passes of which a basis is fitted or a dictionary trained.

Of each stimulus at most `PLACES` places are taken, drawn anew for each batch by the seed: neighbouring pixels and
tokens say much the same, and a picture has thousands.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.compute.devices import given, placed
from thalweg.compute.memory import Pieces
from thalweg.errors import ThalwegError
from thalweg.models.hooks import capture_activations, run
from thalweg.models.pooling import units_on_axis_1
from thalweg.models.records import Layer
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Stimuli

PLACES = 64
BATCH = 64  # stimuli in a forward pass


def outputs(
    model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
) -> Iterator[dict[str, Tensor]]:
    """Each layer's values of one batch after another, (stimulus, neuron, places), as the recording pass lays them out.

    Raises:
        ThalwegError: an unknown layer, or one that did not run.
    """
    model = placed(model.eval(), device)
    precision = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    pieces = Pieces(BATCH, device)

    def values_of(batch: Int[Tensor, " stimulus"]) -> dict[str, Tensor]:
        with torch.no_grad():  # not around the yield: whoever takes the values may need gradients
            run(model, given(stimuli.batch(batch), device, precision))
        if missing := [layer.name for layer in layers if layer.name not in seen]:
            raise ThalwegError(f"layer {missing[0]!r} did not run; name layers that every stimulus uses")
        return {layer.name: units_on_axis_1(seen[layer.name].detach(), layer) for layer in layers}

    with capture_activations(model, layers, short=True) as seen:
        for batch in ids.split(BATCH):
            parts = pieces(lambda part, batch=batch: values_of(batch[part]), len(batch))
            yield (
                parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            )


def rows(
    laid: Float[Tensor, "stimulus neuron *place"], generator: torch.Generator | None = None, *, most: int = PLACES
) -> Float[Tensor, "row neuron"]:
    """One row for each stimulus and place; with a generator, of at most so many places that it draws."""
    if laid.ndim == 2:
        return laid.float()
    flat = laid.flatten(2)
    if generator is not None and flat.shape[2] > most:
        drawn = torch.randperm(flat.shape[2], generator=generator)[:most].sort().values
        flat = flat[:, :, drawn.to(flat.device)]
    return flat.movedim(1, 2).reshape(-1, flat.shape[1]).float()


def widths(
    model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
) -> dict[str, int]:
    """How many neurons each layer has, found by running one stimulus."""
    values = next(outputs(model, layers, stimuli, ids[:1], device=device))
    return {name: laid.shape[1] for name, laid in values.items()}


def described(name: str, model: nn.Module, stimuli: Stimuli, *, device: str, neurons: int = 0) -> Layer:
    """A layer whose axes are found by running the model on one stimulus: its neurons, so many if that is known, are on
    axis 1 of a map and on the last of anything else; places are taken together as the modality says.

    Raises:
        ThalwegError: an unknown layer, or one whose values have no axis of so many neurons.
    """
    laid = next(outputs(model, [Layer(name)], stimuli, torch.arange(1), device=device))[name]
    shape = tuple(laid.shape)
    axes = (1, -1) if len(shape) == 4 else (-1, 1)
    axis = next((axis for axis in axes if not neurons or shape[axis] == neurons), None)
    if axis is None:
        raise ThalwegError(
            f"layer {name!r} gives values of shape {shape}; a dictionary of {neurons} neurons reads none"
        )
    return Layer(name, modalities.of(stimuli).reduction, unit_axis=axis)
