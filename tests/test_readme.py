"""The README's examples are whole: they run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import thalweg
from conftest import blobs
from thalweg import subjects

README = Path(__file__).parent.parent / "README.md"


def examples() -> list[str]:
    found = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)
    for code in found:
        assert sum(bool(line.strip()) for line in code.splitlines()) < 30
    return found


def test_the_example_of_ones_own_model_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(examples()[0])
    model = subjects.find("mine.py:subject")
    assert model.build is not None
    torch.save(model.build().state_dict(), "mine.pt")
    command = [sys.executable, "-c", "from thalweg.cli import main; main()", "layers", "mine.py:subject"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=300)  # in a process that imported nothing
    assert listed.returncode == 0, listed.stderr[-2000:]
    assert "convolution" in listed.stdout
    images = blobs(160, seed=3)
    Path("photographs").mkdir()
    for number in range(len(images)):
        images.picture(number).save(f"photographs/{number}.png")
    told = {"observer": "hog", "cache": tmp_path / "cache", "workers": 1, "resamples": 100}
    run = thalweg.measure("mine.py:subject", "photographs", **told)
    assert set(run.models["control"]) == {"none", "untrained", "rotated"}
    assert run.models["n_units"].to_list() == [106] * 3  # channels of two convolutions, and ten logits


def test_the_example_of_ones_own_ladder_runs(tmp_path: Path):
    (tmp_path / "own.py").write_text(examples()[1])
    environment = {"HOME": str(tmp_path), "PATH": ""}
    found = subprocess.run(
        [sys.executable, "own.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "models" in found.stdout
    report = tmp_path / found.stdout.strip().splitlines()[-1]
    assert report.stat().st_size > 100_000
