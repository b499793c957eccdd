"""A survey of a tiny ladder: the same bytes on any number of workers, after any interruption, and errors that help."""

import dataclasses
import json
import shutil
from pathlib import Path

import filelock
import pandas as pd
import polars as pl
import pytest
import torch
from torch import nn

import thalweg
from support.surveys import contents, run
from support.tiny import blobs, corners, network, short_ladder, tiny_ladder
from thalweg import Classifier, Ladder, Layer, Observer, Rung, Splits, ThalwegError, ladders
from thalweg.capability.columns import CAPABILITY
from thalweg.files.whole import read_tensors, write_json
from thalweg.recording.result import from_tensors
from thalweg.scoring.columns import UNITS
from thalweg.scoring.populations import STATISTICS

TABLES = ("models", "units", "scores", "distributions", "missing", "gallery")


@pytest.fixture(scope="module")
def done(tiny: Ladder, tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    return run(tiny, tmp_path_factory.mktemp("survey") / "run")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    return run(short_ladder(), tmp_path_factory.mktemp("short") / "run", seeds=1)


def test_the_tables_hold_every_model_and_unit(done: thalweg.Run, tiny: Ladder):
    models, units = done.models, done.units
    assert dict(units.schema) == UNITS
    assert len(models) == 6 * 2 * 3
    assert set(models["control"]) == {"trained", "untrained", "rotated"}
    trained = models.filter(control="trained")
    assert trained["bits"].median() > 1
    assert trained["stopped"].is_not_null().all()
    assert trained["epochs"].min() >= 1
    untrained = models.filter(control="untrained")
    assert untrained["bits"].max() < 0.5
    counted = units.filter(
        measure="two_choice", band="mean", observer="corners", exchanged=False, seed=0, control="trained"
    )
    assert dict(counted.group_by("rung").len().iter_rows()) == {
        "dense-2": 2, "dense-4": 4, "dense-8": 8, "conv-2": 2, "conv-3": 3, "conv-4": 4,
    }  # fmt: skip
    assert set(units.filter(control="rotated")["basis"]) == {"random"}


def test_a_models_score_is_the_mean_over_layers_of_the_mean_over_units(done: thalweg.Run):
    units = done.units.filter(~pl.col("exchanged") & pl.col("value").is_not_nan())
    by_layer = units.group_by("rung", "seed", "control", "measure", "observer", "band", "capacity", "layer").agg(
        pl.col("value").mean()
    )
    expected = by_layer.group_by("rung", "seed", "control", "measure", "observer", "band", "capacity").agg(
        pl.col("value").mean()
    )
    both = done.scores.filter(pl.col("seed").is_not_null()).join(expected, on=expected.columns[:-1])
    assert len(both) == len(expected)
    assert both.select((pl.col("score") - pl.col("value")).abs().max()).item() < 1e-5
    kept = done.scores.filter(pl.col("score").is_not_nan())
    assert (
        kept.select(
            ((pl.col("low") <= pl.col("score") + 1e-6) & (pl.col("score") <= pl.col("high") + 1e-6)).mean()
        ).item()
        > 0.98
    )


def test_verdicts_are_given_over_all_kinds_and_within_each(done: thalweg.Run):
    headline = [one for one in done.shape if one["headline"]]
    assert {(one["headline"], one["kind"]) for one in headline} == {
        (word, kind) for word in ("predictable", "crisp") for kind in ("all", "dense", "conv")
    }
    assert set(done.verdict["tiny"]) == {"predictable", "crisp"}
    assert {one["axis"] for one in done.shape} == {"bits", "accuracy", "parameters", "compute"}
    json.dumps(done.shape, allow_nan=False)


def test_every_statistic_of_a_ladder_has_a_verdict(done: thalweg.Run):
    judged = {(one["measure"], one["statistic"]): one for one in done.shape if one["statistic"] in STATISTICS}
    assert set(judged) == {(measure, name) for measure in ("one_sided", "one_sided_single") for name in STATISTICS}
    rows = done.populations
    assert set(rows["statistic"]) == set(STATISTICS)
    assert set(rows.filter(statistic="p10")["control"]) == {"trained", "untrained", "rotated"}
    assert set(rows.filter(statistic="minus_rotated")["control"]) == {"trained"}


def test_recordings_can_be_read_back(done: thalweg.Run):
    tensors = read_tensors(done.path / "recordings/tiny-conv-3-0-trained.safetensors")
    half = {name.split("/")[2]: tensor for name, tensor in tensors.items() if name.startswith("0/query/")}
    recording = from_tensors(half)
    assert recording.count.tolist() == [200, 200, 200]
    values, ids = recording.highest()
    assert (values[:, 0] >= values[:, 1]).all()
    assert ids.max() < 400


def test_units_are_a_file_for_each_model_and_one_table_to_any_reader(done: thalweg.Run):
    folder = done.path / "units"
    names = [f"tiny-{rung}-{seed}" for rung in done.models["rung"].unique(maintain_order=True) for seed in (0, 1)]
    assert [file.name for file in sorted(folder.iterdir())] == [
        f"{place:06}-{name}.parquet" for place, name in enumerate(names)
    ]
    assert done.scan_units().collect().equals(done.units)
    assert pl.read_parquet(folder).equals(done.units)
    whole = pd.read_parquet(folder)
    assert dict(whole.dtypes.astype(str))["value"] == "float32"
    assert whole.astype({"seed": "int32"}).equals(done.units.to_pandas().astype({"seed": "int32"}))
    drawn = done.scan_units().filter(rung="conv-3", exchanged=False).select("unit").unique().collect()
    assert len(drawn) == 3


def as_format_7(run: thalweg.Run, path: Path) -> None:
    """The run as it would lie there in format 7, which had one file of units."""
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("units"))
    run.units.write_parquet(path / "units.parquet")
    as_format_8(run, path, 7)


