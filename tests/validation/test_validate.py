"""The whole validation of a small set of images: its table, record and page, what the numbers are, and its errors."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import thalweg
from support.tiny import blobs
from thalweg import Images, Observer, ThalwegError
from thalweg.measures.headlines import HEADLINES
from thalweg.validation import summary
from thalweg.validation.markdown import headline_table
from thalweg.validation.page import render
from thalweg.validation.planted import Group
from thalweg.validation.validate import Validation

NAME = "pixels <b>&"
UNITS = 12


def few_pixels(stimuli: Images) -> Tensor:
    """<i>Some</i> pixels."""
    return stimuli.pixels.float().flatten(1)[:, :60]


OBSERVER = Observer(NAME, 1, few_pixels, modality="image", piecewise=True)


def validated(out: Path) -> Validation:
    pixels = torch.randint(256, (600, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    images = Images(pixels, torch.arange(600) % 2, ("even", "odd"))
    return thalweg.validate(images, observer=OBSERVER, units=UNITS, workers=1, out=out, cache=out.parent / "cache")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    return validated(tmp_path_factory.mktemp("validation") / "first")


def test_the_table_has_a_row_for_each_group_measure_and_observer(result: Validation):
    table = pl.read_parquet(result.path / "validation.parquet")
    assert table.equals(result.groups)
    assert table.schema == pl.Schema(summary.COLUMNS)
    assert not table.select("group", *summary.KEY).is_duplicated().any()
    groups = {group["name"]: group for group in result.record["groups"]}
    assert set(table["group"]) == set(groups)
    assert {"one latent", "sum of 20", "max of 5", "rotation of 8", "direction, rectified", "noise"} <= set(groups)
    for row in table.iter_rows(named=True):
        assert row["latents"] == groups[row["group"]]["latents"]
        assert row["n_units"] == groups[row["group"]]["n_units"] <= UNITS
        assert (row["coverage"] == 0) == np.isnan(row["mean"])
    assert table["coverage"].is_between(0, 1).all()
    known = table.filter(pl.col("low").is_not_nan())
    assert (known["low"] <= known["mean"] + 1e-9).all()
    assert (known["mean"] <= known["high"] + 1e-9).all()
    assert set(table.filter(~pl.col("named"))["observer"]) == {NAME}  # controls and measures without observer: once
    assert set(table.filter(pl.col("named"))["observer"]) == {NAME, "", "pixels", "trivial", "random"}


def test_a_standardised_direction_scores_as_it_is_and_crisp_falls_without_names(result: Validation):
    def contrast(first: str, second: str, measure: str, *, named: bool = True) -> dict[str, Any]:
        (found,) = (
            row
            for row in result.record["sensitivities"]
            if (row["first"], row["second"], row["measure"], row["named"]) == (first, second, measure, named)
            and row["observer"] == NAME
        )
        return found

    for measure in HEADLINES.values():
        assert abs(contrast("direction", "direction, standardised", measure)["difference"]) < 1e-3
    named, blind = (
        result.groups.filter(group="one latent", measure=HEADLINES["crisp"], observer=NAME, named=named, band="mean")
        for named in (True, False)
    )
    assert named["mean"].item() > blind["mean"].item() + 0.1


def test_the_record_holds_what_the_page_says(result: Validation):
    record = json.loads((result.path / "validation.json").read_text())
    assert record == result.record
    assert record["stimuli"]["count"] == 600
    assert record["latents"]["count"] == 40
    assert list(record["sentences"]) == ["predictable", "crisp"]
    assert all(NAME in sentence and sentence.endswith(".") for sentence in record["sentences"].values())
    for row in record["correlations"]:
        assert row["rho"] is None or -1 <= row["rho"] <= 1
    assert {row["over"] for row in record["correlations"]} == {"sum", "max"}
    for row in record["reliabilities"]:
        assert row["observer"] == NAME
        assert row["rho"] > 0.3 or not row["named"]  # single things and noise are told apart in either half
        assert row["n_units"] <= sum(group["n_units"] for group in record["groups"])
    assert {row["measure"] for row in record["reliabilities"]} >= set(HEADLINES.values())
    assert {row["measure"] for row in record["correlations"]} >= {"two_choice", "mis", "monosemanticity"}


def test_the_page_stands_alone_shows_every_group_and_no_markup_of_a_user(result: Validation):
    page = result.page.read_text()
    assert page == render(result.groups, result.record)
    body = page.partition("<body>")[2].partition("<script")[0]
    assert "<b>&" not in page
    assert "<i>Some" not in page
    for group in result.record["groups"]:
        assert f'<th scope="row" class="few">{group["name"]}</th>' in body
    assert not re.findall(r'(?:src|href)="(?!#|data:)', body)
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.S).group(1))["charts"]
    assert len(charts) == len(re.findall('class="drawing"', body)) >= 10
    score = charts["figure-1-1"]
    (rows,) = (rows for rows in score["datasets"].values() if len(rows) > 1)
    assert {row["group"] for row in rows} <= {group["name"] for group in result.record["groups"]}
    drawn = {(row["group"], row["control"]): row["score"] for row in rows}
    one = result.groups.filter(group="noise", measure=HEADLINES["predictable"], observer=NAME, named=True, band="mean")
    assert drawn["noise", "latents named"] == one["mean"].item()


def test_the_headlines_are_a_table_in_markdown(result: Validation):
    lines = headline_table(result.groups, result.record).splitlines()
    assert len(lines) == 2 + len(result.record["groups"])
    assert len({line.count("|") for line in lines}) == 1
    assert "crisp, not named" in lines[0]
    assert "predictable, not named" not in lines[0]  # whole stimuli are compared as before
    assert lines[2].startswith("| one latent | 12 | ")


def test_the_same_command_writes_the_same_bytes(result: Validation):
    again = validated(result.path.parent / "again")
    for name in ("validation.parquet", "validation.json", "validation.html"):
        assert (again.path / name).read_bytes() == (result.path / name).read_bytes(), name


def planted(**scores: list[float]) -> tuple[pl.DataFrame, list[summary.Scores], list[Group]]:
    """Groups whose units have these scores."""
    names = {"one": ("one latent", "one", 1), "two": ("sum of 2", "sum", 2), "five": ("sum of 5", "sum", 5)}
    groups = [Group(*names[name], torch.zeros(1, len(values))) for name, values in scores.items()]
    rows = pl.concat(
        pl.DataFrame({"layer": group.name, "unit": range(len(values)), "value": values})
        for group, values in zip(groups, scores.values(), strict=True)
    )
    key = {"named": True, "measure": "m", "observer": "o", "band": "mean", "capacity": "", "exchanged": False}
    rows = rows.with_columns(pl.lit(value).alias(name) for name, value in key.items())
    return *summary.group_scores(rows, groups, seed=0), groups


def test_means_correlations_and_sensitivities_are_those_of_the_units_that_have_a_score():
    random = np.random.default_rng(0)
    one, two, five = (random.normal(centre, 0.1, 40) for centre in (0.8, 0.7, 0.6))
    two[:10] = np.nan
    key, scores, _ = planted(one=list(one), two=list(two), five=list(five))
    table = summary.means(key, scores)
    assert table["mean"].to_list() == pytest.approx([one.mean(), np.nanmean(two), five.mean()])
    assert table["coverage"].to_list() == [1, 0.75, 1]
    half = (table["high"] - table["low"]).to_list()
    errors = [values.std() / np.sqrt(len(values)) for values in (one, two[10:], five)]
    assert half == pytest.approx([2 * 1.96 * error for error in errors], rel=0.15)
    rank = summary.correlations(key, scores, seed=0)[0]
    latents = np.repeat([1, 2, 5], [40, 30, 40])
    assert rank["rho"] == pytest.approx(spearmanr(np.concatenate([one, two[10:], five]), latents).statistic)
    assert rank["low"] < rank["rho"] < rank["high"] < 0
    assert rank["n_units"] == 110
    contrasts = {(row["first"], row["second"]): row for row in summary.sensitivities(key, scores)}
    d = (one.mean() - five.mean()) / np.sqrt((one.var(ddof=1) + five.var(ddof=1)) / 2)
    assert contrasts["one latent", "sum of 5"]["d"] == pytest.approx(d)
    assert contrasts["one latent", "sum of 5"]["d_low"] < d < contrasts["one latent", "sum of 5"]["d_high"]
    assert ("one latent", "sum of 2") in contrasts


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (
            {"one": [0.9, 0.91] * 9, "two": [0.7, 0.71] * 9, "five": [0.6, 0.61] * 9},
            r"tells one latent \(0.90\) from sums of 2 to 5 latents \(0.70 to 0.60\)\.",
        ),
        (
            {"one": [0.6, 0.9] * 9, "two": [0.61, 0.89] * 9, "five": [0.5, 0.52] * 9},
            r"tells one latent \(0.75\) from sums of 5 latents, but not of 2\.",
        ),
        (
            {"one": [0.6, 0.9] * 8 + [np.nan] * 2, "two": [0.61, 0.92] * 9},
            r"does not tell one latent \(0.75\) from sums of 2 latents \(0.77\); only 89 % of the single latents have",
        ),
        ({"one": [np.nan] * 18, "two": [0.5] * 18}, "says nothing of one latent on these stimuli: no such unit has"),
    ],
    ids=("all", "some", "none", "no score"),
)
def test_a_sentence_says_what_the_intervals_say(scores: dict[str, list[float]], sentence: str):
    key, found, _ = planted(**scores)
    said = summary.sentences(summary.means(key, found), summary.sensitivities(key, found), {"crisp": "m"}, "o")
    assert re.match(rf"Crisp \(m, observer o\) {sentence}", said["crisp"])


def test_mistakes_are_told_before_the_work(tmp_path: Path):
    texts, pictures = tmp_path / "texts", tmp_path / "pictures"
    for folder in (texts, pictures):
        folder.mkdir()
    (texts / "a.txt").write_text("A short text.")
    blobs(1, seed=0).picture(0).save(pictures / "a.png")
    pl.DataFrame({"body": ["a text"]}).write_parquet(tmp_path / "table.parquet")
    mistakes: list[tuple[object, dict[str, Any], str]] = [
        ("mnits", {}, "no ladder, file or folder is called 'mnits'; did you mean 'mnist'?"),
        ("mnist", {"units": 3}, "units is 3 (--units); a whole number of at least 10 was expected"),
        ("mnist", {"observer": "suffix"}, "observer 'suffix' sees stimuli of modality 'text'"),
        (texts, {}, "at least 8 were expected"),
        (pictures, {}, "holds 1 image; the trials need at least 120"),
        (tmp_path / "table.parquet", {}, "name the right one with --text-column"),
        (pictures, {"data": (str(texts),)}, "--data is for ladders"),
        (blobs(100, seed=0), {}, "holds 100 stimuli; the trials need at least 120"),
    ]
    for stimuli, options, message in mistakes:
        with pytest.raises(ThalwegError, match=re.escape(message)):
            thalweg.validate(stimuli, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
