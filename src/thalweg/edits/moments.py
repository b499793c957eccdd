"""Second moments of the keys of a layer, E[k k^T], streamed over text and kept in the cache.

Batches are added up in double precision and forgotten; memory is one square matrix. A file in the cache is named after
what it was made from: weights, layer, text and number of tokens.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from thalweg.compute.devices import all_finite
from thalweg.edits.projections import Projection
from thalweg.errors import ThalwegError
from thalweg.files.identity import digest
from thalweg.files.whole import read_tensor_notes, read_tensors, write_tensors
from thalweg.models.hooks import INPUT, capture_activations, run, skip_logits
from thalweg.models.records import Layer
from thalweg.stimuli.windows import Windows

BATCH = 64  # windows at once
VERSION = 1  # raised when the numbers change


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of keys.

    Attributes:
        matrix: E[k k^T] over tokens.
        tokens: How many tokens it is the mean of.
    """

    matrix: Float64[Tensor, "key key"]
    tokens: int


def second_moments(
    model: nn.Module, projection: Projection, windows: Windows, *, tokens: int, device: str = "cpu"
) -> Moments:
    """The second moments of the keys that a projection is given, over at least so many tokens where there are as many.

    What the model puts before a text is left out.

    Raises:
        ThalwegError: a key is not finite, or there is no text.
    """
    if not len(windows):
        raise ThalwegError("there is no text to take second moments over; give --text")
    layer = Layer(f"{projection.name}{INPUT}", unit_axis=2)
    wanted = torch.arange(min(len(windows), -(-tokens // windows.length)))
    total, count = torch.zeros(0), 0
    with torch.inference_mode(), skip_logits(model, [layer]), capture_activations(model, [layer], short=True) as kept:
        for which in wanted.split(BATCH):
            run(model, windows.batch(which).to(device))
            keys = kept[layer.name][:, projection.offset :].flatten(0, 1).double()
            if not all_finite(keys):
                raise ThalwegError(f"layer {projection.name!r} is given NaN or infinite numbers; edit another layer")
            products = (keys.T @ keys).cpu()
            total, count = products if not count else total + products, count + len(keys)
    return Moments(total.clone() / count, count)


def cached_moments(
    cache: Path, model: nn.Module, projection: Projection, windows: Windows, *, tokens: int, weights: str
) -> Moments:
    """The same, read from the cache where they are there.

    Args:
        cache: The folder.
        model: The model.
        projection: Which layer.
        windows: The text.
        tokens: How many tokens.
        weights: Which weights the model has, as text that changes with them.
    """
    made_from = digest(VERSION, weights, projection.name, windows.content_hash(), tokens)
    path = cache / "second-moments" / f"{made_from}.safetensors"
    if path.is_file():
        try:
            return Moments(read_tensors(path)["matrix"], int(read_tensor_notes(path)["tokens"]))
        except (ThalwegError, KeyError, ValueError):  # damaged: it is made again
            path.unlink(missing_ok=True)
    moments = second_moments(model, projection, windows, tokens=tokens)
    write_tensors(path, {"matrix": moments.matrix}, {"tokens": str(moments.tokens)})
    return moments
