"""The catalog in one SQLite file, for one machine."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from carboy.catalog.pool import Pool
from carboy.catalog.processes import PerProcess
from carboy.catalog.schema import Schema, read_schema, upgrade
from carboy.catalog.sessions import Compiler, Session
from carboy.catalog.sqlite_session import SqliteSession, connect, sqlite_engine, told
from carboy.catalog.sqlite_writer import SqliteWriter, machine_lock
from carboy.errors import CatalogUnavailable
from carboy.measuring import NOTHING, Meter

T = TypeVar("T")

READERS = 8


class SqliteDatabase:
    """Readers take no lock; writers take turns (:mod:`carboy.catalog.sqlite_writer`).

    Opens nothing before its first use. After a fork parent and child have connections of their own; SQLite itself asks
    that the parent has close()d the catalog before it forks. ``durable=False`` lets a power cut take the last commits,
    and never more than these.
    """

    def __init__(self, path: Path, durable: bool, meter: Meter = NOTHING) -> None:
        self._path = path
        self._pragmas = ("journal_mode = WAL", f"synchronous = {'FULL' if durable else 'NORMAL'}", "wal_autocheckpoint = 0",
                         "foreign_keys = ON", "cache_size = -16384", "temp_store = MEMORY")
        self._engine = sqlite_engine(path)
        self._compiler = Compiler(self._engine.dialect)
        self._writers = PerProcess(lambda: SqliteWriter(path, lambda: self._connect(*self._pragmas), meter))
        self._readers = PerProcess(lambda: Pool(lambda: self._connect("query_only = ON"), SqliteSession.close, READERS))

    def _connect(self, *pragmas: str) -> SqliteSession:
        return connect(self._engine, self._compiler, pragmas)

    def read(self, work: Callable[[Session], T]) -> T:
        readers = self._readers.get()
        try:
            session = readers.take()
        except sqlite3.Error as error:
            raise told(error) from error
        try:
            result = work(session)
        except sqlite3.Error as error:
            readers.discard(session)
            raise told(error) from error
        except BaseException:
            readers.give(session)
            raise
        readers.give(session)
        return result

    def view(self, work: Callable[[Session], T]) -> T:
        def within(session: Session) -> T:
            said = cast(SqliteSession, session).say
            said("BEGIN")
            try:
                return work(session)
            finally:
                said("ROLLBACK")
        return self.read(within)

    def write(self, work: Callable[[Session], T]) -> T:
        return self._writers.get().write(work)

    def schema(self) -> Schema:
        return self.read(lambda session: read_schema(cast(SqliteSession, session).say))

    def migrate(self) -> None:
        """After a copy of the older catalog beside it, named for its revision."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with machine_lock(self._path):
            session = self._connect(*self._pragmas)
            try:
                self._bring_up(session)
            except sqlite3.Error as error:
                raise told(error) from error
            finally:
                session.close()

    def _bring_up(self, session: SqliteSession) -> None:
        before = read_schema(session.say)
        if not before.outdated:
            return
        if before.revision is not None:
            _copy(session, self._path.with_name(f"{self._path.name}.{before.revision}"))
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA synchronous = FULL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            upgrade(connection)
            connection.commit()

    def snapshot(self, path: str) -> None:
        self.read(lambda session: _copy(cast(SqliteSession, session), Path(path)))

    def close(self) -> None:
        readers, writer = self._readers.made(), self._writers.made()
        if readers:
            readers.close()
        if writer:
            writer.close()


def _copy(session: SqliteSession, path: Path) -> None:
    """A consistent copy, on stable storage. Raises CatalogUnavailable if there is something at the path."""
    if path.exists():
        raise CatalogUnavailable("there is something at the snapshot's path already", path=str(path))
    target = sqlite3.connect(path)
    try:
        session.connection.backup(target)
    finally:
        target.close()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
