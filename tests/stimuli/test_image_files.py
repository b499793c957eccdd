"""Images that stay on disk: what is read, what a model is given, and what is said of files that are not as they should
be.
"""

import io
import json
import os
import shutil
import signal
import struct
import zlib
from pathlib import Path

import joblib
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from thalweg import Layer, Source, ThalwegError
from thalweg.observers.base import OBSERVERS, extract_features
from thalweg.recording.record import record
from thalweg.recording.result import to_tensors
from thalweg.recording.settings import RecordingSettings
from thalweg.stimuli import ahead, folders, parquet
from thalweg.stimuli.ahead import batches
from thalweg.stimuli.base import Stimuli
from thalweg.stimuli.decoding import decoded, glance
from thalweg.stimuli.files import ImageFiles
from thalweg.stimuli.image_pool import image_splits
from thalweg.stimuli.image_readers import read_images
from thalweg.stimuli.images import Images

HOME = os.getpid()


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of three classes, a text beside them and a hidden file."""
    for index, name in enumerate(("cat", "dog", "emu")):
        (tmp_path / "set" / name / "more").mkdir(parents=True)
        for number in range(4):
            within = tmp_path / "set" / name / ("more" if number == 3 else "")
            kind, ending = (("PNG", "png"), ("JPEG", "JPG"))[number % 2]
            (within / f"{number}.{ending}").write_bytes(
                encoded(photograph(10 * index + number, 30 + 15 * number), kind)
            )
    (tmp_path / "set/notes.txt").write_text("not an image")
    (tmp_path / "set/.hidden.png").write_bytes(b"")
    return tmp_path / "set"


def table(path: Path, images: list[bytes | None], *, paths: list[str | None] | None = None, features=None, **columns):
    cells = [{"bytes": item, "path": name} for item, name in zip(images, paths or [None] * len(images), strict=True)]
    kind = pl.Struct({"bytes": pl.Binary, "path": pl.String})
    frame = pl.DataFrame({"image": pl.Series(cells, dtype=kind), **columns})
    frame.write_parquet(path, metadata={"huggingface": json.dumps(features)} if features else None)
    return path


def numbered(count: int) -> list[bytes]:
    return [encoded(photograph(seed)) for seed in range(count)]


def by_hand(path: Path, side: int) -> Tensor:
    """The shorter side resized, then the middle cropped."""
    image = Image.open(path).convert("RGB")
    image = image.resize((image.width * side // image.height, side), Image.Resampling.BILINEAR)
    left = (image.width - side) // 2
    return torch.from_numpy(np.array(image.crop((left, 0, left + side, side)))).movedim(-1, 0)


def test_a_folder_has_a_class_for_each_subfolder_and_gives_middle_squares(folder: Path):
    images = read_images(folder)
    assert isinstance(images, ImageFiles)
    assert isinstance(images, Stimuli)
    assert images.label_names == ("cat", "dog", "emu")
    assert images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert images.pixels.shape == (12, 3, 224, 224)
    given = images.batch(torch.tensor([6, 0]))
    assert images.name(6).endswith("dog/2.png")
    assert torch.equal(given[0], by_hand(folder / "dog/2.png", 224).float() / 255)
    assert torch.equal(given[1], images.pixels[0].float() / 255)
    flat = read_images(folder / "cat/more")
    assert (len(flat), flat.label_names) == (1, ("",))


def test_some_of_the_images_are_those_images(folder: Path):
    images = read_images(folder)
    order = torch.tensor([11, 3, 3, 0])
    part = images.take(order)
    assert torch.equal(part.pixels, images.pixels[order])
    assert torch.equal(part.take(slice(1, 3)).pixels, images.pixels[[3, 3]])
    assert part.labels.tolist() == [2, 0, 0, 0]
    assert len(part.files) == 3
    assert torch.equal(images.low_level()[order], part.low_level())
    assert torch.equal(Images(part.pixels, part.labels, part.label_names).low_level(), part.low_level())
    assert len(images.take(slice(0, 0)).content_hash()) == 16


def test_the_hash_is_of_contents_labels_and_order(folder: Path, tmp_path: Path):
    first = read_images(folder)
    result = {first.content_hash(), first.take(torch.arange(11, -1, -1)).content_hash()}
    assert len(result) == 2
    os.utime(folder / "cat/0.png", (0, 0))
    assert read_images(folder).content_hash() in result
    content = bytearray((folder / "cat/1.JPG").read_bytes())
    content[-40] ^= 1  # the same size
    (folder / "cat/1.JPG").write_bytes(content)
    result.add(read_images(folder).content_hash())
    (folder / "emu").rename(folder / "gnu")
    result.add(read_images(folder).content_hash())
    assert len(result) == 4


RED = np.zeros((6, 4, 3), np.uint8) + np.array([200, 10, 30], np.uint8)
GREY = np.arange(24, dtype=np.uint8).reshape(6, 4) * 10


def test_whatever_a_file_holds_becomes_three_colours_of_eight_bits():
    red, grey = Image.fromarray(RED), Image.fromarray(GREY)
    see_through = red.copy()
    see_through.putalpha(Image.fromarray(GREY))
    three = np.repeat(GREY[:, :, None], 3, 2)
    deep = Image.fromarray(GREY.astype(np.uint16) << 8 | 77)
    cases = {
        "grey": (encoded(grey), three),
        "palette": (encoded(red.quantize(4)), RED),
        "transparent": (encoded(see_through), RED),
        "palette with transparency": (encoded(red.quantize(4), transparency=b"\x00\x10"), RED),
        "grey with transparency": (encoded(grey.convert("LA")), three),
        "one bit": (encoded(Image.fromarray(GREY > 100)), np.repeat((GREY > 100)[:, :, None] * 255, 3, 2)),
        "cmyk": (encoded(red.convert("CMYK"), "TIFF"), RED),
        "sixteen bits": (encoded(deep), three),
        "sixteen bits, big-endian": (encoded(deep, "TIFF"), three),
    }
    for name, (content, expected) in cases.items():
        assert not glance(content).flaw, name
        result = np.array(decoded(content, name))
        assert np.array_equal(result, expected), name


def test_a_photograph_is_turned_as_the_camera_noted():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    content = encoded(photograph(0, 40, 20), "JPEG", exif=exif, quality=95)
    turned = np.array(decoded(content, "it")).astype(int)
    assert turned.shape == (40, 20, 3)
    assert np.abs(turned - np.rot90(np.array(photograph(0, 40, 20)), -1)).mean() < 8


TOLD = {"info": {"features": {"label": {"names": ["hen", "owl", "kite"], "_type": "ClassLabel"}}}}


def test_a_parquet_file_as_datasets_stores_it(tmp_path: Path):
    path = table(tmp_path / "a.parquet", numbered(5), features=TOLD, label=[0, 1, 1, 0, 1])
    images = read_images(path)
    assert images.label_names == ("hen", "owl", "kite")
    assert images.labels.tolist() == [0, 1, 1, 0, 1]
    for index in range(5):
        assert np.array_equal(np.array(images.picture(index)), np.array(photograph(index)))


def test_classes_are_named_by_a_column_or_by_their_numbers(tmp_path: Path):
    def classes_of(**columns) -> tuple[list[int], tuple[str, ...]]:
        images = read_images(table(tmp_path / "a.parquet", numbered(3), **columns))
        return images.labels.tolist(), images.label_names

    assert classes_of(label=[2, 0, 2], name=["owl", "hen", "owl"]) == ([2, 0, 2], ("hen", "1", "owl"))
    assert classes_of(label=[2, 0, 2]) == ([2, 0, 2], ("0", "1", "2"))
    assert classes_of(label=["b", "a", "b"]) == ([1, 0, 1], ("a", "b"))
    assert classes_of(name=["b", "a", "b"]) == ([1, 0, 1], ("a", "b"))
    assert classes_of(label=[10**9, 5, 5]) == ([1, 0, 0], ("5", "1000000000"))
    assert classes_of(label=[-1, -1, -1]) == classes_of() == ([0, 0, 0], ("",))
    with pytest.raises(ThalwegError, match="1 of 3 images have no class"):
        classes_of(label=[1, None, 0])


def test_several_parquet_files_and_files_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Read a few rows at a time, in any order, they are the images that a folder would give."""
    contents = numbered(17)
    monkeypatch.setattr(parquet, "SLICE", 3 * len(contents[0]))
    (tmp_path / "flat").mkdir()
    (tmp_path / "two/img").mkdir(parents=True)
    for number, content in enumerate(contents):
        (tmp_path / f"flat/{number:02}.png").write_bytes(content)
    first = [None if number == 3 else content for number, content in enumerate(contents[:9])]
    table(tmp_path / "two/train-0.parquet", first, paths=[f"img/{number}.data" for number in range(9)])
    table(tmp_path / "two/train-1.parquet", contents[9:])
    with pytest.raises(ThalwegError, match=r"train-0\.parquet, row 4 cannot be read \(No such file"):
        read_images(tmp_path / "two")
    (tmp_path / "two/img/3.data").write_bytes(contents[3])
    flat, both = read_images(tmp_path / "flat"), read_images(tmp_path / "two")
    assert both.content_hash() == flat.content_hash()
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0))
    assert torch.equal(both.batch(order), flat.batch(order))
    assert both.name(10).endswith("train-1.parquet, row 2")
    assert parquet._step(str(tmp_path / "two/train-1.parquet")) in (2, 3)


