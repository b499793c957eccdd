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
from functools import partial

import torch
from jaxtyping import Int, Int64
from torch import Tensor, nn

from thalweg.compute.devices import PRECISIONS, given, in_precision, placed
from thalweg.compute.memory import Pieces, ran_out
from thalweg.errors import ThalwegError, user_code
from thalweg.models.hooks import capture_activations, run, skip_logits
from thalweg.models.records import Encode, Layer
from thalweg.recording.extremes import Scratch
from thalweg.recording.keys import Scramble
from thalweg.recording.readout import Reader
from thalweg.recording.recorder import Entering, Recorder
from thalweg.recording.result import Recording
from thalweg.recording.sample import cut_at, sample_positions, scrambled
from thalweg.recording.settings import DEFAULTS, RecordingSettings
from thalweg.recording.statistics import Statistic
from thalweg.stimuli.ahead import batches
from thalweg.stimuli.base import Stimuli


def record(
    model: nn.Module,
    layers: Sequence[Layer],
    stimuli: Stimuli,
    ids: Int[Tensor, " stimulus"],
    settings: RecordingSettings = DEFAULTS,
    *,
    encoders: Mapping[tuple[str, str], Encode] | None = None,
    statistics: Mapping[str, Statistic] | None = None,
) -> dict[tuple[str, str], Recording]:
    """Record every unit of every layer, in each basis, over the stimuli with these ids in one pass: {(layer, basis):
    recording}. But for the first batch, the pass goes no further than the last of the layers.

    `statistics` holds tables with a row for each stimulus of the whole set, whose products with the values are summed.
    The basis "random" is the layer's output after its nonlinearity, rotated at random over the units, then pooled
    (of a layer of more units than the settings' `directions` along a sample of random directions, numbered from 0);
    with the settings' `deviations` each unit is first divided by its own;
    every basis but it and "neurons" has `encoders`, a function for each layer: {(layer, basis): function}.

    Raises:
        ThalwegError: an unknown layer, one that did not run, or an output that does not fit the batch.
    """
    batch_size, device = settings.batch_size, settings.device
    scramble = Scramble.seeded(settings.seed)
    layer_pass = _Pass(layers, settings, scramble, encoders or {}, statistics or {})
    model = in_precision(placed(model.eval(), device), PRECISIONS[settings.precision])
    pieces = Pieces(batch_size, device, again=layer_pass.begin_again)
    orders = scrambled(ids, scramble, batch_size)
    sampled = cut_at(sample_positions(ids, scramble, settings.sample), len(ids), batch_size)
    with (
        torch.inference_mode(),
        capture_activations(model, layers, read=layer_pass.read, short=True) as ran,
        skip_logits(model, layers),
    ):
        for batch, inputs in batches(stimuli, ids, batch_size, workers=settings.workers):
            layer_pass.begin_batch(batch, next(orders), next(sampled))
            pieces(partial(layer_pass.give, model, inputs), len(batch))
            if missing := [layer.name for layer in layers if layer.name not in ran]:
                raise ThalwegError(
                    f"layer {missing[0]!r} did not run for a batch; name layers that every stimulus uses"
                )
            layer_pass.end_batch()
    return layer_pass.recordings()


