"""A modality of the user's own: one record in one file, which all that depends on the kind of stimulus reads."""

import re
import runpy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import thalweg
from thalweg import Layer, Modality, Observer, Rung, Shown, Subject, TensorStimuli, ThalwegError
from thalweg.bases import streaming
from thalweg.observers import base
from thalweg.pipeline import one_model
from thalweg.pipeline.embed import embed_pool
from thalweg.pipeline.job import Model
from thalweg.pipeline.request import observers_of
from thalweg.pipeline.settings import Settings, settings_of
from thalweg.progress import Silent, Stages
from thalweg.runs.directory import RunDirectory
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Splits
from thalweg.stimuli.checks import check_stimuli
from thalweg.stimuli.showing import Shown as ShownRecord

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "own-modality.md"


def means(stimuli: TensorStimuli) -> torch.Tensor:
    return stimuli.values.mean(1, keepdim=True)


def drawn(stimuli: TensorStimuli, which: int, values: object) -> Shown:
    return Shown("a tone", html=f"<b>{which}</b>")


def tones(count: int = 150, **fields: object) -> TensorStimuli:
    """Tones of eight numbers, whose modality has the fields."""
    modality = Modality(**{"name": "tone", "low_level": means, "show": drawn, **fields})
    values = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    return TensorStimuli(values, torch.arange(count) % 2, ("low", "high"), modality)


def ladder_of(stimuli: TensorStimuli, **fields: object) -> thalweg.Ladder:
    build = partial(nn.Linear, 8, 2)
    rung = Rung("only", "linear", lambda: nn.Sequential(build()), (Layer("0"),))
    splits = Splits(stimuli, stimuli, stimuli)
    return thalweg.Ladder(
        "tones", (rung,), lambda _source, _seed: splits, thalweg.Classifier(), modality=stimuli.modality, **fields
    )


def test_the_file_of_the_tutorial_runs_as_printed_and_its_report_shows_traces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In a fresh folder, with its defaults, on one core; the charts' own files, which take longest, are left out."""
    (code,) = re.findall(r"^```python[^\n]*\n(.*?)^```", PAGE.read_text(), flags=re.S | re.M)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 45
    (tmp_path / "traces.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0})
    monkeypatch.setattr("thalweg.report.page._export", lambda *_: None)
    runpy.run_path("traces.py", run_name="__main__")
    sentence, report = capsys.readouterr().out.strip().splitlines()
    assert "3 models" in sentence
    run = thalweg.open_run(tmp_path / "runs" / "sensors")
    assert run.record["ladders"]["sensors"]["modality"] == "trace"
    assert run.record["ladders"]["sensors"]["observers"][0]["name"] == "spectrum"
    assert run.record["ladders"]["sensors"]["strength"] == "held-out bits above the label entropy"
    assert len(run.gallery) > 20
    assert run.gallery["html"].str.contains(r'points="0.0,[^"]+" fill="none" stroke="darkorange"').all()
    page = Path(report).read_text()
    assert sentence in page
    frames = re.findall(r"<iframe sandbox srcdoc=\"([^\"]*)\"", page)
    assert len(frames) > 100
    assert all("default-src &#39;none&#39;" in frame and "polyline" in frame for frame in frames)


def remade(record: object, fields: dict[str, object]) -> Any:
    """A record with other fields, past the checks of types that only these tests put before the record's own."""
    made = object.__new__(type(record))
    vars(made).update(vars(record) | fields)
    return made


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low_level": None}, "modality 'tone' has no `low_level`: give it a function from a set of stimuli to"),
        ({"show": None}, r"modality 'tone' has no `show`: give it a function from \(stimuli, which, values\)"),
        ({"show": "<b>"}, "modality 'tone': `show` is '<b>'; a function was expected"),
        ({"name": ""}, "thalweg.Modality: `name` is ''; a name was expected"),
        ({"observer": means}, r"modality 'tone': `observer` is <function .*; a name or thalweg.Observer\("),
        ({"batch_sizes": {"cpu": 0}}, "modality 'tone': `batch_sizes` is {'cpu': 0}; whole numbers by type of device"),
        ({"reduction": "sum"}, "modality 'tone': `reduction` is 'sum'; 'max', 'mean' or 'last' was expected"),
    ],
)
def test_what_a_record_lacks_is_said_when_it_is_written(wrong: dict[str, object], message: str):
    stimuli = tones()
    record = remade(stimuli.modality, wrong)
    with pytest.raises(ThalwegError, match=message):
        (remade(stimuli, {"modality": record}) if None in wrong.values() else record).__post_init__()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low_level": lambda stimuli: stimuli.values.mean()}, r"`low_level` gives a tensor of shape \(\) and float32"),
        ({"low_level": lambda stimuli: 1 / 0}, "`low_level` failed with ZeroDivisionError: .* \\(test_modality.py, li"),
        ({"show": lambda stimuli, which, values: None}, r"`show\(0\)` gives None; thalweg\.stimuli\.Shown"),
        ({"show": lambda stimuli, which, values: Shown("a")}, "`show` gives nothing to see"),
        ({"show": lambda stimuli, which, values: Shown("a", png=b"x")}, "`show` gives a `png` that is no PNG file"),
        ({"show": lambda s, which, values: Shown("a", html="b" * (not values)), "along": True}, "`show` gives nothing"),
        ({"show": lambda stimuli, which: Shown("a", html="b")}, "`show` failed with TypeError: .*3 were given"),
    ],
)
def test_what_a_function_of_the_record_does_wrong_is_said_before_the_work(wrong: dict[str, object], message: str):
    stimuli = tones(**wrong)
    with pytest.raises(ThalwegError, match=f"the pool: {message}"):
        check_stimuli(stimuli, "the pool", stimuli.modality, statistics=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": torch.zeros(3).long()}, "4 stimuli have 3 labels; one for each was expected"),
        ({"values": [1, 2]}, "`values` is list; expected a tensor"),
        ({"modality": "tone"}, r"`modality` is 'tone'; expected thalweg\.Modality"),
    ],
)
def test_stimuli_that_do_not_fit_together_are_refused(wrong: dict[str, object], message: str):
    with pytest.raises(ThalwegError, match=message):
        remade(tones(4), wrong).__post_init__()


