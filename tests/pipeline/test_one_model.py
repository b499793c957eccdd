"""One model of the user's own, measured over a folder of images: tables, report, what can be chosen, and errors."""

import json
import math
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import thalweg
from support.tiny import blobs
from thalweg import Images, Layer, Subject, ThalwegError, subjects
from thalweg.cli import app, headline
from thalweg.pipeline import factors, pieces, places
from thalweg.pipeline.job import Model
from thalweg.pipeline.one_model import layers_of
from thalweg.strength.published import published

MINE = """
import torch
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

import thalweg


def build():
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(256, 4)).eval()


def load():
    model = build()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    return model


def view(picture):
    return pil_to_tensor(picture).float() / 255


subject = thalweg.Subject("mine", load, build=build, view=view, weights="made up")
nothing = 7
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mine.py, and pictures in a folder for each class."""
    found = tmp_path_factory.mktemp("measuring")
    (found / "mine.py").write_text(MINE)
    images = blobs(240, seed=5)
    for number in range(len(images)):
        folder = found / "pictures" / images.label_names[int(images.labels[number])]
        folder.mkdir(parents=True, exist_ok=True)
        images.picture(number).save(folder / f"{number}.png")
    return found


def measured(place: Path, name: str, **told) -> thalweg.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return thalweg.measure(
            "mine.py:subject",
            place / "pictures",
            observer="hog",
            out=place / name,
            cache=place / "cache",
            workers=1,
            resamples=100,
            **told,
        )


@pytest.fixture(scope="module")
def run(place: Path) -> thalweg.Run:
    return measured(place, "run")


@pytest.mark.shapes
def test_stimuli_of_a_measured_model_are_read_again_by_its_name(run: thalweg.Run, place: Path):
    opened = thalweg.open_run(run.path)
    (ladder,) = opened.record["ladders"]
    assert opened.record["ladders"][ladder]["source"]["path"] == str(place / "pictures")
    assert opened.record["ladders"][ladder]["source"]["subject"] == f"{place / 'mine.py'}:subject"
    assert opened.stimuli(ladder).content_hash() == run.stimuli(ladder).content_hash()
    assert opened.trials(ladder, ladder, layer="3", units=2, per_unit=3)[0].show().queries[0].png


def test_a_model_is_measured_with_its_twins(run: thalweg.Run):
    assert set(run.models["control"]) == {"trained", "untrained", "rotated", "rerandomised"}
    assert run.record["settings"]["shards"] == 8  # on a CPU: all cores have a part of it to do
    assert run.models["compute"].is_nan().all()
    assert set(run.models["parameters"]) == {6 * 27 + 6 + 12 + 4 * 54 + 4 + 256 * 4 + 4}
    units = run.units.select("control", "layer", "unit").unique().group_by("control", "layer").len()
    assert set(units.rows()) == {
        (control, layer, count)
        for control in ("trained", "untrained", "rotated", "rerandomised")
        for layer, count in (("1", 6), ("3", 4), ("6", 4))
    }
    assert run.record["ladders"]["mine"]["stimuli"] == {"train": 0, "validation": 0, "pool": 240}
    gaps = run.factors.filter(pl.col("factor").str.starts_with("generalisation_gap"))
    assert gaps["value"].is_nan().all()  # what it was trained on is not known
    assert set(gaps["note"]) == {"no training stimuli are known: the model was not trained here"}
    assert run.models["participation_ratio"].is_between(1, 4).all()


def test_strength_is_the_same_in_one_piece_and_in_eight(run: thalweg.Run, place: Path):
    whole = measured(place, "whole", shards=1)
    told = [one.models.sort("control").select("bits", "accuracy", "probe", "parameters") for one in (run, whole)]
    assert told[0]["probe"].null_count() == 0
    for before, after in zip(told[0].rows(), told[1].rows(), strict=True):
        assert after == pytest.approx(before, abs=1e-6)


