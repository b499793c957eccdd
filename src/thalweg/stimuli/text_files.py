"""The text of a file: UTF-8, or UTF-16 and UTF-32 where the file's first bytes say so.

Characters that control a device and show nothing become spaces, and are counted. A file that is no text is refused; the
error names its format where the first bytes show it.
"""

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import ThalwegError, readable, reason

BYTE_ORDER_MARKS = (  # the longer first, for one begins with the other
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
FORMATS = (  # how files begin that hold text in another form, what they are, and how to get at it
    (b"\x1f\x8b", "is compressed by gzip", "unpack it first: gunzip FILE"),
    (b"\x28\xb5\x2f\xfd", "is compressed by Zstandard", "unpack it first: unzstd FILE"),
    (b"BZh91AY&SY", "is compressed by bzip2", "unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ\0", "is compressed by xz", "unpack it first: unxz FILE"),
    (b"PK\x03\x04", "is a ZIP archive or an Office document", "unpack it first, or save it as plain text or CSV"),
    (b"%PDF-", "is a PDF document", "get its text first: pdftotext FILE"),
    (b"PAR1", "is a Parquet table", "give it a name that ends in .parquet"),
    (b"ARROW1", "is an Arrow table", "save it as Parquet"),
    (b"SQLite format 3\0", "is an SQLite database", "save its table as Parquet or CSV"),
)
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # but whitespace


@dataclass(frozen=True)
class Decoded:
    """A file's text, its encoding, and how many control characters became spaces."""

    text: str
    encoding: str = "UTF-8"
    controls: int = 0

    def unusual(self) -> list[str]:
        """Remarks on how it was read."""
        remarks = [] if self.encoding == "UTF-8" else [f"read as {self.encoding}"]
        return remarks + ([spaced(self.controls)] if self.controls else [])


def spaced(controls: int) -> str:
    """How many control characters became spaces, in words."""
    return f"{controls:,} control character{'s' * (controls != 1)} became spaces"


def without_controls(text: str) -> tuple[str, int]:
    """A text with a space for each control character, and how many there were."""
    return CONTROL.subn(" ", text) if CONTROL.search(text) else (text, 0)


def mode(path: Path) -> int:
    """What a path leads to, as `stat` has it; nothing else than a regular file or a folder is ever opened.

    Raises:
        ThalwegError: nothing is there, it cannot be looked at, or it is a device, a pipe or a socket.
    """
    try:
        type_bits = path.stat().st_mode
    except FileNotFoundError as missing:
        raise ThalwegError(
            f"{readable(path)}: there is no such file or folder; a text, or a table as Parquet, JSON or CSV, was "
            "expected"
        ) from missing
    except (OSError, ValueError) as wrong:  # no permission, a loop of links, a name too long or with a zero in it
        why = wrong.strerror if isinstance(wrong, OSError) else reason(wrong)
        raise ThalwegError(f"{readable(path)[:200]!r}: is no path that can be read ({why})") from wrong
    if not (stat.S_ISREG(type_bits) or stat.S_ISDIR(type_bits)):
        raise ThalwegError(f"{readable(path)}: is neither a file nor a folder (a device, pipe or socket)")
    return type_bits


def decoded(path: Path) -> Decoded:
    """The text of a file, line ends made even.

    Raises:
        ThalwegError: unreadable, empty, of another format or binary (it holds zero bytes), or in another encoding; says
        at which line and byte.
    """
    try:
        content = path.read_bytes()
    except OSError as damage:
        raise ThalwegError(f"{readable(path)}: cannot be read ({damage.strerror})") from damage
    if not content.strip():
        raise ThalwegError(f"{readable(path)}: is empty; text was expected")
    _refuse_formats(path, content)
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), "UTF-8")
    if encoding == "UTF-8" and b"\0" in content:
        raise ThalwegError(
            f"{readable(path)}: is binary (a zero at byte {content.index(0)}); text in UTF-8, or in UTF-16 with its "
            "mark, was expected"
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as wrong:
        raise _not_in(encoding, path, content, wrong.start) from wrong
    text, controls = without_controls(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    if not text.strip():
        raise ThalwegError(f"{readable(path)}: is empty but for its mark or for control characters; text was expected")
    return Decoded(text, encoding, controls)


def _refuse_formats(path: Path, content: bytes) -> None:
    for beginning, what, advice in FORMATS:
        if content.startswith(beginning):
            raise ThalwegError(f"{readable(path)}: {what}, not text; {advice.replace('FILE', readable(path))}")


def _not_in(encoding: str, path: Path, content: bytes, position: int) -> ThalwegError:
    """The error for a file that is not in the encoding that was expected, from this byte on."""
    name = readable(path)
    if encoding != "UTF-8":
        return ThalwegError(f"{name}: is {encoding} by its first bytes, but damaged at byte {position}; save it again")
    line = content.count(b"\n", 0, position) + 1
    return ThalwegError(
        f"{name}, line {line}: is not UTF-8 (byte {position} is 0x{content[position]:02x}), but perhaps Latin-1 or "
        f"Windows-1252; save the file as UTF-8, as by: iconv -f WINDOWS-1252 -t UTF-8 {name}"
    )
