"""The basis `sae`: the latents of dictionaries in a folder, each on the layer that it was trained on.

A folder is one dictionary, or holds one in each of its folders (as sparsify leaves the layers of a model). A single
dictionary reads the single layer that the user names, whichever it was trained on; otherwise each belongs to the place
that it names itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int
from torch import Tensor, nn

from thalweg.bases import layouts
from thalweg.bases.dictionaries import Encoder
from thalweg.bases.hook_points import module_of
from thalweg.bases.streaming import described, widths
from thalweg.errors import ThalwegError
from thalweg.files.identity import digest
from thalweg.files.whole import file_digest
from thalweg.models.records import Encode, Layer
from thalweg.stimuli.base import Stimuli


@dataclass(frozen=True)
class Latents:
    """The latents of the dictionaries in these folders, before their nonlinearity or `active`, after it."""

    folders: tuple[Path, ...]
    active: bool
    identity: str

    @classmethod
    def of(cls, folder: Path, *, active: bool = False) -> "Latents":
        """The basis of the dictionary or dictionaries in a folder, each read once to see that it can be used.

        Raises:
            ThalwegError: as `layouts.read` does.
        """
        inside = (
            sorted(inner for inner in folder.iterdir() if (inner / layouts.CONFIG).is_file()) if folder.is_dir() else []
        )
        folders = tuple(inside) if inside and not (folder / layouts.CONFIG).is_file() else (folder,)
        files = [file for inner in folders for file in (inner / layouts.CONFIG, layouts.weights_file(inner))]
        for inner in folders:
            layouts.read(inner)
        names = [inner.resolve().name for inner in folders]
        return cls(folders, active, digest("sae 1", active, names, [file_digest(file) for file in files]))

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return "sae-active" if self.active else "sae"

    def encoders(
        self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, ids: Int[Tensor, " stimulus"], *, device: str
    ) -> Mapping[str, Encode]:
        """The encoder of each layer.

        Raises:
            ThalwegError: a layer that has no dictionary, or one of another width.
        """
        width_of = widths(model, layers, stimuli, ids, device=device)
        chosen = {layer.name: self._folder(layer.name, model, alone=len(layers) == 1) for layer in layers}
        read = {folder: layouts.read(folder) for folder in set(chosen.values())}
        for layer, folder in chosen.items():
            if width_of[layer] != read[folder].neurons:
                raise ThalwegError(
                    f"{folder}: the dictionary reads {read[folder].neurons} neurons, but layer {layer!r} has "
                    f"{width_of[layer]}; it was trained on {read[folder].hook!r}"
                )
        return {layer: Encoder(read[folder], self.active) for layer, folder in chosen.items()}

    def latents(self, model: nn.Module, layers: Sequence[Layer]) -> dict[str, int]:
        """How many latents the dictionary of each layer has.

        Raises:
            ThalwegError: a layer that has no dictionary.
        """
        alone = len(layers) == 1
        return {layer.name: layouts.read(self._folder(layer.name, model, alone=alone)).latents for layer in layers}

    def _folder(self, layer: str, model: nn.Module, *, alone: bool) -> Path:
        """Where the dictionary of a layer lies."""
        if alone and len(self.folders) == 1:
            return self.folders[0]
        modules = [name for name, _ in model.named_modules()]
        folder_of = {module_of(layouts.read(folder).hook, modules): folder for folder in self.folders}
        if layer not in folder_of:
            raise ThalwegError(f"layer {layer!r} has no dictionary; there are dictionaries of {', '.join(folder_of)}")
        return folder_of[layer]

    def layers(self, model: nn.Module, layers: Sequence[Layer], stimuli: Stimuli, *, device: str) -> tuple[Layer, ...]:
        """The layers that the dictionaries belong to, as they are described among `layers` where they are there.

        Raises:
            ThalwegError: the model has no such place, or none of its axes has the dictionary's width.
        """
        modules = [name for name, _ in model.named_modules()]
        known = {layer.name: layer for layer in layers}
        dictionary_layers = []
        for folder in self.folders:
            read = layouts.read(folder)
            name = module_of(read.hook, modules)
            dictionary_layers.append(
                known.get(name) or described(name, model, stimuli, neurons=read.neurons, device=device)
            )
        return tuple(dictionary_layers)
