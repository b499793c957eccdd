"""`thalweg literature`: the studies are read, judged, and written as a page and as records."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import ThalwegError, readable
from thalweg.files.whole import writable_file, write_text
from thalweg.literature.page import render
from thalweg.literature.studies import read_studies
from thalweg.literature.verdicts import Reading, judge_studies, summary
from thalweg.progress import Progress
from thalweg.shape.verdict import plain


@dataclass(frozen=True)
class Literature:
    """What published studies show by one rule."""

    sentence: str
    readings: tuple[Reading, ...]
    page: Path
    records: Path  # the same as JSON


def judge_literature(
    data: Iterable[str | Path] = (),
    out: str | Path = "literature.html",
    *,
    shipped: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Literature:
    """Judge the tables of published studies by one rule, and write a page of them.

    Args:
        data: Records of studies of your own (`.toml`, each beside its table), or folders of them.
        out: The page to write; all records go beside it, with the ending `.json`.
        shipped: Whether the studies that come with thalweg are judged too.
        seed: Of the simulated null curves.
        progress: What is told of the steps.

    Returns:
        What the studies show together, and the reading of each score on each axis.

    Raises:
        ThalwegError: A record or its table is wrong, with the file and the field, or the page cannot be written.

    Example:
        >>> import thalweg
        >>> literature = thalweg.judge_literature(["mine.toml"], "out/literature.html", shipped=False)
        >>> literature.page.name, literature.records.name
        ('literature.html', 'literature.json')
        >>> literature.readings[0].verdict in ("increasing", "cannot tell")
        True
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ThalwegError(f"{readable(path)}: give --out the name of a page, such as literature.html")
    studies = read_studies(data, shipped=shipped)
    writable_file(path, "--out")
    readings = judge_studies(studies, seed=seed, progress=progress)
    sentence = summary(readings)
    records = path.with_suffix(".json")
    record = {"sentence": sentence, "readings": [plain(reading.to_record()) for reading in readings]}
    write_text(path, render(readings))
    write_text(records, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return Literature(sentence, readings, path, records)
