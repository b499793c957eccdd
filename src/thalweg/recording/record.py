"""One streaming pass over stimuli that keeps, of every unit of every layer at once, only what measures need.

Kept are the k highest and k lowest stimuli with their values, the values on one random sample of stimuli that all units
share, the count, mean and variance, the number of non-finite values, and the sums of the values times given
statistics of the stimuli (labels, low-level image statistics). So memory depends on units and k, not on stimuli, and
everything merges: the recordings of disjoint sets of stimuli merge, in any order, into the recording of their union.

The idea that makes it exact is the *key*. A value (float32) and its stimulus are packed into one 64-bit integer whose
order is the order of the values, ties broken by a seeded scrambling of the stimulus's id. The k highest stimuli of a
unit are then the k largest integers, whatever the batches, the shards or their order, and an unpacked key gives back
both value and id. Most values cannot be among the k: a batch is first compared with each unit's k-th value, and the few
that pass are the only ones packed.

Limits: values are compared as float32; ids must lie below 2^32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from thalweg.compute.devices import PRECISIONS, given, in_precision, placed
from thalweg.errors import ThalwegError, user_code
from thalweg.models.hooks import capture_activations, run, skip_logits
from thalweg.models.records import Encode, Layer
from thalweg.recording.extremes import Scratch
from thalweg.recording.keys import Scramble
from thalweg.recording.readout import NEURONS, Reader
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import Recording
from thalweg.recording.sample import cut_at, places_of_sample, scrambled
from thalweg.recording.statistics import Statistic
from thalweg.stimuli.ahead import batches
from thalweg.stimuli.base import Stimuli


def record(
    model: nn.Module,
    layers: Sequence[Layer],
    stimuli: Stimuli,
    ids: Int[Tensor, " stimulus"],
    *,
    bases: Sequence[str] = (NEURONS,),
    encoders: Mapping[tuple[str, str], Encode] | None = None,
    k: int = 64,
    sample: int = 512,
    seed: int = 0,
    statistics: Mapping[str, Statistic] | None = None,
    batch_size: int = 250,
    device: str = "cpu",
    precision: str = "float32",
    workers: int = 1,
) -> dict[tuple[str, str], Recording]:
    """Record every unit of every layer, in each basis, over the stimuli with these ids in one pass: {(layer, basis):
    recording}. But for the first batch, the pass goes no further than the last of the layers.

    `statistics` holds tables with a row for each stimulus of the whole set, whose products with the values are summed.
    The basis "random" is the layer's output after its nonlinearity, rotated at random over the units, then pooled
    (of a layer of more than `WIDEST_ROTATION` units along a sample of random directions, numbered from 0);
    every basis but it and "neurons" has `encoders`, a function for each layer: {(layer, basis): function}. Pictures are
    decoded ahead by so many `workers`.

    Raises:
        ThalwegError: an unknown layer, one that did not run, or an output that does not fit the batch.
    """
    scramble = Scramble.seeded(seed)
    tables = {name: table.to(device) for name, table in (statistics or {}).items()}
    readers = {
        (layer.name, basis): Reader(
            layer, basis, seed=seed, place=place, encode=(encoders or {}).get((layer.name, basis))
        )
        for place, layer in enumerate(layers)
        for basis in bases
    }
    scratch = Scratch()
    recorders = {
        name: Recorder(k=k, sample=sample, scramble=scramble, statistics=tables, scratch=scratch) for name in readers
    }
    model = in_precision(placed(model.eval(), device), PRECISIONS[precision])

    orders = scrambled(ids, scramble, batch_size)
    sampled = cut_at(places_of_sample(ids, scramble, sample), len(ids), batch_size)
    which = order = places = torch.empty(0, dtype=torch.int64)  # of the batch under way: ids, scrambled, in the sample
    entering = places, order

    held: dict[tuple[str, str], Tensor] = {}  # values that are taken in after the pass

    def read(layer: str, output: Tensor) -> None:
        """Read a layer's values where they arise, while they are at hand and before anything alters them.

        Those that lie in the output itself are taken in at once. The others wait until the pass is over, as taking them
        in costs half then; so do all in the first pass, for what lasts is not made between what does not last.
        """
        for basis in bases:
            values = readers[layer, basis](output).to(device)
            if values.shape[0] != which.shape[0]:
                raise ThalwegError(
                    f"layer {layer!r} returned {len(values)} rows for a batch of {len(which)} stimuli; axis 0 must be "
                    "the batch"
                )
            recorder = recorders[layer, basis]
            apart = values.untyped_storage().data_ptr() != output.untyped_storage().data_ptr()
            if recorder.started and not apart:
                recorder.update(values, which, order, entering)
            else:
                held[layer, basis] = values if apart else values.clone()

    with (
        torch.inference_mode(),
        capture_activations(model, layers, read=read, short=True) as ran,
        skip_logits(model, layers),
    ):
        for batch, inputs in batches(stimuli, ids, batch_size, workers=workers):
            which, order, places = (one.to(device) for one in (batch, next(orders), next(sampled)))
            entering = places, order.take(places)
            with user_code("the model"):
                run(model, given(inputs, device, PRECISIONS[precision]))
            for layer in layers:
                if layer.name not in ran:
                    raise ThalwegError(
                        f"layer {layer.name!r} did not run for a batch; name layers that every stimulus uses"
                    )
            for name in [*held]:
                recorders[name].update(held.pop(name), which, order, entering)
    return {
        name: replace(recorder.compute(), places=readers[name].places.cpu())  # type: ignore[union-attr]
        for name, recorder in recorders.items()
    }
