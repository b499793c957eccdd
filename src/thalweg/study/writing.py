"""Many short transactions, committed together.

A commit of SQLite waits for the disk, some milliseconds, and one writer writes at a time: a hundred responses a second
would wait in a row. So those that come while the disk is busy share the next commit. Each is a savepoint of its own,
and returns when the commit is on the disk.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import sqlalchemy as sa


class Batch:
    """Transactions that are committed together."""

    def __init__(self) -> None:
        self.done = False
        self.error: BaseException | None = None


class GroupCommit:
    """A database's one writer, which commits for all who wait."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._writer = threading.Lock()  # held by whoever writes or commits
        self._leader = threading.Lock()  # held by whoever commits for the others, who wait for it
        self._connection: sa.Connection | None = None
        self._batch = Batch()

    @contextmanager
    def writing(self) -> Generator[sa.Connection]:
        """A transaction; when the block is left, it is on the disk. One that fails leaves nothing behind."""
        batch = None
        try:
            with self._writer:
                connection = self._begun()
                batch = self._batch
                with connection.begin_nested():
                    yield connection
        finally:
            if batch is not None:
                with self._leader:
                    if not batch.done:
                        self._commit(batch)
        if batch.error is not None:
            raise batch.error

    def _begun(self) -> sa.Connection:
        """The connection, in a transaction."""
        if self._connection is None:
            self._connection = self.engine.connect()
        if not self._connection.in_transaction():
            try:
                self._connection.begin()
            except Exception:
                self._drop()
                raise
        return self._connection

    def _commit(self, batch: Batch) -> None:
        with self._writer:
            assert self._connection is not None
            try:
                self._connection.commit()
            except Exception as wrong:
                batch.error = wrong
                self._drop()
            batch.done = True
            self._batch = Batch()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def close(self) -> None:
        """Give the connection back."""
        with self._writer:
            self._drop()
