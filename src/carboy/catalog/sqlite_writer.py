"""The one who writes to SQLite, on the whole machine, at any moment.

Processes that trusted in busy timeouts alone met "database is locked" within seconds. So a writer holds a file lock from
BEGIN to COMMIT, and checkpoints and closes under it too. Inside a process the waiting changes share one transaction and
one sync: the first thread to come commits for all that came meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from carboy.catalog.sessions import Session
from carboy.catalog.sqlite_session import SqliteSession, told
from carboy.combining import Combiner, Request
from carboy.errors import CatalogUnavailable, CommitUnknown

T = TypeVar("T")
Work = Callable[[Session], Any]
Change = Request[Work, tuple[Any]]

LONG_WAL = 4 * 2**20
"""From this length in bytes the write-ahead log is copied into the database after every CHECKPOINT_ROWS changed rows."""
CHECKPOINT_ROWS = 1000
ENDLESS_WAL = 64 * 2**20
"""From this length a checkpoint waits for readers, so that the log can start again."""


class SqliteWriter:
    """Batches the changes of one process's threads. ``open`` gives it its connection when it first needs one."""

    def __init__(self, path: Path, open: Callable[[], SqliteSession]) -> None:
        self._wal = Path(f"{path}-wal")
        self._lock_path = path.with_suffix(".lock")
        self._open = open
        self._combiner: Combiner[Work, tuple[Any]] = Combiner(self._settle, self._turn)
        self._session: SqliteSession | None = None
        self._checkpointed = 0

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction that others may share; what it raises undoes its own changes alone."""
        return cast(T, self._combiner.do(work)[0])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process or thread writes, checkpoints or closes meanwhile."""
        try:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CatalogUnavailable(f"the catalog's lock can't be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def close(self) -> None:
        """Let the connection go, after a checkpoint. No thread may be writing."""
        session, self._session = self._session, None
        if session is None:
            return
        with self.locked():
            try:
                session.say("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error:
                pass  # the log stays, and the next to open the catalog reads it
            session.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self.locked():
            yield
            if self._session:
                self._checkpoint(self._session)

    def _settle(self, batch: list[Change]) -> None:
        """Settle every change of the batch by one transaction."""
        try:
            session = self._begin()
            outcomes = [_attempt(session, change, alone=len(batch) == 1) for change in batch]
        except sqlite3.Error as error:
            self._throw_away()
            raise told(error) from error
        self._commit(session)
        for change, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                change.error = outcome
            else:
                change.result = outcome

    def _begin(self) -> SqliteSession:
        session = self._session = self._session or self._open()
        session.say("BEGIN IMMEDIATE")
        return session

    def _commit(self, session: SqliteSession) -> None:
        if not session.connection.in_transaction:
            return
        try:
            session.say("COMMIT")
        except sqlite3.Error as error:
            self._throw_away()
            raise CommitUnknown(f"the catalog's commit failed: {error}") from error

    def _throw_away(self) -> None:
        session, self._session = self._session, None
        self._checkpointed = 0
        if session:
            session.close()

    def _checkpoint(self, session: SqliteSession) -> None:
        changed = session.connection.total_changes
        if changed - self._checkpointed < CHECKPOINT_ROWS:
            return
        try:
            length = self._wal.stat().st_size
            if length >= LONG_WAL:
                session.say(f"PRAGMA wal_checkpoint({'RESTART' if length >= ENDLESS_WAL else 'PASSIVE'})")
            self._checkpointed = changed
        except (OSError, sqlite3.Error):
            self._throw_away()


def _attempt(session: SqliteSession, change: Change, alone: bool) -> tuple[Any] | Exception:
    """What the change came to; if it failed, it has undone its own part. Raises sqlite3.Error when all is undone."""
    try:
        return (_run(session, change.value) if alone else _run_apart(session, change.value),)
    except Exception as error:
        if not session.connection.in_transaction and not alone:
            raise sqlite3.OperationalError("the transaction was undone") from error
        return told(error)


def _run(session: SqliteSession, work: Work) -> Any:
    try:
        return work(session)
    except BaseException:
        if session.connection.in_transaction:
            session.say("ROLLBACK")
        raise


def _run_apart(session: SqliteSession, work: Work) -> Any:
    session.say("SAVEPOINT change")
    try:
        result = work(session)
    except BaseException:
        if session.connection.in_transaction:
            session.say("ROLLBACK TO change")
            session.say("RELEASE change")
        raise
    session.say("RELEASE change")
    return result
