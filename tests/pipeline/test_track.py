"""A survey that is followed: curves of training, stages and verdicts reach the tracker, and change no result."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import thalweg
from support.surveys import OBSERVER
from support.tiny import short_ladder
from thalweg.pipeline import survey as surveying


class Told:
    def __init__(self) -> None:
        self.points: dict[str, Sequence[Mapping[str, float]]] = {}
        self.texts: dict[str, Mapping[str, str]] = {}

    def write(self, name: str, points: Sequence[Mapping[str, float]], texts: Mapping[str, str]) -> None:
        self.points[name], self.texts[name] = points, texts


def test_training_stages_and_verdicts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told = Told()
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(surveying, "trackers", lambda names, folder, group: asked.append((*names, group)) or [told])
    given = {"seeds": 1, "workers": 1, "resamples": 100, "cache": tmp_path / "cache", "twins": "none"}
    run = thalweg.survey(
        short_ladder(), out=tmp_path / "run", observer=OBSERVER, track="tensorboard", device="cpu", **given
    )
    assert asked == [("tensorboard", "run")]
    rungs = [rung.name for rung in short_ladder().rungs]
    assert set(told.points) == {*(f"tiny/{rung}-0" for rung in rungs), "tiny/curve", "stages"}
    for rung in rungs:
        points = told.points[f"tiny/{rung}-0"]
        (row,) = run.models.filter(rung=rung).to_dicts()
        assert [point["step"] for point in points] == list(range(1, row["epochs"] + 1))
        assert min(point["validation_loss"] for point in points) == pytest.approx(row["validation_loss"], abs=1e-4)
        file = run.path / f"weights/tiny-{rung}-0-course.json"
        assert json.loads(file.read_text()) == {"trained": points}
    curve = told.points["tiny/curve"]
    assert [point["bits"] for point in curve] == sorted(run.models["bits"])
    assert {str(point["predictable"]) for point in curve} == set(map(str, run.models["predictable"]))
    assert not set(told.texts["tiny/curve"]) & set(curve[0])  # a number of this name would stand in the text's place
    assert told.texts["tiny/curve"]["verdict/crisp"] == run.verdict["tiny"]["crisp"]["sentence"]
    assert told.points["stages"][0]["seconds/train"] > 0
    assert "track" not in run.record["settings"]