def as_format_8(run: thalweg.Run, path: Path, number: int = 8) -> None:
    """The run as it would lie there in format 8, whose tables did not say what the units are."""
    shutil.copytree(run.path, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("units" if number == 7 else ""))
    for file in path.glob("*.parquet"):
        if file.name != "units.parquet":
            pl.read_parquet(file).drop("basis", strict=False).write_parquet(file)
    verdicts = [{name: value for name, value in each.items() if name != "basis"} for each in run.shape]
    write_json(path / "shape.json", verdicts)
    for name in ("run.json", "settings.json"):
        settings = json.loads((run.path / name).read_text()) | {"format": number}
        (settings.get("settings") or settings).pop("basis")
        write_json(path / name, settings)


@pytest.mark.shapes
@pytest.mark.parametrize("number", [7, 8])
def test_a_run_of_a_format_before_is_read_and_not_continued(short: thalweg.Run, number: int, tmp_path: Path):
    (as_format_7 if number == 7 else as_format_8)(short, tmp_path / "run")
    before = thalweg.open_run(tmp_path / "run")
    for name in ("models", "scores", "populations", "layers", "distributions", "missing"):
        table = getattr(before, name)
        assert table.equals(getattr(short, name).select(table.columns))  # the same values; the basis comes last
    assert set(before.models.select("control", "basis").iter_rows()) == {
        ("trained", "neurons"),
        ("untrained", "neurons"),
        ("rotated", "random"),
    }
    assert before.bases == ("neurons",)
    assert before.shape == short.shape
    assert before.units.equals(short.units)
    assert before.scan_units().collect().equals(short.units)
    assert before.record["format"] == number
    with pytest.raises(ThalwegError, match=rf"this run has format {number}, and this thalweg continues format 9; use"):
        run(short_ladder(), tmp_path / "run", seeds=1)


