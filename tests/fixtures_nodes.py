"""Many machines as a fixture: real servers that share one PostgreSQL database and one S3 bucket, and each its own data folder otherwise.

``nodes(3)`` starts three; single ones, or their worker processes, can be stopped (SIGSTOP), killed and started again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_postgres import PostgresServer
from fixtures_s3 import S3Server
from fixtures_server import USED, Server

TOKEN = "test-nodes-0123456789abcdef0123456789abcdef"


class Node(Server):
    """One of them."""

    def pause(self) -> None:
        """SIGSTOP to all of its processes."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)

    def kill_worker(self, chance: random.Random | None = None) -> int:
        """kill -9 of one worker process; the node starts another. Its process id."""
        pid = (chance or random.Random()).choice(self.workers())
        os.kill(pid, signal.SIGKILL)
        return pid


class Nodes:
    """``settings`` are lines of carboy.toml for all of them, ``storage`` those of the S3 storage."""

    def __init__(self, folder: Path, count: int, database: str, s3: S3Server, bucket: str, *, endpoint: str = "", workers: int = 1,
                 settings: str = "", storage: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None, seed: object = 0) -> None:
        self.database, self.bucket, self.s3 = database, bucket, s3
        self._folder = folder
        self._chance = random.Random(f"nodes/{seed}")
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "carboy.toml"
        self.config.write_text(settings + storage_settings(s3, bucket, endpoint, **(storage or {})))
        self.env = {**s3.env, "CARBOY_DATABASE": database, **(env or {})}
        self.all = [Node(folder / f"node{number}", args=["--config", str(self.config)], env=self.env, workers=workers, token=TOKEN)
                    for number in range(count)]
        self._turns = cycle(self.all)

    def start(self) -> Nodes:
        self.run("db", "upgrade")
        for node in self.all:
            node.start()
        return self

    def close(self) -> None:
        for node in self.all:
            if node.running:
                node.resume()
                node.stop()

    def run(self, *arguments: str) -> str:
        """A command of the program as on a node of its own; what it prints. Fails the test where it fails."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("CARBOY_", "AWS_"))}
        done = subprocess.run([sys.executable, "-m", "carboy.cli.main", *arguments, "--config", str(self.config), "--data", str(self._folder / "run")],
                              capture_output=True, text=True, env={**own, **self.env}, cwd=self._folder, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def __getitem__(self, number: int) -> Node:
        return self.all[number]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.all)

    def any(self, *but: Node) -> Node:
        """A random one that runs."""
        with self._lock:
            return self._chance.choice([node for node in self.all if node.running and node not in but])

    def next(self) -> Node:
        """The next one, in turns."""
        with self._lock:
            return next(self._turns)

    def request(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> wire.Response:
        """One request with the first token, to any of them."""
        return self.any().request(method, target, headers, body)


def storage_settings(s3: S3Server, bucket: str, endpoint: str = "", **settings: object) -> str:
    """Lines of carboy.toml: the storage ``bulk`` in this bucket, and the space ``main`` on it."""
    lines = {"type": "s3", "bucket": bucket, "endpoint": endpoint or s3.endpoint, "region": s3.region, "style": "path", **settings}
    return ('\n[storages.bulk]\n' + "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
            + '\n[spaces.main]\nstorage = "bulk"\n')


NodesFactory = Callable[..., Nodes]


@pytest.fixture
def nodes(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[NodesFactory]:
    """``nodes(count)`` starts so many on a database and a bucket of their own; further arguments are those of :class:`Nodes`, and
    ``allow_errors=True`` lets their logs hold tracebacks."""
    made: list[tuple[Nodes, bool]] = []

    def factory(count: int, *, allow_errors: bool = False, **options: Any) -> Nodes:
        some = Nodes(tmp_path / f"nodes{len(made) or ''}", count, postgres_server.new_database(), s3_server, s3_server.new_bucket(), **options)
        made.append((some, allow_errors))
        request.node.stash.setdefault(USED, []).extend(some.all)
        return some.start()

    yield factory
    for some, _ in made:
        some.close()
    for some, allow_errors in made:
        for node in some:
            if not allow_errors:
                node.must_be_sound()
