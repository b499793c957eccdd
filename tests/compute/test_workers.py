"""Worker processes: what reaches them, what comes back, and that they end with the process that started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import thalweg
from thalweg import ThalwegError
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
from thalweg.compute.local import _call
from thalweg.compute.sending import packed

def waiting(item):
    Path(sys.argv[1], f"{os.getpid()}").write_text("")
    time.sleep(600)

parent, sent = os.getpid(), packed((waiting, 0))
for _ in range(2):
    if os.fork() == 0:
        _call(parent, 0, sent)
time.sleep(600)
"""


class Picky(Exception):
    """Cannot be read by another process: it is made from two things and keeps one."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def here(item: int) -> int:
    return item


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
    monkeypatch.setattr("thalweg.compute.sending.torchvision_first", lambda: order.append("torchvision"))
    monkeypatch.setattr("thalweg.compute.sending.pickle.loads", lambda _: order.append("task"))
    unpacked(Packed(b"", (), ".", torchvision=True))
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
    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path], env=os.environ | {"PYTHONPATH": path})
    try:
        assert until(lambda: len(list(tmp_path.iterdir())) == 2, 100)
        workers = [int(file.name) for file in tmp_path.iterdir()]
        assert all(map(alive, workers))
        parent.kill()
        parent.wait(10)
        assert until(lambda: not any(map(alive, workers)), 20)
    finally:
        parent.kill()
        for file in tmp_path.iterdir():
            if alive(int(file.name)):
                os.kill(int(file.name), signal.SIGKILL)
