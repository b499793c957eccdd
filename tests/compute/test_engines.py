"""The engines and shards: the same bytes wherever work runs, and what is lost when workers, files or disks fail."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import ray
import safetensors
import torch
from ray.cluster_utils import Cluster

import thalweg
from support.surveys import OBSERVER, contents
from support.tasks import deadly, descended, mistaken, noted, whereabouts
from thalweg import Ladder, ThalwegError, survey
from thalweg.compute import engines as engine
from thalweg.compute.engines import EngineConfig
from thalweg.files.whole import read_tensors
from thalweg.pipeline import job, record, steps
from thalweg.recording.result import Recording, from_tensors
from thalweg.runs.directory import RunDirectory

SMALL = 80 * 2**20  # bytes of a node's object store


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on this machine; the second says that it has a GPU."""
    path = os.pathsep.join(filter(None, [str(Path(thalweg.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        made = Cluster()
        for gpus in (0, 1):
            little = {"object_store_memory": SMALL, "include_dashboard": False, "include_log_monitor": False}
            made.add_node(num_cpus=1, num_gpus=gpus, **little)
    ray.init(address=made.address, log_to_driver=False, logging_level="warning")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(params=["local", "ray"])
def where(request: pytest.FixtureRequest) -> EngineConfig:
    """Each engine with two workers."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return EngineConfig(request.param, workers=2)


@pytest.fixture(scope="module")
def few(tiny: Ladder) -> Ladder:
    """Two rungs of the tiny ladder, one of each kind."""
    return Ladder("tiny", tiny.rungs[2::3], tiny.splits, descended)


def measured(ladder: Ladder, out: Path, **settings) -> Path:
    given = {"seeds": 1, "workers": 1, "resamples": 200, "batch_size": 50, "device": "cpu"} | settings
    return survey(ladder, out=out, observer=OBSERVER, cache=out.parent / "cache", **given).path


@pytest.fixture(scope="module")
def whole(few: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(few, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def sharded(few: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(few, tmp_path_factory.mktemp("sharded") / "run", shards=3)


FRESH = """
import resource, sys
from pathlib import Path
import torch
from thalweg.compute.workers import allocator, called

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

def kept(size):
    before = resident()
    torch.ones(size << 18)
    return resident() - before

start = resident()
print(kept(64), called(kept, 64), resident() - start, kept(128))
print(allocator() is not None)

from thalweg.compute.adam import Adam
weight = torch.ones(3, requires_grad=True)
weight.sum().backward()
Adam([weight], 0.1).step()

from thalweg import ladders
from thalweg.strength.axes import forward_flops
from support.tiny import blobs
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 4))
assert forward_flops(model, blobs(1, seed=0)) == 2 * 144 * 4
print("torch._dynamo" in sys.modules)
"""


@pytest.fixture(scope="module")
def fresh() -> list[str]:
    """What a process that imported nothing says of its memory, and then of its imports."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"PYTHONPATH": path}
    environment.pop("GLIBC_TUNABLES", None)  # with which tests are run
    return subprocess.check_output([sys.executable, "-c", FRESH], text=True, env=environment).splitlines()


def test_ladders_training_and_counting_operations_do_not_import_the_compiler(fresh: list[str]):
    assert fresh[2] == "False"


def test_freed_memory_is_kept_while_a_task_runs_and_no_longer(fresh: list[str]):
    if fresh[1] == "False":
        pytest.skip("there is no glibc, or the user has set its allocator")
    before, inside, left, after = map(int, fresh[0].split())
    assert inside >= 60  # MiB
    assert max(before, left, after) < 20


def test_a_task_of_a_cluster_has_one_thread_and_a_gpu_where_there_is_one(cluster: Cluster):
    results = [result for _, result in engine.run(whereabouts, range(8), EngineConfig("ray"))]
    assert {threads for _, threads, _ in results} == {1}
    asked = [result for _, result in engine.run(whereabouts, range(1), EngineConfig("ray", gpus=1))]
    assert [gpus for _, _, gpus in asked] == [[0]]
    assert len({node for node, _, _ in [*results, *asked]}) == 2


def test_a_killed_worker_costs_only_its_task(where: EngineConfig, tmp_path: Path):
    result = dict(engine.run(partial(noted, tmp_path), range(12), where))
    assert result == {item: item * item for item in range(12)}
    started = [int(file.name.partition("-")[0]) for file in tmp_path.iterdir()]
    twice = {item for item in started if started.count(item) > 1}
    assert started.count(3) == 2
    if where.engine == "ray":
        assert twice == {3}
    else:  # what other workers were at, or had not handed over yet, is started again
        assert len(twice) <= 4
        assert max(map(started.count, twice)) == 2


def test_a_task_that_always_kills_its_worker_is_given_up(
    where: EngineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine.local, "RESTARTS", 0)
    monkeypatch.setattr(engine.cluster, "RETRIES", 0)
    with pytest.raises(ThalwegError, match=r"died 1 times.*fewer --workers"):
        list(engine.run(partial(deadly, tmp_path), range(3), where))
    assert (tmp_path / "0").exists()
    if where.engine == "ray":
        assert (tmp_path / "2").exists()


def test_a_mistake_comes_back_from_a_cluster_as_it_was_raised(cluster: Cluster):
    with pytest.raises(ThalwegError, match=r"^item \d is wrong$"):
        list(engine.run(mistaken, range(2), EngineConfig("ray")))


def test_what_engines_lack_is_said_before_the_work(few: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ThalwegError, match="no engine is called 'rya'; did you mean 'ray'"):
        measured(few, tmp_path / "run", engine="rya")
    with pytest.raises(ThalwegError, match="add --engine ray"):
        measured(few, tmp_path / "run", address="head:6379")
    with pytest.raises(ThalwegError, match=r"shards is 9, but 200 stimuli make 4 batches of 50"):
        measured(few, tmp_path / "run", shards=9)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ThalwegError, match=r"needs Ray: pip install 'thalweg\[cluster\]'"):
        measured(few, tmp_path / "run", engine="ray")
    assert not (tmp_path / "run/settings.json").exists()


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(ThalwegError, match=rf"no Ray cluster answers at {address} .*'ray start --head'"):
            engine.ready(EngineConfig("ray", address=address))


def test_a_machine_that_does_not_see_the_run_says_so(tmp_path: Path):
    with pytest.raises(ThalwegError, match=r"does not see this run directory; .* shared filesystem"):
        RunDirectory(tmp_path / "elsewhere").seen()


@pytest.mark.parametrize("shards", [None, 3])
def test_every_engine_gives_the_same_bytes(
    cluster: Cluster, few: Ladder, whole: Path, sharded: Path, tmp_path: Path, shards: int | None
):
    expected = contents(sharded if shards else whole)
    for name in ("local", "ray"):
        result = measured(few, tmp_path / name, engine=name, workers=2, shards=shards)
        assert contents(result) == expected


def recordings(file: Path) -> dict[str, Recording]:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in read_tensors(file).items():
        layer, half, name = key.rsplit("/", 2)
        parts.setdefault(f"{layer}/{half}", {})[name] = tensor
    return {name: from_tensors(tensors) for name, tensors in parts.items()}


def test_shards_merge_into_what_one_pass_records(whole: Path, sharded: Path):
    files = sorted((whole / "recordings").glob("*.safetensors"))
    assert len(files) == 2 * 3
    for file in files:
        for name, item in recordings(file).items():
            merged = recordings(sharded / "recordings" / file.name)[name]
            for exact in ("high_keys", "low_keys", "sample_keys", "sample", "count", "nonfinite", "unit_ids"):
                assert torch.equal(getattr(item, exact), getattr(merged, exact)), exact
            sums = [(item.mean, merged.mean), (item.deviations, merged.deviations)]
            sums += [(product, merged.products[name]) for name, product in item.products.items()]
            for expected, result in sums:  # a pass sums blocks of batches in float32, and each sum is rounded once
                assert (result - expected).abs().max() < int(item.count.max()) * 2**-24 * expected.abs().max()
    both = [pl.read_parquet(path / "units")["value"] for path in (whole, sharded)]
    assert (both[0].is_nan() == both[1].is_nan()).all()
    apart = (both[0] - both[1]).abs().fill_nan(0)
    assert (apart > 1e-5).mean() < 0.01  # rounding may take a pair of queries over the bar of those that are matched
    assert apart.max() < 0.02
    assert not (sharded / "recordings/shards").exists()


def test_shards_are_cut_between_batches():
    ids = torch.arange(103)
    parts = job.cut(ids, batch_size=10, shards=4)
    assert torch.equal(torch.cat(parts), ids)
    assert [len(part) for part in parts] == [20, 30, 30, 23]


def test_lost_shards_are_made_again_and_only_these(
    few: Ladder, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(steps, "measure_models", lambda _models: "interrupted")
        with pytest.raises(ThalwegError, match=r"2 of 2 models failed.*\n.*interrupted"):
            measured(few, out, shards=3)
    shards = sorted((out / "recordings/shards").glob("*.safetensors"))
    assert len(shards) == 2 * 3 * 3
    assert len([*(out / "recordings/shards").glob("*.deviations")]) == 2  # learnt once a model, not in every shard
    shards[0].unlink()
    shards[-1].write_bytes(shards[-1].read_bytes()[:1000])
    before = {file: file.stat().st_mtime_ns for file in shards[1:]}
    made: list[str] = []
    real = record.record_shards

    def counted(models: list[job.Model]) -> str:
        made.extend(model.task for model in models)
        return real(models)

    monkeypatch.setattr(steps, "record_shards", counted)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "measure_models", lambda _models: "interrupted")
        with pytest.raises(ThalwegError, match="interrupted"):
            measured(few, out, shards=3)
    assert len(made) == 2
    again = {file for file, when in before.items() if file.stat().st_mtime_ns != when}
    assert shards[-1] in again
    assert len(again) == 5  # two shards of three controls, but the file that was removed
    measured(few, out, shards=3)
    assert contents(out) == contents(sharded)


FULL = {
    "the system": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "safetensors": safetensors.SafetensorError("I/O error: No space left on device (os error 28)"),
    "polars": pl.exceptions.ComputeError("No space left on device (os error 28)"),
}


@pytest.mark.parametrize("writer", FULL)
def test_a_full_disk_ends_the_run_at_once_and_loses_nothing(
    few: Ladder, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
):
    left = {"the system": 25, "safetensors": 8, "polars": 17}[writer]  # files that there is room for
    real = os.replace

    def filling(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise FULL[writer]
        real(source, target)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", filling)
        with pytest.raises(ThalwegError, match=r"the disk is full; make room and give the same command again"):
            measured(few, out)
    assert left == -1
    assert not list(out.rglob("*.part"))
    measured(few, out)
    assert contents(out) == contents(whole)


def test_a_survey_killed_at_any_moment_goes_on_to_the_same_bytes():
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(Path(thalweg.__file__).parents[1]), str(root)])
    once = ["train-small-digits-width-2-0.json", "measure-small-digits-width-2-0.json", "tables.json"]
    command = [sys.executable, "-m", "benchmarks.kills", "--trials", "3", "--once", *(f"steps/{name}" for name in once)]
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 of 6 continuations ended with the same bytes" in result.stdout
