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

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import accumulate

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
from thalweg.recording.recorder import Entering, Recorder, sorts_blocks
from thalweg.recording.result import Recording, from_tensors, to_tensors
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
    recording}. But for the first batch, the pass goes no further than the last of the layers, unless the settings say
    what reads the model's outputs (`read_output`).

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
    whole = settings.read_output is not None
    with (
        torch.inference_mode(),
        capture_activations(model, layers, read=layer_pass.read, short=not whole) as ran,
        nullcontext() if whole else skip_logits(model, layers),
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
        together = [list(self.readers)] if sorts_blocks(self.device) else [[name] for name in self.readers]
        self.groups = [
            _Group(
                names,
                Recorder(k=settings.k, sample=settings.sample, scramble=scramble, statistics=tables, scratch=scratch),
            )
            for names in together
        ]
        self.group_of = {name: group for group in self.groups for name in group.names}
        self.ids = self.order = torch.empty(0, dtype=torch.int64)  # of the batch, and scrambled
        self.entering: Entering = self.ids, self.order
        self.batch = self.ids  # the ids on the CPU
        self.part = slice(0)  # of the batch, that the model is given
        self.held: dict[tuple[str, str], dict[int, Tensor]] = {}  # values of the first batch, by part

    def begin_batch(
        self, ids: Int[Tensor, " batch"], order: Int64[Tensor, " batch"], sampled: Int64[Tensor, " sampled"]
    ) -> None:
        """A batch comes: its ids, these scrambled, and the positions of those that enter the sample."""
        self.batch = ids
        self.ids, self.order, positions = (part.to(self.device) for part in (ids, order, sampled))
        self.entering = positions, self.order.take(positions)
        for group in self.groups:
            if group.recorder.started:
                group.make_way(len(ids), self.device)

    def give(self, model: nn.Module, inputs: Tensor, part: slice) -> None:
        """Give the model a part of the batch; what its layers make of it is read on the way."""
        self.part = part
        with user_code("the model"):
            output = run(model, given(inputs[part], self.settings.device, PRECISIONS[self.settings.precision]))
        if self.settings.read_output:
            self.settings.read_output(self.batch[part], output)

    def begin_again(self) -> None:
        """The model is given the batch once more, in smaller parts, as memory ran out: what was read is read anew."""
        self.held.clear()

    def read(self, layer: str, output: Tensor) -> None:
        """Read a layer's values where they arise, while they are at hand and before anything alters them.

        They are written where they wait to be taken in. In the first batch there is no such place yet: what lasts is
        not made between what does not last.
        """
        count = self.part.stop - self.part.start
        if self.settings.read_layer:
            self.settings.read_layer(self.batch[self.part], layer, output)
        for basis in self.bases:
            name = layer, basis
            values = self.readers[name](output)
            if values.shape[0] != count:
                raise ThalwegError(
                    f"layer {layer!r} returned {len(values)} rows for a batch of {count} stimuli; axis 0 must be the "
                    "batch"
                )
            group = self.group_of[name]
            if group.recorder.started:
                group.recorder.place(values, group.columns[name], self.part.start)
            else:
                apart = values.untyped_storage().data_ptr() != output.untyped_storage().data_ptr()
                values = values.to(self.device)
                self.held.setdefault(name, {})[self.part.start] = values if apart else values.clone()

    def end_batch(self) -> None:
        """The batch went through the model: its values count."""
        if self.held:
            for group in self.groups:
                group.start([[*self.held.pop(name).values()] for name in group.names], self.settings, self.device)
        for group in self.groups:
            group.recorder.add(self.ids, self.order, self.entering)

    def recordings(self) -> dict[tuple[str, str], Recording]:
        """What was kept: {(layer, basis): recording}."""
        kept = {name: part for group in self.groups for name, part in group.recordings(self.device).items()}
        return {
            # pyrefly: ignore[missing-attribute]  # known once a batch is read
            name: replace(kept[name], unit_ids=reader.unit_ids.cpu())
            for name, reader in self.readers.items()
        }


class _Group:
    """Layers and bases whose values are kept beside each other, by one recorder."""

    def __init__(self, names: Sequence[tuple[str, str]], recorder: Recorder) -> None:
        self.names, self.recorder = names, recorder
        self.columns: dict[tuple[str, str], slice] = {}

    def start(self, parts: Sequence[Sequence[Tensor]], settings: RecordingSettings, device: str) -> None:
        """Make room, and place the values of the first batch, of each layer in parts."""
        ends = list(accumulate((values[0].shape[1] for values in parts), initial=0))
        self.columns = {
            name: slice(start, end) for name, start, end in zip(self.names, ends[:-1], ends[1:], strict=True)
        }
        with self._kept(device):
            self.recorder.start(ends[-1], torch.device(device), rows=settings.batch_size, sample=settings.sample)
            for values, columns in zip(parts, self.columns.values(), strict=True):
                first = 0
                for part in values:
                    self.recorder.place(part, columns, first)
                    first += part.shape[0]

    def make_way(self, rows: int, device: str) -> None:
        """Take in what waits, if a batch of so many stimuli has no room beside it."""
        with self._kept(device):
            self.recorder.make_way(rows)

    def recordings(self, device: str) -> dict[tuple[str, str], Recording]:
        """What was kept of each layer, on the CPU."""
        with self._kept(device):
            whole = self.recorder.compute()
            if not sorts_blocks(device):
                return {self.names[0]: whole}
            parts = {name: to_tensors(whole.units(columns)) for name, columns in self.columns.items()}
            return {  # copies, for a view would keep the whole in memory
                name: from_tensors({what: _copied(tensor) for what, tensor in part.items()})
                for name, part in parts.items()
            }

    @contextmanager
    def _kept(self, device: str) -> Generator[None]:
        """Say where memory ran out, as what was kept so far is not whole then.

        Raises:
            ThalwegError: memory ran out.
        """
        try:
            yield
        except Exception as wrong:
            if not ran_out(wrong):
                raise
            text = f"memory ran out on {device} while the values of layer {self.names[0][0]!r} were kept"
        else:
            return
        raise ThalwegError(f"{text}; give the model fewer stimuli at once (--batch-size), or measure fewer units")


def _copied(tensor: Tensor) -> Tensor:
    """A copy on the CPU that holds no more than itself."""
    return tensor.clone(memory_format=torch.contiguous_format).cpu()
