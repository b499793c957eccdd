"""What a function is known by: it changes with everything that changes what the function returns, and with nothing
else.
"""

import importlib.util
import os
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.files.identity import identity, is_packaged
from thalweg.ladders import mnist
from thalweg.observers.images import hog

SERIAL = count()


def loaded(text: str, folder: Path, name: str = "") -> ModuleType:
    """A module of the user's with this text, in a file of this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    name = name or f"users_own_{next(SERIAL)}"
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)  # a text of the same second and size would be read from it
        spec.loader.exec_module(module)
    return module


def make(held: object):
    def function(x: object, *, also: object = 1) -> object:
        return x, held, also

    return function


ATOMS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary())
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


@settings(max_examples=20, deadline=None)
@given(first=VALUES, other=VALUES)
def test_what_a_function_closes_over_counts_by_its_content(first: object, other: object):
    same = repr(first) == repr(other)
    for made in (make, partial(partial, make(0)), lambda held: partial(make(0), also=held), lambda held: [held]):
        assert (identity(made(first)) == identity(made(other))) == same


@settings(max_examples=10, deadline=None)
@given(st.sets(st.text(), max_size=8), st.randoms())
def test_the_order_of_a_set_is_no_part_of_it(held: set[str], random):
    shuffled = list(held)
    random.shuffle(shuffled)
    assert identity(make(held)) == identity(make(set(shuffled)))
    assert identity(make(frozenset(held))) != identity(make(set(held)))


def test_tensors_arrays_and_objects_count_by_content():
    class Holder:
        def __init__(self, held: object) -> None:
            self.held = held

    values = [torch.ones(3), torch.zeros(3), torch.ones(3).double(), torch.ones(3, 1), np.ones(3), np.zeros(3)]
    values += [torch.ones(3, dtype=torch.bfloat16), torch.tensor(1j), torch.nn.Linear(1, 1), torch.eye(2).to_sparse()]
    result = [identity(made(value)) for made in (make, Holder) for value in values]
    assert len(set(result)) == len(result)
    assert identity(Holder(torch.ones(3))) == identity(Holder(torch.ones(3)))


def test_what_cannot_be_pickled_and_what_holds_itself_has_an_identity_too():
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    for held in (circle, deep, open, sys.stdout, (n for n in ()), torch.Generator()):
        assert identity(make(held)) == identity(make(held))


BASE = """
import torch
from functools import cache
from dataclasses import dataclass

WIDTH = 3
NAMES = {"cat", "dog"}

def helper(x):
    return x + WIDTH

@cache
def kept(x):
    return [helper(y) for y in x if y in {"a", "b", "c"}]

class Parent:
    def scale(self, x):
        return x * 2

@dataclass(frozen=True)
class Record(Parent):
    size: int = 4

    def __call__(self, x):
        return self.scale(x) + self.size

RECORD = Record()

def even(x):
    return True if x == 0 else odd(x - 1)

def odd(x):
    return False if x == 0 else even(x - 1)

@torch.no_grad()
def observe(x, power=2, *, sign=1):
    def inner(y):
        return (lambda z: z ** power)(y)
    try:
        return inner(kept(x)), RECORD(x), NAMES, torch.ones(1), even(x)
    except ValueError:
        return sign
"""
CHANGES = [
    ("WIDTH = 3", "WIDTH = 4"),  # a constant that a helper names
    ('"dog"}', '"dogs"}'),
    ("return x + WIDTH", "return x - WIDTH"),  # a helper of a helper, behind a cache
    ('{"a", "b", "c"}', '{"a", "b", "d"}'),
    ("return x * 2", "return x * 3"),  # a method of a parent
    ("size: int = 4", "size: int = 5"),
    ("self.scale(x) + self.size", "self.scale(x)"),
    ("z ** power", "z + power"),  # code nested twice
    ("power=2", "power=3"),
    ("sign=1", "sign=-1"),
    ("except ValueError", "except TypeError"),
    ("return False if", "return True if"),  # one of two that call each other
    ("torch.ones", "torch.zeros"),
    ("@torch.no_grad()\n", ""),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_an_edit_changes_the_identity(before: str, after: str, tmp_path: Path):
    assert BASE.count(before) == 1
    edited = loaded(BASE.replace(before, after), tmp_path)
    assert identity(edited.observe) != identity(loaded(BASE, tmp_path).observe)


def test_an_edit_of_something_else_does_not(tmp_path: Path):
    more = BASE + "\nHEIGHT = 3\n\ndef unused(x):\n    return x\n"
    assert identity(loaded(more, tmp_path).observe) == identity(loaded(BASE, tmp_path).observe)


def test_a_file_that_is_moved_stays_the_same(tmp_path: Path):
    here, there = loaded(BASE, tmp_path / "a"), loaded("# moved\n\n\n" + BASE, tmp_path / "b" / "c", "__main_of_mine__")
    assert identity(here.observe) == identity(there.observe)
    assert identity(here.Record(7)) == identity(there.Record(7))
    beside = "from pathlib import Path\nHERE = Path(__file__).parent / 'w.pt'\ndef f(x):\n    return HERE\n"
    assert identity(loaded(beside, tmp_path / "a").f) == identity(loaded(beside, tmp_path / "b").f)
    assert identity(loaded(beside.replace("w.pt", "v.pt"), tmp_path / "a").f) != identity(sys.modules[here.__name__])


@pytest.mark.parametrize(
    "names", ["import {0}\ndef f(x):\n    return {0}.g(x)", "def f(x):\n    from {0} import g\n    return g(x)"]
)
def test_helpers_of_another_file_of_the_users_count(names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    helper = f"helper_{next(SERIAL)}"
    result = []
    for sign in ("+", "-", "+"):
        loaded(f"def g(x):\n    return x {sign} 1\n", tmp_path, helper)
        result.append(identity(loaded(names.format(helper), tmp_path).f))
    assert result[0] == result[2] != result[1]


ALONE = """
if __name__ == "__main__":
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("thalweg.files.identity", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(module.identity(observe))
"""


def test_another_interpreter_run_as_a_script_gives_the_same(tmp_path: Path):
    script = tmp_path / "mine.py"
    script.write_text(BASE + ALONE)
    file = str(importlib.util.find_spec("thalweg.files.identity").origin)
    command, environment = [sys.executable, "-P", str(script), file], {**os.environ, "PYTHONHASHSEED": "77"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == identity(loaded(BASE, tmp_path / "imported").observe)


def test_installed_packages_are_known_by_their_version(monkeypatch: pytest.MonkeyPatch):
    assert is_packaged(hog)
    assert is_packaged(partial(torch.relu))
    assert not is_packaged(make(3))
    assert identity(torch.relu) != identity(torch.sigmoid)
    assert identity(mnist.LADDER.train) != identity(mnist.LADDER.rungs[0].build)
