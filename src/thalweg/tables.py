"""The run directory: what a survey leaves behind, and the only file format there is.

    run.json                settings, versions, hashes of data, seconds and peak memory of each stage
    models.parquet          a row per model and control: strength, losses, headline scores with their intervals
    units.parquet           a row per unit and measure (and observer, band, capacity)
    scores.parquet          a row per model or rung (seed missing) and measure: the means of the units
    layers.parquet          a row per model, layer and headline measure: the means of the layer's units
    distributions.parquet   how the units of a rung spread over a headline's range
    missing.parquet         how many units of a rung have no number, and why
    gallery.parquet         the stimuli of the best, median and worst units of each rung, as PNG files
    shape.json              the verdict for each ladder, kind, measure, observer, band and strength axis
    comparison.json         whether the ladders have the same shape, for each headline and pair of ladders
    weights/, recordings/   safetensors for each model
    recordings/shards/      recordings of parts of the stimuli, until they are merged
    parts/                  the rows of each model, which the tables are put together from
    steps/                  what each finished step was made from, and the hashes of what it made
    report.html, figures/   the report, and its charts as SVG and PNG files

A step is done again if what it is made from has changed, or if a file it made is missing or damaged. Every file is
written beside its place and then moved there, so a run killed at any moment leaves whole files only.
"""

import errno
import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import polars as pl
import safetensors
import safetensors.torch
from torch import Tensor

from thalweg.errors import NoRoom, ThalwegError, check_utf8, readable, reason
from thalweg.identity import digest

MODEL_KEY = ["ladder", "rung", "kind", "seed", "control"]
SCORE_KEY = ["measure", "observer", "band", "capacity"]
UNITS = {
    "ladder": pl.String,
    "rung": pl.String,
    "kind": pl.String,
    "seed": pl.Int32,
    "control": pl.String,  # none, untrained or rotated
    "layer": pl.String,
    "depth": pl.Int16,  # the layer's place, 0 first
    "pool": pl.String,  # how values over places became one: max, mean
    "basis": pl.String,  # neurons or random
    "unit": pl.Int32,
    "measure": pl.String,
    "measure_version": pl.Int16,
    "observer": pl.String,  # empty where no observer takes part
    "band": pl.String,  # empty where the measure has none; "mean" over its bands
    "capacity": pl.String,  # empty: whole stimuli; else how many features the observer may use
    "exchanged": pl.Boolean,  # reference and query half exchanged, for the test-retest reliability
    "value": pl.Float32,
    "low": pl.Float32,
    "high": pl.Float32,
    "n": pl.Int32,
    "note": pl.String,  # why the value is missing
}


LONGEST = 100  # characters of a name that stand in a file's as they are; most systems allow 255 bytes in all
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for devices


def file_name(name: str) -> str:
    """A name as it can stand in a file's, whatever it is made of: a plain one as it is, another with a digest of what
    was left out, so that no two names share a file.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    if name and plain == name and len(name) <= LONGEST and not RESERVED.fullmatch(name):
        return name
    start = plain[:LONGEST].strip("-.") or "unnamed"
    return f"{'of-' if RESERVED.fullmatch(start) else ''}{start}-{digest(name)[:8]}"


def same_files(names: Iterable[tuple[str, str]]) -> None:
    """See that no two things share files; each is what it is called, and the name of its files.

    Raises:
        ThalwegError: two do, on some system: there are those that take capitals and small letters for the same.
    """
    taken: dict[str, str] = {}
    for called, name in names:
        if name.casefold() in taken:
            raise ThalwegError(
                f"{taken[name.casefold()]} and {called} would share the file name {name!r} (small and capital letters "
                "count as the same, as on many systems); give one of them another name"
            )
        taken[name.casefold()] = called


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when all went well.

    Raises:
        NoRoom: the disk is full.
    """
    beside = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")  # two machines may write at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except Exception as wrong:
        if not is_full_disk(wrong):
            raise
        raise NoRoom(
            f"{readable(path)}: the disk is full; make room and give the same command again: what is done is kept"
        ) from wrong
    finally:
        with suppress(OSError):
            beside.unlink()


