"""The tasks that measure whether concepts are shared between languages, of ladders that have concepts."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import polars as pl
from torch import nn

from thalweg.compute.devices import placed
from thalweg.concepts.columns import CONCEPTS
from thalweg.concepts.measuring import SHUFFLED, UnitScores, crisp_rows, network_rows, shuffled_rows
from thalweg.concepts.representations import Reader, represent
from thalweg.factors.relation import relation
from thalweg.files import whole
from thalweg.files.identity import digest, identity
from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES
from thalweg.models.rerandomised import DERIVED, RERANDOMISED
from thalweg.pipeline.job import Model, failure_of
from thalweg.recording.readout import NEURONS

STRENGTH = "strength"
RELATED = ("retrieval", "cka", "overlap", "shared_units", "probe", "patch", "carried")
CRISP = HEADLINES["crisp"]
VERSION = 2  # of how concepts are measured; raised when its numbers change
ROTATED = "rotated"  # no rotation of a layer changes retrieval, CKA or probes


def concept_models(models: Sequence[Model]) -> str:
    """Measure how far a model and its twins share concepts between languages."""
    return failure_of(models, map(_concepts, models))


def concept_inputs(model: Model) -> str:
    """The hash of what its rows are made from."""
    layers = [layer.name for layer in (*model.ladder.concept_layers, *model.rung.layers)]
    return digest(model.measure_inputs(), layers, identity(model.ladder.concepts), VERSION)


def concepts_file(model: Model) -> str:
    """The name of the file of its rows in the run directory."""
    return f"parts/{model.name}-concepts.parquet"


def concept_relations(models: pl.DataFrame, concepts: pl.DataFrame) -> pl.DataFrame:
    """Rows without a rung: how two measures go together over the trained models of a ladder, and each with strength, as
    Spearman's correlation.
    """
    trained = models.filter(control="trained").select("ladder", "rung", "seed", pl.col("bits").alias(STRENGTH))
    of_models = concepts.filter(control="trained", layer="").unique(["ladder", "rung", "seed", "measure"])
    wide = of_models.pivot("measure", index=["ladder", "rung", "seed"], values="value")
    rows = []
    for (ladder,), group in trained.join(wide, on=["ladder", "rung", "seed"]).group_by("ladder", maintain_order=True):
        names = [STRENGTH, *(name for name in RELATED if name in group.columns)]
        for first, second in combinations(names, 2):
            x, y = (group[name].cast(pl.Float64).fill_null(math.nan).to_list() for name in (first, second))
            found = relation(x, y, group["rung"].to_list())
            row = {"value": found.rho, "low": found.low, "high": found.high, "n": found.n_models, "note": found.note}
            key = {"ladder": ladder, "rung": "", "control": "trained", "layer": "", "measure": f"{first} ~ {second}"}
            rows.append(key | row)
    return pl.DataFrame(rows, schema=CONCEPTS)


def _concepts(model: Model) -> None:
    rows = [
        {"ladder": model.ladder.name, "rung": model.rung.name, "seed": model.seed, "control": control, **row}
        for control, row in _rows(model)
    ]
    whole.write_frame(model.run / concepts_file(model), pl.DataFrame(rows, schema=CONCEPTS))
    model.run.finish(f"concepts-{model.name}", concept_inputs(model), [concepts_file(model)])


def _rows(model: Model) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of the network and its controls; a re-randomised twin is made here if the survey has none."""
    assert model.ladder.concepts is not None
    pairs = model.ladder.concepts(model.settings.seed, model.splits)
    layers = [*model.ladder.concept_layers, *model.rung.layers]
    controls = dict.fromkeys([*model.controls, *([RERANDOMISED] if len(model.controls) > 1 else [])])
    for control in controls:
        if control != ROTATED:
            reader, seed = Reader(_network(model, control), model.settings.resolved_device), model.own_seed
            values = represent(reader, pairs, layers)
            yield from ((control, row) for row in network_rows(reader, pairs, layers, seed=seed, values=values))
            yield from ((control, row) for row in crisp_rows(values, _crisp(model, control), seed=seed))
            if control == "trained":
                yield from ((SHUFFLED, row) for row in shuffled_rows(values, pairs, seed=seed))


def _crisp(model: Model, control: str) -> UnitScores:
    """How crisp each unit of a network was found, by layer; nothing where other units than neurons were scored."""
    if model.basis != NEURONS or control not in model.controls:
        return {}
    units = pl.read_parquet(model.run / model.units_file).filter(
        ~pl.col("exchanged"), control=control, measure=CRISP, observer=model.observers[0].name, band=MEAN
    )
    by_layer = units.sort("unit").partition_by("layer", as_dict=True, maintain_order=True)
    return {
        str(layer): (rows["unit"].cast(pl.Int64).to_torch(), rows["value"].cast(pl.Float64).to_torch())
        for (layer,), rows in by_layer.items()
    }


def _network(model: Model, control: str) -> nn.Module:
    """The network with its weights, on the device."""
    derived = control not in model.controls
    network = model.network("trained" if derived else control)
    if derived:
        DERIVED[control].make(network, model.own_seed)
    return placed(network, model.settings.resolved_device).eval()
