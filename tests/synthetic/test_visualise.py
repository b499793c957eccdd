"""Synthetic references of a run: the same queries and observer, scores that are known, and files that are made once."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import filelock
import polars as pl
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import thalweg
from support.tiny import corners, short_ladder
from thalweg import Images, Ladder, Run, ThalwegError, cli
from thalweg.files.whole import read_tensors
from thalweg.observers import base
from thalweg.observers.base import extract_features
from thalweg.observers.embedding import build_view
from thalweg.pipeline.settings import Settings
from thalweg.progress import Silent, Stages
from thalweg.report.conditions import figures
from thalweg.report.figures import verdict_note
from thalweg.report.ladder import ladders
from thalweg.synthetic.conditions import conditions, keep
from thalweg.synthetic.maximise import Pictures
from thalweg.synthetic.page import write_page
from thalweg.synthetic.preparing import preparation
from thalweg.synthetic.scoring import Asked, score_conditions, view_beyond
from thalweg.synthetic.visualise import Watching, network_file
from thalweg.trials.one_sided import tails

KEY = ["rung", "control", "layer", "unit", "measure", "observer", "band", "capacity"]


def small() -> Ladder:
    return replace(short_ladder(), name="tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("synthetic")
    made = thalweg.survey(
        small(), out=out / "run", observer="hog", seeds=1, workers=1, resamples=100, cache=out / "cache", device="cpu"
    )
    return thalweg.open_run(made.path, small())


@pytest.fixture(scope="module")
def table(run: Run) -> pl.DataFrame:
    return thalweg.visualise(run, units=3, steps=20, cache=run.path.parent / "cache", device="cpu")


def test_natural_references_score_as_the_survey_did(run: Run, table: pl.DataFrame):
    natural = table.filter(references="natural")
    assert set(natural["control"]) == {"trained", "untrained"}
    whole = natural.filter(pl.col("capacity") == "")  # single features are chosen from nine references here, not thirty
    joined = whole.join(run.units.filter(~pl.col("exchanged")), on=KEY, how="left", suffix="_survey")
    assert len(joined) == len(whole) > 50
    assert joined["value"].equals(joined["value_survey"], null_equal=True) or (
        (joined["value"] - joined["value_survey"]).fill_nan(0).abs().max() == 0
    )
    assert joined["value"].is_nan().equals(joined["value_survey"].is_nan())


def test_both_conditions_ask_the_same(table: pl.DataFrame):
    natural, synthetic = (table.filter(references=name).select(*KEY, "n", "value") for name in ("natural", "synthetic"))
    both = natural.join(synthetic, on=KEY, suffix="_synthetic")
    assert len(both) == len(natural) == len(synthetic)
    assert both["n"].equals(both["n_synthetic"])
    assert (both["value"] != both["value_synthetic"]).any()


def test_pictures_of_the_natural_references_score_as_these(run: Run):
    pool = run.stimuli("tiny")
    part = run.recordings("tiny", small().rungs[0].name)["1"]
    ids = torch.stack([end()[1][:, :9] for end in (part.reference.highest, part.reference.lowest)], 1)
    units = torch.arange(len(ids))
    pictures = Pictures(units, pool.pixels[ids], torch.zeros(ids.shape), torch.zeros(ids.shape[:2]))
    settings = Settings(cache=run.path.parent / "cache", workers=1)
    watching = Watching(base.find("hog"), pool, settings, Stages(Silent()), seed=0)
    watcher = watching.watch(pictures.pixels.flatten(0, 2))
    asked = Asked(part, tails(*part, torch.relu), watching.halves, watching.metadata, watcher)
    about = dict.fromkeys(("ladder", "rung", "kind", "control", "layer", "reduction", "basis"), "")
    rows = pl.DataFrame({"unit": units.numpy()}).with_columns(
        *(pl.lit(value).alias(name) for name, value in about.items()), seed=pl.lit(0), depth=pl.lit(0)
    )
    table = score_conditions(asked, pictures, len(pool), rows).filter(pl.col("measure").str.starts_with("two_choice"))
    natural, synthetic = (table.filter(references=name) for name in ("natural", "synthetic"))
    known = natural["value"].is_not_nan()
    assert known.sum() > 20
    assert (natural["value"] - synthetic["value"]).filter(known).abs().max() < 1e-5


def test_an_observer_sees_the_pool_as_ever_with_pictures_behind_it():
    pool = corners(None, 0).pool
    others = corners(None, 7).pool.take(slice(0, 30))
    parts = ("hog", "pixels")
    observer = base.Observer("both", 1, parts=parts, names_classes=True)
    seen = {name: extract_features(base.find(name), pool) for name in parts}
    made = {name: extract_features(base.find(name), others) for name in parts}
    alone, beyond = build_view(observer, seen, pool), view_beyond(observer, seen, made, pool)
    assert len(beyond.embedding) == len(beyond.dictionary) == len(pool) + 30
    assert torch.allclose(beyond.embedding[: len(pool)], alone.embedding, atol=1e-5)
    assert torch.allclose(beyond.dictionary[: len(pool)], alone.dictionary, atol=1e-4)
    assert torch.allclose(beyond.dictionary[len(pool) :, -4:], torch.zeros(()), atol=1e-5)  # whose class is not known
    again = view_beyond(observer, seen, {name: {"features": seen[name]["features"][:5]} for name in parts}, pool)
    assert torch.allclose(again.embedding[len(pool) :], alone.embedding[:5], atol=1e-5)


def test_what_is_there_is_not_made_again_and_other_steps_are(run: Run, table: pl.DataFrame):
    file = network_file(run, "tiny", small().rungs[0].name, 0, "trained")
    kept = read_tensors(file)
    assert kept["1/pixels"].shape == (3, 2, 9, 1, 12, 12)
    before = file.stat().st_mtime_ns
    cache = run.path.parent / "cache"
    assert thalweg.visualise(run, units=3, steps=20, cache=cache, device="cpu").equals(table, null_equal=True)
    assert file.stat().st_mtime_ns == before
    other = thalweg.visualise(run, units=2, steps=3, rung=[small().rungs[0].name], cache=cache, device="cpu")
    assert file.stat().st_mtime_ns != before
    assert other["unit"].n_unique() == 2
    twin = other.group_by("control").agg(pl.col("unit").unique().sort())
    assert twin["unit"][0].to_list() == twin["unit"][1].to_list()


def test_the_page_shows_both_conditions_and_the_pictures(run: Run, table: pl.DataFrame):
    again = thalweg.visualise(run, units=3, steps=20, cache=run.path.parent / "cache")
    page = write_page(run, again, conditions(run, again)).read_text()
    for said in ("one_sided, natural", "one_sided, synthetic", "highest, synthetic", "tiny, two_choice: "):
        assert said in page
    assert page.count('src="data:image/png;base64,') == 2 * 2 * 4 * 9  # rungs, units, rows, pictures
    found = conditions(run, table)
    assert found.points["references"].n_unique() == 2
    assert set(found.verdicts) >= {("tiny", "two_choice", "natural"), ("tiny", "two_choice", "synthetic")}


def test_the_report_has_both_conditions_until_the_run_is_made_anew(run: Run, table: pl.DataFrame, tmp_path: Path):
    shutil.copytree(run.path, tmp_path / "run")
    copy = thalweg.open_run(tmp_path / "run", small())
    (ladder,) = ladders(copy)
    (copy.path / "synthetic.json").unlink(missing_ok=True)
    assert figures(ladder) == []
    found = conditions(copy, table)
    keep(copy, found)
    (figure,) = figures(ladder)
    assert not figure.failed
    assert [panel.title for panel in figure.panels[:2]] == ["two_choice, natural", "two_choice, synthetic"]
    verdict = found.verdicts["tiny", "two_choice", "synthetic"]
    assert figure.panels[1].note == verdict_note(verdict)
    copy.models.with_columns(pl.col("bits") + 1).write_parquet(copy.path / "models.parquet")
    assert figures(ladder) == []


def test_a_survey_takes_synthetic_references_too(monkeypatch: pytest.MonkeyPatch):
    asked: list[dict] = []
    run = SimpleNamespace(verdict={}, comparison=[])
    monkeypatch.setattr(thalweg, "survey", lambda *names, **settings: run)
    monkeypatch.setattr(cli, "written", lambda run, shown, workers: Path("report.html"))
    monkeypatch.setattr(cli, "synthetic_condition", lambda run, **options: asked.append(options) or ["tiny: both"])
    result = CliRunner().invoke(cli.app, ["survey", "mnist", "--references", "synthetic", "--device", "cpu"])
    assert "tiny: both" in result.output
    assert asked[0]["device"] == "cpu"
    assert "tiny: both" not in CliRunner().invoke(cli.app, ["survey", "mnist"]).output
    for words, said in (
        (["words", "--references", "synthetic"], "words has none; give it with a ladder of images"),
        (["mnist", "--references", "drawn"], "no kind of references is called 'drawn'"),
    ):
        refused = CliRunner().invoke(cli.app, ["survey", *words]).exception
        assert isinstance(refused, ThalwegError)
        assert said in str(refused)


def test_what_cannot_be_made_is_refused_in_a_sentence(run: Run, tmp_path: Path):
    with pytest.raises(ThalwegError, match="no rung of this run is called 'dense-5'"):
        thalweg.visualise(run, rung=["dense-5"])
    with pytest.raises(ThalwegError, match="units is 0"):
        thalweg.visualise(run, units=0)
    result = CliRunner().invoke(cli.app, ["visualise", str(tmp_path)])
    assert isinstance(result.exception, ThalwegError)


def as_tensor(picture: Image.Image) -> torch.Tensor:
    return torch.tensor(list(picture.convert("L").getdata()), dtype=torch.float32).view(1, 12, 12) / 255


def test_a_run_that_cannot_be_written_is_refused_before_pictures_are_made(run: Run, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with pytest.raises(ThalwegError, match=r"cannot be written \(Read-only.*copy the run to where it can"):
        thalweg.visualise(run, units=1, steps=1)


def test_preprocessing_is_found_out_and_one_that_is_no_straight_line_is_refused():
    pool = corners(None, 0).pool
    plain = preparation(pool)
    pictures = torch.rand(2, 1, 12, 12)
    assert torch.equal(plain(pictures), pictures)
    scaled = preparation(pool.viewed(lambda picture: (as_tensor(picture) - 0.5) / 0.25))
    assert torch.allclose(scaled(pictures), (pictures - 0.5) / 0.25, atol=1e-5)
    with pytest.raises(ThalwegError, match="does not scale each colour by a straight line"):
        preparation(pool.viewed(lambda picture: as_tensor(picture) ** 2))
    assert isinstance(pool, Images)
