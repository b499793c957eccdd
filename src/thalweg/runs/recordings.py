"""The recordings of a finished run: where they lie, and how they are read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor

from thalweg.files import whole
from thalweg.files.names import file_name
from thalweg.recording.result import Recording, from_tensors


class RecordedHalves(NamedTuple):
    """What was recorded of a layer's units over the reference half of the pool, and over the query half."""

    reference: Recording
    query: Recording


@dataclass(frozen=True, eq=False)
class ModelRecordings:
    """All recordings of one model or twin, by layer, the first layer first."""

    layers: Mapping[str, RecordedHalves]
    reductions: Mapping[str, str]  # by layer: how values over places became one
    basis: str  # what the units are
    basis_identity: str  # what they are made from, where they are not neurons


def model_file(ladder: str, rung: str, seed: int, basis: str = "") -> str:
    """The name of a model's files; of those in a basis beside the main one, if it is given."""
    return file_name(f"{ladder}-{rung}-{seed}{f'-{basis}' if basis else ''}")


def recordings_file(ladder: str, rung: str, seed: int, control: str, basis: str = "") -> str:
    """The file of a model's recordings, or of a twin's, in the run directory; `basis` as in `model_file`."""
    return f"recordings/{model_file(ladder, rung, seed, basis)}-{file_name(control)}.safetensors"


def read_recordings(path: Path) -> ModelRecordings:
    """The recordings of one model or twin, from their file.

    Raises:
        ThalwegError: the file is missing or damaged.
    """
    tensors: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in whole.read_tensors(path).items():
        layer, half, what = key.rsplit("/", 2)
        tensors.setdefault((layer, half), {})[what] = tensor
    try:
        notes = json.loads(whole.read_tensor_notes(path)["units"])
        layers = {
            layer: RecordedHalves(*(from_tensors(tensors[layer, half]) for half in ("reference", "query")))
            for layer in notes["layers"]
        }
        return ModelRecordings(layers, notes["layers"], notes["basis"], notes["basis_identity"])
    except (KeyError, ValueError, TypeError) as damage:
        raise whole.Damaged(path, f"it lacks {damage}: is it another file?") from damage


def unit_counts(path: Path) -> dict[str, int]:
    """How many units of each layer the file of a model's recordings holds; nothing else of it is read.

    Raises:
        ThalwegError: the file is missing or damaged.
    """
    end = "/reference/unit_ids"
    with whole.open_tensors(path) as file:
        names = [name for name in file.keys() if name.endswith(end)]  # noqa: SIM118  # it is no dictionary
        return {name.removesuffix(end): file.get_slice(name).get_shape()[0] for name in names}


def read_some(path: Path, layer: str, positions: Sequence[int]) -> RecordedHalves:
    """The recordings of some units of a layer: only these are read from the file, however many it holds.

    Args:
        path: The file of a model's recordings.
        layer: The layer's name.
        positions: The units' places among the recorded ones, in increasing order.

    Raises:
        ThalwegError: the file is missing or damaged.
    """
    with whole.open_tensors(path) as file:
        names = [key.rpartition("/") for key in file.keys()]  # noqa: SIM118  # it is no dictionary

        def half(which: str) -> Recording:
            own = {name: f"{start}/{name}" for start, _, name in names if start == f"{layer}/{which}"}
            return from_tensors({name: _part(file.get_slice(key), name, positions) for name, key in own.items()})

        return RecordedHalves(half("reference"), half("query"))


def _part(stored: Any, name: str, positions: Sequence[int]) -> Tensor:
    """What a stored tensor says of some units."""
    if name in ("settings", "sample_keys"):
        return cast(Tensor, stored[:])
    first, last = positions[0], positions[-1] + 1
    chosen = [position - first for position in positions]
    if name == "sample" or name.startswith("products."):
        return cast(Tensor, stored[:, first:last][:, chosen])
    return cast(Tensor, stored[first:last][chosen])
