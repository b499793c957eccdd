"""The basis `sae` of a survey: the latents of a small dictionary that is trained for each layer of each network.

A dictionary is trained on what the layer passes on, after its nonlinearity, at places of stimuli for training. It is
judged where the layer is measured: how much of the variance it explains there, of stimuli that it was not trained on,
and which of its latents are ever active there. A latent that never is, is dead: its value is 0 for every stimulus, so
that it has no score, is counted, and has no part in any mean. The others are read before their nonlinearity, like
neurons.

Limits: with 2,000 stimuli a layer without places has 2,000 rows, too few for a dictionary of a thousand latents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from thalweg.bases.assess import Fit, unpooled
from thalweg.bases.converged import Training, active_in, train
from thalweg.bases.dictionaries import Dictionary
from thalweg.bases.sinks import skipped_places
from thalweg.bases.streaming import outputs, rows
from thalweg.errors import ThalwegError
from thalweg.models.records import Encode, Layer
from thalweg.stimuli.base import Stimuli

VERSION = 1  # it goes up when dictionaries change
MOST_LATENTS = 1024
MOST_STIMULI = 4096  # that a dictionary is trained on
MOST_CHECKED = 1024  # stimuli that it is judged by
MOST_NUMBERS = 1 << 24  # in the rows that are in memory: 64 MB
LEAST_NEURONS = 2  # of a layer: a single one has no other basis
LEAST_STIMULI = 100  # for training
HELD_OUT = 5  # each fifth stimulus is left out of training, where there are none for validation
NEURONS_FOR_EACH = 8  # that is active at once
ACTIVE = (3, 32)  # latents at least and at most, unless the user says how many; no more than half of the neurons


@dataclass(frozen=True, eq=False)
class TrainedDictionary:
    """A dictionary of a layer, which of its latents are alive, and what is to be known about it."""

    dictionary: Dictionary
    alive: Bool[Tensor, " latent"]
    summary: Mapping[str, float | int | None]

    def encoder(self, layer: Layer) -> "AliveLatents":
        """What makes its latents of the layer's values."""
        return AliveLatents(self, layer)


@dataclass(eq=False)
class AliveLatents:
    """The encoder of a trained dictionary: its latents before their nonlinearity, and 0 for those that are dead."""

    trained: TrainedDictionary
    layer: Layer

    def __post_init__(self) -> None:
        self.dictionary, self.alive = self.trained.dictionary, self.trained.alive

    def __call__(self, values: Float[Tensor, "... neuron"]) -> Float[Tensor, "... latent"]:
        """The latents of each value."""
        if self.alive.device != values.device:
            self.dictionary, self.alive = self.dictionary.to(values.device), self.alive.to(values.device)
        passed_on = self.layer.nonlinearity(values) if self.layer.nonlinearity else values
        return torch.where(self.alive, self.dictionary.encode(passed_on), 0.0)


