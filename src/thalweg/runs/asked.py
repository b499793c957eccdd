"""What language models were asked about units, and their replies with the raw text.

Replies cost money, so each is written to a file of its own in `asked/` as soon as it comes: a process that is killed
loses none that it received. `asked.parquet` is put together from these files; so are the answers to two-alternative
trials in `answers.parquet`, and the explanations in `explanations.parquet`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.files import whole
from thalweg.files.identity import digest
from thalweg.prompting import prompts
from thalweg.prompting.forms import BY_SENTENCE, EXPLANATION, TWO
from thalweg.prompting.parsing import Answer
from thalweg.prompting.questions import Question, Reply
from thalweg.runs import answers, explanations
from thalweg.runs.directory import RunDirectory

TABLE, PIECES = "asked.parquet", "asked"
ASKED: dict[str, Any] = {
    "question": pl.String,  # a hash of all that was asked
    "form": pl.String,
    "model": pl.String,
    "version": pl.Int32,  # of the prompts
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "control": pl.String,
    "layer": pl.String,
    "unit": pl.Int32,
    "band": pl.String,
    "stimuli": pl.List(pl.Int32),  # all ids in the prompt
    "queries": pl.List(pl.Int32),  # those that were asked about
    "right": pl.List(pl.Int16),  # the positions of the right ones among them
    "picked": pl.List(pl.Int16),  # the positions that the reply picks; missing where it is no answer
    "numbers": pl.List(pl.Float32),  # probabilities of the queries, or numbers for the tokens, where there are any
    "truth": pl.List(pl.Float32),  # the unit's values at the tokens, of a simulation
    "reply": pl.String,  # the raw text
    "note": pl.String,  # why it is no answer; empty if it is one
    "prompt_tokens": pl.Int32,
    "reply_tokens": pl.Int32,
    "seconds": pl.Float32,
    "trial": pl.String,  # of the run's trials, for the two-alternative forms; else empty
    "observer": pl.String,  # what the table of answers calls it; else empty
    "made_from": pl.String,  # a hash of what the unit's model was made from; empty in rows from before this column
}
KEY = ["question", "model"]
ORDER = ["model", "version", "form", "ladder", "rung", "seed", "control", "layer", "unit", "question"]


def read_asked(path: Path) -> pl.DataFrame:
    """All that was asked in a run directory, with what is in files of its own yet.

    Raises:
        ThalwegError: a file is damaged.
    """
    return _together([_read(file) for file in _files(path)])


def _files(path: Path) -> list[Path]:
    return [file for file in (path / TABLE, *sorted((path / PIECES).glob("*.parquet"))) if file.is_file()]


def _read(file: Path) -> pl.DataFrame:
    return answers.read_rows(file, ASKED)


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    rows = pl.concat([pl.DataFrame(schema=ASKED), *frames])
    return rows.unique(KEY, keep="last", maintain_order=True).sort(ORDER)


def keep_reply(run: RunDirectory, row: Mapping[str, Any]) -> None:
    """Write a reply to a file of its own."""
    name = f"{row['question']}-{digest(row['model'])}.parquet"
    whole.write_frame(run / PIECES / name, pl.DataFrame([dict(row)], schema=ASKED))


def put_asked_together(run: RunDirectory) -> pl.DataFrame:
    """Write the replies in files of their own to the tables, remove the files, and return the table of all that was
    asked. Cut off at any place and done again, it leaves the same.
    """
    files = _files(run.path)
    frames = {file: _read(file) for file in files}
    pieces = [file for file in files if file != run / TABLE]
    together = _together(list(frames.values()))
    if not pieces:
        return together
    new = pl.concat([frames[piece] for piece in pieces])
    whole.write_frame(run / TABLE, together)
    if not (answered := _answers(new)).is_empty():
        name = f"asked-{digest(*answered['trial'], *answered['observer'])}.parquet"
        whole.write_frame(run / answers.PIECES / name, answered)
        answers.put_together(run)
    explanations.add_explanations(run, _explanations(new))
    for piece in pieces:
        piece.unlink()
    return together


def _answers(asked: pl.DataFrame) -> pl.DataFrame:
    """The replies to two-alternative trials as rows of the table of answers."""
    rows = asked.filter(pl.col("trial") != "")
    picked, right = (pl.col(name).list.first().cast(pl.Int8) for name in ("picked", "right"))
    shares = pl.col("numbers").list.len() > 0
    return rows.select(
        "trial",
        "observer",
        "version",
        *("ladder", "rung", "seed", "control", "layer", "unit", "band"),
        picked.alias("picked"),
        (picked == right).alias("correct"),
        pl.when(shares).then(pl.col("numbers").list.get(picked.cast(pl.Int64), null_on_oob=True)).alias("confidence"),
        "seconds",
        "note",
        answers.MADE_FROM,
    ).cast(pl.Schema(answers.ANSWERS))


def _explanations(asked: pl.DataFrame) -> pl.DataFrame:
    rows = asked.filter(form=EXPLANATION, note="")
    return rows.select(
        *explanations.UNIT,
        pl.col("reply").str.strip_chars().alias("explanation"),
        pl.col("model").alias("explainer"),
        "version",
        pl.lit(explanations.METHOD).alias("method"),
    )


def row_of(
    question: Question, model: str, reply: Reply, answer: Answer, seconds: float, observer: str
) -> dict[str, Any]:
    """A row of the table of what was asked."""
    about = question.about
    named = {name: getattr(about, name) for name in ("ladder", "rung", "seed", "control", "layer", "unit")}
    return {
        "question": question.id,
        "form": question.form,
        "model": model,
        "version": prompts.VERSION,
        **named,
        "band": question.band,
        "stimuli": list(question.shown),
        "queries": list(question.queries),
        "right": list(question.right),
        "picked": None if answer.picked is None else list(answer.picked),
        "numbers": list(answer.numbers),
        "truth": list(question.truth),
        "reply": reply.text,
        "note": answer.note,
        "prompt_tokens": reply.prompt_tokens,
        "reply_tokens": reply.reply_tokens,
        "seconds": seconds,
        "trial": question.trial if question.form in (TWO, *BY_SENTENCE) else "",
        "observer": observer if question.trial else "",
        answers.MADE_FROM: about.made_from,
    }
