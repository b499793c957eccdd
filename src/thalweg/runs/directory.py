"""The run directory: what a survey leaves behind, and the only file format there is.

    run.json                settings, versions, hashes of data, seconds and peak memory of each stage; what the report
                            says of measures, observers, factors, twins and strength axes; the command
    models.parquet          a row per model, control and basis: strength, losses, headline scores, factors
    units/                  a row per unit and measure (and observer, band, capacity): a file for each model
    scores.parquet          a row per model or rung (seed missing) and measure: the means of the units
    layers.parquet          a row per model, layer and headline measure: the means of the layer's units
    distributions.parquet   how the units of a rung spread over a headline's range
    missing.parquet         how many units of a rung have no number, and why
    factors.parquet         a row per model, control and factor (layer empty), and per layer
    relations.parquet       how each factor goes with each headline over the models of a ladder: Spearman's correlation
    claims.parquet          what the run says of the hypotheses on why, and of smaller claims: associations and means
    capability.parquet      what the best-scored units carry: a row per model, control, ablation and cut
    concepts.parquet        how far concepts are shared between languages: a row per model, control, layer and measure
    edits.parquet           what edits of facts change: a row per model, control, method and measure
    gallery.parquet         the stimuli of the best, median and worst units of each rung, as PNG files, HTML or text
    shape.json              the verdict for each ladder, kind, measure, observer, band and strength axis
    comparison.json         whether the ladders have the same shape, for each headline and pair of ladders
    answers.parquet         a row per answer to a single trial: an input that is kept, for it can't be derived again
    asked.parquet, asked/   what language models were asked, with their raw replies; in pieces until it is in the table
    explanations.parquet    a row per explanation of a unit in words: an input that is kept
    answers/                answers that are not in that table yet, in pieces
    weights/, recordings/   safetensors for each model
    dictionaries/           dictionaries that were trained for the basis `sae`, a folder for each layer of each network
    recordings/shards/      recordings of parts of the stimuli, until they are merged
    parts/                  the rows of each model, which the tables are put together from, and bootstrap draws
    steps/                  what each finished step was made from, and the hashes of what it made
    report.html, figures/   the report, and its charts as SVG and PNG files

A step is done again if what it is made from has changed, or if a file it made is missing or damaged. Every file is
written beside its place and then moved there, so a run killed at any moment leaves whole files only.
"""

import json
import platform
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from thalweg.errors import ThalwegError, check_utf8, readable
from thalweg.files.whole import Damaged, file_digest, read_json, write_json

SETTINGS = "settings.json"
FORMAT = 9  # of the run directory; it is raised when what is written there is named or laid out differently
READABLE = (7, 8, FORMAT)  # finished runs that can be read: 7 has one table of units, and 8 tables without a basis
WITH_BASES = 9  # the first format whose tables say what units are
# What is being written: here, and by safetensors before it has its name. By folder of the run directory.
PART = {
    "": re.compile(r"\.[a-z]+\.(json|parquet|html)\..*\.\d+\.part"),
    **dict.fromkeys(
        ("weights", "recordings", "recordings/shards", "units", "parts", "steps", "figures", "answers", "asked"),
        re.compile(r"\..+\.(json|parquet|safetensors|svg|png)\..*\.\d+\.part|\.tmp\w{6}"),
    ),
}


def read_record(path: Path, formats: Sequence[int] = (FORMAT,)) -> dict[str, Any]:
    """A JSON file that holds an object, of a run of this format, or of any of several.

    Raises:
        ThalwegError: it is missing or damaged, or the run has another format.
    """
    record = read_json(path)
    if not isinstance(record, dict):
        raise Damaged(path, f"it holds {type(record).__name__}, and an object was expected")
    if (format_ := record.get("format", 1)) not in formats:
        does = "continues" if format_ in READABLE else "reads"
        known = " and ".join(map(str, formats))
        raise ThalwegError(
            f"{readable(path)}: this run has format {format_!r}, and this thalweg {does} format {known}; use the "
            "version of thalweg that made it, or survey again into another --out"
        )
    return record