def test_many_units_are_scored_in_pieces_and_places_are_read_where_a_model_is_recorded(
    run: thalweg.Run, place: Path, monkeypatch: pytest.MonkeyPatch
):
    """What pieces and shards left is put together as if there were none."""
    compared = []

    def read_and_passed(network: nn.Module, model: Model, control: str) -> places.Places:
        read, passed = places._read_before(model, control), places._in_a_pass(network, model)
        compared.append((control, sorted(read)))
        for name, values in passed.items():
            torch.testing.assert_close(read[name], values)
        return read

    monkeypatch.setattr(pieces, "UNITS", 10)  # the model and two twins have 42, the third twin 14
    monkeypatch.setattr(factors, "values_at_places", read_and_passed)
    apart = measured(place, "pieces")
    assert compared == [(control, ["1", "3"]) for control in ("trained", "untrained", "rerandomised")]
    assert "score" in apart.record["seconds"]
    assert "score" not in run.record["seconds"]
    key = ["control", "layer", "unit", "measure", "observer", "band", "capacity", "exchanged"]
    assert_frame_equal(apart.units.sort(key), run.units.sort(key))
    assert_frame_equal(apart.scores, run.scores)
    assert_frame_equal(apart.factors, run.factors)
    assert {path.name for path in (apart.path / "recordings").iterdir()} == {
        path.name for path in (run.path / "recordings").iterdir()
    }
    assert not list((apart.path / "steps").glob("score-*"))


class Counting(nn.Sequential):
    """A network that notes how many stimuli it was given."""

    seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Counting.seen += len(images)
        return super().forward(images)


def test_strength_is_read_in_the_pass_that_records_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def build() -> nn.Module:
        torch.manual_seed(1)
        return Counting(nn.Flatten(), nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 4))

    monkeypatch.setattr(Counting, "seen", 0)
    pool = blobs(200, seed=2)
    model = Subject("small", build, (Layer("1", nonlinearity=torch.relu),))
    settings = {"observer": "hog", "cache": tmp_path / "cache", "workers": 1, "resamples": 100, "twins": "none"}
    run = thalweg.measure(model, pool, out=tmp_path / "run", shards=2, **settings)
    factors = run.models["participation_ratio"].len()
    assert len(pool) <= Counting.seen < 2 * len(pool) + factors
    expected = published(build(), pool)
    row = run.models.row(0, named=True)
    assert {name: row[name] for name in ("bits", "accuracy", "probe")} == {
        name: pytest.approx(expected[name], abs=1e-6) for name in ("bits", "accuracy", "probe")
    }


def test_a_layers_row_is_the_mean_of_its_units(run: thalweg.Run):
    values = run.units.filter(~pl.col("exchanged") & (pl.col("band") == "mean") & pl.col("value").is_not_nan())
    key = ["control", "layer", "measure", "observer", "capacity"]
    expected = values.group_by(key).agg(pl.col("value").mean(), pl.len().alias("n"))
    both = run.layers.join(expected, on=key)
    assert len(both) > 20
    assert both.select((pl.col("score") - pl.col("value")).abs().max()).item() < 1e-6
    assert (both["n_measured"] == both["n"]).all()
    assert (both["low"] <= both["score"] + 1e-9).all()
    assert (both["score"] <= both["high"] + 1e-9).all()


def test_a_run_of_one_model_has_no_correlations(run: thalweg.Run):
    shown = CliRunner().invoke(app, ["causes", str(run.path)])
    assert isinstance(shown.exception, ThalwegError)
    assert "a run of one model; correlations are over the models of a ladder" in str(shown.exception)


def test_the_report_says_how_to_do_it_again(run: thalweg.Run, place: Path):
    page = thalweg.write_report(run).read_text()
    assert "How interpretable are the units of mine?" in page
    said = run.record["command"]
    assert said.startswith(f"thalweg measure mine.py:subject --stimuli {place / 'pictures'}")
    assert "--seeds" not in said


def test_done_work_is_not_done_again_and_other_choices_need_another_directory(run: thalweg.Run, place: Path):
    before = {path.name: path.stat().st_mtime_ns for path in run.path.glob("*.parquet")}
    measured(place, "run")
    assert {path.name: path.stat().st_mtime_ns for path in run.path.glob("*.parquet")} == before
    with pytest.raises(ThalwegError, match="made with other settings"):
        measured(place, "run", units=3)


