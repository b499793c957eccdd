"""The tasks of a survey: train a model, measure a model. Each leaves its result in the run directory and may be called
again.
"""

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import polars as pl
import torch
from torch import Tensor, nn

from thalweg import strength, tables
from thalweg.errors import ThalwegError
from thalweg.gallery import gallery
from thalweg.ladder import Ladder, Rung
from thalweg.measures import MEASURES
from thalweg.observers import Observer, prepare
from thalweg.recording import NEURONS, RANDOM, Recording, beside, record, to_tensors
from thalweg.scores import HEADLINES
from thalweg.scoring import Halves, Watcher, score_units
from thalweg.settings import Settings
from thalweg.stimuli import Images, Splits, halves
from thalweg.tables import RunDirectory, digest, identity

CONTROLS = {"none": NEURONS, "untrained": NEURONS, "rotated": RANDOM}  # each with its basis
Layers = dict[str, tuple[Recording, Recording]]  # by layer: the reference half's and the query half's


@dataclass(frozen=True, eq=False)
class Model:
    """One rung and seed of a ladder, with all that its tasks need."""

    run: RunDirectory
    ladder: Ladder
    rung: Rung
    seed: int
    settings: Settings
    splits: Splits
    data_hash: str
    watching: tuple[Observer, ...] = ()
    features: Mapping[str, Path] = field(default_factory=dict)  # of each observer that has features

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.ladder.name}-{self.rung.name}-{self.seed}"

    def build(self) -> nn.Module:
        """The untrained model: the same weights whenever it is built."""
        torch.manual_seed(1_000_003 * self.settings.seed + self.seed)
        return self.rung.build()

    def train_inputs(self) -> str:
        """The hash of what its weights are made from."""
        trainer = identity(self.rung.train or self.ladder.train)
        return digest(version("thalweg"), str(self.build()), trainer, self.seed, self.settings.seed, self.data_hash)

    def measure_inputs(self) -> str:
        """The hash of what its recordings and rows are made from."""
        layers = [(layer.name, layer.pool, identity(layer.nonlinearity)) for layer in self.rung.layers]
        watching = [(one.name, one.version, one.parts) for one in self.watching]
        features = sorted(file.name for file in self.features.values())
        measures = [(measure.name, measure.version) for measure in MEASURES.values()]
        settings = self.settings.affecting()
        kept = [settings[name] for name in ("k", "sample", "seed", "resamples")]
        return digest(self.train_inputs(), layers, watching, features, measures, kept, self.rung.kind)


def train_model(model: Model) -> str:
    """Train a model and leave its weights and what is to be said of it; returns the reason of a failure, or nothing."""
    try:
        network = model.build().to(model.settings.hardware)
        untrained = _strengths(network, model, {"train_examples": 0})
        told = dict((model.rung.train or model.ladder.train)(network, model.splits, model.seed))
        trained = _strengths(network, model, told)
    except ThalwegError as wrong:
        return str(wrong)
    except Exception:
        return traceback.format_exc(limit=-3)
    weights, about = f"weights/{model.name}.safetensors", f"weights/{model.name}.json"
    tables.write_tensors(model.run / weights, {name: value.cpu() for name, value in network.state_dict().items()})
    tables.write_json(model.run / about, {"trained": trained, "untrained": untrained})
    model.run.finish(f"train-{model.name}", model.train_inputs(), [weights, about])
    return ""


def _strengths(network: nn.Module, model: Model, told: Mapping[str, float | int | str]) -> dict[str, float | int | str]:
    """What the tables say of a model: its place on every strength axis, and how its training ended."""
    device = model.settings.hardware
    found = strength.evaluate(network, model.splits.pool, device=device)
    forward = strength.forward_flops(network.to("cpu"), model.splits.pool)
    network.to(device)
    return {
        **told,
        "pool_loss": found["loss"],
        "bits": found["bits"],
        "accuracy": found["accuracy"],
        "parameters": sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        "compute": 3 * forward * int(told.get("train_examples", 0)),  # a backward pass costs two forward passes
    }


