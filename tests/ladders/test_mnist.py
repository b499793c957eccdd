"""The ladder of digits: its data, its files, its strength."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thalweg import Source, ThalwegError
from thalweg.ladders import mnist
from thalweg.networks.vision import convolutional, fully_connected
from thalweg.stimuli.base import Splits
from thalweg.stimuli.idx import read_idx
from thalweg.strength.axes import entropy, evaluate, forward_flops
from thalweg.training.classifier import Classifier, shifted
from thalweg.training.stacked import stackable

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for stem, count in (("train", 120), ("t10k", 60)):
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(idx(generator.integers(0, 256, (count, 28, 28))))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx(generator.integers(0, 10, count)))
    return tmp_path


def test_embedded_digits_are_split_once_by_seed():
    item, again, other = mnist.splits(Source(), 0), mnist.splits(Source(), 0), mnist.splits(Source(), 1)
    assert [len(part) for part in (item.train, item.validation, item.pool)] == [2000, 500, 2500]
    assert item.content_hash() == again.content_hash() != other.content_hash()
    everything = torch.cat([part.pixels for part in (item.train, item.validation, item.pool)]).flatten(1).float()
    assert len(everything.unique(dim=0)) == 5000  # no digit is in two parts
    assert entropy(item.pool.labels) == pytest.approx(3.32, abs=0.01)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_files_are_read_plain_or_packed(folder: Path, packed: bool, dotted: bool):
    expected = mnist.splits(Source(folder), 0)
    for path in list(folder.iterdir()):
        content = path.read_bytes()
        path.unlink()
        name = path.name.replace("-idx", ".idx") if dotted else path.name
        (folder / (name + (".gz" if packed else ""))).write_bytes(gzip.compress(content) if packed else content)
    result = mnist.splits(Source(folder), 0)
    assert [len(part) for part in (result.train, result.validation, result.pool)] == [110, 10, 60]
    assert result.content_hash() == expected.content_hash()


def test_idx_values_are_those_in_the_file(folder: Path):
    array = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256
    (folder / IMAGES).write_bytes(idx(array))
    assert np.array_equal(read_idx(folder, IMAGES, 3).numpy(), array)


def wrong(folder: Path, message: str) -> None:
    with pytest.raises(ThalwegError, match=message):
        mnist.splits(Source(folder), 0)


def test_a_missing_file_is_named(folder: Path):
    (folder / LABELS).unlink()
    wrong(folder, rf"no file {LABELS} or {LABELS}\.gz.*four IDX files")


def test_a_truncated_file_is_named_with_sizes(folder: Path):
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-5])
    wrong(folder, rf"{IMAGES}: holds 94075 bytes.*120 x 28 x 28 = 94080 were expected")


def test_a_truncated_gzip_file_is_named(folder: Path):
    content = gzip.compress((folder / IMAGES).read_bytes())
    (folder / IMAGES).unlink()
    (folder / f"{IMAGES}.gz").write_bytes(content[: len(content) // 2])
    wrong(folder, rf"{IMAGES}\.gz: cannot be unpacked")


def test_a_file_of_another_type_is_named_with_what_was_found(folder: Path):
    (folder / LABELS).write_bytes(bytes([0, 0, 0x0D, 1]) + struct.pack(">I", 1) + b"0000")
    wrong(folder, rf"{LABELS}: starts with 00 00 0d 01; 00 00 08 01 was expected")
    (folder / LABELS).write_bytes(b"")
    wrong(folder, rf"{LABELS}: starts with nothing")


def test_images_and_labels_must_agree(folder: Path):
    (folder / LABELS).write_bytes(idx(np.zeros(7)))
    wrong(folder, "120 training images but 7 training labels")
    (folder / LABELS).write_bytes(idx(np.full(120, 11)))
    wrong(folder, "training labels hold 11")


def test_softmax_regression_and_a_convnet_are_as_strong_as_expected():
    splits = mnist.splits(Source(), 0)
    result = {}
    for name in ("softmax", "conv-8-16"):
        rung = next(rung for rung in mnist.RUNGS if rung.name == name)
        torch.manual_seed(0)
        model = rung.build()
        settings = Classifier(patience=1, most_epochs=30)(model, splits, 0)
        result[name] = evaluate(model, splits.pool)
        assert settings["train_loss"] < 0.5
        assert settings["validation_loss"] <= settings["last_validation_loss"]
    assert 0.84 < result["softmax"]["accuracy"] < 0.93
    assert result["conv-8-16"]["accuracy"] > 0.93
    assert result["conv-8-16"]["bits"] > result["softmax"]["bits"] > 2


def test_every_rung_has_layers_and_the_ladder_has_enough_of_each_kind():
    kinds = [rung.kind for rung in mnist.RUNGS]
    assert len(mnist.RUNGS) >= 12
    assert min(kinds.count(kind) for kind in set(kinds)) >= 9
    for rung in mnist.RUNGS:
        names = dict(rung.build().named_modules())
        assert all(layer.name in names for layer in rung.layers)
        assert rung.layers


def test_training_stops_when_the_validation_loss_has_stopped_improving_and_keeps_the_best():
    splits = mnist.splits(Source(), 0)
    model = mnist.fully_connected(8)
    settings = Classifier(patience=2, learning_rate=0.05)(model, splits, 0)
    assert settings["stopped"] == "validation loss stopped improving"
    assert evaluate(model, splits.validation)["loss"] == pytest.approx(settings["validation_loss"], abs=1e-9)
    assert settings["train_examples"] == settings["epochs"] * 2000


class Viewing(nn.Module):
    """A convnet that asks for a view of its feature maps, as many do, so that their channels cannot come last."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(1, 4, 9, 3), nn.Linear(4 * 7 * 7, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.convolution(images).relu().view(len(images), -1))


