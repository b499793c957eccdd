"""The basis `sae`: the latents of dictionaries that were trained before, each on the layer that it was trained on.

A single dictionary reads the single layer that the user names, whichever it was trained on; otherwise each belongs to
the place that it names itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from thalweg.bases.dictionaries import Dictionary, Encoder
from thalweg.bases.hook_points import module_of
from thalweg.bases.sources import DictionarySource, sources_of
from thalweg.bases.streaming import described, widths
from thalweg.downloads.missing import Missing, gathered
from thalweg.errors import ThalwegError
from thalweg.files.identity import digest
from thalweg.models.records import Encode, Layer
from thalweg.stimuli.base import Stimuli


@dataclass(frozen=True)
class Latents:
    """The latents of these dictionaries, before their nonlinearity or `active`, after it. Nothing is read before it is
    needed.
    """

    sources: tuple[DictionarySource, ...]
    active: bool = False

    @classmethod
    def of(cls, name: str | Path, *, active: bool = False) -> "Latents":
        """The basis of the dictionary or dictionaries of this name, each read once to see that it can be used.

        Raises:
            ThalwegError: as `sources_of` does, or one cannot be read.
        """
        sources = sources_of(str(name))
        for source in sources:
            source.read()
        return cls(tuple(sources), active)

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return "sae-active" if self.active else "sae"

    @property
    def identity(self) -> str:
        """What the latents are made from; of dictionaries that are not on this machine, their names alone."""
        try:
            return self._made_from
        except Missing:
            return digest("sae, not here", self.active, [source.called for source in self.sources])

    @cached_property
    def _made_from(self) -> str:
        """The names and the hashes of the files of all dictionaries."""
        parts = [source.identity() for source in self.sources]
        hashes = [each for part in parts for each in part[1:]]
        return digest("sae 1", self.active, [part[0] for part in parts], hashes)

    def located(self) -> None:
        """Check that the files of all are there.

        Raises:
            ThalwegError: some are not; one error names all.
        """
        missing = []
        for source in self.sources:
            try:
                source.located()
            except ThalwegError as absent:
                missing.append(absent)
        if missing:
            raise gathered("\n".join(map(str, missing)), missing)

    def encoders(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
    ) -> Mapping[str, Encode]:
        """The encoder of each layer.

        Raises:
            ThalwegError: a layer that has no dictionary, or one of another width.
        """
        dictionaries = self._of_layers(model, layers, stimuli, ids, device=device)
        return {layer: Encoder(dictionary, self.active) for layer, dictionary in dictionaries.items()}

    def latents(self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, *, device: str) -> dict[str, int]:
        """How many latents the dictionary of each layer has.

        Raises:
            ThalwegError: a layer that has no dictionary, or one of another width.
        """
        dictionaries = self._of_layers(model, layers, stimuli, torch.arange(1), device=device)
        return {layer: dictionary.latents for layer, dictionary in dictionaries.items()}

    def _of_layers(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
    ) -> dict[str, Dictionary]:
        """The dictionary of each layer, of the layer's width."""
        width_of = widths(model, layers, stimuli, ids, device=device)
        chosen = {layer.name: self._source(layer.name, model, alone=len(layers) == 1) for layer in layers}
        read = {source: source.read() for source in set(chosen.values())}
        for layer, source in chosen.items():
            if width_of[layer] != read[source].neurons:
                raise ThalwegError(
                    f"{source.called}: the dictionary reads {read[source].neurons} neurons, but layer {layer!r} has "
                    f"{width_of[layer]}; it was trained on {read[source].hook!r}"
                )
        return {layer: read[source] for layer, source in chosen.items()}

    def _source(self, layer: str, model: nn.Module, *, alone: bool) -> DictionarySource:
        """Where the dictionary of a layer comes from."""
        if alone and len(self.sources) == 1:
            return self.sources[0]
        modules = [name for name, _ in model.named_modules()]
        source_of = {module_of(source.read().hook, modules): source for source in self.sources}
        if layer not in source_of:
            raise ThalwegError(f"layer {layer!r} has no dictionary; there are dictionaries of {', '.join(source_of)}")
        return source_of[layer]

    def layers(self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, *, device: str) -> tuple[Layer, ...]:
        """The layers that the dictionaries belong to, as they are described among `layers` where they are there.

        Raises:
            ThalwegError: the model has no such place, or none of its axes has the dictionary's width.
        """
        modules = [name for name, _ in model.named_modules()]
        known = {layer.name: layer for layer in layers}
        dictionary_layers = []
        for source in self.sources:
            read = source.read()
            name = module_of(read.hook, modules)
            dictionary_layers.append(
                known.get(name) or described(name, model, stimuli, neurons=read.neurons, device=device)
            )
        return tuple(dictionary_layers)
