"""The tasks that score a model's units by every measure and observer."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import polars as pl

from thalweg.files import whole
from thalweg.measures.base import register_only
from thalweg.measures.headlines import HEADLINES
from thalweg.pipeline.along import values_along
from thalweg.pipeline.gallery import gallery
from thalweg.pipeline.job import Model, failure_of
from thalweg.pipeline.parts import write_summary
from thalweg.pipeline.pieces import groups_of, piece_file, pieces, recordings_of, rows_of_pieces
from thalweg.pipeline.record import (
    Layers,
    Trained,
    merge_shards,
    record_model,
    write_recordings,
)
from thalweg.pipeline.views import views_of_pool
from thalweg.recording.readout import RANDOM
from thalweg.recording.result import concat_units
from thalweg.runs.recordings import RecordedHalves
from thalweg.scoring.summary import Summary, summarise
from thalweg.scoring.units import Halves, ObserverOnPool, StimulusMetadata, score_units
from thalweg.stimuli import modalities
from thalweg.stimuli.base import halves
from thalweg.trials.one_sided import Tails, concat_tails


def measure_models(models: Sequence[Model]) -> str:
    """Record a model and its twins, or merge what shards recorded, and score all units."""
    return failure_of(models, map(_measure, models))


def _measure(model: Model) -> None:
    register_only(model.measures)  # a worker does not know the user's own
    pool = model.splits.pool
    parts = Halves(*halves(pool, seed=model.settings.seed))
    views, metadata = views_of_pool(model, pool)
    recordings, trained = merge_shards(model, parts) if model.recorded_apart else record_model(model, parts, metadata)
    if scored := pieces(model):
        rows = rows_of_pieces(model, len(scored))
    else:
        groups = [{control: recordings[control] for control in group} for group in groups_of(recordings, model)]
        rows = pl.concat([_score(group, model, parts, views, metadata) for group in groups])
    outputs = [write_recordings(layers, model, control) for control, layers in recordings.items()]
    outputs.append(model.units_file)
    whole.write_frame(model.run / model.units_file, rows, statistics=True)
    settings = model.settings
    summary = summarise([rows], model.observers[0].name, resamples=settings.resamples, seed=settings.seed)
    outputs += write_summary(model, summary)
    if not model.beside:
        outputs.append(_write_gallery(model, summary, recordings["trained"], trained))
    model.run.finish(f"measure-{model.name}", model.measure_inputs(), outputs)


def score_pieces(models: Sequence[Model]) -> str:
    """Score one piece of a model's units, which was recorded in shards."""
    return failure_of(models, map(_score_piece, models))


def _score_piece(model: Model) -> None:
    assert model.piece is not None
    register_only(model.measures)
    pool = model.splits.pool
    parts = Halves(*halves(pool, seed=model.settings.seed))
    recordings = recordings_of(pieces(model)[model.piece], model)
    rows = _score(recordings, model, parts, *views_of_pool(model, pool))
    file = piece_file(model, model.piece)
    whole.write_frame(model.run / file, rows)
    model.run.finish(f"score-{model.task}", model.measure_inputs(), [file])


def _write_gallery(model: Model, summary: Summary, recordings: Layers, trained: Callable[[], Trained]) -> str:
    """Write the stimuli of a model's best, median and worst unit; returns the name of the file."""
    pool = model.splits.pool
    shown = gallery(
        summary.headlines.filter(pl.col("control") == "trained"),
        recordings,
        show=partial(modalities.of(model.ladder).shown, pool),
        trace=partial(_along, trained, model),
        measure=HEADLINES["predictable"],
        observer=model.observers[0].name,
        seed=model.settings.seed,
    )
    whole.write_frame(model.run / model.gallery_file, shown)
    return model.gallery_file


def _along(
    trained: Callable[[], Trained], model: Model, layer: str, unit: int, stimuli: list[int]
) -> list[list[float]]:
    """A unit's value at each place along some stimuli (token, moment), in the basis that it is of; nothing where it has
    none.
    """
    if not modalities.of(model.ladder).along:
        return []
    network, encoders = trained()
    return values_along(network, encoders, model, (layer, unit), stimuli, basis=model.basis)


def _units(recordings: Mapping[str, Layers], model: Model) -> pl.DataFrame:
    """What the table of units says of each unit of a model and its twins, in the order of their recordings."""
    frames = []
    for control, layers in recordings.items():
        for depth, layer in enumerate(model.rung.layers):
            if layer.name not in layers:
                continue
            units = pl.Series("unit", layers[layer.name][0].unit_ids.numpy()).to_frame()
            constants = {
                **model.key,
                "control": control,
                "layer": layer.name,
                "depth": depth,
                "reduction": layer.reduction,
                "basis": RANDOM if control == "rotated" else model.basis,
            }
            frames.append(units.with_columns(pl.lit(value).alias(name) for name, value in constants.items()))
    return pl.concat(frames)


def _score(
    recordings: Mapping[str, Layers],
    model: Model,
    parts: Halves,
    views: list[ObserverOnPool],
    metadata: StimulusMetadata,
) -> pl.DataFrame:
    """The rows of the table of units for a model and its twins, or for those of their layers that are given, all scored
    together.
    """
    pairs: list[RecordedHalves] = []
    poles: list[Tails] = []
    for control, layers in recordings.items():
        for layer in (layer for layer in model.rung.layers if layer.name in layers):
            pairs.append(layers[layer.name])
            poles.append(model.poles(control, layer, pairs[-1]))
    return score_units(
        concat_units([reference for reference, _ in pairs]),
        concat_units([query for _, query in pairs]),
        _units(recordings, model),
        halves=parts,
        observers=views,
        metadata=metadata,
        poles=concat_tails(poles),
    )