def test_a_rung_that_is_new_moves_the_files_of_those_behind_it(short: thalweg.Run, tmp_path: Path):
    out = tmp_path / "run"
    shutil.copytree(short.path, out)
    recorded = {file: file.stat().st_mtime_ns for file in (out / "recordings").iterdir()}
    longer = dataclasses.replace(short_ladder(), rungs=(tiny_ladder().rungs[0], *short_ladder().rungs))
    more = thalweg.open_run(run(longer, out, seeds=1).path)
    assert {file: file.stat().st_mtime_ns for file in recorded} == recorded  # they are not measured again
    names = [f"{place:06}-tiny-{rung}-0.parquet" for place, rung in enumerate(("dense-2", "dense-4", "conv-2"))]
    assert sorted(file.name for file in (out / "units").iterdir()) == names
    assert more.units.filter(pl.col("rung") != "dense-2").equals(short.units)
    run(short_ladder(), out, seeds=1)
    assert (
        contents(out)["units/000001-tiny-conv-2-0.parquet"]
        == contents(short.path)["units/000001-tiny-conv-2-0.parquet"]
    )
    assert thalweg.open_run(out).units.equals(short.units)
    assert len(list((out / "units").iterdir())) == 2  # that of the rung that is no more in the ladder is gone


@pytest.fixture(scope="module")
def other(tiny: Ladder, tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    """One rung, by another seed, finished and then asked again for its capability."""
    small, out = dataclasses.replace(tiny, rungs=tiny.rungs[1:2]), tmp_path_factory.mktemp("other") / "run"
    first = run(small, out, seed=5, seeds=1)
    assert first.capability.is_empty()
    return run(small, out, seed=5, seeds=1, capability=True)


def test_capability_is_a_table_of_its_own_where_it_is_asked_for(done: thalweg.Run, other: thalweg.Run):
    rows = other.capability
    assert dict(rows.schema) == CAPABILITY
    assert rows.select("control", "ablation", "cut").rows() == [
        (control, ablation, cut)
        for control, ablation in (("trained", "mean"), ("trained", "resample"), ("untrained", "mean"))
        for cut in (0.75, 0.5, 0.25, 0.1)
    ]
    assert rows["n_kept"].to_list() == [3, 2, 1, 1] * 3
    trained = rows.filter(control="trained")
    assert (trained["tic"] + trained["floor"] <= trained["achievable"]).all()
    bits = other.models.filter(control="trained")["bits"].item()
    assert (trained["whole"] > bits - 0.1).all()  # its confidence set right, on some of the stimuli
    assert rows.filter(cut=0.25, ablation="mean")["n_sets"].to_list() == [200, 200]
    assert set(rows["note"]) == {""}
    assert {one["measure"] for one in other.shape} >= {"tic", "tic_excess"}
    assert done.capability.is_empty()
    assert dict(done.capability.schema) == CAPABILITY


def test_another_seed_gives_other_results(done: thalweg.Run, other: thalweg.Run):
    mine = done.models.filter(rung="dense-4", seed=0, control="trained")
    assert other.models.filter(control="trained")["pool_loss"].item() != mine["pool_loss"].item()


def test_a_finished_run_is_not_done_again(done: thalweg.Run, tiny: Ladder):
    before = {p: p.stat().st_mtime_ns for p in done.path.rglob("*") if p.is_file()}
    run(tiny, done.path)
    changed = {p.name for p in before if p.stat().st_mtime_ns != before[p]}
    assert changed <= {"run.json", ".lock"}


@pytest.mark.parametrize(
    "victim",
    [
        "weights/tiny-dense-4-0.safetensors",
        "parts/tiny-conv-2-0.parquet",
        "recordings/tiny-dense-4-0-trained.safetensors",
        "units/000001-tiny-conv-2-0.parquet",
        "shape.json",
        "steps/measure-tiny-conv-2-0.json",
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_file_is_derived_again_to_the_same_bytes(short: thalweg.Run, victim: str, damage: str):
    before = contents(short.path)
    path = short.path / victim
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            whole[: len(whole) // 2] if damage == "truncated" else whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
        )
    run(short_ladder(), short.path, seeds=1)
    assert contents(short.path) == before


def test_a_damaged_table_is_named_when_it_is_read(done: thalweg.Run, tmp_path: Path):
    write_json(tmp_path / "run.json", done.record)
    (tmp_path / "models.parquet").write_bytes((done.path / "models.parquet").read_bytes()[:200])
    with pytest.raises(ThalwegError, match=r"models\.parquet: damaged.*survey command again"):
        _ = thalweg.open_run(tmp_path).models
    for name in ("models.parquet", "run.json"):
        (tmp_path / name).write_bytes((done.path / name).read_bytes())
    missing = r"units/000000-tiny-dense-2-0\.parquet: there is no such file.*survey command again"
    for read in (lambda run: run.units, lambda run: run.scan_units()):
        with pytest.raises(ThalwegError, match=missing):
            read(thalweg.open_run(tmp_path))
    for file in (done.path / "units").iterdir():
        (tmp_path / "units").mkdir(exist_ok=True)
        (tmp_path / "units" / file.name).write_bytes(file.read_bytes()[:-9])
    for read in (lambda run: run.units, lambda run: run.scan_units()):
        with pytest.raises(ThalwegError, match=r"units/000000-tiny-dense-2-0\.parquet: damaged"):
            read(thalweg.open_run(tmp_path))
    with pytest.raises(ThalwegError, match=r"nothing: there is no such file or folder; the folder of a survey"):
        thalweg.open_run(tmp_path / "nothing")


def test_other_settings_are_refused_and_named(done: thalweg.Run, tiny: Ladder):
    with pytest.raises(ThalwegError, match=r"other settings.*seeds was 2, now 3"):
        run(tiny, done.path, seeds=3)


def test_two_processes_cannot_share_a_run(done: thalweg.Run, tiny: Ladder):
    with filelock.FileLock(done.path / ".lock"), pytest.raises(ThalwegError, match="another process"):
        run(tiny, done.path)


def test_a_place_that_cannot_be_written_is_named(tiny: Ladder, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ThalwegError, match=r"file/run: cannot be written"):
        run(tiny, tmp_path / "file" / "run")


def one_rung(model, layers=(Layer("1"),), splits=corners, train=Classifier(most_epochs=1)) -> Ladder:  # noqa: B008
    return Ladder("own", (Rung("only", "dense", model, layers),), splits, train)


def failing(ladder: Ladder, tmp_path: Path, said: str, **settings) -> None:
    with pytest.raises(ThalwegError, match=said):
        run(ladder, tmp_path / "run", seeds=1, **settings)


class Broken(nn.Module):
    """Returns NaN, or the wrong shape."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.flat, self.inner, self.how = nn.Flatten(), nn.Linear(144, 4), how

    def forward(self, x: torch.Tensor) -> object:
        out = self.inner(self.flat(x))
        return {"nan": out * torch.nan, "shape": out[:, :3], "list": [out]}[self.how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", "seed 0: .*NaN or infinite logits"),
        ("shape", r"\(4, 3\); .* labels .* logits of shape \(4, 4\)"),  # before it is trained
        ("list", "the model returned list; .* labels"),
    ],
)
def test_a_model_that_returns_nonsense_is_named(tmp_path: Path, how: str, said: str):
    failing(one_rung(lambda: Broken(how), (Layer("inner"),)), tmp_path, rf"rung 'only'.*{said}")


def test_an_unknown_layer_is_named_before_the_work(tmp_path: Path):
    failing(
        one_rung(lambda: Broken("nan"), (Layer("iner"),)),
        tmp_path,
        r"rung 'only': no layer.*'iner'; did you mean 'inner'",
    )
    assert not list((tmp_path / "run").glob("weights/*"))


def test_a_failing_model_loses_none_of_the_others(tmp_path: Path):
    good = Rung("good", "dense", lambda: network(3), (Layer("1"),))
    bad = Rung("bad", "dense", lambda: Broken("nan"), (Layer("inner"),))
    failing(
        Ladder("own", (bad, good), corners, Classifier(most_epochs=1)), tmp_path, "1 of 2 models failed.*rung 'bad'"
    )
    assert (tmp_path / "run/weights/own-good-0.safetensors").is_file()


def test_too_few_stimuli_are_named(tmp_path: Path):
    few = lambda data, seed: Splits(blobs(40, seed=0), blobs(40, seed=1), blobs(100, seed=2))  # noqa: E731
    failing(
        one_rung(lambda: network(2), splits=few),
        tmp_path,
        "pool of 100 stimuli, 50 in its smaller half; the trials",
    )


def test_an_observer_that_returns_nonsense_is_named(tmp_path: Path, tiny: Ladder):
    def short(stimuli: thalweg.Images) -> torch.Tensor:
        return torch.zeros(3, 2)

    with pytest.raises(ThalwegError, match=r"observer 'short' must return one finite vector for each of 400.*\(3, 2\)"):
        thalweg.survey(tiny, out=tmp_path / "run", observer=Observer("short", 1, short), cache=tmp_path, workers=1)


def test_an_observer_that_sees_no_difference_is_refused(tmp_path: Path, tiny: Ladder):
    def blank(stimuli: thalweg.Images) -> torch.Tensor:
        return torch.ones(len(stimuli), 2)

    with pytest.raises(ThalwegError, match="observer 'blank' returns the same vector for each of the 400 stimuli"):
        thalweg.survey(tiny, out=tmp_path / "run", observer=Observer("blank", 1, blank), cache=tmp_path, workers=1)


def test_names_that_do_not_exist_are_told_with_near_ones(tmp_path: Path):
    with pytest.raises(ThalwegError, match=r"'mnits'; did you mean 'mnist'"):
        thalweg.survey("mnits")
    with pytest.raises(ThalwegError, match=r"observer.*'hgo'.*'hog'"):
        thalweg.survey("mnist", observer="hgo", out=tmp_path)
    with pytest.raises(ThalwegError, match=r"strength axis.*'bit'.*'bits'"):
        thalweg.survey("mnist", strength="bit", out=tmp_path)
    with pytest.raises(ThalwegError, match=r"setting.*'seedz'.*'seeds'"):
        thalweg.survey("mnist", seedz=2, out=tmp_path)
    with pytest.raises(ThalwegError, match=r"^seeds is 0; at least 1 was expected$"):
        thalweg.survey("mnist", seeds=0, out=tmp_path)
    with pytest.raises(ThalwegError, match=rf"^seed is {1 << 63}; at most {(1 << 63) - 1} was expected$"):
        thalweg.survey("mnist", seed=1 << 63, out=tmp_path)
    with pytest.raises(ThalwegError, match=r"batch_size \(--batch-size\) is 0; at least 1"):
        thalweg.survey("mnist", batch_size=0, out=tmp_path)
    with pytest.raises(ThalwegError, match="name at least one ladder"):
        thalweg.survey()


def test_images_that_were_not_named_are_asked_for_before_models_are_loaded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ladders.PUBLISHED, "imagenet", lambda: pytest.fail("loaded"))
    for data in ((), ("mnist=folder",)):
        with pytest.raises(ThalwegError, match="'imagenet' measures on your own ImageNet images: --data"):
            thalweg.survey("mnist", "imagenet", data=data)


def test_an_empty_path_is_not_taken_for_the_folder_one_is_in(tmp_path: Path):
    for given in ("mnist=", ""):
        with pytest.raises(ThalwegError, match=f"--data '{given}' names no file or folder"):
            thalweg.survey("mnist", data=given, out=tmp_path)


def test_the_random_observer_finds_nothing_in_a_whole_survey(done: thalweg.Run):
    rows = done.scores.filter(
        (pl.col("observer") == "random")
        & (pl.col("measure") == "two_choice")
        & (pl.col("band") == "mean")
        & pl.col("seed").is_null()
    )
    assert rows.select((pl.col("score").mean() - 0.5).abs()).item() < 0.04
    verdicts = {one["verdict"] for one in done.shape if one["observer"] == "random" and one["kind"] == "all"}
    assert verdicts <= {"flat", "cannot tell"}
