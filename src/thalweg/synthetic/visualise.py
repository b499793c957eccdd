"""The synthetic condition of a finished run: pictures for some units of every network, and their scores beside the
natural ones'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from thalweg.compute.devices import check_device, placed, resolved
from thalweg.errors import ThalwegError, readable, unknown
from thalweg.explore.catalogue import LayerUnits, Network, catalogue
from thalweg.explore.weights import Networks
from thalweg.files.identity import digest
from thalweg.files.names import file_name
from thalweg.files.whole import read_frame, read_tensor_notes, read_tensors, write_frame, write_tensors
from thalweg.models.records import Layer
from thalweg.observers import base
from thalweg.observers.base import Features, Observer, extract_features
from thalweg.pipeline.embed import embed_pool
from thalweg.pipeline.settings import Settings, usual_cache
from thalweg.progress import Progress, Silent, Stages
from thalweg.recording.readout import NEURONS
from thalweg.recording.result import merge
from thalweg.runs.directory import RunDirectory
from thalweg.runs.recordings import RecordedHalves, read_some, recordings_file
from thalweg.runs.run import Run
from thalweg.scoring.columns import UNITS
from thalweg.scoring.units import Halves, ObserverOnPool, StimulusMetadata, stimulus_metadata
from thalweg.stimuli.base import halves
from thalweg.stimuli.images import Images
from thalweg.synthetic.maximise import STEPS, Goals, Pictures, Recipe, maximise, together
from thalweg.synthetic.preparing import Preparation, preparation
from thalweg.synthetic.scoring import Asked, score_conditions, view_beyond
from thalweg.trials.one_sided import tails

VERSION = 1  # of how pictures are made and scored; raised when either changes
FOLDER = "synthetic"
TABLE = "synthetic.parquet"
USUAL_UNITS = 8  # of each layer
CONTROLS = ("trained", "untrained")
SYNTHETIC: dict[str, Any] = {**UNITS, "references": pl.String, "exceeds_high": pl.Boolean, "exceeds_low": pl.Boolean}


@dataclass(frozen=True, eq=False)
class Watching:
    """The observer of a ladder, and its pool, whose features it looks at once."""

    observer: Observer
    pool: Any
    settings: Settings
    stages: Stages
    seed: int

    @cached_property
    def seen(self) -> dict[str, Features]:
        """What the observer, or each of its parts, sees of the pool."""
        files = embed_pool(self.pool, self.parts, self.settings, self.stages)
        return {part.name: read_tensors(files[part.name]) for part in self.parts}

    @property
    def parts(self) -> tuple[Observer, ...]:
        """The observers that it is the sum of, or it alone."""
        return tuple(base.find(name) for name in self.observer.parts) or (self.observer,)

    @cached_property
    def metadata(self) -> StimulusMetadata:
        """What trials are matched by."""
        trivial = base.find("trivial")
        files = embed_pool(self.pool, (trivial,), self.settings, self.stages)
        return stimulus_metadata(self.pool, read_tensors(files["trivial"])["features"])

    @cached_property
    def halves(self) -> Halves:
        """The ids of the reference half and of the query half."""
        return Halves(*halves(self.pool, seed=self.seed))

    def watch(self, pixels: UInt8[Tensor, "picture channel height width"]) -> ObserverOnPool:
        """The observer with its view of the pool and of pictures behind it."""
        images = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("synthetic",))
        made = {part.name: extract_features(part, images) for part in self.parts}
        return ObserverOnPool(self.observer, view_beyond(self.observer, self.seen, made, self.pool))


@dataclass(frozen=True, eq=False)
class Plan:
    """What is made: units of each layer, steps, the seed, where the work is done, and who looks at it."""

    units: int
    steps: int
    seed: int
    device: str
    watching: Watching

    @property
    def stated(self) -> list[Any]:
        """What pictures and scores depend on."""
        observer = self.watching.observer
        return [VERSION, self.units, self.steps, self.seed, observer.name, observer.version]


def visualise(
    run: Run,
    *,
    units: int = USUAL_UNITS,
    steps: int = STEPS,
    rung: Sequence[str] = (),
    device: str = "auto",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Make synthetic references for some units of each layer of a run's trained and untrained networks, and score these
    units with natural and with synthetic references: the same observer, the same queries, nine references a side.

    Pictures go into the folder `synthetic` of the run, scores into `synthetic.parquet`. A network whose files are there
    is not done again.

    Args:
        run: The run, of networks that see images.
        units: How many units of each layer, drawn at random: the same ones of a network and of its untrained twin.
        steps: Of the optimiser.
        rung: Only these rungs; by default all.
        device: Where the work is done: `auto`, `cpu`, `cuda`, `mps`.
        cache: The folder that keeps what observers see of the stimuli.
        progress: Where it is said how far the work is.

    Returns:
        A row for each unit, measure, band and kind of references (`references`: `natural` or `synthetic`), with the
        columns of the table of units, and whether the strongest picture of each direction drives the unit beyond every
        natural stimulus (`exceeds_high`, `exceeds_low`).

    Raises:
        ThalwegError: the run has no networks that see images, they or the stimuli cannot be had, or the run cannot be
            written.
    """
    if units < 1 or steps < 1:
        raise ThalwegError(f"units is {units} and steps is {steps}; whole numbers of at least 1 were expected")
    chosen = catalogue(run, rungs=rung)
    known = {network.rung for network in catalogue(run).networks} if rung else set()
    for name in rung:
        if name not in known:
            raise unknown("rung of this run", name, known)
    seeing = [name for name, about in run.record["ladders"].items() if about["modality"] == "image"]
    todo = [each for each in chosen.networks if each.ladder in seeing and each.main and each.control in CONTROLS]
    todo = [each for each in todo if each.basis == NEURONS]
    if not todo:
        raise ThalwegError(
            f"{readable(run.path)}: no network of this run sees images with neurons as its units; synthetic references "
            "are pictures"
        )
    check_device(device)
    stages = Stages(progress or Silent())
    settings = Settings(cache=cache or usual_cache(), workers=1)
    pools = {name: run.stimuli(name) for name in dict.fromkeys(each.ladder for each in todo)}
    networks = Networks(run, pools)
    seed = run.record["settings"]["seed"]
    first = {name: about["observers"][0] for name, about in run.record["ladders"].items()}
    watching = {
        name: Watching(base.find_version(first[name]["name"], first[name]["version"]), pool, settings, stages, seed)
        for name, pool in pools.items()
    }
    tables = []
    with RunDirectory(run.path).locked(), stages("synthetic references", len(todo)) as advance:
        for network in todo:
            plan = Plan(units, steps, seed, resolved(device), watching[network.ladder])
            tables.append(_of_network(run, network, networks, plan))
            advance()
        table = pl.concat(tables)
        write_frame(run.path / TABLE, table)
    return table