class _Pass:
    """The readers and recorders of every layer and basis, and the batch that is under way."""

    def __init__(
        self,
        layers: Sequence[Layer],
        settings: RecordingSettings,
        scramble: Scramble,
        encoders: Mapping[tuple[str, str], Encode],
        statistics: Mapping[str, Statistic],
    ) -> None:
        self.bases, self.settings = settings.bases, settings
        self.device = "cpu" if settings.device == "mps" else settings.device  # sums are in double precision
        tables = {name: table.to(self.device) for name, table in statistics.items()}
        scratch = Scratch()
        self.readers = {
            (layer.name, basis): Reader(
                layer,
                basis,
                seed=settings.seed,
                position=position,
                encode=encoders.get((layer.name, basis)),
                deviations=settings.deviations.get(layer.name),
                most=settings.directions,
            )
            for position, layer in enumerate(layers)
            for basis in self.bases
        }
        self.recorders = {
            name: Recorder(k=settings.k, sample=settings.sample, scramble=scramble, statistics=tables, scratch=scratch)
            for name in self.readers
        }
        self.ids = self.order = torch.empty(0, dtype=torch.int64)  # of the batch, and scrambled
        self.entering: Entering = self.ids, self.order
        self.part = slice(0)  # of the batch, that the model is given
        self.held: dict[tuple[str, str], dict[int, Tensor]] = {}  # values that are taken in after the pass, by part
        self.taken: set[tuple[str, str]] = set()  # whose values of this batch are taken in already
        self.settled: set[tuple[str, str]] = set()  # of these, before memory ran out and the batch was begun again

    def begin_batch(
        self, ids: Int[Tensor, " batch"], order: Int64[Tensor, " batch"], sampled: Int64[Tensor, " sampled"]
    ) -> None:
        """A batch comes: its ids, these scrambled, and the positions of those that enter the sample."""
        self.ids, self.order, positions = (part.to(self.device) for part in (ids, order, sampled))
        self.entering = positions, self.order.take(positions)
        self.taken, self.settled = set(), set()

    def give(self, model: nn.Module, inputs: Tensor, part: slice) -> None:
        """Give the model a part of the batch; what its layers make of it is read on the way."""
        self.part = part
        with user_code("the model"):
            run(model, given(inputs[part], self.settings.device, PRECISIONS[self.settings.precision]))

    def begin_again(self) -> None:
        """The model is given the batch once more, in smaller parts, as memory ran out: forget what is not taken in."""
        self.held.clear()
        self.settled = set(self.taken)

    def read(self, layer: str, output: Tensor) -> None:
        """Read a layer's values where they arise, while they are at hand and before anything alters them.

        Those that lie in the output itself are taken in at once. The others wait until the pass is over, as taking them
        in costs half then; so do all in the first pass, for what lasts is not made between what does not last, and all
        that come in parts, to be put together.
        """
        count = self.part.stop - self.part.start
        for basis in self.bases:
            name = layer, basis
            if name in self.settled:
                continue
            values = self.readers[name](output).to(self.device)
            if values.shape[0] != count:
                raise ThalwegError(
                    f"layer {layer!r} returned {len(values)} rows for a batch of {count} stimuli; axis 0 must be the "
                    "batch"
                )
            apart = values.untyped_storage().data_ptr() != output.untyped_storage().data_ptr()
            if self.recorders[name].started and not apart and count == len(self.ids):
                self._take_in(name, values)
                self.taken.add(name)
            else:
                self.held.setdefault(name, {})[self.part.start] = values if apart else values.clone()

    def end_batch(self) -> None:
        """Take in the values that waited for the end of the model's pass."""
        for name in [*self.held]:
            parts = list(self.held.pop(name).values())
            self._take_in(name, parts[0] if len(parts) == 1 else torch.cat(parts))

    def _take_in(self, name: tuple[str, str], values: Tensor) -> None:
        """Take in a batch's values of a layer.

        Raises:
            ThalwegError: memory ran out, and what was kept so far is not whole.
        """
        try:
            self.recorders[name].update(values, self.ids, self.order, self.entering)
        except Exception as wrong:
            if not ran_out(wrong):
                raise
            text = f"memory ran out on {self.device} while the values of layer {name[0]!r} were kept"
        else:
            return
        raise ThalwegError(f"{text}; give the model fewer stimuli at once (--batch-size), or measure fewer units")

    def recordings(self) -> dict[tuple[str, str], Recording]:
        """What was kept: {(layer, basis): recording}."""
        return {
            name: replace(recorder.compute(), unit_ids=self.readers[name].unit_ids.cpu())  # type: ignore[union-attr]
            for name, recorder in self.recorders.items()
        }
