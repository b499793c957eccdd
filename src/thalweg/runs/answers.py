"""The answers to single trials: asked for one by one, stored in the run as they come, and read.

Answers cost something: a person's time, a language model's price. So they are inputs, not results: `answers.parquet`
holds them, and no answer in it is asked for again. While an observer is at work, its answers lie in pieces in
`answers/`, each a whole file. A process that is killed loses the answers of its last piece at most.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, line_of, reason
from thalweg.files import whole
from thalweg.files.names import file_name
from thalweg.observers.choices import Choice, TrialObserver
from thalweg.runs.directory import RunDirectory
from thalweg.trials.items import Trial

TABLE, PIECES = "answers.parquet", "answers"
ANSWERS = {
    "trial": pl.String,  # the id of the trial
    "observer": pl.String,
    "version": pl.Int32,  # of the observer
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "control": pl.String,  # trained, or the name of the twin
    "layer": pl.String,
    "unit": pl.Int32,
    "band": pl.String,
    "picked": pl.Int8,  # 0 or 1: the first or the second query as shown; missing where the answer failed
    "correct": pl.Boolean,  # missing where the answer failed
    "confidence": pl.Float32,  # probability that the observer gives to its answer; missing where it gives none
    "seconds": pl.Float32,  # that the answer took
    "note": pl.String,  # why the answer failed; empty if it did not
    "made_from": pl.String,  # a hash of what the model was made from; empty in rows from before this column
}
MADE_FROM = "made_from"
KEY = ["trial", "observer", "version"]
ORDER = ["observer", "version", "ladder", "rung", "seed", "control", "layer", "unit", "band", "trial"]
PIECE = 50  # answers in a file
PIECE_SECONDS = 20.0  # after which a file is written even if it holds fewer
MOST_FAILURES = 10  # in a row: the observer is broken, or whatever it asks is out of reach
KEPT = "answers can't be derived again: put the file back from a copy, or remove it to ask for its answers again"


def read_answers(path: Path) -> pl.DataFrame:
    """All answers in a run directory: those of the table, and those in pieces that are not in it yet.

    Raises:
        ThalwegError: a file is damaged.
    """
    files = [path / TABLE, *sorted((path / PIECES).glob("*.parquet"))]
    empty = pl.DataFrame(schema=ANSWERS)
    together = pl.concat([empty, *(read_rows(file, ANSWERS) for file in files if file.is_file())])
    return together.unique(KEY, keep="last", maintain_order=True).sort(ORDER)


def read_rows(file: Path, columns: Mapping[str, Any]) -> pl.DataFrame:
    """A file of answers, or of what was asked; of an earlier thalweg it does not say what models were made from.

    Raises:
        ThalwegError: the file is damaged.
    """
    frame = whole.read_frame(file, [name for name in columns if name != MADE_FROM], mend=KEPT)
    known = frame if MADE_FROM in frame.columns else frame.with_columns(pl.lit("").alias(MADE_FROM))
    return known.select(*columns).cast(pl.Schema(columns))


def put_together(run: RunDirectory) -> pl.DataFrame:
    """Write the answers in pieces to the table, remove the pieces, and return the table."""
    answers = read_answers(run.path)
    pieces = sorted((run / PIECES).glob("*.parquet"))
    if pieces:
        whole.write_frame(run / TABLE, answers)
    for piece in pieces:
        piece.unlink()
    return answers


@dataclass
class Asking:
    """An observer at work: its answers since the last piece, and how many failed."""

    run: RunDirectory
    observer: TrialObserver
    clock: Callable[[], float] = time.perf_counter
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0
    in_a_row: int = 0
    written: float = 0.0
    first_problem: str = ""

    def ask(self, trial: Trial) -> None:
        """Ask about a trial, and keep the answer.

        Raises:
            ThalwegError: the last answers failed, one after another; these are not kept, those before are.
        """
        self.written = self.written or self.clock()
        start = self.clock()
        choice, note = answered(self.observer, trial)
        self.rows.append(row(self.observer, trial, choice, self.clock() - start, note))
        self.failed += bool(note)
        self.first_problem = self.first_problem or note
        self.in_a_row = self.in_a_row + 1 if note else 0
        if self.in_a_row == MOST_FAILURES:
            del self.rows[-MOST_FAILURES:]
            raise ThalwegError(
                f"observer {self.observer.name!r} failed {MOST_FAILURES} times in a row, so no more is asked: {note}; "
                "the answers before these are kept, and the same call goes on from there"
            )
        ready = len(self.rows) - self.in_a_row  # the last failures wait: they may be the first of too many
        if ready >= PIECE or self.clock() - self.written > PIECE_SECONDS:
            self.keep(ready)

    def keep(self, count: int | None = None) -> None:
        """Write the first so many answers to a file of their own, by default all."""
        kept = self.rows[:count]
        if kept:
            name = f"{file_name(self.observer.name)}-{self.observer.version}-{kept[0]['trial']}.parquet"
            whole.write_frame(self.run / PIECES / name, pl.DataFrame(kept, schema=ANSWERS))
            del self.rows[: len(kept)]
        self.written = self.clock()


def answered(observer: TrialObserver, trial: Trial) -> tuple[Choice | None, str]:
    """An observer's choice, or None and why there is none."""
    try:
        choice = observer.choose(trial)
        if not isinstance(choice, Choice):
            return None, f"it returned {type(choice).__name__}; a thalweg.Choice was expected"
        problem = choice.problem()
    except ThalwegError:
        raise  # the trial's stimuli can't be shown: no failure of the observer's
    except Exception as wrong:
        return None, f"{reason(wrong)}{line_of(wrong)}"
    return (None, problem) if problem else (choice, "")


def row(observer: TrialObserver, trial: Trial, choice: Choice | None, seconds: float, note: str) -> dict[str, Any]:
    """A row of the table of answers."""
    named = ("ladder", "rung", "seed", "control", "layer", "unit", "band")
    return {
        "trial": trial.id,
        "observer": observer.name,
        "version": observer.version,
        **{name: getattr(trial, name) for name in named},
        "picked": None if choice is None else int(choice.picked),
        "correct": None if choice is None else int(choice.picked) == trial.correct,
        "confidence": None if choice is None else choice.confidence,
        "seconds": seconds,
        "note": note,
        MADE_FROM: trial.made_from,
    }


def unanswered(trials: Sequence[Trial], answers: pl.DataFrame, observer: TrialObserver, *, retry: bool) -> list[Trial]:
    """The trials that an observer has not answered yet; with `retry`, also those whose answers failed."""
    own = answers.filter(observer=observer.name, version=observer.version)
    done = set((own.filter(note="") if retry else own)["trial"])
    return [trial for trial in trials if trial.id not in done]


def answer_all(asking: Asking, trials: Iterable[Trial], advance: Callable[[], None]) -> None:
    """Ask about every trial; what was answered is kept, however it ends."""
    try:
        for trial in trials:
            asking.ask(trial)
            advance()
    finally:
        asking.keep()