def test_a_table_that_was_written_anew_is_read_anew(tmp_path: Path):
    images = read_images(table(tmp_path / "a.parquet", numbered(5)))
    images.picture(0)
    again = read_images(table(tmp_path / "a.parquet", numbered(9)[4:]))
    assert np.array_equal(np.array(again.picture(0)), np.array(photograph(4)))


def test_files_that_contradict_each_other_are_named(tmp_path: Path):
    table(tmp_path / "a.parquet", numbered(2), label=[0, 1], name=["hen", "owl"])
    table(tmp_path / "b.parquet", numbered(2), label=[0, 1], name=["hen", "kite"])
    with pytest.raises(ThalwegError, match=r"class 1 is 'owl' in one Parquet file and 'kite' in .*b\.parquet"):
        read_images(tmp_path)
    table(tmp_path / "b.parquet", numbered(2))
    with pytest.raises(ThalwegError, match="some of its 2 Parquet files have classes"):
        read_images(tmp_path)


def test_a_table_without_images_or_rows_says_what_it_holds(tmp_path: Path):
    pl.DataFrame({"text": ["a"], "number": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ThalwegError, match=r"no column of images.*text \(String\), number \(Int64\)"):
        read_images(tmp_path / "a.parquet")
    with pytest.raises(ThalwegError, match="has no rows"):
        read_images(table(tmp_path / "a.parquet", []))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ThalwegError, match="cannot be read as Parquet"):
        read_images(tmp_path / "a.parquet")


