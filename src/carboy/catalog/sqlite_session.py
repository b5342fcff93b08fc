"""A connection to SQLite as queries see it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from carboy.catalog.sessions import Compiler, Row, Statement
from carboy.errors import CarboyError, CatalogUnavailable, Conflict, StorageFull

BUSY_SECONDS = 30.0


class SqliteSession:
    """One thread uses it at a time."""

    dialect: ClassVar[Literal["sqlite", "postgresql"]] = "sqlite"

    def __init__(self, connection: sqlite3.Connection, compiler: Compiler) -> None:
        self.connection = connection
        self._cursor = connection.cursor()
        self._compiler = compiler

    def rows(self, statement: Statement, /, **values: Any) -> list[Row]:
        return self._execute(statement, values).fetchall()

    def one(self, statement: Statement, /, **values: Any) -> Row | None:
        found = self._execute(statement, values).fetchall()
        return found[0] if found else None

    def run(self, statement: Statement, /, **values: Any) -> int:
        return self._execute(statement, values).rowcount

    def _execute(self, statement: Statement, values: dict[str, Any]) -> sqlite3.Cursor:
        compiled = self._compiler(statement)
        if compiled.fixed:
            values.update(compiled.fixed)
        return self._cursor.execute(compiled.sql, [values[name] for name in compiled.names])

    def say(self, sql: str) -> Row | None:
        """Run a statement of SQLite's own; its first row."""
        found = self._cursor.execute(sql).fetchall()
        return cast(Row, found[0]) if found else None

    def serialise(self, name: str) -> None:
        """Changes come one at a time anyway."""

    def lock_paths(self, paths: Sequence[tuple[str, str]]) -> None:
        """Changes come one at a time anyway."""

    def close(self) -> None:
        """Ends the transaction too: while anyone still holds a cursor, as a traceback does, SQLite would keep it open."""
        if self.connection.in_transaction:
            with suppress(sqlite3.Error):
                self.say("ROLLBACK")
        self._cursor.close()
        self.connection.close()


def sqlite_engine(path: Path) -> Engine:
    """Makes connections and keeps none. They are in autocommit mode: transactions begin and end by statement."""
    return create_engine(make_url("sqlite://").set(database=str(path)), poolclass=NullPool, connect_args={
        "isolation_level": None, "check_same_thread": False, "timeout": BUSY_SECONDS, "cached_statements": 256})


def connect(engine: Engine, compiler: Compiler, pragmas: Sequence[str]) -> SqliteSession:
    """Raises sqlite3.Error."""
    try:
        pooled = engine.raw_connection()
    except DBAPIError as error:
        raise cast(sqlite3.Error, error.orig) from error
    session = SqliteSession(cast(sqlite3.Connection, pooled.driver_connection), compiler)
    pooled.detach()
    for pragma in pragmas:
        session.say(f"PRAGMA {pragma}")
    return session


def told(error: Exception) -> Exception:
    """What the caller learns of an error before COMMIT, when nothing was changed."""
    if isinstance(error, CarboyError) or not isinstance(error, sqlite3.Error):
        return error
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return StorageFull("there is no room for the catalog")
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(f"the catalog refuses this: {error}")
    return CatalogUnavailable(f"the catalog could not be asked: {error}")
