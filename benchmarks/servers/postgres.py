"""PostgreSQL, as the tests start it: Debian's, with fsync on; and a Carboy whose catalog is there."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from benchmarks import procs
from benchmarks.envs import Unavailable
from benchmarks.servers.carboy import Carboy
from benchmarks.servers.tested import load
from carboy.catalog.sql import open_catalog


class Postgres:
    """Its files are in a folder of their own beside ``folder``: PostgreSQL refuses root, and others can't enter a folder of root's."""

    def __init__(self, folder: Path) -> None:
        self._parent = folder.parent.parent
        self._stack = ExitStack()
        self._server: Any = None

    def __enter__(self) -> Self:
        try:
            self._server = self._stack.enter_context(load("fixtures_postgres").running_postgres(self._parent))
        except RuntimeError as error:
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def version(self) -> str:
        return f"PostgreSQL {self.say('SHOW server_version')[0][0].split()[0]}"

    def new_database(self) -> str:
        """The URL of an empty catalog."""
        catalog = open_catalog(url := str(self._server.new_database()))
        catalog.migrate()
        catalog.close()
        return url

    def say(self, *statements: str, url: str = "") -> list[Any]:
        """Run them in one transaction; the rows of the last."""
        import psycopg  # comes with the postgresql extra
        address = (url or self._server.url("postgres")).replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def cpu(self) -> float:
        """User and system seconds of all its processes since their start."""
        return procs.cpu_seconds(self._server.process.pid)


class CarboyPostgres(Carboy):
    """``carboy serve`` on PostgreSQL. What that costs is its cost too."""

    def __init__(self, folder: Path, postgres: Postgres, workers: int = 1) -> None:
        self.url_of_catalog = postgres.new_database()
        super().__init__(folder, workers, variables={"CARBOY_DATABASE": self.url_of_catalog})
        self._postgres = postgres

    def cpu(self) -> float:
        return super().cpu() + self._postgres.cpu()
