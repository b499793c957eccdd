"""The networks of a run, loaded again: what a unit's value is at each token, and what it writes to the logits.

A run keeps the weights of what it trained; published models are loaded as they were measured. Where a network can't be
had, pages lack shades and logits and say why.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg import ladders, subjects
from thalweg.bases import saved
from thalweg.errors import ThalwegError, reason
from thalweg.explore.catalogue import Network
from thalweg.models import untrained
from thalweg.models.hooks import capture_activations, skip_logits
from thalweg.models.pooling import units_on_axis_1
from thalweg.models.records import Encode, Ladder, Layer
from thalweg.pipeline.dictionaries import folder_of
from thalweg.pipeline.job import Model
from thalweg.pipeline.one_model import layers_of
from thalweg.pipeline.settings import Settings
from thalweg.recording.readout import NEURONS
from thalweg.runs.directory import RunDirectory
from thalweg.runs.run import Run
from thalweg.stimuli.base import Splits

KEPT = 3  # networks in memory
BATCH = 64  # stimuli that a network is given at once


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network with its weights, the layers that were measured, and their dictionaries, if units are latents."""

    module: nn.Module
    layers: Mapping[str, Layer]
    pool: Any  # as the network is given it
    encoders: Mapping[str, Encode]
    decoders: Mapping[str, Float[Tensor, "latent neuron"]]


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of a run, by what the catalogue calls them; the last ones are kept."""

    run: Run
    pools: Mapping[str, Any]
    _kept: "OrderedDict[tuple[Any, ...], Loaded | str]" = field(default_factory=OrderedDict)

    def load(self, network: Network) -> Loaded | str:
        """The network, or why it can't be had."""
        if network.key not in self._kept:
            try:
                self._kept[network.key] = self._loaded(network)
            except ThalwegError as wrong:
                self._kept[network.key] = str(wrong)
            except Exception as wrong:  # whatever a user's own code or another version of it does
                self._kept[network.key] = reason(wrong)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[network.key]

    def _loaded(self, network: Network) -> Loaded:
        if network.control == "rotated" or network.basis not in (NEURONS, "sae"):
            raise ThalwegError("its units are directions, not those of the network itself")
        ladder = self._ladder(network.ladder)
        rung = next((rung for rung in ladder.rungs if rung.name == network.rung), None)
        if rung is None:
            raise ThalwegError(f"the ladder has no rung {network.rung!r} any more")
        pool = self.pools[network.ladder]
        about = self.run.record["ladders"][network.ladder]
        model = Model(
            RunDirectory(self.run.path.absolute()),
            ladder,
            rung,
            network.seed,
            _settings(self.run),
            Splits.of_pool(pool),
            about["data_hash"],
        )
        if untrained.normalisations(model.build() if rung.subject is None or rung.subject.build else nn.Module()):
            model = replace(model, normalises=True)
        module = model.network(network.control).eval()
        layers = {layer.name: layer for layer in rung.layers}
        if rung.subject and not layers:
            layers = {info.layer.name: info.layer for info in layers_of(rung.subject, module)}
        encoders: dict[str, Encode] = {}
        decoders: dict[str, Tensor] = {}
        if network.basis == "sae":
            for layer in network.layers:
                trained = saved.read(model.run / folder_of(model, network.control, layer.name))
                encoders[layer.name] = trained.encoder(layers[layer.name])
                decoders[layer.name] = trained.dictionary.decoder
        return Loaded(module, layers, model.pool, encoders, decoders)

    def _ladder(self, name: str) -> Ladder:
        """The ladder that a run's models were made by."""
        if name in self.run.given:
            return self.run.given[name]
        about = self.run.record["ladders"][name]
        if subject := about.get("source", {}).get("subject"):
            found = subjects.find(subject)
            pool = self.pools[name]
            return Ladder(name, (found.rung(),), lambda _source, _seed: Splits.of_pool(pool), modality=found.modality)
        if ladders.ships(name):
            return ladders.find(name)
        raise ThalwegError("its ladder does not ship; give it in Python, as thalweg.open_run(path, ladder)")


def _settings(run: Run) -> Settings:
    kept = {name: value for name, value in run.record["settings"].items() if name in Settings.__dataclass_fields__}
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
    return Settings(**plain, device="cpu", cache=Path())


def values_along(
    loaded: Loaded, units: Mapping[str, Sequence[int]], stimuli: Sequence[int]
) -> Iterator[tuple[int, dict[str, Float[Tensor, "unit place"]]]]:
    """Each of some stimuli, with the values of some units of each layer at its places; without layers that have none.

    The network reads the stimuli once, however many layers and units there are, and one batch is held at a time.
    """
    chosen = [loaded.layers[name] for name in units]
    for ids in torch.tensor(list(stimuli), dtype=torch.int64).split(BATCH) if stimuli else ():
        read = partial(_at_places, loaded, units)
        skipped = skip_logits(loaded.module, chosen)
        with torch.inference_mode(), skipped, capture_activations(loaded.module, chosen, read=read) as outputs:
            loaded.module(loaded.pool.batch(ids))
            found = {name: values for name, values in outputs.items() if values is not None}
        for row, stimulus in enumerate(ids.tolist()):
            yield stimulus, {name: values[row] for name, values in found.items()}


def _at_places(
    loaded: Loaded, units: Mapping[str, Sequence[int]], layer: str, output: Tensor
) -> Float[Tensor, "batch unit place"] | None:
    """The values of some units in what a layer gave, at the places of the stimulus itself; None where it has none."""
    laid = units_on_axis_1(output, replace(loaded.layers[layer], reduction="max"))
    if laid.ndim != 3:
        return None
    encode = loaded.encoders.get(layer)
    laid = laid if encode is None else encode(laid.movedim(1, -1)).movedim(-1, 1)
    length = getattr(loaded.pool, "length", 0)  # a language model may see tokens before the window
    return laid[:, list(units[layer]), -length:].float()
