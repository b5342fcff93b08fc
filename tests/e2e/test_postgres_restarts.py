"""PostgreSQL crashes, restarts and is upgraded under a server's traffic. Nodes are not restarted for it, and nothing acknowledged is lost."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
import wire
from fixtures_postgres import PostgresServer
from fixtures_server import Server, eventually

from carboy.catalog.tables import SCHEMA

NEWER = f"{int(SCHEMA) + 1:04}"


def content(path: str) -> bytes:
    return random.Random(path).randbytes(20_000)


def unavailable(told: wire.Response) -> bool:
    """The catalog was away: before anything was changed, or as it was asked to commit."""
    return told.status == 503 or (told.status == 500 and told.json()["code"] == "commit_unknown")


@dataclass(slots=True)
class Put:
    path: str
    began: float
    status: int


@dataclass
class Traffic:
    """Some put files, each asking for what it put; one sends a large file by tus, through whatever comes."""

    nodes: list[Server]
    puts: list[Put] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    large: list[tuple[str, bytes]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def put(self, thread: int) -> None:
        for number in itertools.count():
            if self.over.is_set():
                return
            path, node, began = f"{thread}/{number}", self.nodes[number % len(self.nodes)], time.monotonic()
            told = node.request("PUT", f"/files/main/{path}", body=content(path))
            self.puts.append(Put(path, began, told.status))
            assert told.status == 201 or unavailable(told), told
            if told.status == 201:
                assert node.request("GET", f"/files/main/{path}").status in (200, 503)

    def tus(self) -> None:
        for number in itertools.count():
            if self.over.is_set():
                return
            data = random.Random(number).randbytes(1_000_000)
            self.large.append((self._tus(data), data))

    def _tus(self, data: bytes) -> str:
        """The id of the file."""
        made = self._until(201, "POST", "/tus/main/", {"Upload-Length": str(len(data))})
        address, offset = made.header("Location") or "", 0
        address = "/" + address.split("/", 3)[3] if "://" in address else address
        while offset < len(data):
            told = self._ask("PATCH", address, {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}, data[offset:offset + 50_000])
            assert told.status in (204, 409, 423) or unavailable(told), told
            told = told if told.status == 204 else self._until(200, "HEAD", address)
            assert int(told.header("Upload-Offset") or 0) >= offset, "what was acknowledged was taken back"
            offset = int(told.header("Upload-Offset") or 0)
        return self._until(200, "GET", f"/api/v1/uploads/{address.rpartition('/')[2]}").json()["file_id"]

    def _ask(self, method: str, target: str, headers: dict[str, str], body: bytes | None = None) -> wire.Response:
        return random.choice(self.nodes).request(method, target, {"Tus-Resumable": "1.0.0", **headers}, body)

    def _until(self, status: int, method: str, target: str, headers: dict[str, str] | None = None) -> wire.Response:
        def ask() -> wire.Response | None:
            told = self._ask(method, target, headers or {})
            assert told.status == status or unavailable(told), told
            return told if told.status == status else None
        return eventually(ask)

    def kept(self) -> list[Put]:
        return [put for put in self.puts if put.status == 201]

    def flow(self, count: int = 30) -> None:
        """So many more files, and a large one, are acknowledged."""
        files, large = len(self.kept()) + count, len(self.large) + 1
        eventually(lambda: self.failures or (len(self.kept()) >= files and len(self.large) >= large))
        assert not self.failures, self.failures


@contextmanager
def traffic(nodes: list[Server]) -> Iterator[Traffic]:
    flowing = Traffic(nodes)

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            flowing.failures.append(error)

    works: list[Callable[[], None]] = [flowing.tus, *[lambda n=n: flowing.put(n) for n in range(4)]]  # type: ignore[misc]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield flowing
    finally:
        flowing.over.set()
        for thread in threads:
            thread.join(wire.LIMIT)
    assert not flowing.failures, flowing.failures


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """A server that the test may stop."""
    yield postgres_server.new_database()
    if postgres_server.process is None:
        postgres_server.start()


@pytest.fixture
def node(tmp_path: Path, database: str) -> Iterator[Callable[[int], Server]]:
    """Starts nodes on the one catalog and folder of bytes."""
    started: list[Server] = []
    (tmp_path / "carboy.toml").write_text("[spaces.main]\nversions = 5\n")

    def start(workers: int) -> Server:
        if not started:
            upgrade(tmp_path, database)
        one = Server(tmp_path / "data", args=["--config", str(tmp_path / "carboy.toml")], env={"CARBOY_DATABASE": database}, workers=workers,
                     token=started[0].token if started else None)
        one.log_file = tmp_path / f"node{len(started)}.log"
        started.append(one)
        return one.start()

    yield start
    for one in started:
        if one.running:
            one.stop()
        one.must_be_sound()


def carboy(folder: Path, database: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}
    return subprocess.run([sys.executable, "-m", "carboy.cli.main", *args, "--data", str(folder / "data")], cwd=folder,
                          env={**env, "CARBOY_DATABASE": database}, capture_output=True, text=True)


def upgrade(folder: Path, database: str) -> None:
    done = carboy(folder, database, "db", "upgrade")
    assert done.returncode == 0, done.stderr


def must_be_whole(flowed: Traffic, node: Server) -> None:
    """What was acknowledged is there; of what wasn't, all or nothing is."""
    for put in flowed.puts:
        told = node.request("GET", f"/files/main/{put.path}")
        assert told.status == 200 or (told.status == 404 and put.status != 201), (put, told)
        assert told.status == 404 or told.body == content(put.path)
    for file, data in flowed.large:
        assert node.request("GET", f"/api/v1/files/{file}/content").body == data


