"""Which files of a run are uploaded, and what they weigh.

By default those that a reader of the run needs: its record, its tables, the recordings of its units, report and charts.
What a survey needs to go on, weights, people's answers and the pages of units go only where they are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import ThalwegError, unknown
from thalweg.runs.run import Run

TOP = (".json", ".parquet", ".html")
FOLDERS = ("units", "recordings", "steps", "figures")
ALSO = {  # what is uploaded only where it is asked for, and where it lies
    "weights": "weights",
    "dictionaries": "dictionaries",
    "parts": "parts",
    "answers": "answers.parquet",
    "pages": "explore",
}


@dataclass(frozen=True)
class Parcel:
    """The files of a run that are uploaded, by their path in the run directory."""

    folder: Path
    names: tuple[str, ...]

    @property
    def megabytes(self) -> float:
        """Their size."""
        return sum((self.folder / name).stat().st_size for name in self.names) / 1e6

    def lines(self) -> list[str]:
        """A line for each folder, and for the files beside them: how many files, how large."""
        by_folder: dict[str, list[str]] = {}
        for name in self.names:
            by_folder.setdefault(name.partition("/")[0] + "/" if "/" in name else "", []).append(name)
        parcels = {folder: Parcel(self.folder, tuple(names)) for folder, names in by_folder.items()}
        return [
            f"{folder or 'tables, records and report'}: {len(part.names)} files, {part.megabytes:,.1f} MB"
            for folder, part in parcels.items()
        ]


def parcel_of(run: Run, also: Sequence[str] = ()) -> Parcel:
    """The files of a run that are uploaded, with those that are asked for beside.

    Raises:
        ThalwegError: something is asked for that no run has.
    """
    for name in also:
        if name not in ALSO:
            raise unknown("part of a run that can be uploaded too", name, ALSO)
    kept = [*FOLDERS, *(ALSO[name] for name in also)]
    left_out = {path for name, path in ALSO.items() if name not in also}
    names = [
        name
        for path in sorted(run.path.rglob("*"))
        if path.is_file() and not path.is_symlink()
        for name in [path.relative_to(run.path).as_posix()]
        if not path.name.startswith(".") and name not in left_out and _is_kept(name, kept)
    ]
    if "run.json" not in names:
        raise ThalwegError(f"{run.path}: run.json is not there, or is a link; a run of your own was expected")
    return Parcel(run.path, tuple(names))


def _is_kept(name: str, kept: Sequence[str]) -> bool:
    """Whether a file is of one of these folders, or lies beside them as the record or a table."""
    first, slash, _ = name.partition("/")
    return first in kept if slash else name in kept or name.endswith(TOP)