def _of_network(run: Run, network: Network, networks: Networks, plan: Plan) -> pl.DataFrame:
    """The rows of one network, from its file where that is there."""
    pictures_file = network_file(run, network.ladder, network.rung, network.seed, network.control)
    file = pictures_file.with_suffix(".parquet")
    made_from = digest(network.key, run.record["ladders"][network.ladder]["data_hash"], *plan.stated)
    if file.is_file() and pictures_file.is_file() and read_tensor_notes(pictures_file).get("made from") == made_from:
        return read_frame(file, [*SYNTHETIC])
    loaded = networks.load(network)
    if isinstance(loaded, str):
        raise ThalwegError(f"{network.name} of {network.ladder}: {loaded}")
    module = placed(loaded.module, plan.device)
    path = run.path / recordings_file(network.ladder, network.rung, network.seed, network.control)
    frames: list[pl.DataFrame] = []
    kept: dict[str, Tensor] = {}
    for depth, units in enumerate(network.layers):
        layer = loaded.layers[units.name]
        part = read_some(path, layer.name, _drawn(units, network, plan))
        pictures = _pictures(module, layer, part, preparation(loaded.pool), plan)
        frames.append(_scored(part, pictures, _rows(network, layer, depth, pictures), layer, plan))
        kept |= {f"{layer.name}/{name}": getattr(pictures, name) for name in ("units", "pixels", "values", "best")}
    table = pl.concat(frames).select(*SYNTHETIC).cast(pl.Schema(SYNTHETIC))
    write_frame(file, table)
    write_tensors(pictures_file, kept, {"made from": made_from})
    return table


def network_file(run: Run, ladder: str, rung: str, seed: int, control: str) -> Path:
    """The file of the pictures that were made for a network; its rows lie beside it."""
    return run.path / FOLDER / f"{file_name('-'.join((ladder, rung, str(seed), control)))}.safetensors"


def _drawn(units: LayerUnits, network: Network, plan: Plan) -> list[int]:
    """The positions of the units that are chosen, the same ones of a network and of its twin."""
    key = (plan.seed, network.ladder, network.rung, network.seed, units.name)
    order = sorted(range(len(units.numbers)), key=lambda place: digest("synthetic", *key, int(units.numbers[place])))
    return sorted(order[: plan.units])


def _pictures(module: nn.Module, layer: Layer, part: RecordedHalves, prepare: Preparation, plan: Plan) -> Pictures:
    """The synthetic references of some units of a layer."""
    both = merge(*part)
    best = torch.stack([both.highest()[0][:, 0], both.lowest()[0][:, 0]], 1)
    goals = Goals(both.unit_ids, best, both.variance().clamp_min(0).sqrt().float())
    recipe = Recipe(prepare.size, prepare, plan.steps, plan.seed, plan.device)
    return together(list(maximise(module, layer, goals, recipe)))


def _rows(network: Network, layer: Layer, depth: int, pictures: Pictures) -> pl.DataFrame:
    """What the table says of each unit."""
    names = ("ladder", "rung", "kind", "seed", "control", "basis")
    constants: dict[str, Any] = {name: getattr(network, name) for name in names}
    constants |= {"layer": layer.name, "depth": depth, "reduction": layer.reduction}
    units = pl.Series("unit", pictures.units.numpy()).to_frame()
    return units.with_columns(pl.lit(value).alias(name) for name, value in constants.items())


def _scored(part: RecordedHalves, pictures: Pictures, rows: pl.DataFrame, layer: Layer, plan: Plan) -> pl.DataFrame:
    """The rows of a layer's units, in both conditions."""
    watching = plan.watching
    watcher = watching.watch(pictures.pixels.flatten(0, 2))
    poles = tails(*part, layer.nonlinearity)
    asked = Asked(part, poles, watching.halves, watching.metadata, watcher)
    table = score_conditions(asked, pictures, len(watching.pool), rows)
    exceeds = {f"exceeds_{name}": pictures.exceeds[:, place].numpy() for place, name in enumerate(("high", "low"))}
    beyond = pl.DataFrame({"unit": pictures.units.numpy(), **exceeds}).cast({"unit": table["unit"].dtype})
    return table.join(beyond, on="unit", how="left", maintain_order="left")