def test_a_network_trains_as_it_is_laid_out():
    splits = mnist.splits(Source(), 0)
    model = Viewing()
    Classifier(most_epochs=3)(model, splits, 0)
    assert evaluate(model, splits.validation)["accuracy"] > 0.5


def test_convnets_have_their_channels_last_and_give_what_they_would_without(generator):
    model, digits = mnist.convolutional(4, "pool", 8), torch.rand(2, 1, 28, 28, generator=generator)
    assert model[:4](digits).is_contiguous(memory_format=torch.channels_last)
    laid = model(digits)
    torch.testing.assert_close(model.to(memory_format=torch.contiguous_format)(digits), laid)


def test_flops_of_softmax_regression_are_two_a_weight():
    assert forward_flops(mnist.fully_connected(), mnist.splits(Source(), 0).pool) == 2 * 784 * 10


def test_shifting_moves_a_batch_as_one(generator):
    batch = torch.rand(3, 1, 8, 8, generator=generator)
    seen = set()
    for _ in range(60):
        moved = shifted(batch, 1, generator)
        at = [(d, a) for d in range(3) for a in range(3)]
        padded = torch.nn.functional.pad(batch, (1, 1, 1, 1))
        seen |= {(d, a) for d, a in at if torch.equal(moved, padded[:, :, d : d + 8, a : a + 8])}
    assert len(seen) == 9
    assert shifted(batch, 0, generator) is batch


class Exact(nn.Module):
    """Pixels in double precision, in which rounding does not grow to be seen."""

    def forward(self, images: Tensor) -> Tensor:
        return images.double()


@pytest.mark.parametrize("build", [lambda: fully_connected(8), lambda: convolutional(2, "pool", 4, "pool")])
def test_seeds_that_are_trained_as_one_stack_end_as_each_alone(build):
    item, seeds = mnist.splits(Source(), 0), [0, 1, 2]
    few = Splits(item.train.take(slice(0, 200)), item.validation.take(slice(0, 100)), item.pool)
    train = Classifier(learning_rate=0.05, patience=1, most_epochs=12, shift=1)

    def untrained() -> list[nn.Module]:
        return [(torch.manual_seed(seed), nn.Sequential(Exact(), build().double()))[1] for seed in seeds]

    alone, stacked = untrained(), untrained()
    ends = [train(model, few, seed) for model, seed in zip(alone, seeds, strict=True)]
    together = train.together(stacked, few, seeds)
    assert len({end["epochs"] for end in ends}) > 1  # each stops by itself
    for one, other, end, again in zip(alone, stacked, ends, together, strict=True):
        assert end.pop("stopped") == again.pop("stopped")
        assert end == pytest.approx(again, rel=1e-6)
        for (name, value), same in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.allclose(value, same, rtol=1e-6, atol=1e-8), name


def test_models_with_dropout_or_of_other_shapes_are_trained_one_by_one():
    assert stackable([fully_connected(8), fully_connected(8)])
    assert not stackable([fully_connected(8), fully_connected(4)])
    assert not stackable([nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(784, 10)) for _ in range(2)])
    assert not stackable([fully_connected(8)])


def test_a_stack_that_diverges_says_so():
    item = mnist.splits(Source(), 0)
    with pytest.raises(ThalwegError, match="NaN or infinite; train with a smaller learning rate"):
        Classifier(learning_rate=1e30).together([fully_connected(8), fully_connected(8)], item, [0, 1])
