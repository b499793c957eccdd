"""Worker processes: what reaches them, what comes back, and that they end with the process that started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

import thalweg
from thalweg import ThalwegError
from thalweg.compute import engines, processes
from thalweg.compute.engines import EngineConfig
from thalweg.compute.sending import Packed, packed, portable, unpacked

OWN = """
import helper
from torchvision import transforms

FACTOR = 3


class Times:
    def __call__(self, item):
        return FACTOR * helper.plus(item), transforms.Resize(item).size, open("here.txt").read()


subject = 3
times = Times()
"""
PARENT = """
import os, sys, time
from pathlib import Path
from thalweg.compute import engines
from thalweg.compute.engines import EngineConfig

def waiting(item):
    Path(sys.argv[1], f"{os.getpid()}-{os.getppid()}").write_text("")  # the worker and what started it
    time.sleep(600)

if __name__ != "__main__":
    raise SystemExit("a worker runs the script again")
list(engines.run(waiting, range(2), EngineConfig(workers=2)))
"""


class Picky(Exception):
    """Cannot be read by another process: it is made from two things and keeps one."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def here(item: int) -> int:
    return item


def surroundings(_item: int) -> dict[str, str]:
    return dict(os.environ)


def state_of_a_worker(_item: int) -> dict[str, object]:
    libraries = {library["num_threads"] for library in threadpool_info()}
    return {
        "modules": set(sys.modules),
        "threads": (torch.get_num_threads(), max(libraries)),
        "cuda was initialised before the fork": torch.cuda._is_in_bad_fork(),
    }


def wrong_or_slow(folder: Path, item: int) -> None:
    """The first item waits for the second to begin, and is wrong."""
    if item == 0:
        until(lambda: any(folder.iterdir()), 60)
        raise ThalwegError("item 0 is wrong")
    (folder / str(os.getpid())).write_text("")
    time.sleep(600)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(condition, seconds: float) -> bool:
    """Whether a condition comes true in so many seconds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return bool(condition())


def test_a_users_file_reaches_workers_with_its_neighbours_and_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from thalweg.subjects.own import from_file

    (tmp_path / "helper.py").write_text("def plus(item):\n    return item + 1\n")
    (tmp_path / "own_things.py").write_text(OWN)
    (tmp_path / "here.txt").write_text("read")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ThalwegError, match="subject is int"):
        from_file("own_things.py", "subject")
    sent = packed(sys.modules["own_things"].times)
    for module in ("own_things", "helper"):  # as in a worker, which has not imported them and starts elsewhere
        monkeypatch.delitem(sys.modules, module)
    sys.path.remove(str(tmp_path))
    monkeypatch.chdir("/")
    assert unpacked(sent)(4) == (3 * (4 + 1), 4, "read")


def test_torchvision_is_prepared_before_a_task_is_read(monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    monkeypatch.setattr("thalweg.compute.sending.prepare_torchvision", lambda: order.append("torchvision"))
    monkeypatch.setattr("thalweg.compute.sending.pickle.loads", lambda _: order.append("task"))
    unpacked(Packed(b"", (), "."))
    assert order == ["torchvision", "task"]


def test_what_cannot_travel_is_said_before_it_is_sent():
    lock = threading.Lock()
    with pytest.raises(ThalwegError, match=r"cannot be sent to worker processes \(TypeError: cannot pickle .*lock"):
        packed(lambda: lock)


def test_what_cannot_be_read_by_a_worker_is_said(monkeypatch: pytest.MonkeyPatch):
    sent = packed(here)
    monkeypatch.delattr(sys.modules[__name__], "here")
    with pytest.raises(ThalwegError, match=r"a worker process cannot read its task \(AttributeError"):
        unpacked(sent)


def test_an_exception_that_cannot_travel_comes_back_in_words():
    result = portable(Picky("a hole", "item 3"))
    assert isinstance(result, ThalwegError)
    assert str(result) == "Picky: a hole at item 3"
    wrong = ValueError("as it is")
    assert portable(wrong) is wrong


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_their_parent_even_if_it_is_killed(tmp_path: Path):
    path = os.pathsep.join([str(Path(thalweg.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    script, noted = tmp_path / "parent.py", tmp_path / "noted"
    script.write_text(PARENT)
    noted.mkdir()
    parent = subprocess.Popen([sys.executable, script, noted], env=os.environ | {"PYTHONPATH": path})
    processes: set[int] = set()
    try:
        assert until(lambda: len(list(noted.iterdir())) == 2, 100)
        processes = {int(number) for file in noted.iterdir() for number in file.name.split("-")}
        assert len(processes) == 3  # both are forks of one server
        assert parent.pid not in processes
        assert all(map(alive, processes))
        parent.kill()
        parent.wait(10)
        assert until(lambda: not any(map(alive, processes)), 20)
    finally:
        parent.kill()
        for process in filter(alive, processes):
            os.kill(process, signal.SIGKILL)


def test_the_environment_of_a_call_reaches_its_workers(monkeypatch: pytest.MonkeyPatch):
    for value in ("here", "there"):
        monkeypatch.setenv("THALWEG_TEST", value)
        calls = dict(engines.run(surroundings, range(2), EngineConfig(workers=2)))
        assert {call["THALWEG_TEST"] for call in calls.values()} == {value}
        assert not any("PYTHONSAFEPATH" in call for call in calls.values())
    monkeypatch.delenv("THALWEG_TEST")
    assert "THALWEG_TEST" not in dict(engines.run(surroundings, range(2), EngineConfig(workers=2)))[0]


@pytest.mark.skipif(not processes.FORKS, reason="workers start afresh here")
def test_workers_are_forked_from_a_server_that_has_imported_all_and_computed_nothing():
    state = dict(engines.run(state_of_a_worker, range(2), EngineConfig(workers=2)))[0]
    assert {*processes.PRELOADED, *processes.TORCHVISION} <= state["modules"]  # as this process has torchvision
    assert state["threads"] == (1, 1)
    assert not state["cuda was initialised before the fork"]


def test_a_mistake_ends_the_other_tasks_and_the_next_call_works(tmp_path: Path):
    with pytest.raises(ThalwegError, match="item 0 is wrong"):
        list(engines.run(partial(wrong_or_slow, tmp_path), range(2), EngineConfig(workers=2)))
    slow = int(next(tmp_path.iterdir()).name)
    assert until(lambda: not alive(slow), 20)
    assert dict(engines.run(abs, [-1, -2], EngineConfig(workers=2))) == {0: 1, 1: 2}
