"""What a survey of the digits costs, stage by stage: python -m benchmarks.survey [--quick] [--workers N]

Runs a whole survey into a temporary folder, with nothing cached, writes its report, and prints the seconds of each
stage and how they compare with the seconds of training.
"""

import argparse
import tempfile
import time
from pathlib import Path

import thalweg


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = Path(folder)
        run = thalweg.survey(
            "mnist", out=path / "run", cache=path / "cache", quick=options.quick, workers=options.workers
        )
        reporting = time.perf_counter()
        thalweg.write_report(run)
        seconds = {**run.record["seconds"], "report": time.perf_counter() - reporting}
        total = time.perf_counter() - start
        size = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
        units = run.models["n_units"].sum()
        for stage, spent in seconds.items():
            print(f"{stage:10} {spent:7.1f} s")
        print(f"{'all':10} {total:7.1f} s, {run.record['peak_memory_mib']} MiB at most in one process")
        beside = seconds["measure"] + seconds["tables"] + seconds["report"]
        print(f"recording, trials, scoring, tables and report: {beside / seconds['train']:.2f} of the training time")
        print(f"{units} units (twins included), {size / 2**20:.0f} MiB in the run directory")


if __name__ == "__main__":
    main()
