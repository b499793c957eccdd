"""Planted units recorded and scored as a model's units are."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.recording.keys import Scramble
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import Recording
from thalweg.recording.settings import DEFAULTS, RecordingSettings
from thalweg.scoring.units import Halves, ObserverOnPool, StimulusMetadata, score_units
from thalweg.validation.planted import Group, Latents, side_by_side, without_names

BATCH = 500  # stimuli that the recorder is given at once


def record_values(
    values: Float[Tensor, "stimulus unit"],
    parts: Halves,
    metadata: StimulusMetadata,
    settings: RecordingSettings = DEFAULTS,
) -> tuple[Recording, Recording]:
    """The recordings of the reference half and of the query half of units with these values."""
    recordings = []
    for ids in (parts.reference, parts.query):
        recorder = Recorder(
            k=settings.k,
            sample=settings.sample,
            scramble=Scramble.seeded(settings.seed),
            statistics=metadata.tables(),
        )
        for batch in ids.split(BATCH):
            recorder.update(values[batch], batch)
        recordings.append(recorder.compute())
    return recordings[0], recordings[1]


def score_groups(
    groups: Sequence[Group],
    parts: Halves,
    observers: Sequence[ObserverOnPool],
    metadata: StimulusMetadata,
    settings: RecordingSettings = DEFAULTS,
) -> pl.DataFrame:
    """Score all units of some groups by every registered measure, with each observer.

    Returns:
        The rows of the table of units (`units/`): `layer` is the group's name, `depth` its place, `unit` the
        unit's place in it, and `basis` is `planted`.
    """
    values, places = side_by_side(groups)
    constants = {"ladder": "planted", "rung": "planted", "kind": "planted", "control": "trained", "basis": "planted"}
    units = pl.DataFrame(
        {
            "layer": [groups[place].name for place in places.tolist()],
            "depth": places.numpy(),
            "unit": torch.cat([torch.arange(group.values.shape[1]) for group in groups]).numpy(),
        }
    ).with_columns(
        *(pl.lit(value).alias(name) for name, value in constants.items()),
        pl.lit(settings.seed).alias("seed"),
        pl.lit("none").alias("reduction"),
    )
    recordings = record_values(values, parts, metadata, settings)
    return score_units(*recordings, units, halves=parts, observers=observers, metadata=metadata)


def score_planted(
    groups: Sequence[Group],
    latents: Latents,
    parts: Halves,
    observers: Sequence[ObserverOnPool],
    metadata: StimulusMetadata,
    settings: RecordingSettings = DEFAULTS,
) -> pl.DataFrame:
    """Score all units of some groups twice: with the observers' dictionaries as they are, and without the latents'
    names.

    Returns:
        The rows of `score_groups` with a column `named`. What no observer takes part in, and what controls answer, is
        there once, as named.
    """
    named = score_groups(groups, parts, observers, metadata, settings)
    blind = [
        replace(watcher, view=without_names(watcher.view, latents))
        for watcher in observers
        if not watcher.observer.control
    ]
    unnamed = score_groups(groups, parts, blind, metadata, settings).filter(pl.col("observer") != "")
    return pl.concat([named.with_columns(named=pl.lit(True)), unnamed.with_columns(named=pl.lit(False))])