def measure_model(model: Model) -> str:
    """Record a model, its untrained and its rotated twin, and score all units; returns the reason of a failure, or
    nothing.
    """
    try:
        pool = model.splits.pool
        parts = Halves(*halves(len(pool), seed=model.settings.seed))
        watchers, statistics = _watchers(model, pool)
        trained = model.build()
        trained.load_state_dict(tables.read_tensors(model.run / f"weights/{model.name}.safetensors"))
        found = {
            **_record(trained, model, parts, statistics, {"none": NEURONS, "rotated": RANDOM}),
            **_record(model.build(), model, parts, statistics, {"untrained": NEURONS}),
        }
        recordings = {control: found[control] for control in CONTROLS}
        rows = _score(recordings, model, parts, watchers, statistics)
    except ThalwegError as wrong:
        return str(wrong)
    except Exception:
        return traceback.format_exc(limit=-3)
    outputs = [_keep(recordings[control], model, control) for control in CONTROLS]
    outputs += [f"parts/{model.name}.parquet", f"parts/{model.name}-gallery.parquet"]
    tables.write_frame(model.run / outputs[-2], rows)
    shown = gallery(
        rows.filter(pl.col("control") == "none"),
        recordings["none"],
        pool,
        measure=HEADLINES["predictable"],
        observer=model.watching[0].name,
        seed=model.settings.seed,
    )
    tables.write_frame(model.run / outputs[-1], shown)
    model.run.finish(f"measure-{model.name}", model.measure_inputs(), outputs)
    return ""


def _watchers(model: Model, pool: Images) -> tuple[list[Watcher], Tensor]:
    """The observers with their views of the pool, and the pool's low-level statistics."""
    return _views(tuple(sorted(model.features.items())), model.watching, _Once(pool, model.data_hash))


@dataclass(frozen=True, eq=False)
class _Once:
    """A pool that counts as equal to another of the same content, so that what is made of it can be kept."""

    pool: Images
    content: str

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and other.content == self.content


@lru_cache(maxsize=2)
def _views(
    files: tuple[tuple[str, Path], ...], watching: tuple[Observer, ...], once: _Once
) -> tuple[list[Watcher], Tensor]:
    """Made once in each worker process: the models that it measures share them."""
    features = {name: tables.read_tensors(file)["features"] for name, file in files}
    return [Watcher(one, prepare(one, features, once.pool)) for one in watching], features["trivial"]


def _record(
    network: nn.Module, model: Model, parts: Halves, statistics: Tensor, bases: Mapping[str, str]
) -> dict[str, Layers]:
    """The recordings of both halves, by control and layer."""
    pool = model.splits.pool
    labels = nn.functional.one_hot(pool.labels.long(), len(pool.label_names)).float()
    reference, query = (
        record(
            network,
            model.rung.layers,
            pool,
            ids,
            bases=tuple(bases.values()),
            k=model.settings.k,
            sample=model.settings.sample,
            seed=model.settings.seed,
            statistics={"label": labels, "trivial": statistics},
            device=model.settings.hardware,
        )
        for ids in (parts.reference, parts.query)
    )
    return {
        control: {layer.name: (reference[layer.name, basis], query[layer.name, basis]) for layer in model.rung.layers}
        for control, basis in bases.items()
    }


def _units(recordings: Mapping[str, Layers], model: Model) -> pl.DataFrame:
    """What the table of units says of each unit of a model and its twins, in the order of their recordings."""
    frames = []
    for control, layers in recordings.items():
        for depth, layer in enumerate(model.rung.layers):
            units = pl.int_range(len(layers[layer.name][0].count), eager=True).alias("unit").to_frame()
            told = {
                "ladder": model.ladder.name,
                "rung": model.rung.name,
                "kind": model.rung.kind,
                "seed": model.seed,
                "control": control,
                "layer": layer.name,
                "depth": depth,
                "pool": layer.pool,
                "basis": CONTROLS[control],
            }
            frames.append(units.with_columns(pl.lit(value).alias(name) for name, value in told.items()))
    return pl.concat(frames)


def _score(
    recordings: Mapping[str, Layers], model: Model, parts: Halves, watchers: list[Watcher], statistics: Tensor
) -> pl.DataFrame:
    """The rows of the table of units for a model and its twins, all scored together."""
    pairs = [layers[layer.name] for layers in recordings.values() for layer in model.rung.layers]
    return score_units(
        beside([reference for reference, _ in pairs]),
        beside([query for _, query in pairs]),
        _units(recordings, model),
        halves=parts,
        watchers=watchers,
        statistics=statistics,
        labels=model.splits.pool.labels,
    )


def _keep(recordings: Layers, model: Model, control: str) -> str:
    """Write the recordings of one model and control; returns the file's name in the run directory."""
    tensors = {
        f"{layer}/{half}/{name}": tensor
        for layer, pair in recordings.items()
        for half, recording in zip(("reference", "query"), pair, strict=True)
        for name, tensor in to_tensors(recording).items()
    }
    name = f"recordings/{model.name}-{control}.safetensors"
    tables.write_tensors(model.run / name, tensors, {"layers": json.dumps(list(recordings))})
    return name
