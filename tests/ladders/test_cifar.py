"""The ladder of small photographs: its files in three layouts, its networks, its strength."""

import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

from thalweg import Images, Source, Splits, ThalwegError, ladders
from thalweg.ladders import cifar
from thalweg.ladders.cifar import files, networks
from thalweg.ladders.cifar.ladder import RUNGS
from thalweg.ladders.cifar.ladder import splits as cifar_splits
from thalweg.strength.axes import evaluate
from thalweg.training.classifier import Classifier
from thalweg.training.one_cycle import OneCycle

EACH = 20  # images in a batch


def photographs(seed: int, count: int = EACH) -> tuple[np.ndarray, np.ndarray]:
    """A colour and a pattern of the class in noise: pixels (image, 3 x 32 x 32) and labels."""
    classes = np.random.default_rng(100)
    patterns = classes.integers(0, 120, (10, 3, 1, 1)) + classes.integers(0, 40, (10, 3, 8, 8)).repeat(4, 2).repeat(
        4, 3
    )
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    noise = generator.integers(0, 90, (count, files.IMAGE))
    return (noise + patterns.reshape(10, -1)[labels]).astype(np.uint8), labels


ALL = dict(zip(files.BATCHES, map(photographs, range(6)), strict=True))


def as_python_2_pickled(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch as the official archive has it: protocol 2, with byte strings for texts."""

    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R("
    kind = (
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + 2 * number(-1) + b"K\x00tb"
    )
    shape = number(pixels.shape[0]) + number(pixels.shape[1]) + b"\x86"
    content = b"T" + struct.pack("<I", pixels.size) + pixels.tobytes()
    array += b"K\x01" + shape + kind + b"\x89" + content + b"tb"
    listed = b"](" + b"".join(number(int(label)) for label in labels) + b"e"
    return (
        b"\x80\x02}("
        + text(b"batch_label")
        + text(b"one of them")
        + text(b"labels")
        + listed
        + text(b"data")
        + array
        + b"u."
    )


def write_python(folder: Path) -> Path:
    within = folder / "cifar-10-batches-py"
    within.mkdir(parents=True)
    for name, batch in ALL.items():
        (within / name).write_bytes(as_python_2_pickled(*batch))
    (within / "batches.meta").write_bytes(b"not looked at")
    return folder


def write_binary(folder: Path) -> Path:
    folder.mkdir()
    for name, (pixels, labels) in ALL.items():
        (folder / f"{name}.bin").write_bytes(np.concatenate([labels[:, None].astype(np.uint8), pixels], 1).tobytes())
    return folder


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(pixels.reshape(3, files.SIDE, -1), 0, -1)).save(file, "PNG")
    return file.getvalue()


def write_parquet(folder: Path) -> Path:
    folder.mkdir()
    for part, names in (("train", files.BATCHES[:-1]), ("test", files.BATCHES[-1:])):
        rows = [
            ({"bytes": png(item), "path": None}, int(label)) for n in names for item, label in zip(*ALL[n], strict=True)
        ]
        kind = pl.Struct({"bytes": pl.Binary, "path": pl.String})
        images, labels = zip(*rows, strict=True)
        frame = pl.DataFrame({"img": pl.Series(images, dtype=kind), "label": labels})
        frame.write_parquet(folder / f"{part}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("write", [write_python, write_binary, write_parquet])
def test_every_layout_holds_the_same_images(tmp_path: Path, write):
    learning, test = files.read(write(tmp_path / "cifar"))
    for images, names in ((learning, files.BATCHES[:-1]), (test, files.BATCHES[-1:])):
        assert np.array_equal(images.pixels.flatten(1).numpy(), np.concatenate([ALL[name][0] for name in names]))
        assert images.labels.tolist() == [int(label) for name in names for label in ALL[name][1]]
        assert images.pixels.shape[1:] == (3, 32, 32)
        assert images.label_names == files.NAMES


def test_a_batch_that_python_3_pickled_is_read_too(tmp_path: Path):
    pixels, labels = photographs(3)
    for protocol in (2, 4, 5):
        content = pickle.dumps({"data": pixels, "labels": labels.tolist(), "filenames": ["a"]}, protocol)
        (tmp_path / "batch").write_bytes(content)
        result = files._python_batch(tmp_path / "batch")
        assert np.array_equal(result[0].flatten(1).numpy(), pixels)
        assert np.array_equal(result[1].numpy(), labels)


class Attack:
    def __init__(self, function, *given) -> None:
        self.given = (function, given)

    def __reduce__(self):
        return self.given


@pytest.mark.parametrize("function", [os.system, eval, getattr, torch.load])
def test_a_pickle_that_asks_for_anything_else_is_refused(tmp_path: Path, function):
    folder = write_python(tmp_path / "cifar")
    settings = f"touch {tmp_path}/was_here" if function is os.system else f"open('{tmp_path}/was_here', 'w')"
    batch = {"data": Attack(function, settings), "labels": []}
    (folder / "cifar-10-batches-py/data_batch_3").write_bytes(pickle.dumps(batch))
    with pytest.raises(ThalwegError, match=rf"data_batch_3: asks for \w[\w.]*{function.__name__}, which no batch"):
        files.read(folder)
    assert not (tmp_path / "was_here").exists()


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ThalwegError, match=message):
        cifar_splits(100, Source(folder), 0)


def test_python_batches_that_are_not_as_they_should_be_are_named(tmp_path: Path):
    folder = write_python(tmp_path / "cifar")
    path = folder / "cifar-10-batches-py/data_batch_2"
    pixels, labels = photographs(0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(folder, r"data_batch_2: cannot be unpickled \(")
    for batch, message in (
        ([1, 2], "'data' is NoneType; uint8 of shape"),
        ({"data": pixels[:, :9], "labels": labels.tolist()}, r"'data' is uint8, \(20, 9\)"),
        ({"data": pixels.astype(float), "labels": labels.tolist()}, r"'data' is float64"),
        ({"data": pixels, "labels": labels.tolist()[:7]}, "'labels' is 7 entries; a list of 20"),
        ({"data": pixels, "labels": [11] * 20}, "labels from 11 to 11; 0 to 9"),
        ({"data": pixels[:9], "labels": labels.tolist()[:9]}, "holds 9 images; 20 were expected"),
    ):
        path.write_bytes(pickle.dumps(batch))
        refused(folder, f"data_batch_2: .*{message}")
    path.unlink()
    refused(folder, "there is no data_batch_2; all six")


def test_binary_batches_that_are_not_as_they_should_be_are_named(tmp_path: Path):
    folder = write_binary(tmp_path / "cifar")
    path = folder / "test_batch.bin"
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], r"holds 61459 bytes; a multiple of 3073"),
        (b"", "holds 0 bytes"),
        (whole[:-3073], "holds 19 images; 20 were expected"),
        (b"\x0c" + whole[1:], "labels from 0 to 12"),
    ):
        path.write_bytes(content)
        refused(folder, rf"test_batch\.bin: .*{message}")
    path.unlink()
    refused(folder, r"no test_batch\.bin; all six")


def test_tables_that_are_not_as_they_should_be_are_named(tmp_path: Path):
    folder = write_parquet(tmp_path / "cifar")
    path = folder / "test-00000-of-00001.parquet"
    frame = pl.read_parquet(path)
    frame.drop("label").write_parquet(path)
    refused(folder, r"test-.*: has no classes; a column 'label'")
    small = png(np.zeros((3, 32, 31), np.uint8))
    frame[:3].with_columns(img=pl.struct(bytes=pl.lit(small), path=pl.lit(None, pl.String))).write_parquet(path)
    refused(folder, r"test-.*, row 1: is 31 x 32 pixels; 32 x 32")
    path.unlink()
    refused(folder, r"holds train-00000-of-00001\.parquet; a folder with train and test")


def test_what_must_be_named_is_said(tmp_path: Path):
    with pytest.raises(ThalwegError, match="needs the files of CIFAR-10: --data FOLDER"):
        cifar.LADDER.splits(Source(), 0)
    refused(tmp_path / "nothing", "there is no such folder; a folder with train")
    refused(tmp_path, "holds nothing; a folder with train")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    refused(tmp_path / "cifar-10-python.tar.gz", r"not a folder \(unpack an archive first\)")


def test_training_and_validation_are_drawn_by_the_seed_and_the_pool_is_the_test_set(tmp_path: Path):
    folder = write_binary(tmp_path / "cifar")
    item, again, other = (cifar_splits(40, Source(folder), seed) for seed in (0, 0, 1))
    assert [len(part) for part in (item.train, item.validation, item.pool)] == [40, 10, EACH]
    assert item.content_hash() == again.content_hash() != other.content_hash()
    assert item.pool.content_hash() == other.pool.content_hash()
    assert item.validation.content_hash() == cifar_splits(9999, Source(folder), 0).validation.content_hash()
    largest = cifar_splits(9999, Source(folder), 0)
    assert [len(part) for part in (largest.train, largest.validation)] == [90, 10]
    both = torch.cat([largest.train.pixels, largest.validation.pixels]).flatten(1)
    assert len(both.unique(dim=0)) == 100


def test_the_ladder_has_rungs_of_two_kinds_whose_layers_hold_units():
    ladder = ladders.find("cifar")
    kinds = [rung.kind for rung in ladder.rungs]
    assert len(kinds) >= 8
    assert min(kinds.count(kind) for kind in set(kinds)) >= 4
    assert 6 <= sum(rung.quick for rung in ladder.rungs) < len(kinds)
    pictures = torch.rand(2, 3, 32, 32)
    for rung in ladder.rungs:
        model = rung.build().eval()
        modules = dict(model.named_modules())
        assert model(pictures).shape == (2, 10)
        assert rung.layers
        assert not any(isinstance(modules[layer.name], nn.ReLU) for layer in rung.layers)
    assert [len(rung.layers) for rung in ladder.rungs if rung.name in ("alexnet-16", "inception-16")] == [6, 4]
    assert ladders.find("cifar:45000").name == "cifar:45000"
    with pytest.raises(ThalwegError, match="at least 100"):
        ladders.find("cifar:7")


def test_a_block_is_its_branches_side_by_side():
    torch.manual_seed(0)
    block = networks.Block(6, 32).eval()
    pictures = torch.randn(2, 6, 10, 10)
    result = block(pictures)
    assert result.shape == (2, 128, 10, 10)
    assert result.min() < 0  # before the rectifier
    size = {"conv_1x1": 1, "conv_3x3": 3, "conv_5x5": 5, "pooled": 3}
    units = {"conv_1x1": slice(0, 32), "conv_3x3": slice(32, 96), "conv_5x5": slice(96, 112), "pooled": slice(112, 128)}
    point = torch.zeros(1, 6, 11, 11)
    point[:, :, 5, 5] = 1
    for name, branch in ((name, getattr(block, name)) for name in size):
        torch.testing.assert_close(result[:, units[name]], branch(pictures), rtol=1e-4, atol=1e-5)
        sees = (branch(point) != branch(torch.zeros_like(point))).any(1)[0]
        assert (int(sees.any(0).sum()), int(sees.any(1).sum())) == (size[name], size[name])


@pytest.mark.parametrize(("name", "rate"), [("softmax", 1e-3), ("inception-8", 3e-3)])
def test_rungs_learn_what_is_to_be_learned(name: str, rate: float):
    def images(seed: int, count: int) -> Images:
        pixels, labels = photographs(seed, count)
        return Images(torch.from_numpy(pixels).reshape(-1, 3, 32, 32), torch.from_numpy(labels), files.NAMES)

    rung = next(rung for rung in RUNGS if rung.name == name)
    torch.manual_seed(0)
    model = rung.build()
    splits = Splits(images(0, 500), images(1, 100), images(2, 300))
    Classifier(learning_rate=rate, most_epochs=6)(model, splits, 0)
    assert evaluate(model, splits.pool)["bits"] > 0.5
    assert evaluate(rung.build(), splits.pool)["bits"] < 0.1


def test_the_strong_ladder_ends_with_residual_networks_and_has_a_recipe_for_them():
    ladder = ladders.find("cifar-strong")
    strong = [rung for rung in ladder.rungs if rung.name.startswith("residual")]
    assert [rung.name for rung in ladder.rungs[-3:]] == [rung.name for rung in strong]
    assert [rung.name for rung in ladder.rungs[:-3]] == [rung.name for rung in ladders.find("cifar").rungs]
    assert all(isinstance(rung.train, OneCycle) for rung in strong)
    modules = [part for part in strong[0].build().modules() if isinstance(part, nn.Conv2d)]
    assert len(modules) == 10
    assert len(strong[0].layers) == 7  # the first convolution, and of each stage its convolution and what is added up


def test_a_residual_block_adds_to_what_it_is_given():
    torch.manual_seed(0)
    block, pictures = networks.Residual(4).eval(), torch.randn(2, 4, 6, 6)
    change = block.second(torch.relu(block.first(pictures)))
    assert torch.equal(block(pictures), pictures + change)
    with torch.no_grad():
        block.second[1].weight.zero_()
    assert torch.equal(block(pictures), pictures)
    assert networks.residual(4)(torch.rand(2, 3, 32, 32)).shape == (2, 10)