def writable(folder: Path, option: str) -> None:
    """See that files can be made in a folder, which is made if it is not there.

    Raises:
        ThalwegError: they cannot; names the option that chooses another.
    """
    check_utf8(folder, f"choose another with {option}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as refused:
        raise ThalwegError(
            f"{readable(folder)}: cannot be written ({refused.strerror or refused}); choose another with {option}"
        ) from refused


FORMAT = 2  # of the run directory; it is raised when what is written there is named or laid out differently
# What is being written: here, and by safetensors before it has its name. By folder of the run directory.
PART = {
    "": re.compile(r"\.[a-z]+\.(json|parquet|html)\..*\.\d+\.part"),
    **dict.fromkeys(
        ("weights", "recordings", "recordings/shards", "parts", "steps", "figures"),
        re.compile(r"\..+\.(json|parquet|safetensors|svg|png)\..*\.\d+\.part|\.tmp\w{6}"),
    ),
}
FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)}


def is_full_disk(wrong: Exception) -> bool:
    """Whether an error says that there is no room left; the writers of tensors and tables say it in words alone."""
    return getattr(wrong, "errno", None) in FULL or any(said in str(wrong) for said in FULL.values())


def write_text(path: Path, content: str) -> None:
    """Write text as UTF-8; half characters are escaped."""
    with replacing(path) as beside:
        beside.write_text(content, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: object) -> None:
    """Write JSON that reads well; a number that is not finite is an error, for JSON has none."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a table as Parquet."""
    with replacing(path) as beside:
        frame.write_parquet(beside, compression="zstd", statistics=False)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    with replacing(path) as beside:
        safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, beside, dict(notes or {}))


AGAIN = "give the survey command again: it derives again what is missing or damaged"
DAMAGE = (pl.exceptions.PolarsError, safetensors.SafetensorError, ValueError, OSError, RecursionError)


def _reading(path: Path, read: Callable[[Path], Any], mend: str) -> Any:
    if not path.is_file():
        raise ThalwegError(f"{readable(path)}: there is no such file; {mend}")
    try:
        return read(path)
    except (*DAMAGE, pl.exceptions.PanicException) as damage:
        raise Damaged(path, reason(damage), mend) from damage


class Damaged(ThalwegError):
    """A file of a run is not what it should be."""

    def __init__(self, path: Path, found: str, mend: str = AGAIN) -> None:
        self.what = f"{readable(path)}: damaged or truncated ({found[:160]})"
        super().__init__(f"{self.what}; {mend}")

    def __reduce__(self) -> tuple[type[ThalwegError], tuple[str]]:
        return ThalwegError, (str(self),)  # as it comes back from a worker


def read_json(path: Path) -> Any:
    """A JSON file of the run directory; ThalwegError if it is missing or damaged."""
    return _reading(path, lambda p: json.loads(p.read_text(encoding="utf-8")), AGAIN)


