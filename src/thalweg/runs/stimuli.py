"""The stimuli of a finished run, made again from what run.json says of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg import ladders, subjects
from thalweg.errors import ThalwegError, readable
from thalweg.models.records import Ladder
from thalweg.stimuli.base import Source, Splits, Stimuli
from thalweg.subjects.stimuli import splits_of_source

COLUMNS = ("text", "document", "image", "label")
HOW_TO_GIVE = "thalweg.open_run(path, ladder)"


def source_record(source: Source, stimuli_from: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says of where a ladder's stimuli come from: the source, its path absolute, and what a measurement
    of one model adds to it.
    """
    named: dict[str, Any] = {name: getattr(source, name) for name in (*COLUMNS, "skip_bad")}
    path = stimuli_from.get("path") or source.path
    return {**named, **stimuli_from, "path": readable(Path(path).absolute()) if path else None}


def splits_again(
    about: Mapping[str, Any], name: str, *, seed: int, given: Ladder | None, data: str | Path | Splits | Stimuli | None
) -> Splits:
    """The stimuli of a ladder of a run.

    Args:
        about: What run.json says of the ladder.
        name: The ladder's name.
        seed: The seed of the run's settings.
        given: The ladder itself, where the user gave it.
        data: Where the files of stimuli lie, if not where they did; or the stimuli themselves.

    Raises:
        ThalwegError: they cannot be made again, or are others than those of the run.
    """
    kept = about.get("source", {})
    path = Path(data) if isinstance(data, str | Path) else Path(kept["path"]) if kept.get("path") else None
    columns = {column: kept.get(column) for column in COLUMNS}
    source = Source(path, **columns, skip_bad=bool(kept.get("skip_bad")))
    if data is not None and not isinstance(data, str | Path):
        splits = data if isinstance(data, Splits) else Splits.of_pool(data)
    elif given is not None:
        splits = given.splits(source, seed)
    elif kept.get("subject"):
        splits = splits_of_source(subjects.find(kept["subject"]), source, seed, length=kept["length"])
    elif ladders.ships(name):
        splits = ladders.find_stimuli(name)(source, seed)
    else:
        raise ThalwegError(
            f"ladder {name!r} is none that ships, so its stimuli can't be made from its name: give the ladder itself, "
            f"as {HOW_TO_GIVE}, or the stimuli, as run.stimuli({name!r}, data=stimuli)"
        )
    if (content := splits.content_hash()) != about["data_hash"]:
        where = f" read from {readable(path)}" if path else ""
        raise ThalwegError(
            f"ladder {name!r}: the stimuli{where} are not those of the run (their hash is {content}, the run's "
            f"{about['data_hash']}); name the files that it was made from with data="
        )
    return splits
