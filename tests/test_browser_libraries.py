"""The scripts that pages use are what browser/build.py makes of npm's packages, and carry their licences."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import thalweg

ROOT = Path(__file__).parent.parent
PACKAGE = Path(thalweg.__file__).parent
BROWSER = ROOT / "browser"


def test_every_library_has_its_licence_and_its_lock_names_no_place():
    scripts = sorted(PACKAGE.glob("*/library/*.js"))
    assert scripts
    for script in scripts:
        assert len(script.with_suffix(".LICENSE").read_text()) > 500
    locked = json.loads((BROWSER / "package-lock.json").read_text())["packages"]
    assert not [name for name, package in locked.items() if "resolved" in package]
    wanted = json.loads((BROWSER / "package.json").read_text())["dependencies"]
    assert all(locked[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    for script in scripts:
        assert not re.search(r"sourceMappingURL|^\s*(import|export)\b", script.read_text(), re.M)


def installed() -> bool:
    wanted = json.loads((BROWSER / "package.json").read_text())["dependencies"]
    return all((BROWSER / "node_modules" / name).is_dir() for name in wanted)


@pytest.mark.skipif(not installed(), reason="npm's packages are not installed, or not all: npm ci")
def test_they_are_what_the_packages_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("build", BROWSER / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    monkeypatch.setattr(build, "PACKAGE", tmp_path)
    build.main()
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert made
    for path in made:
        assert (PACKAGE / path).read_bytes() == (tmp_path / path).read_bytes(), path