def read_record(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object, of a run of this format.

    Raises:
        ThalwegError: it is missing or damaged, or the run has another format.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise Damaged(path, f"it holds {type(found).__name__}, and an object was expected")
    if (format_ := found.get("format", 1)) != FORMAT:
        raise ThalwegError(
            f"{readable(path)}: this run has format {format_!r}, and this thalweg reads format {FORMAT}; read it with "
            "the version of thalweg that made it, or survey again into another --out"
        )
    return found


def read_frame(path: Path, columns: Iterable[str] = (), *, least: int = 0) -> pl.DataFrame:
    """A table of the run directory.

    Raises:
        ThalwegError: it is missing or damaged, or has not these columns or not so many rows.
    """
    frame: pl.DataFrame = _reading(path, pl.read_parquet, AGAIN)
    if lacking := [name for name in columns if name not in frame.columns]:
        raise Damaged(path, f"it has no column {', '.join(lacking[:3])}: is it another table?")
    if len(frame) < least:
        raise Damaged(path, "it has no rows")
    return frame


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of the run directory; ThalwegError if the file is missing or damaged."""
    return _reading(path, safetensors.torch.load_file, AGAIN)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class RunDirectory:
    """Where a run's files lie."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process alone; a lock left by a killed process does not count.

        Raises:
            ThalwegError: another process holds it, or the directory cannot be written or holds something else.
        """
        self._is_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except filelock.Timeout as held:
            raise ThalwegError(
                f"{readable(self.path)}: another process is at work on this run; wait for it, or choose another --out"
            ) from held
        except OSError as refused:
            raise ThalwegError(
                f"{readable(self.path)}: cannot be written ({refused.strerror or refused}); choose another --out"
            ) from refused
        try:
            yield
        finally:
            lock.release()

    def _is_free(self) -> None:
        """See that the directory is a run, or empty, or not there yet.

        Raises:
            ThalwegError: it is a file, a folder with files that are not of a run, or a path that is not UTF-8.
        """
        check_utf8(self.path, "choose another --out")
        if self.path.is_dir():
            marks = ("settings.json", "run.json", "steps")
            others = [each.name for each in _listed(self.path) if each.name != ".lock" and not is_part("", each.name)]
            if others and not any((self / mark).exists() for mark in marks):
                raise ThalwegError(
                    f"{readable(self.path)}: this folder holds no run, but other things ({readable(sorted(others)[0])}"
                    f"{' and more' if len(others) > 1 else ''}); choose another --out"
                )
        elif self.path.exists() or self.path.is_symlink():
            what = "a link to nothing" if not self.path.exists() else "a file"
            raise ThalwegError(f"{readable(self.path)}: this is {what}; a folder was expected: choose another --out")

    def seen(self) -> None:
        """See that this machine sees the directory too.

        Raises:
            ThalwegError: it does not.
        """
        if not self.path.is_dir():
            raise ThalwegError(
                f"{readable(self.path)}: the machine {platform.node()!r} does not see this run directory; all machines "
                "of a cluster must see it under the same path: choose an --out on a shared filesystem"
            )

    def sweep(self) -> None:
        """Remove what a killed process was writing when it died: in the run's own folders, under its own names alone,
        and not in a folder that is a run of its own.
        """
        for folder in PART:
            here = self.path / folder if folder else self.path
            if folder and (here / "settings.json").exists():
                continue
            for file in _listed(here):
                if is_part(folder, file.name) and file.is_file() and not file.is_symlink():
                    file.unlink(missing_ok=True)

    def undone(self, step: str, inputs: str) -> str:
        """Why a step must be done, or nothing: it never was, its inputs changed, or a file is missing or damaged."""
        stamp = self / f"steps/{step}.json"
        if not stamp.is_file():
            return "new"
        try:
            record = json.loads(stamp.read_text(encoding="utf-8"))
            if record["inputs"] != inputs:
                return "its inputs changed"
            wrong = [name for name, found in record["outputs"].items() if not self._is(name, found)]
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
            return f"{stamp.relative_to(self.path)} is damaged"
        return f"{', '.join(wrong)} is missing or damaged" if wrong else ""

    def _is(self, name: str, found: str) -> bool:
        return (self / name).is_file() and file_digest(self / name) == found

    def finish(self, step: str, inputs: str, outputs: Sequence[str]) -> None:
        """Note that a step is finished, what from, and what it made."""
        made = {name: file_digest(self / name) for name in outputs}
        write_json(self / f"steps/{step}.json", {"inputs": inputs, "outputs": made})


def is_part(folder: str, name: str) -> bool:
    """Whether a file of this name in a folder of the run is one that a killed process left half written."""
    return PART[folder].fullmatch(name) is not None


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, or nothing where it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []
