"""A PostgreSQL of the tests' own: Debian's server in a temporary folder, reached by a socket in it, with fsync on."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from carboy.catalog.sql import open_catalog
from carboy.catalog.tables import metadata


@dataclass
class PostgresServer:
    """Runs as an unprivileged user, because PostgreSQL refuses root."""

    bin: Path
    folder: Path
    user: str | None
    numbers: Iterator[int] = field(default_factory=count)
    process: subprocess.Popen[bytes] | None = None

    def identity(self) -> dict[str, Any]:
        """Who the server is, for subprocess."""
        who = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []} if self.user else {}
        return {**who, "cwd": self.folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}}

    def init(self) -> None:
        subprocess.run([self.bin / "initdb", "-D", f"{self.folder}/data", "-U", "carboy", "-A", "trust", "-E", "UTF8", "--locale=C"],
                       check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120, **self.identity())

    def start(self) -> None:
        """It dies with the tests, however they end."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "fsync": "on", "max_connections": "80",
                   "shared_buffers": "32MB"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "QUIT", self.bin / "postgres", "-D", f"{self.folder}/data",
                 *[word for name, value in options.items() for word in ("-c", f"{name}={value}")]],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, **self.identity())
        deadline = time.monotonic() + 60
        while not self.answers():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not answer within a minute")

    def answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.say("SELECT 1")
            return True
        return False

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once, as in a crash: clients are cut, nothing is flushed (SIGINT: as an operator stops it). Repeatable."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://carboy@/{database}?host={self.folder}"

    def say(self, sql: str, database: str = "postgres") -> None:
        with psycopg.connect(f"host={self.folder} user=carboy dbname={database}", autocommit=True) as connection:
            connection.execute(sql.encode())

    def new_database(self) -> str:
        """An empty database of its own for one test; its URL."""
        name = f"test{next(self.numbers)}"
        self.say(f"CREATE DATABASE {name}")
        return self.url(name)


def _unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"PostgreSQL is part of the tests: {reason}")
    pytest.skip(f"NOT TESTED with PostgreSQL: {reason}")


def _programs() -> Path | None:
    found = [Path(bin) for bin in Path("/usr/lib/postgresql").glob("*/bin")]
    on_path = shutil.which("initdb")
    newest = max(found, key=lambda folder: int(folder.parent.name), default=None)
    return newest or (Path(on_path).parent if on_path else None)


def _unprivileged() -> str | None:
    """Whom the server runs as: PostgreSQL's own user, or nobody; None to stay who we are."""
    if os.getuid() != 0:
        return None
    users = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


@contextmanager
def running_postgres(parent: Path | None = None) -> Iterator[PostgresServer]:
    """A new one, also outside of tests; its folder is in ``parent`` (None: the system's). Raises RuntimeError that says why it can't be."""
    bin, user = _programs(), _unprivileged()
    if bin is None:
        raise RuntimeError("initdb is not installed (Debian: postgresql)")
    with tempfile.TemporaryDirectory(prefix="carboy-pg-", dir=parent, ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, user)
        server = PostgresServer(bin, Path(folder), user)
        try:
            server.init()
            server.start()
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"{error} {(getattr(error, 'stderr', b'') or b'').decode(errors='replace')}") from error
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_postgres())
        except RuntimeError as error:
            _unavailable(str(error))
        yield server


@pytest.fixture(scope="session")
def postgres_catalog(postgres_server: PostgresServer) -> str:
    """The URL of a migrated catalog that all tests share."""
    url = postgres_server.new_database()
    catalog = open_catalog(url)
    catalog.migrate()
    catalog.close()
    return url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_catalog: str) -> str:
    """An empty, current catalog."""
    database = postgres_catalog.partition("@/")[2].partition("?")[0]
    postgres_server.say(";".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)), database)
    return postgres_catalog
