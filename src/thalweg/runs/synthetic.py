"""The scores with synthetic references that a run has, and whether they are of its models."""

from pathlib import Path
from typing import Any

from thalweg.files import whole

TABLE = "synthetic.json"
NONE: dict[str, Any] = {"points": [], "verdicts": [], "measures": {}}
MEND = "give `thalweg visualise` again, or remove the file"


def made_from(path: Path) -> str:
    """A hash of the tables of a run, which synthetic references were scored beside."""
    return whole.file_digest(path / "models.parquet")


def read_synthetic(path: Path) -> dict[str, Any]:
    """The scores and verdicts of both conditions; none where nobody asked for them, or the run was made anew since.

    Raises:
        ThalwegError: the file is damaged.
    """
    if not (path / TABLE).is_file():
        return NONE
    kept = whole.read_json(path / TABLE, MEND)
    if not isinstance(kept, dict) or not {"made_from", *NONE} <= set(kept):
        raise whole.Damaged(path / TABLE, f"it lacks what was expected; {MEND}")
    return kept if kept["made_from"] == made_from(path) else NONE
