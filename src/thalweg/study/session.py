"""A participant's way through a study: what is shown next, and what becomes of an answer.

Phases follow one another: consent, instructions, practice (repeated until all is right), main, finished; or returned,
by whoever leaves. Where someone stands is one row of the database, changed in one transaction with the response that
moves it on. So a reload, a lost network or a killed server resumes at the same trial.
"""

import json
import random
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from thalweg.study.design import Study
from thalweg.study.export import LEFT_AFTER
from thalweg.study.showing import trial_as_json
from thalweg.study.store import (
    CLOSED,
    FINISHED,
    OPEN,
    RETURNED,
    STARTED,
    Store,
    by_id,
    change,
    participants,
    responses,
    state,
)
from thalweg.study.tokens import Refused, Session, Tokens

CONSENT, INSTRUCTIONS, PRACTICE, MAIN = "consent", "instructions", "practice", "main"
INSERT = sa.insert(responses)
Row = Mapping[str, Any]


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


@dataclass(frozen=True)
class Answer:
    """What a participant answered."""

    position: int
    trial: str
    picked: int
    confidence: int
    seconds: float


class Sessions:
    """What participants are shown, and what they answer."""

    def __init__(self, study: Study, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.study, self.store, self.clock = study, store, clock
        self.tokens = Tokens(study)
        self._about = {
            "title": study.texts.title,
            "consent": study.texts.consent,
            "modality": study.modality,
            "practice": len(study.practice),
            "wait": study.design.wait,
            "trials": study.design.trials + study.design.catch,
        }

    def enter(self, source: str, external: str) -> str:
        """Let someone in, or in again: the session's token and what is shown, as JSON.

        Raises:
            Refused: the study takes nobody new, or nobody at all.
        """
        now = self.clock()
        with self.store.writing() as connection:
            current = connection.execute(sa.select(state.c.state).with_for_update()).scalar_one()
            query = sa.select(participants).where(participants.c.source == source, participants.c.external == external)
            row: dict[str, Any] | None = next((_plain(each) for each in connection.execute(query).mappings()), None)
            if current == CLOSED and (row is None or row["status"] == STARTED):
                raise Refused(410, "this study is closed; thank you for your interest")
            if row is None:
                if current != OPEN:
                    raise Refused(503, "this study is paused; please try again later")
                row = self._new(connection, source, external, now)
                connection.execute(sa.insert(participants), row)
            else:
                row |= {"entry": row["entry"] + 1, "seen_at": now}
                change(connection, row, "entry", "seen_at")
        return self._told(row, session=self.tokens.session(row["id"], row["entry"]))

    def _new(self, connection: sa.Connection, source: str, external: str, now: float) -> dict[str, Any]:
        condition, number = self._free_list(connection, now)
        return {
            "id": secrets.token_hex(8),
            "source": source,
            "external": external,
            "condition": condition,
            "list": number,
            "status": STARTED,
            "phase": CONSENT,
            **dict.fromkeys(("entry", "attempt"), 1),
            **dict.fromkeys(("place", "mistakes", "position"), 0),
            **dict.fromkeys(("started_at", "shown_at", "seen_at"), now),
            **dict.fromkeys(("consented_at", "instructed_at", "finished_at")),
        }

    def _free_list(self, connection: sa.Connection, now: float) -> tuple[str, int]:
        """The condition and the list with the fewest participants who finished or are at work."""
        at_work = (participants.c.status == STARTED) & (participants.c.seen_at > now - LEFT_AFTER)
        query = sa.select(participants.c.condition, participants.c.list, sa.func.count())
        query = query.where((participants.c.status == FINISHED) | at_work)
        rows = connection.execute(query.group_by(participants.c.condition, participants.c.list))
        taken = {(condition, number): count for condition, number, count in rows}
        load = {name: sum(taken.get((name, i), 0) for i in range(len(each))) for name, each in self.study.lists.items()}
        condition = min(load, key=lambda name: load[name] / len(self.study.lists[name]))
        numbers = range(len(self.study.lists[condition]))
        return condition, min(numbers, key=lambda number: taken.get((condition, number), 0))

    def view(self, session: Session) -> str:
        """What a participant is shown now."""
        with self.store.reading() as connection:
            return self._told(self._checked(by_id(connection, session.participant), session))

    def consent(self, session: Session) -> str:
        """The participant consents, and the instructions are shown."""
        with self._changing(session) as (connection, row, now):
            if row["phase"] == CONSENT:
                row |= {"phase": INSTRUCTIONS, "consented_at": now}
                change(connection, row, "phase", "consented_at", "seen_at")
        return self._told(row)

    def instructed(self, session: Session) -> str:
        """The participant has read the instructions, and the practice begins."""
        with self._changing(session) as (connection, row, now):
            if row["phase"] == CONSENT:
                raise Refused(409, "consent comes first")
            if row["phase"] == INSTRUCTIONS:
                row |= {"phase": PRACTICE if self.study.practice else MAIN, "instructed_at": now, "shown_at": now}
                change(connection, row, "phase", "instructed_at", "shown_at", "seen_at")
        return self._told(row)

    def leave(self, session: Session) -> str:
        """The participant leaves for good."""
        with self._changing(session) as (connection, row, _):
            if row["status"] == STARTED:
                row |= {"phase": RETURNED, "status": RETURNED}
                change(connection, row, "phase", "status", "seen_at")
        return self._told(row)

    def answer(self, session: Session, given: Answer) -> str:
        """Store a response, once, and say what is shown next; in the practice also what would have been right.

        Raises:
            Refused: it is not the answer to the trial that is asked now, nor the one that was stored for it before.
        """
        with self._changing(session) as (connection, row, now):
            if given.position < row["position"]:
                stored = self._stored(connection, row, given)
                return self._told(row, feedback=self._feedback(stored))
            asked = self.asked(row)
            if asked is None or given.position > row["position"]:
                raise Refused(409, "this answer is out of order; please reload the page")
            if given.trial != asked:
                raise Refused(409, "this is not the trial that was asked; please reload the page")
            response = self._response(row, given, now)
            row |= self._moved_on(row, bool(response["correct"]), now)
            connection.execute(INSERT, response)
            moved = (
                "phase",
                "status",
                "attempt",
                "place",
                "mistakes",
                "position",
                "shown_at",
                "seen_at",
                "finished_at",
            )
            change(connection, row, *moved)
        return self._told(row, feedback=self._feedback(response))

    def _response(self, row: Row, given: Answer, now: float) -> dict[str, Any]:
        """A row of the table; no answer can have taken longer than it was shown."""
        item = self.study.items[given.trial]
        return {
            "participant": row["id"],
            "position": row["position"],
            "trial": given.trial,
            "kind": item.kind,
            "picked": given.picked,
            "correct": given.picked == item.correct,
            "confidence": given.confidence,
            "seconds": max(0.0, min(given.seconds, now - row["shown_at"])),
            "answered_at": now,
        }

    def _stored(self, connection: sa.Connection, row: Row, given: Answer) -> dict[str, Any]:
        """The response that was stored at the same position, if it is the same.

        Raises:
            Refused: it is another.
        """
        query = sa.select(responses).where(responses.c.participant == row["id"], responses.c.position == given.position)
        stored = _plain(connection.execute(query).mappings().one())
        if any(stored[name] != getattr(given, name) for name in ("trial", "picked", "confidence")):
            raise Refused(409, "another answer to this trial is stored already; please reload the page")
        return stored

    def _feedback(self, response: Row) -> dict[str, Any] | None:
        """Whether an answer in the practice was right; of the other trials nothing is said."""
        if response["kind"] != PRACTICE:
            return None
        return {"correct": response["correct"], "right": self.study.items[response["trial"]].correct}

    def _moved_on(self, row: Row, correct: bool, now: float) -> dict[str, Any]:
        """Where a participant stands after a response."""
        moved = {"position": row["position"] + 1, "place": row["place"] + 1, "shown_at": now}
        moved["mistakes"] = row["mistakes"] + (not correct)
        if moved["place"] < len(self._order(row)):
            return moved
        if row["phase"] == MAIN:
            return moved | {"phase": FINISHED, "status": FINISHED, "finished_at": now}
        if moved["mistakes"]:
            return moved | {"attempt": row["attempt"] + 1, "place": 0, "mistakes": 0}
        return moved | {"phase": MAIN, "place": 0, "mistakes": 0}

    def _order(self, row: Row) -> tuple[str, ...]:
        """The trials of the phase; those of the practice in another order at each attempt."""
        if row["phase"] == PRACTICE:
            rng = random.Random(f"{row['id']} {row['attempt']}")
            return tuple(rng.sample(self.study.practice, len(self.study.practice)))
        lists = self.study.lists[row["condition"]]
        order: tuple[str, ...] = lists[row["list"] % len(lists)]
        return order

    def asked(self, row: Row) -> str | None:
        """The trial that a participant is asked now."""
        return self._order(row)[row["place"]] if row["phase"] in (PRACTICE, MAIN) else None

    @contextmanager
    def _changing(self, session: Session) -> Generator[tuple[sa.Connection, dict[str, Any], float]]:
        """A transaction on a participant's row, which waits for any other."""
        now = self.clock()
        with self.store.writing() as connection:
            row = dict(self._checked(by_id(connection, session.participant, locked=True), session))
            if row["status"] == STARTED and row["study"] == CLOSED:
                raise Refused(410, "this study is closed; thank you for what you answered")
            yield connection, row | {"seen_at": now}, now

    def _checked(self, row: Row | None, session: Session) -> Row:
        if row is None:
            raise Refused(401, "this session is not valid; please open your link again")
        if row["entry"] != session.entry:
            raise Refused(409, "this study was opened again in another window; please go on there, or reload the page")
        return row

    def _told(self, row: Row, *, session: str = "", feedback: Any = None) -> str:
        """What the browser is told: never which answer is right, nor which trials are catches."""
        told: dict[str, Any] = {"phase": row["phase"], "position": row["position"], "attempt": row["attempt"]}
        if session:
            told |= {"session": session, "study": self._about}
        if feedback is not None:
            told["feedback"] = feedback
        if row["phase"] == FINISHED:
            told["code"] = self._code(row)
        trial = self.asked(row)
        if trial is None:
            return json.dumps(told)
        every = self.study.design.break_every
        told["place"], told["of"] = row["place"], len(self._order(row))
        told["pause"] = row["phase"] == MAIN and row["place"] > 0 and row["place"] % every == 0
        return f'{json.dumps(told)[:-1]}, "trial": {trial_as_json(self.study, trial)}}}'

    def _code(self, row: Row) -> str:
        shared = self.study.texts.prolific_code if row["source"] == "prolific" else ""
        return shared or self.tokens.code(row["id"])
