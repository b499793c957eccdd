"""The units of a model in pieces that workers score independently: of one that is recorded in shards.

Pieces are cut where the units of a model that is scored whole would be taken in any case, so its rows are the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby

import polars as pl

from thalweg.files import whole
from thalweg.pipeline.job import SHARDS, Model
from thalweg.pipeline.record import Layers, shard_file, union
from thalweg.runs.recordings import read_some, unit_counts
from thalweg.scoring.units import CHUNK

UNITS = 8 * CHUNK  # in a piece: some seconds of one core


@dataclass(frozen=True)
class Extent:
    """Consecutive units of one layer of a model or of a twin: their places among the recorded ones."""

    control: str
    layer: str
    start: int
    end: int


def groups_of(controls: Iterable[str], model: Model) -> list[list[str]]:
    """The controls whose units are scored together: derived twins by themselves, for the last digits of some measures
    vary with the units beside them, and a twin more must not change the others' rows.
    """
    derived = [control for control in controls if control in model.derived]
    others = [control for control in controls if control not in model.derived]
    return [group for group in (others, derived) if group]


def pieces(model: Model) -> list[list[Extent]]:
    """The pieces of a model that was recorded in shards, in the order of its rows; none where it is scored whole."""
    if not model.recorded_apart:
        return []
    groups = groups_of(model.controls, model)
    cut = [piece for group in groups for piece in _cut(_extents(group, model))]
    return cut if len(cut) > len(groups) else []


def _extents(controls: Sequence[str], model: Model) -> list[Extent]:
    counts = {control: unit_counts(model.run / shard_file(model, control, 0)) for control in controls}
    return [
        Extent(control, layer.name, 0, counts[control][layer.name])
        for control in controls
        for layer in model.rung.layers
    ]


def _cut(extents: Sequence[Extent]) -> list[list[Extent]]:
    """Extents in pieces of so many units; the last one of fewer."""
    cut: list[list[Extent]] = [[]]
    room = UNITS
    for extent in extents:
        start = extent.start
        while start < extent.end:
            if not room:
                cut.append([])
                room = UNITS
            end = min(extent.end, start + room)
            cut[-1].append(Extent(extent.control, extent.layer, start, end))
            room, start = room - (end - start), end
    return cut


def recordings_of(piece: Sequence[Extent], model: Model) -> Mapping[str, Layers]:
    """What the shards recorded of the units of a piece, always merged in the same order."""

    def of_shard(control: str, extents: Sequence[Extent], shard: int) -> Layers:
        path = model.run / shard_file(model, control, shard)
        return {each.layer: read_some(path, each.layer, range(each.start, each.end)) for each in extents}

    by_control = {control: list(part) for control, part in groupby(piece, key=lambda extent: extent.control)}
    return {
        control: reduce(union, (of_shard(control, extents, shard) for shard in range(model.settings.n_shards)))
        for control, extents in by_control.items()
    }


def piece_file(model: Model, piece: int) -> str:
    """The name of the file of the rows of a piece's units."""
    return f"{SHARDS}/{model.name}-units-{piece}.parquet"


def rows_of_pieces(model: Model, count: int) -> pl.DataFrame:
    """The rows of all units of a model that was scored in so many pieces."""
    return pl.concat([whole.read_frame(model.run / piece_file(model, piece)) for piece in range(count)]).rechunk()