def test_what_is_no_modality_or_takes_the_name_of_another_is_refused():
    with pytest.raises(ThalwegError, match=r"ladder 'tones': `modality` is of type function; a name or a thalweg\.Mod"):
        remade(ladder_of(tones(4)), {"modality": means}).__post_init__()
    with pytest.raises(ThalwegError, match="a modality called 'image' ships with thalweg, and yours differs"):
        modalities.find(Modality("image"))


def test_taking_and_naming_stimuli():
    stimuli = replace(tones(6), sources=torch.tensor([0, 0, 1, 1, 2, 2]))
    taken = stimuli.take(torch.tensor([5, 0]))
    assert torch.equal(taken.batch(slice(None)), stimuli.values[[5, 0]])
    assert (taken.labels.tolist(), taken.groups().tolist()) == ([1, 0], [2, 0])
    others = [
        replace(stimuli, sources=None),
        replace(stimuli, labels=1 - stimuli.labels),
        replace(stimuli, values=stimuli.values + 1),
        replace(stimuli, modality=replace(stimuli.modality, name="other")),
        stimuli.take(slice(0, 5)),
    ]
    assert len({stimuli.content_hash(), *(other.content_hash() for other in others)}) == 6


def model_of(stimuli: TensorStimuli, **settings: object) -> Model:
    ladder, told = ladder_of(stimuli), settings_of({"device": "cpu", **settings})
    splits = Splits(stimuli, stimuli, stimuli)
    return Model(RunDirectory(Path()), ladder, ladder.rungs[0], 0, told, splits, splits.content_hash())


def test_steps_are_done_again_when_a_function_of_the_record_changes():
    """How stimuli are shown changes the gallery, but no weights; low-level statistics change the features."""
    before, after = (model_of(tones(show=show)) for show in (drawn, lambda s, w, values: Shown("a", html="b")))
    assert before.train_inputs() == after.train_inputs()
    assert before.measure_inputs() != after.measure_inputs()
    assert before.measure_inputs() == model_of(tones()).measure_inputs()


def test_features_are_made_again_when_the_statistics_change(tmp_path: Path):
    settings = Settings(cache=tmp_path, workers=1)
    trivial = (base.OBSERVERS["trivial"],)
    first, same, other = (
        embed_pool(stimuli, trivial, settings, Stages(Silent()))["trivial"]
        for stimuli in (tones(), tones(), tones(low_level=lambda stimuli: stimuli.values.amax(1, keepdim=True)))
    )
    assert first == same != other


def test_a_modality_brings_its_observer_and_who_takes_its_place():
    mine = Observer("mine", 1, means)
    assert observers_of(ladder_of(tones(observer=mine)), [])[0] is mine
    assert base.default(Modality("tone", observer="hog", needs="no_such_package", fallback="pixels")).name == "pixels"
    assert base.default(Modality("tone", observer="hog", needs="torch", fallback="pixels")).name == "hog"
    with pytest.raises(ThalwegError, match=r"modality 'tone'.*no default observer"):
        observers_of(ladder_of(tones()), [])


def test_batch_sizes_and_reductions_come_from_the_record():
    stimuli = tones(batch_sizes={"cpu": 3, "cuda": 5}, reduction="mean")
    assert [stimuli.modality.batch_size(device) for device in ("cpu", "cuda", "cuda:1", "mps")] == [3, 5, 5, 5]
    assert Modality("tone").batch_size("cuda") == 250
    assert streaming.described("0", nn.Sequential(nn.Linear(8, 2)), stimuli, device="cpu").reduction == "mean"
    subject = Subject("mine", partial(nn.Linear, 8, 2), (Layer("0"),), modality=stimuli.modality)
    published = replace(ladder_of(stimuli), rungs=(subject.rung(),))
    assert replace(model_of(stimuli), ladder=published, rung=subject.rung()).batch_size == 3


def read(source: thalweg.Source, seed: int) -> Splits:
    return Splits.of_pool(tones(int(source.path.read_text())))


def test_a_subject_of_the_modality_reads_files_by_the_record(tmp_path: Path):
    subject = Subject("mine", partial(nn.Linear, 8, 2), modality=tones(read=read).modality)
    (tmp_path / "count").write_text("130")
    assert len(one_model.stimuli_of(subject, tmp_path / "count", Settings(), length=1).pool) == 130
    with pytest.raises(ThalwegError, match="the function `read` of modality 'tone' failed with FileNotFoundError"):
        one_model.stimuli_of(subject, tmp_path / "absent", Settings(), length=1)
    with pytest.raises(ThalwegError, match="has no `specimens` to find its layers with; name them in the Subject"):
        one_model.layers_of(subject, nn.Sequential(nn.Linear(8, 2)))
    bare = replace(subject, modality=tones().modality)
    with pytest.raises(ThalwegError, match="modality 'tone', which has no `read` to make them of a file"):
        one_model.stimuli_of(bare, tmp_path / "count", Settings(), length=1)


def test_shipped_records_are_those_by_name():
    assert modalities.find("text").tokens
    assert modalities.of(tones()).name == "tone"
    assert modalities.find("sound") == Modality("sound")
    assert Shown is ShownRecord