def test_layers_and_units_can_be_chosen(place: Path):
    few = measured(place, "few", layers=["1", "[3-6]"], units=5, shards=1)
    drawn = few.units.select("control", "layer", "unit").unique()
    assert drawn.group_by("control").len()["len"].to_list() == [5] * len(few.models)
    assert set(few.gallery["layer"]) <= {"1", "3", "6"}
    with pytest.raises(ThalwegError, match="no layer is called 'conv1'"):
        measured(place, "none", layers="conv1")
    with pytest.raises(ThalwegError, match="100 units were to be drawn from 3 layers that hold 14 units"):
        measured(place, "none", units=100)
    assert not (place / "none").exists()


@pytest.fixture(scope="module")
def dictionary(place: Path) -> Path:
    """A dictionary of 20 latents for the six channels of layer 1, as SAELens writes it."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (6, 20), "b_enc": (20,), "W_dec": (20, 6), "b_dec": (6,)}
    (folder := place / "dictionary").mkdir()
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(weights, folder / "sae_weights.safetensors")
    settings = {"architecture": "standard", "d_in": 6, "d_sae": 20, "hook_name": "1"}
    (folder / "cfg.json").write_text(json.dumps(settings))
    return folder


TWINS = {"trained", "untrained", "rotated", "rerandomised"}


@pytest.mark.parametrize(
    ("basis", "controls", "kind"),
    [
        ("random", TWINS - {"rotated"}, "6 random directions"),
        ("pca", TWINS, "6 principal components"),
        ("sae", TWINS, "20 latents"),
    ],
)
def test_units_of_another_basis_can_be_drawn(place: Path, dictionary: Path, basis: str, controls: set[str], kind: str):
    name = f"sae:{dictionary}" if basis == "sae" else basis
    found = measured(place, basis, basis=name, layers="1", units=3, shards=1)
    assert set(found.models["control"]) == controls
    assert set(found.units.filter(control="trained")["basis"]) == {basis}
    units = found.units.select("control", "unit").unique()
    assert units.group_by("control").len().select(pl.col("len").unique()).item() == 3
    of_latents = units.filter(pl.col("control") == "trained")["unit"].max() >= 6
    assert of_latents == (basis == "sae")  # the rotated twin of a dictionary has directions of the layer, and no more
    assert units.filter(pl.col("control") == "rotated")["unit"].max() in (None, *range(6))
    about = found.record["ladders"]["mine"]["description"]  # the report shows it
    assert about == f"one model that exists already; 3 of {kind} are measured, drawn at random"
    assert "--units 3" in found.record["command"]
    layers = int(kind.split()[0])
    with pytest.raises(ThalwegError, match=f"{layers + 1} units were to be drawn from 1 layers that hold {layers}"):
        measured(place, "none", basis=name, layers="1", units=layers + 1)


def test_a_dictionary_of_another_width_is_refused_once_before_the_work(place: Path, dictionary: Path):
    with pytest.raises(ThalwegError, match=r"^\S+dictionary: the dictionary reads 6 neurons, but layer '3' has 4; it "):
        measured(place, "wide", basis=f"sae:{dictionary}", layers="3", shards=2)
    assert not (place / "wide").exists()


def test_the_layers_of_a_model_are_listed_with_their_units(place: Path):
    model = subjects.find(f"{place / 'mine.py'}:subject")
    found = layers_of(model, model.load(), torch.rand(2, 3, 12, 12))
    assert [(tap.layer.name, tap.kind, tap.units, tap.layer.reduction) for tap in found] == [
        ("1", "convolution", 6, "max"),
        ("3", "convolution", 4, "max"),
        ("6", "linear", 4, "max"),
    ]


def test_stimuli_in_memory_and_layers_of_ones_own(tmp_path: Path):
    def build() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 4))

    model = Subject("small", build, (Layer("1", nonlinearity=torch.relu),))
    told = {"observer": "hog", "cache": tmp_path / "cache", "workers": 1, "resamples": 100}
    run = thalweg.measure(model, blobs(200, seed=2), out=tmp_path / "run", **told)
    assert set(run.models["control"]) == {"trained", "rotated", "rerandomised"}  # it can't be built untrained
    assert run.models.filter(control="trained")["bits"].is_finite().all()
    pairs = thalweg.NumberPairs(torch.zeros(200, 2, dtype=torch.int64), 5)
    with pytest.raises(ThalwegError, match="takes stimuli of modality 'image', not 'pair'"):
        thalweg.measure(model, pairs, out=tmp_path / "none", **told)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet50", "torchvision:NAME"),
        ("torchvison:resnet50", "did you mean 'torchvision'"),
        ("absent.py:subject", "absent.py: there is no such file"),
        ("mine.py:subjekt", "did you mean 'subject'"),
        ("mine.py:nothing", "nothing is int; a thalweg.Subject was expected"),
    ],
)
def test_subjects_that_cannot_be_found(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str):
    monkeypatch.chdir(place)
    with pytest.raises(ThalwegError, match=said):
        thalweg.measure(name, blobs(200, seed=2))


def test_the_ending_of_a_file_may_be_in_capitals(place: Path, tmp_path: Path):
    (tmp_path / "Yours.PY").write_text((place / "mine.py").read_text())
    assert subjects.find(f"{tmp_path / 'Yours.PY'}:subject").name == subjects.find(f"{place / 'mine.py'}:subject").name


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path):
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ThalwegError, match=r"broken.py: cannot be run \(ZeroDivisionError: division by zero\)"):
        subjects.find(f"{tmp_path / 'broken.py'}:subject")


def test_images_that_do_not_decode_are_left_out_only_when_asked_and_are_named(place: Path, tmp_path: Path):
    images = blobs(160, seed=4)
    for number in range(160):
        images.picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "7.png").write_bytes(b"no picture")
    told = {"observer": "hog", "out": tmp_path / "run", "cache": str(place / "cache"), "workers": 1, "layers": "1"}
    told |= {"shards": 1, "resamples": 100}
    with pytest.raises(ThalwegError, match=r"(?s)7.png.*--skip-bad"):
        thalweg.measure(f"{place / 'mine.py'}:subject", tmp_path, **told)
    run = thalweg.measure(f"{place / 'mine.py'}:subject", tmp_path, skip_bad=True, **told)
    told = run.record["ladders"]["mine"]
    assert told["stimuli"]["pool"] == 159
    assert "7.png" in told["left_out"][0]
    assert "--skip-bad" in run.record["command"]


def test_too_few_images_are_refused_before_any_work(place: Path, tmp_path: Path):
    for number in range(3):
        blobs(3, seed=1).picture(number).save(tmp_path / f"{number}.png")
    with pytest.raises(ThalwegError, match="holds 3 images; the trials need at least 120"):
        thalweg.measure(f"{place / 'mine.py'}:subject", tmp_path, observer="hog", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_view_their_pictures() -> None:
    images = blobs(6, seed=3)
    seen = images.viewed(lambda picture: torch.full((1, 2, 2), float(picture.size[0])))
    assert isinstance(images, Images)
    assert seen.batch(torch.tensor([0, 3])).shape == (2, 1, 2, 2)
    assert (seen.batch(slice(0, 2)) == 12).all()
    assert seen.take(slice(0, 3)).view is seen.view


def test_a_missing_headline_says_why(tmp_path: Path):
    rows = {"rung": ["a", "a"], "control": ["trained"] * 2, "measure": ["one_sided"] * 2}
    scores = {f"{word}{end}": [math.nan] for word in ("predictable", "crisp") for end in ("", "_low", "_high")}
    run = thalweg.Run(tmp_path)
    words = {"one_sided": "predictable", "one_sided_single": "crisp"}
    named = {"measures": {measure: {"headline": word} for measure, word in words.items()}}
    reasons = {**rows, "note": ["constant", "decided by low-level statistics"], "n": [2, 9]}
    run.__dict__.update(
        record=named, models=pl.DataFrame({"control": ["trained"]} | scores), missing=pl.DataFrame(reasons)
    )
    assert headline(run) == {
        "predictable": "the model has no score (decided by low-level statistics)",
        "crisp": "the model has no score",
    }
