"""A user's own stimuli: whatever is wrong with them is said before the work, by the attribute's name."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import thalweg
from thalweg import Ladder, ThalwegError
from thalweg.stimuli.base import Splits
from thalweg.stimuli.checks import check_splits, check_stimuli
from thalweg.stimuli.pairs import NumberPairs
from thalweg.stimuli.showing import Shown


class Mine:
    """A set of stimuli as a user writes one."""

    modality: Any = "pair"
    label_names: Any = ("a", "b")
    labels: Any = torch.tensor([0, 1, 0, 1])
    statistics: Any = torch.zeros(4, 2)
    shown: Any = Shown("a")
    of: Any = None
    hash: Any = "0" * 16
    given: Any = torch.zeros(2, 3)

    def __len__(self) -> int:
        return 4

    def take(self, which):
        return [which] * len(which)

    def batch(self, which):
        return self.given

    def low_level(self):
        if isinstance(self.statistics, Exception):
            raise self.statistics
        return self.statistics

    def last_token(self):
        return None

    def groups(self):
        return self.of

    def show(self, which):
        return self.shown

    def content_hash(self):
        return self.hash


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.rand(4, 1, 8, 8), r"shape \(4, 1, 8, 8\) and float32; .*expected: \(255 \* pixels\).round\(\).byte\(\)"),
        (255 * torch.ones(4, 1, 8, 8), r"expected: pixels.round\(\).byte\(\)"),
        (torch.zeros(4, 1, 8, 8).long(), r"int64; .*expected: pixels.byte\(\)"),
        (torch.zeros(4, 8, 8, 3).byte(), r"shape \(4, 8, 8, 3\) and uint8; .*expected: pixels.movedim\(-1, 1\)"),
        (torch.rand(4, 8, 8, 3), r"movedim\(-1, 1\) .*, \(255 \* pixels\).round"),
        (torch.zeros(4, 8, 8).byte(), r"expected: pixels\[:, None\]"),
        (torch.zeros(4, 4, 8, 8).byte(), r"shape \(4, 4, 8, 8\) .*1 or 3 channels, was expected$"),
        (np.zeros((4, 1, 8, 8), np.uint8), r"of type ndarray; .*expected: torch.from_numpy\(pixels\)"),
        (None, "of type NoneType"),
    ],
)
def test_pixels_of_another_type_or_shape_are_named_with_their_conversion(pixels: Any, message: str):
    with pytest.raises(ThalwegError, match=f"thalweg.Images: `pixels` is .*{message}"):
        thalweg.Images(pixels, torch.zeros(4).long(), ("all",))


def test_a_set_that_is_as_it_should_be_is_returned():
    mine = Mine()
    assert check_stimuli(mine, "the pool", "pair", statistics=True) is mine


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"modality": "text"}, "is of modality 'text'; 'pair' was expected"),
        ({"label_names": 3}, "`label_names` gives int 3; a tuple of names"),
        ({"labels": [0, 1]}, r"`labels` gives list; a tensor of whole numbers of shape \(4,\)"),
        ({"labels": torch.zeros(4)}, r"`labels` gives a tensor of shape \(4,\) and float32"),
        ({"labels": torch.zeros(3).long()}, r"`labels` gives a tensor of shape \(3,\) and int64"),
        ({"labels": torch.tensor([0, 1, 2, -1])}, r"labels lie from -1 to 2, but label_names has 2; 0 to 1"),
        ({"of": torch.zeros(3).long()}, r"`groups` gives a tensor of shape \(3,\)"),
        ({"given": [1, 2]}, "`batch of 2 stimuli` gives list; a tensor whose first axis has 2"),
        ({"given": torch.tensor([1.0, torch.nan])}, "`batch` gives NaN or infinite values"),
        ({"statistics": None}, r"`low_level` gives None; .* of shape \(4, statistics\)"),
        ({"statistics": torch.tensor([[0.0], [1], [torch.nan], [1]])}, "for 1 stimuli, the first of them stimulus 3"),
        ({"statistics": KeyError("x")}, r"`low_level` failed with KeyError: 'x' \(test_stimuli_checks\.py, line \d+\)"),
        ({"shown": "a"}, r"`show\(0\)` gives str 'a'; thalweg\.stimuli\.Shown"),
        ({"hash": 7}, "`content_hash` gives int 7"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_there_and_what_was_expected(wrong: dict[str, Any], message: str):
    with pytest.raises(ThalwegError, match=f"the pool: .*{message}|the pool: {message}"):
        check_stimuli(type("Wrong", (Mine,), wrong)(), "the pool", "pair", statistics=True)


def test_what_is_no_set_of_stimuli_is_said_to_be_none():
    with pytest.raises(ThalwegError, match=r"the pool: is a tensor of shape \(3,\) .*; a set with the attributes of"):
        check_stimuli(torch.zeros(3), "the pool", "pair")
    lacking = type("Lacking", (), {name: value for name, value in vars(Mine).items() if name not in ("groups", "show")})
    with pytest.raises(ThalwegError, match=r"the pool: Lacking lacks groups, show"):
        check_stimuli(lacking(), "the pool", "pair")


def test_own_sets_that_were_put_together_wrongly_are_refused():
    numbers = torch.tensor([[0, 1], [2, 2]])
    check_stimuli(NumberPairs(numbers, 3), "the pool", "pair")
    with pytest.raises(ThalwegError, match="labels lie from"):
        check_stimuli(type("Odd", (NumberPairs,), {"labels": numbers.sum(1)})(numbers, 3), "the pool", "pair")


def test_splits_that_are_none_or_empty_are_refused():
    with pytest.raises(ThalwegError, match=r"the function `splits` of ladder 'mine' returned None; thalweg\.Splits"):
        check_splits(None, "mine", "pair")
    empty = NumberPairs(torch.empty(0, 2).long(), 3)
    with pytest.raises(ThalwegError, match="returned an empty pool"):
        check_splits(Splits.of_pool(empty), "mine", "pair")
    with pytest.raises(ThalwegError, match="the part `train` of the stimuli of ladder 'mine': is of modality 'pair'"):
        check_splits(Splits.of_pool(empty), "mine", "image")


def nothing(source: object, seed: int) -> Any:
    """Splits of a user who forgot to return them."""


def test_a_survey_and_a_measurement_check_first(tmp_path: Path):
    ladder = replace(thalweg.ladders.find("addition"), splits=nothing)
    assert isinstance(ladder, Ladder)
    with pytest.raises(ThalwegError, match=re.escape("ladder 'addition' returned None")):
        thalweg.survey(ladder, out=tmp_path / "run", workers=1)
    subject = thalweg.Subject("mine", partial(torch.nn.Linear, 2, 2), modality="pair")
    wrong = type("Wrong", (Mine,), {"labels": torch.tensor([0, 1, 2, 3])})()
    with pytest.raises(ThalwegError, match="the stimuli: labels lie from 0 to 3"):
        thalweg.measure(subject, wrong, out=tmp_path / "run")
