"""What the layers of a network give at single places of some stimuli, before their nonlinearity: factors look at it.

Of each stimulus some places are taken, drawn anew for each block of stimuli by the seed. A model that is recorded in
shards has them read in the pass that records it, and they lie beside its recordings until its factors are computed; of
others, and where these files are gone, they are read in a pass of their own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from thalweg.bases.streaming import BATCH, outputs, rows
from thalweg.errors import ThalwegError
from thalweg.files import whole
from thalweg.models.pooling import units_on_axis_1
from thalweg.models.records import Layer
from thalweg.pipeline.job import Model
from thalweg.recording.keys import Scramble

FOLDER = "recordings/places"
AT_PLACES, PLACES = 256, 4  # stimuli, and places of each: as many rows as the samples of both halves have by default
POSITIONS = "positions"  # of the stimuli among those that are looked at, in a file
Places = Mapping[str, Float[Tensor, "row neuron"]]  # by layer


def values_at_places(network: nn.Module, model: Model, control: str) -> Places:
    """What the layers give that have several places, at some places of some stimuli. Where units are made of neurons,
    what all layers give: latents are recorded before they are active or not.
    """
    return _read_before(model, control) or _in_a_pass(network, model)


def _in_a_pass(network: nn.Module, model: Model) -> Places:
    ids, layers, device = _ids(model), _layers(network, model), model.settings.resolved_device
    generator = torch.Generator().manual_seed(model.settings.seed)
    kept: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    for laid in outputs(network, list(layers), model.pool, ids, device=device) if layers else ():
        for name, parts in kept.items():
            parts.append(rows(laid[name], generator, most=PLACES).cpu())
    return {name: torch.cat(parts) for name, parts in kept.items()}


def _ids(model: Model) -> Int64[Tensor, " stimulus"]:
    """The stimuli that are looked at, in increasing order."""
    count = AT_PLACES * PLACES if model.rung.basis else AT_PLACES
    ids = torch.arange(len(model.pool))
    return ids[Scramble.seeded(model.settings.seed)(ids).argsort()[:count]].sort().values


def _layers(network: nn.Module, model: Model) -> dict[Layer, int]:
    """The layers that are looked at, with how many places they have; 0 where they have no axis of places."""
    made = model.rung.basis is not None
    layers = [layer for layer in model.rung.layers if made or layer.reduction != "last"]
    if not layers:
        return {}
    first = next(outputs(network, layers, model.pool, _ids(model)[:1], device=model.settings.resolved_device))
    shapes = {layer: first[layer.name].shape[2:] for layer in layers}
    return {layer: shape.numel() * bool(shape) for layer, shape in shapes.items() if made or shape.numel() > 1}


@dataclass(eq=False)
class PlacesReader:
    """Reads the values at the places in a pass that records a network; nothing where a layer has now one number of
    places, now another.
    """

    model: Model
    control: str
    ids: Int64[Tensor, " stimulus"]
    layers: Mapping[str, tuple[Layer, int]]  # with how many places it has
    drawn: list[dict[str, Tensor]]  # for each block of stimuli: the places, by layer that has more than are taken
    rows: dict[str, dict[int, Tensor]] = field(default_factory=dict)  # by layer and position of the stimulus
    fits: bool = True

    @classmethod
    def of(cls, network: nn.Module, model: Model, control: str) -> "PlacesReader":
        """One that has drawn the places."""
        ids, layers = _ids(model), {layer.name: (layer, count) for layer, count in _layers(network, model).items()}
        generator = torch.Generator().manual_seed(model.settings.seed)
        drawn = [
            {
                name: torch.randperm(count, generator=generator)[:PLACES].sort().values
                for name, (_, count) in layers.items()
                if count > PLACES
            }
            for _ in ids.split(BATCH)
        ]
        return cls(model, control, ids, layers, drawn)

    def __call__(self, ids: Int64[Tensor, " part"], name: str, output: Tensor) -> None:
        """Read a layer's output for some stimuli."""
        if name not in self.layers or not self.fits:
            return
        layer, count = self.layers[name]
        positions = torch.searchsorted(self.ids, ids).clamp_max(len(self.ids) - 1)
        looked_at = (self.ids[positions] == ids).nonzero().flatten().tolist()
        laid = units_on_axis_1(output, layer).flatten(2) if count else units_on_axis_1(output, layer)[:, :, None]
        self.fits = laid.shape[2] == max(1, count)
        for row in looked_at if self.fits else ():
            position = int(positions[row])
            taken = self.drawn[position // BATCH].get(name)
            values = laid[row] if taken is None else laid[row][:, taken.to(laid.device)]
            self.rows.setdefault(name, {})[position] = values.T.float().contiguous()

    def write(self) -> None:
        """Write what was read to the file of the shard."""
        if not (self.fits and self.rows):
            return
        order = sorted(next(iter(self.rows.values())))
        tensors = {name: torch.stack([read[at] for at in order]).cpu() for name, read in self.rows.items()}
        assert self.model.shard is not None
        file = _file(self.model, self.control, self.model.shard)
        whole.write_tensors(self.model.run / file, {**tensors, POSITIONS: torch.tensor(order)})


def places_reader(network: nn.Module, model: Model, control: str) -> PlacesReader | None:
    """What reads the values at the places in the pass that records a network, if they are read there: in a pass in full
    precision, as factors are computed.
    """
    wanted = any("places" in factor.needs for factor in model.factors)
    if not wanted or model.shard is None or model.beside or model.settings.precision != "float32":
        return None
    return PlacesReader.of(network, model, control)


def _read_before(model: Model, control: str) -> Places:
    """What was read while the network was recorded; nothing if any of it is missing."""
    if not model.recorded_apart or model.beside:
        return {}
    try:
        parts = list(_parts(model, control))
    except ThalwegError:  # gone, or damaged
        return {}
    positions = torch.cat([part[POSITIONS] for part in parts]) if parts else torch.zeros(0)
    if len(positions) != len(_ids(model)):
        return {}
    order = positions.argsort()
    names = [name for name in parts[0] if name != POSITIONS]
    return {name: torch.cat([part[name] for part in parts])[order].flatten(0, 1) for name in names}


def _parts(model: Model, control: str) -> Iterator[dict[str, Tensor]]:
    for shard in range(model.settings.n_shards):
        if (path := model.run / _file(model, control, shard)).is_file():  # a shard may hold none of the stimuli
            yield whole.read_tensors(path)


def _file(model: Model, control: str, shard: int) -> str:
    """The name of the file of one shard; one of other inputs may lie there after an interruption."""
    return f"{FOLDER}/{model.stem(control)}-{shard}-{model.measure_inputs()[:16]}.safetensors"
