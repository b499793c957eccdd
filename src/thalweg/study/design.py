"""A study's folder: its design and rules, fixed when it was made, and what its server shows.

    study.json        name, run, design, rules for exclusion, texts; an export carries a copy
    trials.parquet    every trial that is asked, with the right answer
    lists.parquet     which trials a participant is asked, in order: one list for each participant who was planned
    stimuli.parquet   the pictures or texts of the trials, by digest
    secret.json       the keys that links and sessions are signed with, and the experimenter's token
    responses.db      the responses (SQLite), unless another database is named

Nothing here imports PyTorch: the server starts in a second.
"""

import base64
import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, readable
from thalweg.files import whole
from thalweg.study.columns import LISTS, STIMULI, TRIALS

VERSION = 1  # of study.json; raised when what is written there means something else
HOME = Path("studies")
RECORD, SECRET, DATABASE = "study.json", "secret.json", "responses.db"
AGAIN = "make the study again with `thalweg study create`"
PER_TRIAL = (3.0, 2500 / 45)  # the least and the most seconds, as published: 135 and 2,500 for 45 trials


@dataclass(frozen=True)
class Rules:
    """Whose responses are left out, fixed before the study runs, with the published thresholds (Zimmermann, Klein &
    Brendel 2023).

    Attributes:
        catch_accuracy: The least share of catch trials that are right.
        instruction_seconds: The least time spent on the instructions.
        total_seconds: The least and the most time from first to last.
        side_count: How often each of the two places must have been chosen at least.
        practice_attempts: The most attempts at the practice.
    """

    catch_accuracy: float = 0.8
    instruction_seconds: float = 15.0
    total_seconds: tuple[float, float] = (135.0, 2500.0)
    side_count: int = 5
    practice_attempts: int = 3


@dataclass(frozen=True)
class Design:
    """What is asked of whom.

    Attributes:
        units: Units drawn of each model.
        trials: Main trials that each participant answers.
        catch: Catch trials among them.
        practice: Trials of the practice, which is repeated until all are right.
        participants: How many are planned.
        conditions: Groups of participants: `crossed` (everyone sees every model), or one for each model.
        models: The models, as ladder, rung, seed, control.
        bands: The bands that are asked about.
        matched: Whether only pairs are asked about that low-level statistics can't decide.
        per_unit: The most different trials of a unit.
        responses_per_unit: How many responses a unit gets when all who are planned finish.
        break_every: After how many trials a break is offered.
        wait: Seconds before a trial can be answered.
        seed: The seed that units, lists and orders are drawn by.
    """

    units: int
    trials: int
    catch: int
    practice: int
    participants: int
    conditions: tuple[str, ...]
    models: tuple[dict[str, Any], ...]
    bands: tuple[str, ...]
    matched: bool
    per_unit: int
    responses_per_unit: float
    break_every: int
    wait: float
    seed: int


@dataclass(frozen=True)
class Texts:
    """What participants read beside the instructions.

    Attributes:
        title: The page's title.
        consent: What they consent to; blank lines part paragraphs.
        prolific_code: The completion code that Prolific gave the study, if it recruits there.
    """

    title: str
    consent: str
    prolific_code: str = ""


@dataclass(frozen=True)
class Item:
    """One trial as the server knows it; stimuli are named by their digests."""

    trial: str
    kind: str  # practice, catch, main
    condition: str
    high: tuple[str, ...]
    low: tuple[str, ...]
    queries: tuple[str, str]
    correct: int


