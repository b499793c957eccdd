"""Where the truth is known: planted units on real digits, and nulls that must stay nulls."""

import copy
import math

import polars as pl
import pytest
import torch
from torch import Tensor

from support.planted import digits, on_digits, value, watching
from thalweg import Source
from thalweg.ladders.mnist import RUNGS, splits
from thalweg.models.hooks import capture_activations as watching_layers
from thalweg.models.pooling import pooled
from thalweg.recording.readout import rotation
from thalweg.training.classifier import Classifier

NOISE_UNITS = 200


@pytest.fixture(scope="module")
def units() -> dict[str, slice]:
    """Which of the planted units are of which sort."""
    return {
        "class": slice(0, 10),
        "mixture": slice(10, 20),
        "noise": slice(20, 20 + NOISE_UNITS),
        "ink": slice(220, 221),
    }


@pytest.fixture(scope="module")
def latents() -> Tensor:
    """For each digit class, a value that is near 0 for other classes and between 0.4 and 1.4 for its own."""
    pool = digits()
    generator = torch.Generator().manual_seed(7)
    mine = pool.labels[:, None] == torch.arange(10)
    strength = 0.4 + torch.rand(len(pool), 10, generator=generator)
    return mine * strength + 0.1 * torch.randn(len(pool), 10, generator=generator)


@pytest.fixture(scope="module")
def rows(latents: Tensor) -> pl.DataFrame:
    pool = digits()
    generator = torch.Generator().manual_seed(8)
    chosen = torch.stack([torch.randperm(10, generator=generator)[:5] for _ in range(10)])  # five classes each
    mixtures = torch.stack([latents[:, five].sum(1) for five in chosen], 1)
    noise = torch.randn(len(pool), NOISE_UNITS, generator=generator)
    ink = pool.pixels.float().mean((1, 2, 3))[:, None] / 255
    return on_digits(torch.cat([latents, mixtures, noise, ink], 1), "image", "random", "trivial")


def test_a_unit_for_one_class_is_predicted_in_the_easy_bands(rows: pl.DataFrame, units: dict[str, slice]):
    for band in ("extreme", "v90"):
        result = value(rows, "two_choice", band)[units["class"]]
        assert result.mean() > 0.95, band


def test_noise_is_at_chance_and_its_intervals_hold(rows: pl.DataFrame, units: dict[str, slice]):
    for measure, capacity in (("two_choice", ""), ("two_choice_matched", ""), ("two_choice_single", "1")):
        result = value(rows, measure, capacity=capacity)[units["noise"]]
        assert abs(result.nanmean() - 0.5) < 4 * result.std() / math.sqrt(NOISE_UNITS), measure
        assert 0.47 < result.nanmean() < 0.53, measure
    noise = rows.filter(
        (pl.col("measure") == "two_choice")
        & (pl.col("observer") == "image")
        & (pl.col("band") == "v75")
        & pl.col("unit").is_between(20, 219)
        & ~pl.col("exchanged")
    )
    covered = noise.select(((pl.col("low") <= 0.5) & (pl.col("high") >= 0.5)).mean()).item()
    assert 0.88 < covered <= 1.0  # 95 % stated; 200 units give a standard error of .015


def test_a_mixture_of_five_classes_lies_between(rows: pl.DataFrame, units: dict[str, slice]):
    for measure, capacity in (("two_choice", ""), ("two_choice_matched", ""), ("two_choice_single", "1")):
        result = value(rows, measure, capacity=capacity)
        single, mixture, noise = (result[units[name]].nanmean() for name in ("class", "mixture", "noise"))
        assert single > mixture + 0.05 > noise + 0.1, measure


def test_a_crisp_unit_needs_one_feature_and_a_mixture_more(rows: pl.DataFrame, units: dict[str, slice]):
    item, five = (value(rows, "one_sided_capacity", capacity=c) for c in ("1", "5"))
    assert item[units["class"]].nanmean() > 0.95
    assert (five - item)[units["mixture"]].nanmean() > (five - item)[units["class"]].nanmean() + 0.02


def test_the_amount_of_ink_is_predictable_but_decided_by_low_level_statistics(rows: pl.DataFrame):
    assert value(rows, "two_choice", observer="trivial")[220] > 0.95
    assert value(rows, "two_choice")[220] > 0.75
    assert value(rows, "two_choice_matched")[220].isnan()
    notes = (
        rows.filter((pl.col("unit") == 220) & (pl.col("measure") == "two_choice_matched"))["note"].unique().to_list()
    )
    assert notes == ["decided by low-level statistics"]


def test_the_random_observer_is_at_chance_for_every_sort_of_unit(rows: pl.DataFrame, units: dict[str, slice]):
    result = value(rows, "two_choice", observer="random")
    for name in ("class", "mixture", "noise"):
        assert abs(result[units[name]].mean() - 0.5) < 0.06, name


def test_single_latents_stand_above_their_rotation_on_crisp_and_need_not_on_predictable(latents: Tensor):
    turned = latents @ rotation(10, seed=5)
    scores = on_digits(torch.cat([latents, turned], 1), "image")
    crisp = value(scores, "two_choice_single", capacity="1")
    predictable = value(scores, "two_choice_matched")
    assert crisp[:10].nanmean() > crisp[10:].nanmean() + 0.1
    gap = predictable[:10].nanmean() - predictable[10:].nanmean()
    assert gap < crisp[:10].nanmean() - crisp[10:].nanmean()


def test_reading_more_stimuli_of_one_class_is_not_needed_to_be_right(latents: Tensor):
    """On a class unit the sum of two observers is hardly worse than the better of them."""
    scores = on_digits(latents, "image", "hog", "deep")
    result = {name: value(scores, "two_choice", observer=name).mean() for name in ("image", "hog", "deep")}
    assert result["image"] > max(result["hog"], result["deep"]) - 0.02


def test_standardised_parts_weigh_equally():
    image, hog, deep = (watcher.view.embedding for watcher in watching("image", "hog", "deep"))
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randint(len(image), (2, 4000), generator=generator)
    both, item, other = ((part[left] * part[right]).sum(1) for part in (image, hog, deep))
    expected = item / item.std() + other / other.std()
    assert torch.corrcoef(torch.stack([both, expected]))[0, 1] > 0.999


def test_the_deepest_layer_of_a_trained_convnet_stands_above_its_untrained_twin_on_both_headlines():
    pool = digits()
    parts = splits(Source(), 0)
    rung = next(rung for rung in RUNGS if rung.name == "deep-12-24-24-48-48")
    torch.manual_seed(0)
    untrained = rung.build()
    trained = copy.deepcopy(untrained)
    Classifier(most_epochs=3)(trained, parts, 0)
    deeper = rung.layers[-1:]
    scores = {}
    for name, model in (("trained", trained), ("untrained", untrained)):
        outputs = []
        with torch.inference_mode(), watching_layers(model.eval(), deeper) as result:
            for ids in torch.arange(len(pool)).split(500):
                model(pool.batch(ids))
                outputs.append(torch.cat([pooled(result[layer.name], layer.reduction) for layer in deeper], 1))
        rows = on_digits(torch.cat(outputs), "image")
        scores[name] = {
            measure: value(rows, measure, capacity=capacity).nanmean()
            for measure, capacity in (("two_choice_matched", ""), ("two_choice_single", "1"))
        }
    for measure in scores["trained"]:
        assert scores["trained"][measure] > scores["untrained"][measure] + 0.02, scores
