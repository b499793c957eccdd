"""Checks whether files that others wrote are whole, without the library that reads them.

Libraries describe a damaged file in their own terms and seldom name it. Here the first bytes and the size of a file are
checked, which shows what happens to files in practice: a download that broke off, a page of a web site or a pointer of
Git LFS in place of the file, an editor that saved in another encoding.
"""

import errno
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

from thalweg.errors import ThalwegError

AGAIN = "fetch it again"
POINTER = b"version https://git-lfs"
PAGE = (b"<!doctype", b"<html")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
PICKLE_STARTS = (b"PK", b"\x80")  # the archive that torch.save writes, and the pickle that it wrote before
LARGEST_HEADER = 100_000_000  # bytes: the format allows no more


def content_of(file: Path) -> bytes:
    """The bytes of a file, or of a pipe; a device is not read, for some have no end.

    Raises:
        OSError: it can't be read, or is a device.
    """
    with file.open("rb") as opened:
        if stat.S_ISCHR(os.fstat(opened.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a device", str(file))
        return opened.read()


def json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ThalwegError: as `json_value` does, or the file holds something else than an object.
    """
    value = json_value(file)
    if not isinstance(value, dict):
        raise ThalwegError(f"{file}: a JSON object was expected, not {type(value).__name__}")
    return value


def json_value(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ThalwegError: the file can't be read, or is no JSON in UTF-8.
    """
    try:
        content = content_of(file)
    except OSError as wrong:
        raise ThalwegError(f"{file}: can't be read ({wrong.strerror or wrong})") from wrong
    if problem := _foreign_content(content):
        raise ThalwegError(f"{file}: {problem}; {AGAIN}")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as wrong:
        raise ThalwegError(
            f"{file}: is not in UTF-8, as JSON must be (byte {wrong.start + 1}); save it in UTF-8, or {AGAIN}"
        ) from wrong
    except json.JSONDecodeError as wrong:
        raise ThalwegError(
            f"{file}: can't be read as JSON (line {wrong.lineno}, column {wrong.colno}: {wrong.msg}); {AGAIN}"
        ) from wrong
    except (RecursionError, ValueError) as wrong:
        raise ThalwegError(f"{file}: can't be read as JSON ({type(wrong).__name__}); {AGAIN}") from wrong


def check_file(file: Path) -> None:
    """Check a file's first bytes and size, if its format is known by its ending.

    Raises:
        ThalwegError: it is empty, cut off, something else than its ending says, or can't be read.
    """
    if file.suffix == ".json":
        json_object(file)
        return
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(64)
            header = start + opened.read(_header_size(start)) if file.suffix == ".safetensors" else start
    except OSError as wrong:
        raise ThalwegError(f"{file}: can't be read ({wrong.strerror or wrong})") from wrong
    problem = _foreign_content(start)
    if not problem and file.suffix == ".safetensors":
        problem = _wrong_with_safetensors(header, size)
    if not problem and file.suffix == ".gguf" and not start.startswith(b"GGUF"):
        problem = f"is no GGUF file (it begins with {start[:4]!r})"
    if not problem and file.suffix in PICKLES and not start.startswith(PICKLE_STARTS):
        problem = f"holds no weights as torch.save writes them (it begins with {start[:4]!r})"
    if problem:
        raise ThalwegError(f"{file}: {problem}; {AGAIN}")


def _foreign_content(content: bytes) -> str:
    """What a file holds, if it is none of the formats that are read here."""
    if not content.strip():
        return "is empty" if not content else "holds nothing but blanks"
    if content.startswith(POINTER):
        return "is a pointer of Git LFS, not the file that it stands for (git lfs pull brings that)"
    if content[:20].lstrip().lower().startswith(PAGE):
        return "is a page of a web site"
    return ""


def _header_size(start: bytes) -> int:
    return min(struct.unpack("<Q", start[:8])[0], LARGEST_HEADER) if len(start) >= 8 else 0


def _wrong_with_safetensors(content: bytes, size: int) -> str:
    """What is wrong with the file of this size whose header `content` begins with."""
    if len(content) < 8:
        return f"is cut off: {size:,} bytes, fewer than its header has"
    length = struct.unpack("<Q", content[:8])[0]
    if length > LARGEST_HEADER or not content[8:].startswith(b"{"):
        return "is no safetensors file"
    if 8 + length > size:
        return f"is cut off: it has {size:,} bytes, and its header alone has {8 + length:,}"
    try:
        tensors = json.loads(content[8 : 8 + length])
        end = max((about["data_offsets"][1] for name, about in tensors.items() if name != "__metadata__"), default=0)
        whole = 8 + length + int(end)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return "is damaged: its header can't be read"
    if size != whole:
        return f"is {'cut off' if size < whole else 'damaged'}: it has {size:,} bytes, and its header says {whole:,}"
    return ""