@dataclass(frozen=True)
class TrainedHere:
    """The basis of dictionaries that are trained in a survey: so many latents for each neuron, and so many of them
    active at once (0: one for eight neurons, from 3 to 32, but for half of the neurons at most).
    """

    expansion: int = 4
    active: int = 0
    seed: int = 0
    name: str = "sae"

    @property
    def identity(self) -> str:
        """What its units are made from."""
        return f"sae trained here {VERSION}, {self.expansion} latents a neuron, {self.active} active, seed {self.seed}"

    def size(self, neurons: int) -> tuple[int, int]:
        """How many latents the dictionary of so many neurons has, and how many are active at once."""
        latents = min(self.expansion * neurons, MOST_LATENTS)
        usual = min(max(neurons // NEURONS_FOR_EACH, ACTIVE[0]), ACTIVE[1], max(neurons // 2, 1))
        return latents, min(self.active or usual, latents)

    def encoders(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
    ) -> Mapping[str, Encode]:
        """The encoder of each layer, of dictionaries that are trained on the stimuli with these ids.

        Raises:
            ThalwegError: as `train_all` does.
        """
        made = self.train_all(model, layers, stimuli.take(ids), None, device=device)
        return {layer.name: made[layer.name].encoder(layer) for layer in layers}

    def train_all(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, held_out: Stimuli | None, *, device: str
    ) -> dict[str, TrainedDictionary]:
        """A dictionary for each layer, trained on the stimuli. `held_out` are those that tell when it gets no better,
        and how good it is; by default each fifth of the stimuli, which is not trained on then.

        Raises:
            ThalwegError: too few stimuli or neurons, or a dictionary that explains nothing.
        """
        check_stimuli(len(stimuli))
        everything = torch.arange(len(stimuli))
        if held_out is None or not len(held_out):
            held_out = stimuli.take(everything[HELD_OUT - 1 :: HELD_OUT])
            stimuli = stimuli.take(everything[everything % HELD_OUT != HELD_OUT - 1])
        return {layer.name: self._train(model, layer, stimuli, held_out, device) for layer in layers}

    def _train(
        self, model: nn.Module, layer: Layer, stimuli: Stimuli, held_out: Stimuli, device: str
    ) -> TrainedDictionary:
        skipped = skipped_places(model, layer, stimuli, None, seed=self.seed, device=device)
        everywhere = _Rows(model, unpooled(layer), self.seed, device, skipped.count)
        measured = _Rows(model, layer, self.seed, device)
        values, others = everywhere.of(stimuli, MOST_STIMULI), everywhere.of(held_out, MOST_CHECKED)
        check_neurons(layer.name, values.shape[1])
        latents, k = self.size(values.shape[1])
        dictionary, steps = train(values, others, Training(latents, k, self.seed))
        judged = Fit.of(dictionary, measured.of(held_out, MOST_CHECKED))
        alive = active_in(dictionary, measured.of(stimuli, MOST_CHECKED)) | judged.active.to(values.device)
        explained = judged.explained_variance if steps else None
        if explained is not None and explained <= 0:
            raise ThalwegError(
                f"layer {layer.name!r}: the dictionary explains {explained:.2g} of the variance where the layer is "
                f"measured, which is no more than its mean does, after {steps} steps on {len(values):,} rows; give it "
                "more latents (--expansion, --active), or leave the basis 'sae' out"
            )
        summary: dict[str, float | int | None] = {
            "neurons": values.shape[1],
            "latents": latents,
            "k": k,
            "alive": int(alive.sum()),
            "rows": len(values),
            "steps": steps,
            "skipped_places": skipped.count,
            "explained_variance_measured": explained,
        }
        return TrainedDictionary(dictionary.to("cpu"), alive.cpu(), summary)


@dataclass(frozen=True, eq=False)
class _Rows:
    """What a layer passes on, in rows: a row for each stimulus and place that it is measured at, up to 64 places of a
    stimulus, but the first `skip`; rows with values that are not finite are left out.
    """

    model: nn.Module
    layer: Layer
    seed: int
    device: str
    skip: int = 0

    def of(self, stimuli: Stimuli, most: int) -> Float[Tensor, "row neuron"]:
        """The rows of so many stimuli at most, drawn at random."""
        generator = torch.Generator().manual_seed(self.seed)
        ids = torch.randperm(len(stimuli), generator=generator)[:most].sort().values
        parts = []
        for laid in outputs(self.model, [self.layer], stimuli, ids, device=self.device):
            values = laid[self.layer.name]
            values = self.layer.nonlinearity(values) if self.layer.nonlinearity else values
            values = values[:, :, self.skip :] if values.ndim == 3 else values
            part = rows(values, generator)
            room = MOST_NUMBERS * len(values) // (len(ids) * part.shape[1])
            kept = torch.randperm(len(part), generator=generator)[: max(room, 1)].sort().values
            parts.append(part[kept.to(part.device)])
        every = torch.cat(parts)
        return every[every.isfinite().all(1)]


def check_stimuli(count: int) -> None:
    """Check that there are stimuli enough to train a dictionary on.

    Raises:
        ThalwegError: there are not.
    """
    if count < LEAST_STIMULI:
        raise ThalwegError(
            f"there are {count} stimuli to train dictionaries on; at least {LEAST_STIMULI} were expected: give more, "
            "or leave the basis 'sae' out"
        )


def check_neurons(layer: str, count: int) -> None:
    """Check that a layer has neurons enough for a dictionary.

    Raises:
        ThalwegError: it has not.
    """
    if count < LEAST_NEURONS:
        raise ThalwegError(
            f"layer {layer!r} has {count} neuron; a dictionary is made of at least {LEAST_NEURONS}: leave the layer "
            "out, or the basis 'sae'"
        )
