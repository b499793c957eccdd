"""What the whole measurement of one model costs: python -m benchmarks.measure SUBJECT STIMULI [--first N] [--units N]
    [--observer NAME] [--twins NAME]... [--cache FOLDER] [--device cuda] [--precision float16]

Measures the model as `thalweg measure` does, in one process, with the trained model and its twins, and prints the
seconds of each stage: on a CPU those of the processor, which other work hardly moves. Beside them stand the bare passes
that this needs: one over all stimuli for each network that is run (the rotated twin is read in the trained one's),
timed in the same process before and after. Observers' features are made beforehand, where the cache does not hold them,
and are not in the ratio; nor is the report.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import thalweg
from thalweg import subjects
from thalweg.compute.devices import PRECISIONS, given, in_precision
from thalweg.compute.workers import memory_kept
from thalweg.models.hooks import skip_logits
from thalweg.models.loading import loaded
from thalweg.models.records import Subject
from thalweg.pipeline.one_model import stimuli_of
from thalweg.pipeline.settings import settings_of
from thalweg.progress import Silent
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Stimuli, viewed

NO_PASS = {"rotated"}  # read while the trained model runs


class StageSeconds(Silent):
    """The seconds of each stage of a measurement."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        start = self.clock()
        yield lambda: None
        self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - start


def bare_pass(model: Subject, pool: Stimuli, options: argparse.Namespace, clock: Callable[[], float]) -> float:
    """The seconds of one pass over the stimuli, decoding included, in the batches of a measurement."""
    network = in_precision(loaded(model).to(options.device), PRECISIONS[options.precision]).eval()
    stimuli, size = viewed(pool, model.view), modalities.of(model).batch_size(options.device)
    start = clock()
    with torch.inference_mode(), skip_logits(network, ()):
        for ids in torch.arange(len(stimuli)).split(size):
            network(given(stimuli.batch(ids), options.device, PRECISIONS[options.precision]))
    if options.device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("subject")
    parser.add_argument("stimuli")
    parser.add_argument("--first", type=int, help="stimuli, from the first on")
    parser.add_argument("--units", type=int, default=0, help="units drawn; 0: all")
    parser.add_argument("--observer", default="hog")
    parser.add_argument("--twins", action="append", default=[])
    parser.add_argument("--cache", default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=[*PRECISIONS], default="float32")
    options = parser.parse_args()
    model = subjects.find(options.subject)
    pool = stimuli_of(model, options.stimuli, settings_of({"seeds": 1}), length=64).pool
    pool = pool.take(slice(0, options.first)) if options.first else pool
    torch.set_num_threads(1)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    progress = StageSeconds(clock)
    with tempfile.TemporaryDirectory() as folder, memory_kept():
        before = bare_pass(model, pool, options, clock)
        run = thalweg.measure(
            model,
            pool,
            units=options.units,
            observer=options.observer,
            twins=tuple(options.twins),
            workers=1,
            shards=2,  # so that recording and scoring are stages of their own
            device=options.device,
            precision=options.precision,
            out=Path(folder) / "run",
            cache=options.cache or Path(folder) / "cache",
            progress=progress,
        )
        bare = (before + bare_pass(model, pool, options, clock)) / 2
        passes = [control for control in run.models["control"] if control not in NO_PASS]
        for stage, spent in progress.seconds.items():
            print(f"{stage:10} {spent:7.1f} s")
        total = sum(spent for stage, spent in progress.seconds.items() if stage != "embed")
        print(f"{len(pool)} stimuli, {run.models['n_units'].sum()} units, twins included")
        print(f"bare passes {len(passes)} ({', '.join(passes)}), {bare:.1f} s each")
        print(f"all stages but embed over the bare passes: {total / (len(passes) * bare):.2f}")


if __name__ == "__main__":
    main()
