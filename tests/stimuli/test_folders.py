"""The files below a folder, and Parquet files that are damaged: what is listed, skipped, refused and said."""

import os
import struct
from pathlib import Path

import polars as pl
import pytest

from thalweg import ThalwegError
from thalweg.errors import readable
from thalweg.files import parquet as parquet_files
from thalweg.files.parquet import schema
from thalweg.files.whole import writable
from thalweg.runs.directory import RunDirectory
from thalweg.stimuli.folders import files_below


def written(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listed(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder).files]


def test_what_nobody_put_there_on_purpose_is_skipped_and_counted(tmp_path: Path):
    for name in ("b/2.txt", "a.txt", "b/Thumbs.db", "b/._2.txt", ".ipynb_checkpoints/a.txt", "__MACOSX/b/c", ".git/x"):
        written(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "c.txt").symlink_to("nowhere")
    (tmp_path / "x.png").mkdir()
    result = files_below(tmp_path)
    assert listed(tmp_path) == ["a.txt", "b/2.txt"]
    assert result.skipped == {
        "hidden or of the system": 5,
        "links that lead nowhere": 1,
        "neither files nor folders": 1,
    }
    assert result.note == (
        f"{tmp_path}: skipped 5 hidden or of the system, 1 links that lead nowhere, 1 neither files nor folders"
    )
    assert files_below(tmp_path / "b").note.endswith("2 hidden or of the system")
    assert files_below(tmp_path / "x.png").note == ""


def test_a_hidden_folder_that_is_named_is_read(tmp_path: Path):
    written(tmp_path / ".data/a.txt")
    assert listed(tmp_path / ".data") == ["a.txt"]


def test_links_are_followed_once(tmp_path: Path):
    """A folder that lies below the one that was named comes before one that is reached by a link."""
    written(tmp_path / "far/owl/1.png")
    written(tmp_path / "set/zoo/2.png")
    (tmp_path / "set/hen.png").symlink_to("../far/owl/1.png")
    (tmp_path / "set/owl").symlink_to("../far/owl")
    (tmp_path / "set/again").symlink_to("zoo")
    result = files_below(tmp_path / "set")
    assert listed(tmp_path / "set") == ["hen.png", "owl/1.png", "zoo/2.png"]
    assert result.skipped == {"links to a folder that is read already": 1}


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_a_link_back_is_refused(tmp_path: Path, target: str):
    written(tmp_path / "set/hen/1.png")
    (tmp_path / "set/hen/all").symlink_to(target)
    with pytest.raises(ThalwegError, match=r"set/hen/all: is a link to .*, a folder that it lies in itself"):
        files_below(tmp_path / "set")


def test_two_links_that_lead_to_each_other_are_refused(tmp_path: Path):
    for item, other in (("a", "b"), ("b", "a")):
        written(tmp_path / f"far/{item}/1.png")
        (tmp_path / f"far/{item}/to").symlink_to(f"../{other}")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a").symlink_to("../far/a")
    with pytest.raises(ThalwegError, match="a folder that it lies in itself"):
        files_below(tmp_path / "set")


def test_names_that_are_not_utf_8_are_listed_and_can_be_printed(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9.png")
    written(tmp_path / name)
    (path,) = files_below(tmp_path).files
    assert path.read_bytes() == b"x"
    assert readable(path).endswith("caf\\xe9.png")


def test_a_path_that_is_not_utf_8_is_refused_where_tables_or_tensors_are_to_lie(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    refused = pytest.raises(ThalwegError, match=r"caf\\xe9: the path is not UTF-8, .*; choose another --out")
    with refused, RunDirectory(folder).locked():
        pass
    with pytest.raises(ThalwegError, match=r"not UTF-8, .*; choose another with --cache"):
        writable(folder, "--cache")
    assert not folder.exists()
    folder.mkdir()
    pl.DataFrame({"image": [b"x"]}).write_parquet(tmp_path / "a.parquet")
    os.rename(tmp_path / "a.parquet", folder / "a.parquet")
    with pytest.raises(ThalwegError, match=r"caf\\xe9/a.parquet: the path is not UTF-8, .*; rename it"):
        schema(folder / "a.parquet")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As root, nothing is forbidden: the refusal is played."""

    def refused(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ThalwegError, match=r"this folder cannot be read \(Permission denied\)"):
        files_below(tmp_path)


def test_a_damaged_parquet_file_is_an_error_that_names_it(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": [1, 2]}).write_parquet(path)
    whole = path.read_bytes()
    assert dict(parquet_files.schema(path)) == {"a": pl.Int64}
    assert parquet_files.row_count(path) == 2
    assert parquet_files.columns(path)["a"].to_list() == [1, 2]
    assert parquet_files.rows(path, ["a"], 1, 5)["a"].to_list() == [2]
    for content in (b"", b"PAR1 and no more", whole[:-9], whole[:40] + whole[60:], b"\0" * 100 + struct.pack("<I", 9)):
        path.write_bytes(content)
        with pytest.raises(ThalwegError, match=r"a\.parquet: cannot be read as Parquet"):
            parquet_files.columns(path)
    with pytest.raises(ThalwegError, match="cannot be read as Parquet"):
        parquet_files.row_count(tmp_path)


def panicking(trace: bytes, wrong: BaseException) -> None:
    with parquet_files.parquet("x.parquet"):
        os.write(2, trace)
        raise wrong


def test_a_panic_of_rust_is_damage_and_its_trace_is_kept_from_the_screen(capfd: pytest.CaptureFixture[str]):
    """What polars does when it panics is played: a trace on the file descriptor, then the exception."""
    panic = pl.exceptions.PanicException("unwrap\nstack")
    assert not isinstance(panic, Exception)
    with pytest.raises(ThalwegError, match=r"x\.parquet: cannot be read as Parquet \(it is damaged\)"):
        panicking(b"thread panicked", panic)
    assert capfd.readouterr().err == ""
    with pytest.raises(KeyboardInterrupt):
        panicking(b"a warning", KeyboardInterrupt())
    assert capfd.readouterr().err == "a warning"
