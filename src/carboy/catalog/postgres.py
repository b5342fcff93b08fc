"""The catalog in PostgreSQL, for several machines.

Transactions are READ COMMITTED: whoever decides by what it read has locked it first. Where rows can't be locked because
they aren't there yet, an advisory lock stands for them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal, TypeVar, cast

import psycopg
from psycopg import errors
from sqlalchemy import URL, Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from carboy.catalog.paths import ancestors
from carboy.catalog.pool import Pool
from carboy.catalog.processes import PerProcess
from carboy.catalog.schema import Schema, read_schema, upgrade
from carboy.catalog.sessions import Compiler, Row, Session, Statement
from carboy.errors import CarboyError, CatalogUnavailable, CommitUnknown, ConfigError, Conflict, StorageFull
from carboy.measuring import NOTHING, Meter
from carboy.metrics import COMMIT_SECONDS

T = TypeVar("T")

CONNECTIONS = 16
TRIES = 5
"""How often an operation is tried that others got in the way of."""
PATIENCE = 5.0
"""For so many seconds an operation waits for a server that was there before and restarts."""
PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
CONNECTING: Mapping[str, int] = {"connect_timeout": 10, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4,
                                 "tcp_user_timeout": 30_000}
"""libpq's, where the URL says nothing else: a machine that is silently gone is noticed, or its connections would hang for hours."""
STALL = 4
"""A process that is stopped or cut off in the middle of a transaction holds its locks for so many seconds: then the server ends it. That is
less than it takes until the process counts as dead, whose row must not be locked then."""
MIGRATING_TRIES, MIGRATING_PATIENCE, MIGRATING_PAUSE = 60, 2, 0.5
"""A migration waits 2 s for a lock, lets what queued behind it pass for half a second, and tries again, for some minutes."""
MANY_PATHS = 64
"""From this many locks on paths, one on the whole space stands for them."""

_ADVISORY = ("SELECT CASE WHEN alone THEN pg_advisory_xact_lock(name)::text ELSE pg_advisory_xact_lock_shared(name)::text END"
             " FROM unnest(%(names)s::bigint[], %(alone)s::boolean[]) AS wanted(name, alone)")
_LOST = (psycopg.InterfaceError, errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow,
         errors.IdleInTransactionSessionTimeout)
_HAS_TABLE = "SELECT to_regclass('alembic_version')::text WHERE to_regclass('alembic_version') IS NOT NULL"


class PostgresSession:
    """A connection in autocommit mode: transactions begin and end by statement. One thread uses it at a time."""

    dialect: ClassVar[Literal["sqlite", "postgresql"]] = "postgresql"

    def __init__(self, connection: psycopg.Connection[Any], compiler: Compiler) -> None:
        self.connection = connection
        self._cursor = connection.cursor()
        self._compiler = compiler

    def rows(self, statement: Statement, /, **values: Any) -> list[Row]:
        return self._execute(statement, values).fetchall()

    def one(self, statement: Statement, /, **values: Any) -> Row | None:
        found = self.rows(statement, **values)
        return found[0] if found else None

    def run(self, statement: Statement, /, **values: Any) -> int:
        return self._execute(statement, values).rowcount

    def _execute(self, statement: Statement, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        compiled = self._compiler(statement)
        values.update(compiled.fixed)
        return self._cursor.execute(compiled.sql.encode(), values)

    def say(self, sql: str, values: Mapping[str, Any] | None = None) -> Row | None:
        """Run a statement of PostgreSQL's own; its first row."""
        found = self._cursor.execute(sql.encode(), values)
        return cast("Row | None", found.fetchone()) if found.description else None

    def serialise(self, name: str) -> None:
        self._advise({_number(name): True})

    def lock_paths(self, paths: Sequence[tuple[str, str]]) -> None:
        """Each path alone, its folders shared with others who make files there, in one order for all."""
        wanted: dict[int, bool] = {}
        for space, path in paths:
            wanted.setdefault(_number(space), False)
            wanted[_number(space, path)] = True
            for folder in ancestors(path):
                wanted.setdefault(_number(space, folder), False)
        if len(wanted) > MANY_PATHS:
            wanted = {_number(space): True for space, _ in paths}
        self._advise(wanted)

    def _advise(self, wanted: Mapping[int, bool]) -> None:
        names = sorted(wanted)
        self.say(_ADVISORY, {"names": names, "alone": [wanted[name] for name in names]})

    def close(self) -> None:
        self.connection.close()


def _number(*names: str) -> int:
    """The 64 bits by which an advisory lock goes."""
    return int.from_bytes(hashlib.blake2b("\0".join(names).encode(), digest_size=8).digest(), "big", signed=True)


def told(error: Exception) -> Exception:
    """What the caller learns of an error before COMMIT, when nothing was changed."""
    if isinstance(error, CarboyError) or not isinstance(error, psycopg.Error):
        return error
    if isinstance(error, errors.DiskFull):
        return StorageFull("there is no room for the catalog")
    if isinstance(error, errors.IntegrityError):
        return Conflict(f"the catalog refuses this: {error.diag.message_primary}")
    return CatalogUnavailable(f"the catalog could not be asked: {error.diag.message_primary or error}")


def _collided(error: psycopg.Error) -> bool:
    """Two got in each other's way."""
    return isinstance(error, (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected))


def _is_lost(error: psycopg.Error) -> bool:
    return isinstance(error, _LOST) or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None)


