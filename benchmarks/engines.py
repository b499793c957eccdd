"""What the parts of a large run cost that are neither recording nor scoring: python -m benchmarks.engines [--run DIR]

Prints the cost of a task on each engine (Ray's on a cluster of two nodes on this machine, if Ray is installed), the
bytes of a recording by what it keeps, and how fast files are stamped and hashed; with --run, what the tables of that
finished run take for each unit.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from thalweg import open_run
from thalweg.compute import engines as engine
from thalweg.compute.engines import EngineConfig
from thalweg.files.whole import file_digest
from thalweg.recording.keys import Scramble
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import to_tensors
from thalweg.runs.directory import RunDirectory

TASKS, ROUNDS, STIMULI = 200, 3, 2000


def empty(_item: object) -> str:
    return ""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def tasks(where: EngineConfig) -> None:
    first = seconds(lambda: list(engine.run(empty, range(2), where)))
    print(f"{where.engine}: {first:.1f} s until two workers have returned a first task")
    for size in (0, 1, 10):
        shared = torch.zeros(size << 18)
        items = [(number, shared) for number in range(TASKS)]
        rounds = [seconds(lambda items=items: list(engine.run(empty, items, where))) for _ in range(ROUNDS)]
        print(f"{where.engine}: {1000 * statistics.median(rounds) / TASKS:.2f} ms a task with {size} MiB of stimuli")


def ray_tasks() -> None:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
    where = EngineConfig("ray", workers=2, address=cluster.address)
    tasks(where)
    for count in (1000, 10_000):
        took = seconds(lambda count=count: list(engine.run(empty, range(count), EngineConfig("ray"))))
        print(f"ray: {1000 * took / count:.2f} ms a task of {count}")
    ray.shutdown()
    cluster.shutdown()


def bytes_of_a_unit(k: int, sample: int, statistics: int) -> float:
    """Of one half's recording."""
    table = {"statistics": torch.rand(STIMULI, statistics)}
    recorder = Recorder(k=k, sample=sample, scramble=Scramble.seeded(0), statistics=table)
    for ids in torch.arange(STIMULI).split(250):
        recorder.update(torch.randn(len(ids), 256), ids)
    return sum(tensor.nbytes for tensor in to_tensors(recorder.compute()).values()) / 256


def files(folder: Path) -> None:
    run = RunDirectory(folder)
    (folder / "whole").write_bytes(bytes(256 << 20))
    took = seconds(lambda: file_digest(folder / "whole"))
    print(f"hashing: {256 / took:.0f} MiB a second")
    (folder / "small").write_text("")
    took = seconds(lambda: [run.finish(f"step-{number}", "", ["small"]) for number in range(1000)])
    print(f"stamps: {took:.2f} ms each to write")
    took = seconds(lambda: [run.stale_reason(f"step-{number}", "") for number in range(1000)])
    print(f"stamps: {took:.2f} ms each to check")


def tables(path: Path) -> None:
    run = open_run(path)
    units = run.models["n_units"].sum()
    print(f"{path}: {units} units, {len(run.units) / units:.0f} rows of the table a unit")
    written = sum(file.stat().st_size for file in (path / "units").glob("*.parquet"))
    print(f"table of units: {written / units:.0f} bytes a unit in its file")
    print(f"table of units: {run.units.estimated_size() / units:.0f} bytes a unit in memory")
    recorded = sum(file.stat().st_size for file in (path / "recordings").glob("*.safetensors"))
    print(f"recordings: {recorded / units:.0f} bytes a unit, both halves")
    print(f"putting the tables together: {1000 * run.record['seconds']['tables'] / units:.3f} ms a unit")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, default=None)
    options = parser.parse_args()
    for k, sample, statistics_kept in ((64, 512, 18), (64, 512, 287), (64, 512, 1017), (32, 128, 18)):
        size = bytes_of_a_unit(k, sample, statistics_kept)
        print(f"recording, k={k}, sample={sample}, {statistics_kept} statistics: {size:.0f} bytes a unit and half")
    with tempfile.TemporaryDirectory() as folder:
        files(Path(folder))
    if options.run:
        tables(options.run)
    tasks(EngineConfig("local", workers=2))
    if importlib.util.find_spec("ray"):
        ray_tasks()


if __name__ == "__main__":
    main()
