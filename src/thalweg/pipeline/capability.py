"""The tasks that weigh what a model's best-scored units carry."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import torch
from torch import Tensor

from thalweg.capability.answers import Missing
from thalweg.capability.columns import CAPABILITY
from thalweg.capability.masked import Ablation, masked_model
from thalweg.capability.total import ABLATIONS, DRAWS, Scores, total_capability
from thalweg.errors import NoRoom, reason
from thalweg.files import whole
from thalweg.files.identity import digest
from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES
from thalweg.models.records import Layer
from thalweg.pipeline.job import Model, failure_of
from thalweg.pipeline.parts import read_part
from thalweg.recording.readout import NEURONS
from thalweg.stimuli import modalities

VERSION = 2  # of how capability is weighed; raised when its numbers change
MEASURE = HEADLINES["crisp"]
CONTROLS: dict[str, tuple[Ablation, ...]] = {"trained": ABLATIONS, "untrained": ("mean",)}  # a control costs half
STIMULI = (250, 64)  # that are weighed: of classes, and windows of tokens
NO_NEURONS = "the units are no neurons of the model, so they cannot be replaced one by one"


def capability_models(models: Sequence[Model]) -> str:
    """Weigh what the best-scored units of a model and of its untrained twin carry."""
    return failure_of(models, map(_capability, models))


def capability_inputs(model: Model) -> str:
    """The hash of what its capability is weighed by."""
    return digest(model.measure_inputs(), VERSION)


def capability_file(model: Model) -> str:
    """The name of the file of its rows in the run directory."""
    return f"parts/{model.name}-capability.parquet"


def _capability(model: Model) -> None:
    rows: list[dict[str, Any]] = []
    for control in model.controls:
        if control in CONTROLS:
            rows += _rows(model, control)
    whole.write_frame(model.run / capability_file(model), pl.DataFrame(rows, schema=CAPABILITY))
    model.run.finish(f"capability-{model.name}", capability_inputs(model), [capability_file(model)])


def _rows(model: Model, control: str) -> list[dict[str, Any]]:
    """The rows of a network; where it cannot be weighed, one that says why."""
    key = {
        **model.key,
        "control": control,
        "measure": MEASURE,
        "observer": model.observers[0].name,
    }
    try:
        return [{**key, **row} for row in _weighed(model, control)]
    except (NoRoom, MemoryError):
        raise
    except Missing as missing:
        note = str(missing)
    except Exception as wrong:  # a side table takes no model down
        note = f"it failed: {reason(wrong)}"
    return [{**key, "ablation": "", "note": note}]


def _weighed(model: Model, control: str) -> Iterator[dict[str, Any]]:
    if model.basis != NEURONS:
        raise Missing(NO_NEURONS)
    pool = model.pool
    count = min(len(pool), STIMULI[modalities.of(model.ladder).tokens])
    stimuli = pool.take(torch.linspace(0, len(pool) - 1, count, dtype=torch.float64).long())
    network = masked_model(
        model.network(control),
        model.rung.layers,
        stimuli,
        pool,
        at_once=model.batch_size,
        seed=model.own_seed,
        device=model.settings.resolved_device,
    )
    for row in total_capability(network, _scores(model, control), draws=DRAWS, ablations=CONTROLS[control]):
        yield {**row, "note": _left_out(row)}


def _left_out(row: dict[str, Any]) -> str:
    if row["n_measured"] == row["n_units"]:
        return ""
    return f"{row['n_measured']:,} of {row['n_units']:,} units were measured; the others always stay"


def _scores(model: Model, control: str) -> Scores:
    """What the units of a network scored, layer by layer."""
    units = pl.read_parquet(model.run / model.units_file).filter(
        pl.col("measure") == MEASURE,
        pl.col("observer") == model.observers[0].name,
        pl.col("band") == MEAN,
        pl.col("control") == control,
        ~pl.col("exchanged"),
    )
    values, ids = zip(*(_of_layer(units, layer) for layer in model.rung.layers), strict=True)
    again = read_part(model).table("reliability").filter(control=control, measure=MEASURE)["reliability"]
    known = len(again) == 1 and again[0] is not None
    return Scores(values, ids, float(again[0]) if known else math.nan)


def _of_layer(units: pl.DataFrame, layer: Layer) -> tuple[Tensor, Tensor]:
    rows = units.filter(layer=layer.name).sort("unit")
    if rows.is_empty():
        raise Missing(f"no unit of layer {layer.name!r} was asked for {MEASURE}")
    return torch.from_numpy(rows["value"].to_numpy().copy()), torch.from_numpy(rows["unit"].to_numpy().copy())
