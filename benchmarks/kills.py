"""Kill a small survey at random moments and see that each continuation ends with the bytes of an undisturbed one:
python -m benchmarks.kills [--trials 50] [--seed 0] [--rungs 2] [--shards 2] [--workers 1] [--once FILE ...]

With `--once`, it is killed too as soon as each of these files of the run directory is there.

Every survey is a fork of this process, which has all modules imported already and has computed nothing itself; so a
trial takes well under a second, and the moments fall into the survey and not into its start. A fork leads a process
group of its own and is killed with it, workers included.
"""

import argparse
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import thalweg

DIGITS = load_digits()
STAGES = ("train", "record", "measure", "tables", "shape")


def splits(_source: object, seed: int) -> thalweg.Splits:
    order = torch.randperm(len(DIGITS.target), generator=torch.Generator().manual_seed(seed))
    pixels = torch.from_numpy(DIGITS.images * 15).byte()[order, None]
    images = thalweg.Images(pixels, torch.from_numpy(DIGITS.target)[order], tuple("0123456789"))
    return thalweg.Splits(images.take(slice(0, 200)), images.take(slice(200, 300)), images.take(slice(300, 700)))


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def pixels_of(stimuli: thalweg.Images) -> torch.Tensor:
    return stimuli.pixels.flatten(1).float()


def small_survey(out: Path, options: argparse.Namespace) -> None:
    layers = (thalweg.Layer("1", nonlinearity=torch.relu),)
    rungs = [thalweg.Rung(f"width-{n}", "dense", partial(network, n), layers) for n in range(2, 2 + options.rungs)]
    train = thalweg.Classifier(learning_rate=0.02, patience=2, most_epochs=6)
    thalweg.survey(
        thalweg.Ladder("small-digits", tuple(rungs), splits, train),
        out=out,
        observer=thalweg.Observer("plain", 1, pixels_of, names_classes=True),
        cache=out.parent / "cache",
        seeds=1,
        resamples=100,
        batch_size=50,
        shards=options.shards,
        workers=options.workers,
    )


def forked(work: Callable[[], None]) -> int:
    """The number of a new process, the head of its group, that does the work."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(path: Path) -> dict[str, bytes]:
    """All files that a survey leaves, but what it cost."""
    kept = [file for file in path.rglob("*") if file.is_file() and file.name not in ("run.json", ".lock")]
    return {str(file.relative_to(path)): file.read_bytes() for file in kept}


def warm(out: Path, options: argparse.Namespace) -> float:
    """Do the undisturbed survey, and import all that it imports; returns the seconds that another takes then."""

    def noting() -> None:
        small_survey(out, options)
        (out.parent / "modules").write_text("\n".join(list(sys.modules)))

    if ended(forked(noting)):
        sys.exit("the undisturbed survey failed")
    for name in (out.parent / "modules").read_text().splitlines():
        if name not in sys.modules and not name.startswith(("__", "ray")):
            with suppress(ImportError):  # some are made while running, not imported
                importlib.import_module(name)
    start = time.perf_counter()
    ended(forked(partial(small_survey, out.parent / "timed", options)))
    return time.perf_counter() - start


def after(seconds: float) -> Callable[[Path], None]:
    """Waits so long."""
    return lambda _out: time.sleep(seconds)


def once(name: str) -> Callable[[Path], None]:
    """Waits until a file of the run directory is there, at most a minute."""

    def wait(out: Path) -> None:
        start = time.perf_counter()
        while not (out / name).exists() and time.perf_counter() < start + 60:
            time.sleep(0.002)

    return wait


def killed(out: Path, wait: Callable[[Path], None], options: argparse.Namespace) -> str:
    """Start a survey and kill it after a wait; returns the last step that was done, or nothing if all were."""
    child = forked(partial(small_survey, out, options))
    wait(out)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it leads no group yet
        os.kill(child, signal.SIGKILL)
    if ended(child) == 0:
        return ""
    written = {file.name.partition("-")[0].removesuffix(".json") for file in out.glob("steps/*.json")}
    stage = next(
        (f"after a step of {stage}" for stage in reversed(STAGES) if stage in written), "before the first step"
    )
    return stage + (", in the middle of a file" if any(out.rglob("*.part")) else "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rungs", type=int, default=2)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--once", nargs="*", default=[], metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        seconds = warm(whole, options)
        expected = contents(whole)
        where: Counter[str] = Counter()
        wrong = []
        for trial, name in enumerate([*options.once, *[None] * options.trials]):
            out, stage = Path(folder) / f"trial-{trial}", ""
            while not stage:
                shutil.rmtree(out, ignore_errors=True)
                moment = moments.uniform(0, seconds)
                stage = killed(out, once(name) if name else after(moment), options)
                seconds = seconds if stage or name else moment  # it took no longer than that
            where[stage] += 1
            code = ended(forked(partial(small_survey, out, options)))
            written = contents(out)
            differ = sorted(
                file for file in expected.keys() | written.keys() if expected.get(file) != written.get(file)
            )
            if code or differ:
                when = f"once {name} was there" if name else f"after {moment:.3f} s"
                wrong.append(f"killed {when}: exit code {code}, other bytes in {', '.join(differ)}")
    trials = len(options.once) + options.trials
    print(f"{trials} kills of a survey of {seconds:.2f} s and {len(expected)} files:")
    for stage, count in where.most_common():
        print(f"  {count:4} {stage}")
    print("\n".join([f"{trials - len(wrong)} of {trials} continuations ended with the same bytes", *wrong]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