def test_a_server_lives_through_restarts_of_postgresql(node: Callable[[int], Server], postgres_server: PostgresServer, tmp_path: Path,
                                                       database: str) -> None:
    one = node(2)
    with traffic([one]) as flowing:
        flowing.flow()
        before = one.workers()
        for end in (signal.SIGINT, signal.SIGQUIT, signal.SIGINT):
            postgres_server.stop(end)
            postgres_server.start()
            back = time.monotonic()
            flowing.flow()
            assert {put.status for put in flowing.puts if put.began > back} == {201}, "no connection of before is met"
    assert one.workers() == before != []
    must_be_whole(flowing, one)
    one.stop()
    for command in (("sweep",), ("fsck", "--deep")):
        done = carboy(tmp_path, database, *command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_newer_carboy_upgrades_the_catalog_while_nodes_of_this_one_work(node: Callable[[int], Server], database: str, tmp_path: Path) -> None:
    """The newer one is acted: it adds a table, a column and an index, and says that this one's code works with them."""
    one = node(1)
    with traffic([one]) as flowing:
        flowing.flow()
        say(database, "ALTER TABLE uploads ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'", "ALTER TABLE files ADD COLUMN mood TEXT",
            "CREATE TABLE moods (id TEXT PRIMARY KEY, upload_id TEXT REFERENCES uploads (id) ON DELETE CASCADE)",
            "CREATE INDEX files_by_mood ON files (mood)", f"UPDATE alembic_version SET version_num = '{NEWER}'")
        flowing.flow()
        two = node(1)
        flowing.nodes.append(two)
        flowing.flow(60)
    assert {put.status for put in flowing.puts} == {201}
    assert {one.request("GET", "/readyz").status, two.request("GET", "/readyz").status} == {200}
    must_be_whole(flowing, two)
    for answer in (carboy(tmp_path, database, "db", "upgrade"), carboy(tmp_path, database, "fsck", "--deep")):
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_nodes_that_a_newer_schema_does_not_want_say_so(node: Callable[[int], Server], database: str, tmp_path: Path) -> None:
    one = node(1)
    assert one.request("GET", "/readyz").status == 200
    say(database, f"UPDATE alembic_version SET version_num = '{NEWER}'", f"UPDATE compatibility SET oldest = '{NEWER}'")
    told = one.request("GET", "/readyz")
    assert (told.status, told.json()["code"]) == (500, "schema_mismatch"), told
    for command in (("db", "upgrade"), ("fsck",)):
        refused = carboy(tmp_path, database, *command)
        assert (refused.returncode, refused.stderr) == (1, "Error: the catalog was made by a newer Carboy\n")


def say(database: str, *statements: str) -> None:
    engine = sa.create_engine(database, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
