"""What it takes to average the units of a large run and to put its tables together:
python -m benchmarks.gathering [--models 100] [--units 100000] [--resamples 100] [--out DIR] [--most 100]

Makes up the rows of the units of so many models, one model after another, as scoring leaves them. Each is averaged and
written as a model's task does; then the tables of all are put together. Prints seconds of the processor, bytes in
files, and the most memory that this process took. With `--out`, the same command goes on where it stopped; `--most`
bounds the models of one call.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

import thalweg
from thalweg.files import whole
from thalweg.measures.headlines import HEADLINES, PLAIN
from thalweg.pipeline.gallery import SCHEMA
from thalweg.pipeline.job import Model
from thalweg.pipeline.parts import write_summary
from thalweg.pipeline.settings import settings_of
from thalweg.pipeline.tables import gather
from thalweg.runs.directory import RunDirectory
from thalweg.scoring.columns import UNITS
from thalweg.scoring.summary import summarise

MEASURES = [*HEADLINES.values(), PLAIN, "other", "another", "third"]
BANDS = ("extreme", "v90", "v75", "mean")
DIRECTIONS = 64  # units of a rotated layer


def models_of(run: RunDirectory, options: argparse.Namespace) -> list[Model]:
    rungs = tuple(
        thalweg.Rung(f"rung-{place:03}", "made up", nn.Identity, (thalweg.Layer("1"),))
        for place in range(options.models)
    )
    images = thalweg.Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.long), ("a",))
    splits = thalweg.Splits(images, images, images)
    ladder = thalweg.Ladder("made-up", rungs, lambda _source, _seed: splits, thalweg.Classifier())
    settings = settings_of({"resamples": options.resamples, "twins": ("rotated",)})
    observer = thalweg.Observer("image", 1, lambda _stimuli: torch.zeros(1, 1))
    return [
        Model(run, ladder, rung, 0, settings, splits, "", (observer,), place=place) for place, rung in enumerate(rungs)
    ]


def made_up_rows(model: Model, control: str, units: int) -> pl.DataFrame:
    """The rows of a model's units: one for each of six measures in four bands, and those of exchanged halves."""
    kinds = [(measure, band, exchanged) for measure in MEASURES for band in BANDS for exchanged in (False, True)]
    kinds = [kind for kind in kinds if not kind[2] or (kind[1] == "mean" and kind[0] in MEASURES[:3])]
    rows = pl.DataFrame(kinds, schema=["measure", "band", "exchanged"], orient="row")
    index = np.repeat(np.arange(len(kinds)), units)
    values = np.random.default_rng(model.place).random(len(index), np.float32)
    constants = {"ladder": "made-up", "rung": model.rung.name, "kind": "made up", "seed": 0, "control": control}
    constants |= {"layer": "1", "depth": 0, "reduction": "max", "basis": "neurons", "measure_version": 1}
    constants |= {"observer": "image", "capacity": "", "n": 100, "note": ""}
    return (
        rows[index]
        .with_columns(
            pl.Series("unit", np.tile(np.arange(units), len(kinds))),
            *(pl.Series(name, values) for name in ("value", "low", "high")),
            *(pl.lit(value).alias(name) for name, value in constants.items()),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in UNITS.items())
    )


def one_model(model: Model, units: int) -> None:
    """What the task of a model leaves, of made-up rows."""
    rows = pl.concat([made_up_rows(model, "trained", units), made_up_rows(model, "rotated", DIRECTIONS)])
    whole.write_frame(model.run / model.units_file, rows, statistics=True)
    resamples, seed = model.settings.resamples, model.settings.seed
    write_summary(model, summarise([rows], "image", resamples=resamples, seed=seed))
    whole.write_frame(model.run / model.gallery_file, pl.DataFrame(schema=SCHEMA))
    whole.write_json(model.run / f"weights/{model.name}.json", {"trained": {"pool_loss": 1.0, "bits": 1.0}})


def benchmark(folder: Path, options: argparse.Namespace) -> None:
    run = RunDirectory(folder)
    models = models_of(run, options)
    todo = [model for model in models if not (run / f"weights/{model.name}.json").is_file()][: options.most]
    start = time.process_time()
    for model in todo:
        one_model(model, options.units)
    if todo:
        each = (time.process_time() - start) / len(todo)
        print(f"{len(todo)} models averaged: {each:.2f} s each, {1e6 * each / options.units:.0f} us a unit, {peak()}")
    if len(todo) < options.most or todo[-1:] == models[-1:]:
        start = time.process_time()
        tables = gather(run, models)
        seconds, units = time.process_time() - start, tables["models"]["n_units"].sum()
        print(f"tables of {len(models)} models and {units:,} units put together: {seconds:.1f} s, {peak()}")
        lazily = pl.scan_parquet([run / model.units_file for model in models])
        start = time.process_time()
        asked = lazily.filter(pl.col("rung") == models[0].rung.name, pl.col("band") == "mean").select("value")
        rows = len(asked.collect())
        print(f"one model read lazily of all: {rows:,} rows, {time.process_time() - start:.1f} s, {peak()}")
    written = sum(file.stat().st_size for file in (folder / "units").iterdir())
    print(json.dumps({"bytes of units": written, "bytes of parts": sum_of(folder / "parts")}))


def sum_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def peak() -> str:
    return f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20):.2f} GiB of memory"


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("models", 100), ("units", 100_000), ("resamples", 100), ("most", 10**6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.out:
        benchmark(options.out, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        benchmark(Path(folder), options)


if __name__ == "__main__":
    main()