def test_where_there_are_no_images_what_was_found_is_said(tmp_path: Path):
    with pytest.raises(ThalwegError, match="no such file or folder; a folder of images"):
        read_images(tmp_path / "nothing")
    with pytest.raises(ThalwegError, match="is an empty folder; a folder of images"):
        read_images(tmp_path)
    for name in ("a.txt", "b.txt", "LICENSE"):
        (tmp_path / name).write_text("words")
    with pytest.raises(ThalwegError, match=r"none of its 3 files is an image \(2 with \.txt, 1 with no ending\)"):
        read_images(tmp_path)
    with pytest.raises(ThalwegError, match=r"a\.txt: is no Parquet file"):
        read_images(tmp_path / "a.txt")


def test_images_that_do_not_decode_are_named_or_left_out_and_named(folder: Path):
    whole = read_images(folder)
    jpeg, png = (folder / "cat/1.JPG").read_bytes(), (folder / "dog/0.png").read_bytes()
    altered = bytearray(png)
    altered[len(png) // 2] ^= 0xFF
    bad = {"cat/1.JPG": jpeg[: len(jpeg) * 2 // 3], "dog/0.png": bytes(altered), "dog/2.png": b"", "emu/0.png": b"text"}
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    with pytest.raises(ThalwegError) as raised:
        read_images(folder)
    for message in (
        "4 of 12 images",
        "1.JPG does not decode",
        "dog/2.png is empty",
        "emu/0.png is no picture",
        "--skip-bad",
    ):
        assert message in str(raised.value)
    images = read_images(folder, skip_bad=True)
    assert [name.partition(" ")[0] for name in images.left_out] == [str(folder / name) for name in bad]
    good = torch.tensor([0, 2, 3, 5, 7, 9, 10, 11])
    assert images.content_hash() == whole.take(good).content_hash()
    assert torch.equal(images.batch(slice(None)), whole.take(good).batch(slice(None)))
    assert read_images(folder / "cat/more").left_out == ()
    (folder / "cat/more/3.JPG").write_bytes(b"")
    with pytest.raises(ThalwegError, match="1 of 1 images cannot be used"):
        read_images(folder / "cat/more", skip_bad=True)


def note(path: Path, **options) -> str:
    (message,) = read_images(path, **options).notes
    return message.removeprefix(f"{path}: ")


def test_a_folder_s_reader_says_what_it_took_and_what_it_skipped(folder: Path):
    (folder / "cat/phone.heic").write_bytes(b"x")
    (folder / "cat/copy.png").write_bytes((folder / "cat/0.png").read_bytes())
    assert note(folder) == (
        "read 13 picture files (7 with .png, 6 with .jpg), 3 classes by subfolder; skipped 2 files of other kinds "
        "(1 with .heic, 1 with .txt), 1 hidden or of the system; 1 are copies of others, byte for byte"
    )
    (folder / "emu/0.png").write_bytes(b"")
    assert f"left out 1 that cannot be used, first {folder}/emu/0.png is empty" in note(folder, skip_bad=True)
    shutil.copytree(folder / "dog/more", folder / "one/puppy")
    assert note(folder / "one") == "read 1 picture files (1 with .jpg), 1 class by subfolder"
    assert note(folder / "dog/more") == "read 1 picture files (1 with .jpg), no classes (there are no subfolders)"


def test_links_to_folders_are_classes_and_strange_things_are_never_opened(folder: Path, tmp_path: Path):
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog", "emu"):
        (tmp_path / "linked" / name).symlink_to(folder / name)
    os.mkfifo(tmp_path / "linked/pipe.png")
    (tmp_path / "linked/x.png").mkdir()
    linked = read_images(tmp_path / "linked")
    assert linked.content_hash() == read_images(folder).content_hash()
    assert linked.notes[0].endswith("skipped 1 neither files nor folders")
    with pytest.raises(ThalwegError, match=r"pipe\.png: is neither a file nor a folder"):
        read_images(tmp_path / "linked/pipe.png")
    (folder / "cat/0.png").unlink()
    os.mkfifo(folder / "cat/0.png")  # since it was read
    with pytest.raises(ThalwegError, match=r"cat/0\.png: is no regular file"):
        linked.picture(0)


def test_splits_are_not_classes_and_one_of_them_is_read(folder: Path, tmp_path: Path):
    whole, cat = read_images(folder), read_images(folder / "cat")
    for split, source in (("train", folder), ("Val", folder), ("test", folder / "cat")):
        shutil.copytree(source, tmp_path / "splits" / split)
    images = read_images(tmp_path / "splits")
    assert (images.label_names, images.content_hash()) == (whole.label_names, whole.content_hash())
    message = "'val' is read and not the others (files: test 4, train 12); to read another, name its own folder"
    assert message in images.notes[0]
    shutil.rmtree(tmp_path / "splits/Val")
    assert "'test' is read and not the others" in note(tmp_path / "splits")
    shutil.rmtree(tmp_path / "splits/train")
    alone = read_images(tmp_path / "splits")
    assert alone.label_names == ("", "more")
    assert alone.digests.equal(cat.digests)
    assert "'test' is taken for a split, not for a class" in alone.notes[0]
    (tmp_path / "splits/car").symlink_to(folder / "dog")
    assert read_images(tmp_path / "splits").label_names == ("car", "test")


def test_parquet_files_of_splits_are_not_read_together(tmp_path: Path):
    contents = numbered(6)
    table(tmp_path / "train-00000-of-00001.parquet", contents[:3])
    table(tmp_path / "test-00000-of-00002.parquet", contents[3:5])
    table(tmp_path / "test-00001-of-00002.parquet", contents[5:])
    assert len(read_images(tmp_path)) == 3
    assert "'test' is read and not the others (files: train 1)" in note(tmp_path)
    (tmp_path / "validation").mkdir()
    table(tmp_path / "validation/0000.parquet", contents[:1])
    assert len(read_images(tmp_path)) == 1
    table(tmp_path / "trainer.parquet", contents[:1])
    assert len(read_images(tmp_path)) == 8


def test_the_columns_of_images_and_of_classes_are_said_and_can_be_named(tmp_path: Path):
    path = table(
        tmp_path / "a.parquet", numbered(3), fine_label=[2, 0, 1], coarse_label=["b", "a", "a"], caption=["x"] * 3
    )
    assert note(path) == (
        "read 3 images of column 'image', no classes; not used: 'caption'; 'fine_label' or 'coarse_label' may be the "
        "classes: name one with --label-column"
    )
    images = read_images(path, label_column="coarse_label")
    assert (images.labels.tolist(), images.label_names) == ([1, 0, 0], ("a", "b"))
    assert "classes of column 'coarse_label'; not used: 'fine_label', 'caption'" in images.notes[0]
    with pytest.raises(ThalwegError, match=r"no column is called 'labels'.*--label-column"):
        read_images(path, label_column="labels")
    with pytest.raises(ThalwegError, match=r"column 'caption' holds String; structs with 'bytes' and 'path'"):
        read_images(path, image_column="caption")
    with pytest.raises(ThalwegError, match="column 'image' was named, but the folder holds no Parquet files"):
        read_images(tmp_path, image_column="image") if path.rename(tmp_path / "a.png") else None


def test_the_only_column_of_classes_is_taken_whatever_it_is_called(tmp_path: Path):
    declared = {
        "info": {"features": {"kind": {"names": ["hen", "owl"], "_type": "ClassLabel"}, "label": {"names": "x"}}}
    }
    images = read_images(table(tmp_path / "a.parquet", numbered(2), features=declared, kind=[1, 0], id=[7, 8]))
    assert (images.labels.tolist(), images.label_names) == ([1, 0], ("hen", "owl"))
    assert "classes of column 'kind'; not used: 'id'" in images.notes[0]
    images = read_images(table(tmp_path / "a.parquet", numbered(2), target=[1.0, 0.0], name=["a.png", "b.png"]))
    assert (images.labels.tolist(), images.label_names) == ([1, 0], ("0", "1"))
    images = read_images(table(tmp_path / "a.parquet", numbered(3), label=[1, 1, 0], name=["a.png", "b.png", "c.png"]))
    assert images.label_names == ("0", "1")  # a number with two names is not named by them
    images = read_images(tmp_path / "a.parquet", label_column="none")
    assert images.label_names == ("",)


def test_the_column_with_a_usual_name_holds_the_images(tmp_path: Path):
    frame = pl.DataFrame({"__key__": [b"a", b"b"], "jpg": numbered(2), "thumb": numbered(2)})
    frame.write_parquet(tmp_path / "a.parquet")
    assert read_images(tmp_path / "a.parquet").columns == ("jpg",)
    assert read_images(tmp_path / "a.parquet", image_column="thumb").columns == ("thumb",)
    frame.drop("jpg").write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ThalwegError, match=r"'__key__' and 'thumb' may each be the column of images.*--image-column"):
        read_images(tmp_path / "a.parquet")
    frame.select("__key__", image=pl.struct(bytes="jpg")).write_parquet(tmp_path / "a.parquet")
    assert read_images(tmp_path / "a.parquet").columns == ("image",)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([None, b"x\xff"], r"row 2: column 'label' \(Binary\) holds b'x"),
        ([[1], [2]], r"row 1: column 'label' \(List\(Int64\)\) holds \[1\]"),
        ([1.0, 1.5], r"row 2: column 'label' \(Float64\) holds 1.5"),
        ([{"a": 1}, None], r"row 1: column 'label' \(Struct.* holds \{'a': 1\}"),
    ],
)
def test_classes_that_are_neither_numbers_nor_texts_are_named(tmp_path: Path, label: list[object], message: str):
    path = table(tmp_path / "a.parquet", numbered(2), label=label)
    with pytest.raises(ThalwegError, match=message + ".*--label-column"):
        read_images(path)
    path = table(tmp_path / "a.parquet", numbered(2), name=label)
    with pytest.raises(ThalwegError, match=message.replace("label", "name")):
        read_images(path)


