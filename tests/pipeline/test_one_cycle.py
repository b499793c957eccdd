"""Training on augmented images: what augmentation does, and that the recipe learns, the same each time."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from support.tiny import blobs, convnet
from thalweg import Splits, ThalwegError
from thalweg.training import interrupted
from thalweg.training.course import noted
from thalweg.training.one_cycle import OneCycle, augmented


def test_augmented_images_are_windows_of_the_padded_ones_and_mirror_images():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 3, 6, 6, generator=generator) + 1
    padded = nn.functional.pad(images, (2,) * 4)
    windows = {
        (down, across): padded[:, :, down : down + 6, across : across + 6] for down in range(5) for across in range(5)
    }
    result = augmented(images, generator, crop=2)
    mirrored = 0
    seen = set()
    for number, image in enumerate(result):
        straight = [place for place, window in windows.items() if torch.equal(window[number], image)]
        turned = [place for place, window in windows.items() if torch.equal(window[number].flip(2), image)]
        assert straight or turned
        mirrored += bool(turned)
        seen |= {*straight, *turned}
    assert 10 <= mirrored <= 30
    assert len(seen) > 12
    assert torch.equal(augmented(images, generator, crop=0).sum((1, 2, 3)).round(), images.sum((1, 2, 3)).round())


def test_cutout_blanks_a_square_of_each_image():
    generator = torch.Generator().manual_seed(1)
    result = augmented(torch.ones(30, 3, 8, 8), generator, crop=0, cutout=3)
    blank = result == 0
    assert (blank.sum((1, 2, 3)) == 3 * 9).all()
    assert ((blank.any(1).any(1)).sum(1) == 3).all()
    assert len({tuple(each.flatten().tolist()) for each in blank[:, 0]}) > 10


def test_the_recipe_learns_and_gives_the_same_weights_again():
    splits = Splits(blobs(256, seed=0), blobs(64, seed=1), blobs(128, seed=2))
    recipe = OneCycle(epochs=3, batch_size=32, crop=1, learning_rate=0.1)
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        model = convnet(4)
        summary = recipe(model, splits, 5)
        ends.append(torch.cat([weight.flatten() for weight in model.state_dict().values()]))
    assert torch.equal(*ends)
    assert summary["train_examples"] == 3 * 256
    assert summary["validation_loss"] < 1.2  # four classes: guessing has 1.39
    with pytest.raises(ThalwegError, match="fewer than two images"):
        recipe(model, Splits(blobs(1, seed=0), splits.validation, splits.pool), 0)


class Stopped(Exception):
    pass


def trained(recipe: OneCycle, splits: Splits, file: Path, inputs: str = "these") -> nn.Module:
    torch.manual_seed(0)
    model = convnet(4)
    model.insert(0, nn.Dropout(0.1))
    interrupted.keep_in(model, file, inputs)
    recipe(model, splits, 5)
    return model


def test_a_training_that_was_interrupted_ends_with_the_same_weights(tmp_path: Path, monkeypatch):
    splits = Splits(blobs(256, seed=0), blobs(64, seed=1), blobs(128, seed=2))
    recipe = OneCycle(epochs=3, batch_size=64, crop=1, learning_rate=0.1)
    whole = trained(recipe, splits, tmp_path / "whole.pt")
    steps, step = [], OneCycle._step

    def stopping(*given) -> Tensor:
        steps.append(1)
        if len(steps) == 10:  # in the third epoch
            raise Stopped
        return step(*given)

    monkeypatch.setattr(OneCycle, "_step", stopping)
    with pytest.raises(Stopped):
        trained(recipe, splits, tmp_path / "stopped.pt")
    again = trained(recipe, splits, tmp_path / "stopped.pt")
    assert len(steps) == 10 + 4
    ends = (torch.cat([weight.flatten() for weight in model.state_dict().values()]) for model in (whole, again))
    assert torch.equal(*ends)
    assert noted(again) == noted(whole)
    assert [each["step"] for each in noted(again)] == [1, 2, 3]
    trained(recipe, splits, tmp_path / "stopped.pt", "others")
    assert len(steps) == 14 + 12
    (tmp_path / "stopped.pt").write_bytes(b"PK cut off")
    trained(recipe, splits, tmp_path / "stopped.pt")
    assert len(steps) == 26 + 12