def settings_of_kind(path: Path, kind: str) -> dict[str, Any] | None:
    """The settings that lie in a directory of this kind (as `edit`), or None where there are none yet.

    Raises:
        ThalwegError: the directory holds a run of another kind, as a survey, or its settings are damaged.
    """
    file = path / SETTINGS
    if not file.is_file():
        if (path / "run.json").is_file():
            raise _another_kind(path)
        return None
    settings = read_json(file, "choose another --out, or remove this folder: what it was made from is not known")
    if not isinstance(settings, dict) or settings.get("kind") != kind:
        raise _another_kind(path)
    return settings


def _another_kind(path: Path) -> ThalwegError:
    return ThalwegError(f"{readable(path)}: this is a run of another kind; choose another --out")


@dataclass(frozen=True)
class RunDirectory:
    """The directory that holds a run's files."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the directory for this process alone; a lock left by a killed process does not count.

        Raises:
            ThalwegError: another process holds it, or the directory cannot be written or holds something else.
        """
        self.check_own()
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
                f"{readable(self.path)}: cannot be written ({refused.strerror or refused}); choose another --out, or "
                "copy the run to where it can"
            ) from refused
        try:
            yield
        finally:
            lock.release()

    def check_own(self) -> None:
        """Refuse to write into a run that the hub's client keeps in its cache.

        Raises:
            ThalwegError: it is one.
        """
        if any(part.startswith("datasets--") for part in self.path.absolute().parts):
            raise ThalwegError(
                f"{readable(self.path)}: this run lies in the cache of the hub's client, where nothing is written; "
                "name another place with --out, or make it a run of your own: thalweg pull OWNER/NAME --out DIR"
            )

    def _is_free(self) -> None:
        """Check that the directory is a run, or empty, or not there yet.

        Raises:
            ThalwegError: it is a file, a folder with files that are not of a run, or a path that is not UTF-8.
        """
        check_utf8(self.path, "choose another --out")
        if self.path.is_dir():
            marks = (SETTINGS, "run.json", "steps")
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
        """Check that this machine sees the directory too.

        Raises:
            ThalwegError: it does not.
        """
        if not self.path.is_dir():
            raise ThalwegError(
                f"{readable(self.path)}: the machine {platform.node()!r} does not see this run directory; all machines "
                "of a cluster must see it under the same path: choose an --out on a shared filesystem"
            )

    def remove_partials(self) -> None:
        """Remove what a killed process was writing when it died: in the run's own folders, under its own names alone,
        and not in a folder that is a run of its own.
        """
        for folder in PART:
            here = self.path / folder if folder else self.path
            if folder and (here / SETTINGS).exists():
                continue
            for file in _listed(here):
                if is_part(folder, file.name) and file.is_file() and not file.is_symlink():
                    file.unlink(missing_ok=True)

    def stale_reason(self, step: str, inputs: str) -> str:
        """Why a step must be done, or nothing: it never was, its inputs changed, or a file is missing or damaged."""
        stamp = self / f"steps/{step}.json"
        if not stamp.is_file():
            return "new"
        try:
            record = json.loads(stamp.read_text(encoding="utf-8"))
            if record["inputs"] != inputs:
                return "its inputs changed"
            wrong = [name for name, digest in record["outputs"].items() if not self._is(name, digest)]
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
            return f"{stamp.relative_to(self.path)} is damaged"
        return f"{', '.join(wrong)} is missing or damaged" if wrong else ""

    def _is(self, name: str, digest: str) -> bool:
        return (self / name).is_file() and file_digest(self / name) == digest

    def finish(self, step: str, inputs: str, outputs: Sequence[str]) -> None:
        """Note that a step is finished, what from, and what it made."""
        made = {name: file_digest(self / name) for name in outputs}
        write_json(self / f"steps/{step}.json", {"inputs": inputs, "outputs": made})

    def rename(self, step: str, before: str, after: str) -> None:
        """Give a file that a finished step made another name; if that is cut off, the step is done again."""
        (self / before).rename(self / after)
        stamp = self / f"steps/{step}.json"
        with suppress(ThalwegError, KeyError, TypeError, AttributeError):  # a damaged stamp: the step is done again
            record = read_json(stamp)
            made = {after if name == before else name: digest for name, digest in record["outputs"].items()}
            write_json(stamp, {**record, "outputs": made})


def is_part(folder: str, name: str) -> bool:
    """Whether a file of this name in a folder of the run is one that a killed process left half written."""
    return PART[folder].fullmatch(name) is not None


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, or nothing where it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []
