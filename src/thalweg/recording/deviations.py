"""The standard deviation of each unit of a layer, which a rotated twin is taken in units of.

A random direction of a layer as it is consists mostly of the units of largest variance, so it would show where the
variance lies, and not what the layer's basis adds.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.compute.devices import PRECISIONS, given, in_double, in_precision, placed
from thalweg.compute.memory import Pieces
from thalweg.errors import user_code
from thalweg.models.hooks import capture_activations, run, skip_logits
from thalweg.models.pooling import pooled, units_on_axis_1
from thalweg.models.records import Layer
from thalweg.recording.keys import Scramble
from thalweg.recording.settings import DEFAULTS, RecordingSettings
from thalweg.stimuli.ahead import batches
from thalweg.stimuli.base import Stimuli

NEVER_FALL = (torch.relu, nn.functional.relu, nn.functional.relu6)  # where a value rises
FOR_DEVIATIONS = 256  # stimuli: a standard deviation is then known to about 5 %


def unit_deviations(
    model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, settings: RecordingSettings = DEFAULTS
) -> dict[str, Float[Tensor, " unit"]]:
    """The standard deviation of each unit of each layer, measured or not, after the nonlinearity: over 256 stimuli of
    the set, drawn by the seed, the same ones for every part of it. Values of several places count as they are pooled.
    0 where a unit is constant.

    Raises:
        ThalwegError: an unknown layer, or a model that fails.
    """
    ids = torch.arange(len(stimuli))
    chosen = ids[Scramble.seeded(settings.seed)(ids).argsort()[:FOR_DEVIATIONS]].sort().values
    by_name = {layer.name: layer for layer in layers}

    def read(name: str, output: Tensor) -> Tensor:
        layer = by_name[name]
        laid = units_on_axis_1(output, layer)
        passed_on = layer.nonlinearity or (lambda values: values)
        if layer.reduction == "max" and passed_on in NEVER_FALL:  # of the highest value then, and not of every one
            return in_double(passed_on(pooled(laid, layer.reduction))).cpu()
        return in_double(pooled(passed_on(laid), layer.reduction)).cpu()

    precision = PRECISIONS[settings.precision]
    model = in_precision(placed(model.eval(), settings.device), precision)
    pieces = Pieces(settings.batch_size, settings.device)
    kept: list[dict[str, Tensor]] = []
    with torch.inference_mode(), capture_activations(model, layers, read=read) as ran, skip_logits(model, layers):
        for batch, inputs in batches(stimuli, chosen, settings.batch_size, workers=settings.workers):

            def look(part: slice, inputs: Tensor = inputs) -> dict[str, Tensor]:
                with user_code("the model"):
                    run(model, given(inputs[part], settings.device, precision))
                return dict(ran)

            kept += pieces(look, len(batch))
    every = {name: torch.cat([part[name] for part in kept]).std(0, correction=0) for name in by_name}
    return {name: found.where(found.isfinite(), 0).float() for name, found in every.items()}
