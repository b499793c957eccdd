"""Readers of images, given whatever a disk may hold: they read it or say what is wrong, and nothing else happens."""

import io
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from thalweg import ThalwegError
from thalweg.stimuli.image_readers import ENDINGS, read_images

bounded = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
names = (f"{number}" for number in itertools.count())


def valid(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file, kind)
    return file.getvalue()


VALID = [valid(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")]
damaged = st.tuples(st.sampled_from(VALID), st.integers(0, 400), st.integers(0, 255), st.integers(0, 400)).map(
    lambda change: bytes(
        byte ^ (change[2] if place == change[1] else 0)
        for place, byte in enumerate(change[0][: len(change[0]) - change[3]])
    )
)
contents = st.one_of(st.binary(max_size=60), damaged, st.sampled_from(VALID))


def read_or_said(path: Path, **options: object) -> None:
    """Read all images and look at each, unless an error of ours says why not."""
    try:
        images = read_images(path, **options)
        assert len(images) == len(images.labels)
        assert len(images.notes) == 1
        for index in range(len(images)):
            images.picture(index)
    except ThalwegError as mistake:
        if str(path) not in str(mistake):
            raise AssertionError("the error names no file") from mistake


@bounded
@given(files=st.lists(st.tuples(contents, st.sampled_from(ENDINGS)), min_size=1, max_size=3), lenient=st.booleans())
def test_files_of_any_content_are_read_or_refused(tmp_path: Path, files: list[tuple[bytes, str]], lenient: bool):
    folder = tmp_path / next(names)
    folder.mkdir()
    for index, (content, ending) in enumerate(files):
        (folder / f"{index}{ending}").write_bytes(content)
    read_or_said(folder, skip_bad=lenient)


ROWS = 3
cells = st.one_of(
    *(
        st.lists(st.none() | kind, min_size=ROWS, max_size=ROWS)
        for kind in (contents, st.text(max_size=5), st.integers(-2, 9))
    ),
    *(
        st.lists(kind, min_size=ROWS, max_size=ROWS)
        for kind in (st.floats(), st.booleans(), st.lists(st.integers(0, 9)))
    ),
    st.lists(
        st.fixed_dictionaries({"bytes": st.none() | contents, "path": st.none() | st.text(max_size=5)}),
        min_size=ROWS,
        max_size=ROWS,
    ),
)
columns = st.dictionaries(st.sampled_from(["image", "label", "name", "class", "x"]), cells, min_size=1, max_size=4)


@bounded
@given(made=columns, cut=st.none() | st.integers(1, 200), flip=st.none() | st.integers(0, 500))
def test_tables_of_any_columns_whole_or_damaged_are_read_or_refused(
    tmp_path: Path, made: dict[str, list[object]], cut: int | None, flip: int | None
):
    path = tmp_path / f"{next(names)}.parquet"
    pl.DataFrame(made, strict=False).write_parquet(path)
    content = bytearray(path.read_bytes())
    if flip is not None and flip < len(content):
        content[flip] ^= 0x55
    path.write_bytes(content[: len(content) - cut] if cut else content)
    read_or_said(path)


@pytest.mark.parametrize("column", ["image", "label", "nothing", "none", ""])
def test_any_named_column_is_taken_or_refused(tmp_path: Path, column: str):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"image": VALID[:2], "label": [0, 1]}).write_parquet(path)
    read_or_said(path, image_column=column)
    read_or_said(path, label_column=column)
