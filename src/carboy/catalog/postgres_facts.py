"""What a PostgreSQL server says of itself, for those who look whether it will do."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from sqlalchemy.engine import make_url

from carboy.catalog.postgres import CONNECTING, CONNECTIONS
from carboy.errors import CatalogUnavailable

PER_PROCESS = CONNECTIONS
"""How many connections one process takes at most."""
_ASK = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', current_setting('synchronous_commit') <> 'off',
       current_setting('server_encoding'), pg_is_in_recovery(), extract(epoch FROM clock_timestamp())::float8
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """``connections`` is how many this user may have to this database at once; ``ahead`` by how many seconds its clock is."""

    number: int
    version: str
    connections: int
    fsync: bool
    full_page_writes: bool
    synchronous_commit: bool
    encoding: str
    is_standby: bool
    ahead: float


def facts(url: str) -> Facts:
    """One connection, one question. Raises CatalogUnavailable."""
    asked = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(asked, **CONNECTING) as connection:  # type: ignore[arg-type]
            found = connection.execute(_ASK).fetchone()
            now = time.time()
    except psycopg.Error as error:
        raise CatalogUnavailable(f"PostgreSQL could not be asked: {error}") from error
    assert found
    number, version, allowed, of_user, of_database, fsync, pages, commit, encoding, standby, there = found
    connections = min(limit for limit in (allowed, of_user, of_database) if limit is not None and limit >= 0)
    return Facts(number, version, connections, fsync, pages, commit, encoding, standby, there - now)
