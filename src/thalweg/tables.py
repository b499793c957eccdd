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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import filelock
import polars as pl
import safetensors
import safetensors.torch
from torch import Tensor

from thalweg.errors import NoRoom, ThalwegError

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


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits for things whose `repr` says all that matters."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()[:16]


def identity(thing: object) -> str:
    """What a function or a callable record does, as text: the same in every process, another when its code or fields
    change.
    """
    if isinstance(thing, partial):
        return f"{identity(thing.func)}{thing.args}{sorted(thing.keywords.items())}"
    if isinstance(thing, FunctionType):
        code = thing.__code__
        constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
        return f"{thing.__module__}.{thing.__qualname__}:{digest(code.co_code, constants, code.co_names)}"
    if is_dataclass(thing) and not isinstance(thing, type):
        values = [getattr(thing, one.name) for one in fields(thing)]
        if any(map(callable, values)):  # the text of a function would name its place in memory
            return f"{type(thing).__qualname__}{[identity(one) if callable(one) else repr(one) for one in values]}"
        return repr(thing)
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def file_name(name: str) -> str:
    """A name as it can stand in a file's, whatever it is made of."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "unnamed"


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
            f"{path}: the disk is full; make room and give the same command again: what is done is kept"
        ) from wrong
    finally:
        with suppress(OSError):
            beside.unlink()


PARTS = (".*.part", ".tmp??????")  # what is being written: here, and by safetensors before it has its name
FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)}


def is_full_disk(wrong: Exception) -> bool:
    """Whether an error says that there is no room left; the writers of tensors and tables say it in words alone."""
    return getattr(wrong, "errno", None) in FULL or any(said in str(wrong) for said in FULL.values())


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


def _reading(path: Path, read: Callable[[Path], Any], mend: str) -> Any:
    if not path.is_file():
        raise ThalwegError(f"{path}: there is no such file; {mend}")
    try:
        return read(path)
    except (pl.exceptions.PolarsError, safetensors.SafetensorError, ValueError, OSError) as damage:
        raise ThalwegError(f"{path}: damaged or truncated ({str(damage).splitlines()[0][:120]}); {mend}") from damage


AGAIN = "give the survey command again: it derives again what is missing or damaged"


def read_json(path: Path) -> Any:
    """A JSON file of the run directory; ThalwegError if it is missing or damaged."""
    return _reading(path, lambda p: json.loads(p.read_text(encoding="utf-8")), AGAIN)


def read_frame(path: Path) -> pl.DataFrame:
    """A table of the run directory; ThalwegError if it is missing or damaged."""
    return _reading(path, pl.read_parquet, AGAIN)  # type: ignore[no-any-return]


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
            ThalwegError: another process holds it, or the directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except filelock.Timeout as held:
            raise ThalwegError(
                f"{self.path}: another process is at work on this run; wait for it, or choose another --out"
            ) from held
        except OSError as refused:
            raise ThalwegError(
                f"{self.path}: cannot be written ({refused.strerror or refused}); choose another --out"
            ) from refused
        try:
            yield
        finally:
            lock.release()

    def seen(self) -> None:
        """See that this machine sees the directory too.

        Raises:
            ThalwegError: it does not.
        """
        if not self.path.is_dir():
            raise ThalwegError(
                f"{self.path}: the machine {platform.node()!r} does not see this run directory; all machines of a "
                "cluster must see it under the same path: choose an --out on a shared filesystem"
            )

    def sweep(self) -> None:
        """Remove what a killed process was writing when it died."""
        for pattern in PARTS:
            for part in self.path.rglob(pattern):
                part.unlink(missing_ok=True)

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
        except (ValueError, KeyError, TypeError):
            return f"{stamp.relative_to(self.path)} is damaged"
        return f"{', '.join(wrong)} is missing or damaged" if wrong else ""

    def _is(self, name: str, found: str) -> bool:
        return (self / name).is_file() and file_digest(self / name) == found

    def finish(self, step: str, inputs: str, outputs: Sequence[str]) -> None:
        """Note that a step is finished, what from, and what it made."""
        made = {name: file_digest(self / name) for name in outputs}
        write_json(self / f"steps/{step}.json", {"inputs": inputs, "outputs": made})