def test_bytes_that_are_none_and_two_columns_of_one_name_are_refused(tmp_path: Path):
    pl.DataFrame({"image": [{"bytes": 1, "path": None}]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ThalwegError, match=r"has no column of images.*image \(Struct\(\{'bytes': Int64"):
        read_images(tmp_path / "a.parquet")
    pl.DataFrame({"image": numbered(2), "label_a": [1, 2], "label_b": [3, 4]}).write_parquet(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes().replace(b"label_b", b"label_a")
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ThalwegError, match="column with name 'label_a' has more than one occurrence; rename one"):
        read_images(tmp_path / "a.parquet")


def test_a_table_opens_regular_files_below_its_own_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "set/img").mkdir(parents=True)
    (tmp_path / "out.png").write_bytes(numbered(1)[0])
    (tmp_path / "set/img/in.png").write_bytes(numbered(1)[0])
    (tmp_path / "set/img/link.png").symlink_to(tmp_path / "out.png")
    os.mkfifo(tmp_path / "set/img/pipe.png")
    cases = {
        "/dev/zero": "which is not below the folder of the table",
        "../out.png": "which is not below the folder of the table",
        "img/link.png": "which is not below the folder of the table; nothing else is opened",
        "img/pipe.png": "is no regular file",
        "img": "cannot be read",
        "a\0b": "leads nowhere",
        "": "has neither bytes nor a path",
    }
    inside = ["img/in.png", str(tmp_path / "set/img/in.png"), "img/../img/in.png"]
    path = table(tmp_path / "set/a.parquet", [None] * (3 + len(cases)), paths=[*inside, *cases])
    images = read_images(path, skip_bad=True)
    assert len(images) == 3
    for line, (index, message) in zip(images.left_out, enumerate(cases.values(), 4), strict=True):
        assert f"a.parquet, row {index} " in line
        assert message in line
    assert "`cp -rL` makes files" in images.left_out[2]
    monkeypatch.setattr(folders, "LARGEST", 100)
    with pytest.raises(ThalwegError, match="row 1 has 3 KiB; at most 0 MiB are read"):
        read_images(path)


def test_grey_pictures_of_sixteen_bits_have_one_white_by_the_brightest(tmp_path: Path):
    """Twelve bits in sixteen would be all but black; a darker one beside them stays darker."""
    (tmp_path / "set").mkdir()
    for name, most in (("bright", 4000), ("dark", 400)):
        values = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
        (tmp_path / f"set/{name}.png").write_bytes(encoded(Image.fromarray(values)))
    images = read_images(tmp_path / "set")
    assert [int(np.array(images.picture(index)).max()) for index in (0, 1)] == [4000 >> 4, 400 >> 4]
    assert "2 grey pictures of more than eight bits use 12, so 4,095 is the white" in images.notes[0]
    twelve = images.take(slice(1, 2)).content_hash()
    (tmp_path / "set/bright.png").unlink()
    assert read_images(tmp_path / "set").content_hash() != twelve  # the same bytes, other pixels
    signed = Image.fromarray(np.array([[-5, 3]], np.int32))
    (tmp_path / "set/signed.tif").write_bytes(encoded(signed, "TIFF"))
    with pytest.raises(ThalwegError, match=r"signed\.tif holds negative numbers, as -5"):
        read_images(tmp_path / "set")


def test_colours_of_sixteen_bits_that_are_dark_are_said(tmp_path: Path):
    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = part(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    rows = part(b"IDAT", zlib.compress(b"\0" + struct.pack(">6H", 9, 4000, 7, 6, 5, 4)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + part(b"IEND", b""))
    assert "1 pictures of sixteen bits a colour are dark (their brightest value is about 4,095 of 65,535)" in note(
        tmp_path
    )


def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.png").write_bytes(numbered(1)[0])
    (tmp_path / "b.png").write_bytes(encoded(photograph(1, 10, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 110)
    with pytest.raises(ThalwegError, match=r"a\.png has more than 220 pixels"):
        read_images(tmp_path)


def test_names_that_are_not_utf_8_are_classes_that_can_be_written(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "0.png").write_bytes(numbered(1)[0])
    images = read_images(tmp_path)
    assert images.label_names == ("caf\\xe9",)
    assert images.name(0).encode().endswith(b"caf\\xe9/0.png")
    assert images.picture(0).size == (40, 30)


def without_quantisation_tables(content: bytes) -> bytes:
    """A JPEG that begins and ends as it should, and can't be decoded."""
    kept, index = content[:2], 2
    while content[index + 1] != 0xDA:  # the scan
        size = 2 + struct.unpack(">H", content[index + 2 : index + 4])[0]
        if content[index + 1] != 0xDB:
            kept += content[index : index + size]
        index += size
    return kept + content[index:]


def test_what_shows_only_in_decoding_is_named_then(folder: Path):
    path = folder / "cat/1.JPG"
    path.write_bytes(without_quantisation_tables(path.read_bytes()))
    images = read_images(folder)
    with pytest.raises(ThalwegError, match=r"cat/1\.JPG: does not decode .*though it begins .* --skip-bad"):
        images.batch(slice(None))
    kept = read_images(folder, skip_bad=True)
    assert [line.partition(" ")[0] for line in kept.left_out] == [str(path)]
    assert kept.batch(slice(None)).shape == (11, 3, 224, 224)


def test_files_that_change_or_go_while_they_are_needed_are_named(folder: Path):
    images = read_images(folder)
    (folder / "cat/0.png").write_bytes((folder / "cat/2.png").read_bytes())
    with pytest.raises(ThalwegError, match=r"cat/0\.png: was altered"):
        images.picture(0)
    (folder / "cat/0.png").unlink()
    with pytest.raises(ThalwegError, match=r"cat/0\.png: cannot be read \(No such file"):
        images.picture(0)


def enough(tmp_path: Path, count: int) -> Path:
    (tmp_path / "many").mkdir()
    for seed in range(count):
        (tmp_path / f"many/{seed:03}.png").write_bytes(encoded(photograph(seed)))
    return tmp_path / "many"


def test_a_model_is_recorded_on_images_from_disk_as_on_images_in_memory(tmp_path: Path):
    images = read_images(enough(tmp_path, 64))
    held = Images(images.pixels, images.labels, images.label_names)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 7, 6), nn.ReLU())
    item, other, before = (
        to_tensors(
            record(model, [Layer("0")], these, torch.arange(64), RecordingSettings(batch_size=30, workers=workers))[
                "0", "neurons"
            ]
        )
        for these, workers in ((images, 1), (held, 1), (images, 2))
    )
    for name, tensor in item.items():
        assert torch.equal(tensor, other[name]), name
        assert torch.equal(tensor, before[name]), name
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in (-1, -2)) == [1, 2]  # it has its own


@pytest.mark.parametrize("name", ["pixels", "hog", "trivial"])
def test_observers_see_images_on_disk_and_in_memory_alike(folder: Path, name: str):
    images = read_images(folder)
    held = Images(images.pixels, images.labels, images.label_names)
    seen = extract_features(OBSERVERS[name], images)["features"]
    assert torch.equal(seen, extract_features(OBSERVERS[name], held)["features"])
    if OBSERVERS[name].piecewise:
        pieces = [
            extract_features(OBSERVERS[name], images.take(piece))["features"] for piece in torch.arange(12).split(5)
        ]
        assert torch.equal(torch.cat(pieces), seen)


def test_no_observer_but_that_of_low_level_statistics_takes_all_images_at_once():
    whole = {
        item.name for item in OBSERVERS.values() if item.modality == "image" and not item.piecewise and not item.parts
    }
    assert whole == set()


def test_an_image_is_shown_small(folder: Path):
    shown = read_images(folder).show(5)
    assert shown.label == "dog"
    assert Image.open(io.BytesIO(shown.png)).size == (112, 112)


def test_idx_files_give_their_test_images(tmp_path: Path):
    for stem, count in (("train", 7), ("t10k", 5)):
        pixels = np.arange(count * 784, dtype=np.uint32).astype(np.uint8)
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28) + pixels.tobytes()
        )
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01" + struct.pack(">I", count) + bytes(range(count))
        )
    images = read_images(tmp_path)
    assert isinstance(images, Images)
    assert images.pixels.shape == (5, 1, 28, 28)
    assert images.label_names == tuple("0123456")