class _Patience:
    """How often one operation is tried again, as nothing of it was committed: at once where a connection was lost while idle, then for as
    long as a server takes to restart."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._collisions = self._losses = 0

    def again(self, error: psycopg.Error) -> bool:
        """Whether to try again, after a pause where it helps. Holds nothing meanwhile."""
        if _collided(error):
            self._collisions += 1
            return self._collisions < TRIES
        if not _is_lost(error) or (self._losses and time.monotonic() >= self._until):
            return False
        time.sleep(PAUSES[min(self._losses, len(PAUSES) - 1)])
        self._losses += 1
        return True


class PostgresDatabase:
    """Each operation borrows a connection, never while waiting for a client. Opens nothing before its first use."""

    def __init__(self, url: URL, durable: bool, meter: Meter = NOTHING) -> None:
        self._engine = _engine(url)
        self._compiler = Compiler(self._engine.dialect)
        self._durable = durable
        self._meter = meter
        self._reached = False
        self._pools = PerProcess(lambda: Pool(self._connect, PostgresSession.close, CONNECTIONS))

    def _connect(self) -> PostgresSession:
        try:
            pooled = self._engine.raw_connection()
        except DBAPIError as error:
            raise cast(psycopg.Error, error.orig) from error
        session = PostgresSession(cast("psycopg.Connection[Any]", pooled.driver_connection), self._compiler)
        pooled.detach()
        session.connection.autocommit = True
        session.say(f"SET idle_in_transaction_session_timeout = '{STALL}s'")
        if not self._durable:
            session.say("SET synchronous_commit = off")
        self._reached = True
        return session

    def read(self, work: Callable[[Session], T]) -> T:
        return self._retrying(work)

    def view(self, work: Callable[[Session], T]) -> T:
        return self._retrying(lambda session: _look(session, work))

    def write(self, work: Callable[[Session], T]) -> T:
        return self._retrying(lambda session: _transact(session, work, self._meter))

    def _retrying(self, work: Callable[[PostgresSession], T]) -> T:
        """A server that was never reached is not waited for: its address or the password may be wrong."""
        patience = _Patience(PATIENCE if self._reached else 0.0)
        while True:
            try:
                return self._once(work)
            except psycopg.Error as error:
                if not patience.again(error):
                    raise told(error) from error

    def _once(self, work: Callable[[PostgresSession], T]) -> T:
        pool = self._pools.get()
        session = pool.take()
        try:
            return work(session)
        finally:
            if session.connection.closed or session.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                pool.discard(session)
            else:
                pool.give(session)

    def schema(self) -> Schema:
        return self.read(lambda session: read_schema(cast(PostgresSession, session).say, _HAS_TABLE))

    def migrate(self) -> None:
        """Beside nodes that work with it: a lock on a table that is not to be had soon is asked for again, so that what queues behind it
        goes on."""
        tries = 0
        while self.schema().outdated:
            try:
                self._upgrade()
            except DBAPIError as error:
                tries += 1
                if tries == MIGRATING_TRIES or not isinstance(error.orig, (errors.LockNotAvailable, errors.DeadlockDetected)):
                    raise CatalogUnavailable(f"the catalog could not be upgraded: {error.orig}") from error
                time.sleep(MIGRATING_PAUSE)

    def _upgrade(self) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_number('carboy migrate')})")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATING_PATIENCE}s'")
            say = PostgresSession(cast("psycopg.Connection[Any]", connection.connection.driver_connection), self._compiler).say
            if read_schema(say, _HAS_TABLE).outdated:
                upgrade(connection)

    def snapshot(self, path: str) -> None:
        raise ConfigError("a snapshot is SQLite's; PostgreSQL has pg_dump and its own backups")

    def close(self) -> None:
        pool = self._pools.made()
        if pool:
            pool.close()


def _engine(url: URL) -> Engine:
    """Makes connections and keeps none."""
    options = {name: value for name, value in CONNECTING.items() if name not in url.query}
    return create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool, connect_args=options)


def _look(session: PostgresSession, work: Callable[[Session], T]) -> T:
    """There is nothing to commit, so how that went tells nothing."""
    result = _within(session, work, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    with suppress(psycopg.Error):
        session.say("COMMIT")
    return result


def _within(session: PostgresSession, work: Callable[[Session], T], begin: str) -> T:
    session.say(begin)
    try:
        return work(session)
    except BaseException:
        with suppress(psycopg.Error):
            session.say("ROLLBACK")
        raise


def _transact(session: PostgresSession, work: Callable[[Session], T], meter: Meter) -> T:
    result = _within(session, work, "BEGIN")
    began = time.perf_counter()
    try:
        session.say("COMMIT")
    except psycopg.Error as error:
        if isinstance(error, (errors.SerializationFailure, errors.IntegrityError)):
            raise
        raise CommitUnknown(f"the catalog's commit failed: {error}") from (None if _is_lost(error) else error)
    meter.observe(COMMIT_SECONDS, time.perf_counter() - began)
    return result
