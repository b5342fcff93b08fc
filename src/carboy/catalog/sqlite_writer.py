"""The one who writes to SQLite, on the whole machine, at any moment.

Processes that trusted in busy timeouts alone met "database is locked" within seconds. So a writer holds a file lock from
BEGIN to COMMIT, and checkpoints and closes under it too. Inside a process the waiting changes share one transaction and
one sync: the first thread to come commits for all that came meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from carboy.catalog.sessions import Session
from carboy.catalog.sqlite_session import BUSY_SECONDS, SqliteSession, told
from carboy.combining import Combiner, Request
from carboy.errors import CatalogUnavailable, CommitUnknown
from carboy.measuring import NOTHING, Meter
from carboy.metrics import COMMIT_SECONDS

T = TypeVar("T")
Work = Callable[[Session], Any]
Change = Request[Work, tuple[Any]]

LONG_WAL = 4 * 2**20
"""From this length in bytes the write-ahead log is copied into the database after every CHECKPOINT_ROWS changed rows."""
CHECKPOINT_ROWS = 1000
ENDLESS_WAL = 64 * 2**20
"""From this length a checkpoint waits for readers, so that the log can start again."""


class FileLock:
    """An flock: kept open, so that running out of descriptors doesn't stop writers. One thread uses it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else on this machine holds the lock meanwhile. Raises CatalogUnavailable."""
        file = self._file = self._open() if self._file is None else self._file
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile has the file open too, so closing would not do

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CatalogUnavailable(f"the catalog's lock can't be opened: {error.strerror}") from error

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


@contextmanager
def machine_lock(path: Path) -> Iterator[None]:
    """No process or thread writes to the catalog at ``path``, checkpoints or closes it meanwhile."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        with lock.held():
            yield
    finally:
        lock.close()


class SqliteWriter:
    """Batches the changes of one process's threads. ``open`` gives it its connection when it first needs one."""

    def __init__(self, path: Path, open: Callable[[], SqliteSession], meter: Meter = NOTHING) -> None:
        self._wal = Path(f"{path}-wal")
        self._lock = FileLock(path.with_suffix(".lock"))
        self._open = open
        self._meter = meter
        self._combiner: Combiner[Work, tuple[Any]] = Combiner(self._settle, self._turn)
        self._session: SqliteSession | None = None
        self._checkpointed = 0
        self._closing = False

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction that others may share; what it raises undoes its own changes alone."""
        return cast(T, self._combiner.do(work)[0])

    def close(self) -> None:
        """Copy the log into the database and let the connection go. The next write opens it again."""
        with suppress(CatalogUnavailable, CommitUnknown):
            if self._session:
                self._combiner.do(self._ask_to_close)

    def _ask_to_close(self, session: Session) -> None:
        self._closing = True

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock.held():
            yield
            closing, self._closing = self._closing, False
            if closing:
                self._shut()
            elif self._session:
                self._checkpoint(self._session)
        if closing:
            self._lock.close()

    def _shut(self) -> None:
        if self._session:
            with suppress(sqlite3.Error):  # then the log stays, and the next to open the catalog reads it
                self._session.say("PRAGMA wal_checkpoint(TRUNCATE)")
        self._throw_away()

    def _settle(self, batch: list[Change]) -> None:
        """Settle every change of the batch by one transaction."""
        try:
            session = self._begin()
            outcomes = [_attempt(session, change, alone=len(batch) == 1) for change in batch]
        except BaseException as error:
            self._throw_away()
            raise (told(error) if isinstance(error, Exception) else error) from error
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
        began = time.perf_counter()
        try:
            session.say("COMMIT")
            self._meter.observe(COMMIT_SECONDS, time.perf_counter() - began)
        except sqlite3.Error as error:
            self._throw_away()
            raise CommitUnknown(f"the catalog's commit failed: {error}") from error

    def _throw_away(self) -> None:
        session, self._session = self._session, None
        self._checkpointed = 0
        if session:
            session.close()

    def _checkpoint(self, session: SqliteSession) -> None:
        """Keep the log short. What goes wrong here harms no commit, so it is left to the next transaction to meet."""
        changed = session.connection.total_changes
        if changed - self._checkpointed < CHECKPOINT_ROWS:
            return
        self._checkpointed = changed
        with suppress(OSError, sqlite3.Error):
            length = self._wal.stat().st_size
            if length >= ENDLESS_WAL:
                session.say("PRAGMA busy_timeout = 1000")
                session.say("PRAGMA wal_checkpoint(RESTART)")
                session.say(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
            elif length >= LONG_WAL:
                session.say("PRAGMA wal_checkpoint(PASSIVE)")


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
