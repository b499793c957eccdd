"""The database of a study: participants and their responses, in SQLite or PostgreSQL.

Every change is one transaction, on the disk before the browser is told of it. SQLite runs with a write-ahead log, and
its transactions share commits; PostgreSQL does that by itself.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from thalweg.errors import ThalwegError, reason
from thalweg.study.design import DATABASE, Study
from thalweg.study.writing import GroupCommit

metadata = sa.MetaData()
state = sa.Table(
    "study",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("fingerprint", sa.String(16)),
    sa.Column("state", sa.String(16)),  # open, paused, closed
)
participants = sa.Table(
    "participants",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("source", sa.String(16)),  # link, prolific, mturk
    sa.Column("external", sa.String(128)),  # the opaque id that the link or the panel gave
    sa.Column("condition", sa.String(256)),
    sa.Column("list", sa.Integer),
    sa.Column("status", sa.String(16)),  # started, finished, returned
    sa.Column("phase", sa.String(16)),  # consent, instructions, practice, main, finished, returned
    sa.Column("entry", sa.Integer),  # how often the link was opened: sessions of before are refused
    sa.Column("attempt", sa.Integer),  # at the practice, from 1
    sa.Column("place", sa.Integer),  # in the practice or in the list
    sa.Column("mistakes", sa.Integer),  # in this attempt
    sa.Column("position", sa.Integer),  # of the next response, over all
    *(
        sa.Column(name, sa.Double)  # seconds since 1970
        for name in ("started_at", "consented_at", "instructed_at", "shown_at", "seen_at", "finished_at")
    ),
)
responses = sa.Table(
    "responses",
    metadata,
    sa.Column("participant", sa.String(32), sa.ForeignKey("participants.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("trial", sa.String(16)),
    sa.Column("kind", sa.String(16)),
    sa.Column("picked", sa.SmallInteger),
    sa.Column("correct", sa.Boolean),
    sa.Column("confidence", sa.SmallInteger),
    sa.Column("seconds", sa.Double),
    sa.Column("answered_at", sa.Double),
)
READING = {"thalweg_reading": True}
OPEN, PAUSED, CLOSED = "open", "paused", "closed"
STARTED, FINISHED, LEFT, RETURNED = "started", "finished", "left", "returned"


class Store:
    """A study's database, opened."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._group = GroupCommit(engine) if engine.dialect.name == "sqlite" else None

    @contextmanager
    def writing(self) -> Generator[sa.Connection]:
        """A transaction, committed at the end."""
        with self._group.writing() if self._group else self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """A connection to read by, which sees one moment and waits for no writer."""
        with self.engine.connect().execution_options(**READING) as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        if self._group:
            self._group.close()
        self.engine.dispose()

    def state(self) -> str:
        """Whether the study is open, paused or closed."""
        with self.reading() as connection:
            return str(connection.execute(sa.select(state.c.state)).scalar_one())

    def set_state(self, name: str) -> None:
        """Open, pause or close the study."""
        with self.writing() as connection:
            connection.execute(sa.update(state).values(state=name))

    def delete(self, external: str) -> int:
        """Delete a participant, named by the opaque id, with all responses; return how many participants it were."""
        with self.writing() as connection:
            mine = sa.select(participants.c.id).where(participants.c.external == external)
            connection.execute(sa.delete(responses).where(responses.c.participant.in_(mine)))
            return connection.execute(sa.delete(participants).where(participants.c.external == external)).rowcount


def open_store(study: Study, url: str = "") -> Store:
    """Open the database of a study, made or brought up to date if need be.

    Args:
        study: The study.
        url: The database's URL; by default a file in the study's folder.

    Raises:
        ThalwegError: it cannot be opened, or it belongs to another study.
    """
    try:
        engine = _engine(url or f"sqlite:///{(study.path / DATABASE).absolute()}")
        migrate(engine)
        with engine.begin() as connection:
            kept = connection.execute(sa.select(state.c.fingerprint)).scalar()
            if kept is None:
                connection.execute(sa.insert(state).values(id=1, fingerprint=study.fingerprint, state=OPEN))
    except (SQLAlchemyError, ImportError, OSError) as wrong:
        raise ThalwegError(
            f"the database of the study cannot be opened ({reason(wrong)}); sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/NAME was expected as --database"
        ) from wrong
    if kept not in (None, study.fingerprint):
        raise ThalwegError(
            f"the database holds another study than {study.name!r}, or study.json was changed since; name another "
            "--database"
        )
    return Store(engine)


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if not parsed.drivername.startswith("sqlite"):
        return sa.create_engine(parsed, pool_size=16, max_overflow=16, pool_pre_ping=True)
    engine = sa.create_engine(parsed, pool_size=16, max_overflow=32, connect_args={"timeout": 30})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Transactions begin where we say, readers do not wait for writers, and a commit is on the disk."""
    connection.isolation_level = None
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: sa.Connection) -> None:
    reading = READING.items() <= connection.get_execution_options().items()
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def migrate(engine: sa.Engine) -> None:
    """Bring the tables up to date."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


BY_ID = sa.select(participants, sa.select(state.c.state).scalar_subquery().label("study")).where(
    participants.c.id == sa.bindparam("who")
)
CHANGE = sa.update(participants).where(participants.c.id == sa.bindparam("who"))


def by_id(connection: sa.Connection, participant: str, *, locked: bool = False) -> dict[str, Any] | None:
    """A participant's row, with the state of the study, or None; locked for this transaction if asked for."""
    query = BY_ID.with_for_update(of=participants) if locked and connection.dialect.name != "sqlite" else BY_ID
    row = connection.execute(query, {"who": participant}).mappings().one_or_none()
    return dict(row) if row is not None else None


def change(connection: sa.Connection, row: Mapping[str, Any], *names: str) -> None:
    """Write these columns of a participant's row."""
    connection.execute(CHANGE, {"who": row["id"], **{name: row[name] for name in names}})
