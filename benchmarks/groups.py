"""Scores of a run's units by the kind of layer, by depth, and of latents by how often they are active, in markdown.

    python -m benchmarks.groups RUN
    python -m benchmarks.groups RUN --active SUBJECT STIMULI DICTIONARY    # a run in the basis sae:DICTIONARY

Each group stands beside the same group of its twins. A value is a mean over units with its 95 % bootstrap interval.
A latent counts as active in a window where its dictionary's nonlinearity lets it through at the last token.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

import thalweg
from benchmarks.results import table
from thalweg import subjects
from thalweg.bases.latents import Latents
from thalweg.models.loading import loaded
from thalweg.pipeline.one_model import stimuli_of
from thalweg.pipeline.settings import settings_of
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.runs.run import Run
from thalweg.stimuli import corpus

ACTIVE = (20, 100)  # windows
DRAWS = 2000
PERCENTILE = 0.95  # of the twins' units
OTHERS = ("two_choice", "two_choice_matched", "two_choice_single")
KINDS = {".mlp.": "neurons", "o_proj": "attention heads"}  # by what the layer's name holds


@dataclass(frozen=True)
class Group:
    name: str
    control: str
    values: dict[str, np.ndarray]  # by measure


def kind(layer: str) -> str:
    return next((word for part, word in KINDS.items() if part in layer), "residual stream")


def unit_scores(run: Run) -> pl.DataFrame:
    """A row for each unit and measure: the value by the first observer, its mean over bands, with one feature."""
    observer = next(iter(run.record["ladders"].values()))["observers"][0]["name"]
    measures = [*run.headlines.values(), *OTHERS]
    units = pl.read_parquet(run.path / "units" / "*.parquet").filter(
        ~pl.col("exchanged"), pl.col("measure").is_in(measures), observer=observer, band="mean"
    )
    rows = units.filter(pl.col("capacity").is_in(["", "1"]))
    third = (3 * pl.col("depth") / (pl.col("depth").max() + 1)).floor().cast(pl.Int8)
    return rows.with_columns(kind=pl.col("layer").map_elements(kind, pl.String), third=third)


def activity(run: Run, subject: str, data: str, dictionary: str) -> pl.DataFrame:
    """In how many windows each latent is active, counted up to the largest of `ACTIVE`."""
    model = subjects.given(subject)
    pool = stimuli_of(model, data, settings_of({}), length=corpus.LENGTH).pool
    network, ids = loaded(model), torch.arange(len(pool))
    basis = Latents.of(dictionary, active=True)
    layers = [layer for layer in model.layers if layer.name in set(run.layers["layer"])]
    encoders = basis.encoders(network, layers, pool, ids, device="cpu")
    settings = RecordingSettings(bases=(basis.name,), k=max(ACTIVE), sample=1)
    pairs = {(layer, basis.name): encode for layer, encode in encoders.items()}
    recorded = record(network, layers, pool, ids, settings, encoders=pairs)
    return pl.concat(
        pl.DataFrame({"layer": layer, "active": (recording.highest()[0] > 0).sum(1).numpy()}).with_row_index("unit")
        for (layer, _), recording in recorded.items()
    )


def groups(run: Run, activity: pl.DataFrame | None) -> Iterator[Group]:
    """The groups of a run's units, each with those of the twins beside it."""
    scores = unit_scores(run)
    divided = [("kind", name) for name in scores["kind"].unique(maintain_order=True)]
    if scores["depth"].n_unique() > 2:
        divided += [("third", third) for third in scores["third"].unique().sort()]
    for column, value in divided:
        name = f"third {value + 1} of the depth" if column == "third" else str(value)
        for (control,), rows in scores.filter(pl.col(column) == value).group_by("control", maintain_order=True):
            yield group(name, str(control), rows)
    if activity is not None:
        trained = scores.filter(control="trained").join(activity, on=["layer", "unit"])
        for name in trained["kind"].unique(maintain_order=True):
            for least in ACTIVE:
                active = trained.filter(pl.col("active") >= least, kind=name)
                yield group(f"{name}, active in {least} windows or more", "trained", active)


def group(name: str, control: str, rows: pl.DataFrame) -> Group:
    values = {str(measure): each["value"].to_numpy() for (measure,), each in rows.group_by("measure")}
    return Group(name, control, values)


def resampled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of units drawn again."""
    return np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(DRAWS)])


def shown(value: float, draws: np.ndarray) -> str:
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def mean_of(values: np.ndarray, rng: np.random.Generator) -> str:
    known = values[~np.isnan(values)]
    return shown(known.mean(), resampled(known, rng))


def beside(trained: Group, twin: Group, measure: str, rng: np.random.Generator) -> list[str]:
    """The difference of two groups' means, the same in standard deviations of units, and the share of units above a
    percentile of the twin's."""
    ours, theirs = (each.values[measure][~np.isnan(each.values[measure])] for each in (trained, twin))
    difference = ours.mean() - theirs.mean()
    effect = difference / np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2)
    above = (trained.values[measure] > np.quantile(theirs, PERCENTILE)).mean()
    return [shown(difference, resampled(ours, rng) - resampled(theirs, rng)), f"{effect:.2f}", f"{above:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--active", nargs=3, metavar=("SUBJECT", "STIMULI", "DICTIONARY"))
    given = parser.parse_args()
    run = thalweg.open_run(given.run)
    rng = np.random.default_rng(run.record["settings"]["seed"])
    asked = {**run.headlines, **{name: name for name in OTHERS}}
    every = list(groups(run, activity(run, *given.active) if given.active else None))
    rows = [
        [
            each.name,
            each.control,
            str(len(next(iter(each.values.values())))),
            *(mean_of(each.values[measure], rng) for measure in asked.values()),
        ]
        for each in every
    ]
    print(table(["units", "of", "n", *asked], rows))
    rotated = {each.name: each for each in every if each.control == "rotated"}
    rows = [
        [each.name, word, *beside(each, rotated[each.name.split(",")[0]], measure, rng)]
        for each in every
        if each.control == "trained"
        for word, measure in run.headlines.items()
        if each.name.split(",")[0] in rotated
    ]
    print(table(["units", "headline", "minus rotated", "d", "above the 95th percentile of rotated"], rows))


if __name__ == "__main__":
    main()