def test_all_images_are_the_pool_if_they_are_enough(folder: Path, tmp_path: Path):
    with pytest.raises(ThalwegError, match="holds 12 images; the trials need at least 120"):
        image_splits(Source(folder))
    shutil.copytree(folder, tmp_path / "few")
    (tmp_path / "few/all.parquet").write_bytes(b"PAR1")
    with pytest.raises(ThalwegError, match=r"at least 120 \(read 12 picture files .*; skipped .* with \.parquet"):
        image_splits(Source(tmp_path / "few"))
    with pytest.raises(ThalwegError, match="no images were named"):
        image_splits(Source())
    copies = numbered(3) * 50
    with pytest.raises(ThalwegError, match="of its 150 images only 3 differ, the others are copies of them"):
        image_splits(Source(table(tmp_path / "a.parquet", copies)))
    splits = image_splits(Source(table(tmp_path / "a.parquet", numbered(120))))
    assert [len(part) for part in (splits.train, splits.validation, splits.pool)] == [0, 0, 120]
    assert len(splits.content_hash()) == 16


def test_decoding_ahead_gives_the_same_bytes_and_outlives_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ahead, "RESTARTS", 0)
    images = read_images(enough(tmp_path, 110))
    ids = torch.randperm(110, generator=torch.Generator().manual_seed(0))[:107]
    factor = 3.0

    def view(picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(picture.resize((8, 8)))).movedim(-1, 0) * factor

    def deadly(picture: Image.Image) -> Tensor:
        if os.getpid() != HOME:
            os.kill(os.getpid(), signal.SIGKILL)
        return view(picture)

    viewed = images.viewed(view)
    expected = viewed.batch(ids)
    assert expected.shape == (107, 3, 8, 8)
    for way in (viewed, images.viewed(deadly)):
        for workers in (1, 2):
            result = list(batches(way, ids, 40, workers=workers))
            assert [len(which) for which, _ in result] == [40, 40, 27]
            assert torch.equal(torch.cat([which for which, _ in result]), ids)
            assert torch.equal(torch.cat([batch for _, batch in result]), expected)