@dataclass(frozen=True)
class Study:
    """A study that was made, in its folder."""

    path: Path
    name: str
    run: dict[str, Any]
    design: Design
    rules: Rules
    texts: Texts
    modality: str
    created: str
    version: int = VERSION

    @property
    def record(self) -> dict[str, Any]:
        """What study.json says."""
        named = ("version", "name", "created", "modality", "run")
        parts = {"design": asdict(self.design), "rules": asdict(self.rules), "texts": asdict(self.texts)}
        return {**{name: getattr(self, name) for name in named}, **parts}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of study.json: a database belongs to one study."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def trials(self) -> pl.DataFrame:
        """All trials, with the right answers."""
        return self._table("trials", TRIALS)

    @cached_property
    def items(self) -> dict[str, Item]:
        """The trials by their ids."""
        rows = self.trials.select("trial", "kind", "condition", "high", "low", "queries", "correct").iter_rows()
        return {
            trial: Item(trial, kind, condition, tuple(high), tuple(low), (queries[0], queries[1]), correct)
            for trial, kind, condition, high, low, queries, correct in rows
        }

    @cached_property
    def practice(self) -> tuple[str, ...]:
        """The trials of the practice."""
        return tuple(item.trial for item in self.items.values() if item.kind == "practice")

    @cached_property
    def lists(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """By condition, the lists of trials; each is asked of one participant, as long as there are enough."""
        table = self._table("lists", LISTS).sort("condition", "list", "position")
        made: dict[str, tuple[tuple[str, ...], ...]] = {}
        for (condition, _), rows in table.group_by("condition", "list", maintain_order=True):
            made[str(condition)] = (*made.get(str(condition), ()), tuple(rows["trial"]))
        return made

    @cached_property
    def shelf(self) -> dict[str, str]:
        """Each stimulus by its digest, as the JSON that the browser is given: a picture's PNG file or a text's pieces;
        a trial is put together from these.
        """
        rows = self._table("stimuli", STIMULI).iter_rows()
        return {
            name: json.dumps({"png": base64.b64encode(png).decode()} if png else {"pieces": pieces})
            for name, png, pieces in rows
        }

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The signing key and the experimenter's token."""
        keys = whole.read_json(self.path / SECRET)
        if not isinstance(keys, dict) or not all(isinstance(keys.get(name), str) for name in ("key", "experimenter")):
            raise whole.Damaged(self.path / SECRET, "a key and the experimenter's token were expected", AGAIN)
        return keys

    def _table(self, name: str, schema: dict[str, Any]) -> pl.DataFrame:
        frame = whole.read_frame(self.path / f"{name}.parquet", schema, least=1, mend=AGAIN)
        return frame.select(*schema).cast(pl.Schema(schema))


def folder_of(name: str | Path) -> Path:
    """The folder of a study that is named by its path, or by its name alone if it lies in `studies`."""
    path = Path(name)
    return HOME / path if not path.exists() and (HOME / path).exists() else path


def open_study(name: str | Path) -> Study:
    """Open a study.

    Args:
        name: Its folder, or the name of a folder in `studies`.

    Raises:
        ThalwegError: there is none, or it is damaged.
    """
    path = folder_of(name)
    if not (path / RECORD).is_file():
        raise ThalwegError(
            f"{readable(path)}: there is no study in it; the folder or the name that `thalweg study create` gave was "
            "expected"
        )
    record = whole.read_json(path / RECORD)
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ThalwegError(
            f"{readable(path / RECORD)}: this is no study of version {VERSION}, which this thalweg reads; {AGAIN}"
        )
    try:
        return _study(path, record)
    except (KeyError, TypeError, ValueError) as wrong:
        raise whole.Damaged(path / RECORD, f"{type(wrong).__name__}: {wrong}", AGAIN) from wrong


def _study(path: Path, record: dict[str, Any]) -> Study:
    design: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in record["design"].items()
    }
    low, high = map(float, record["rules"]["total_seconds"])
    rules: dict[str, Any] = {**record["rules"], "total_seconds": (low, high)}
    return Study(
        path,
        name=record["name"],
        run=record["run"],
        design=Design(**design),
        rules=Rules(**rules),
        texts=Texts(**record["texts"]),
        modality=record["modality"],
        created=record["created"],
    )


def write_study(study: Study, tables: dict[str, pl.DataFrame]) -> None:
    """Write a study's files; study.json is the last one."""
    for name, frame in tables.items():
        whole.write_frame(study.path / f"{name}.parquet", frame)
    write_secrets(study.path / SECRET)
    whole.write_json(study.path / RECORD, study.record)


def write_secrets(path: Path) -> None:
    """Write new keys to a file that its owner alone can read."""
    keys = {"key": secrets.token_urlsafe(32), "experimenter": secrets.token_urlsafe(24)}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(keys, file)
