"""Many nodes that share a catalog and a bucket, for the fault tests: each is a server of its own that can be struck, clients spray over all."""

from __future__ import annotations

import http.client
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
from faults.disk import until
from faults.proxy import Proxy
from faults.runner import Answer, Client, Server
from faults.s3_lab import storage_environment
from fixtures_postgres import PostgresServer
from fixtures_s3 import S3Server

BUSY = {"range_busy", "interrupted", "busy", "storage_unavailable", "catalog_unavailable"}


class Cluster:
    """``count`` nodes over a new database and a new bucket, which they reach by the proxy. ``settings`` are environment variables for all."""

    def __init__(self, folder: Path, count: int, postgres: PostgresServer, s3: S3Server, proxy: Proxy, *, workers: int = 1,
                 settings: Mapping[str, object] | None = None) -> None:
        self.postgres, self.s3, self.proxy, self.bucket = postgres, s3, proxy, s3.new_bucket()
        self._database = postgres.new_database()
        # Each is to be a machine of its own: who runs jobs would see at once that a process of another node, which is on the same, is gone.
        environment = {"CARBOY_WORKER": "false", **storage_environment(s3, self.bucket, proxy.url), "CARBOY_DATABASE": self._database, **(settings or {})}
        self.nodes = [Server(folder / f"node{number}", folder / f"node{number}.log", workers=workers, settings=environment)
                      for number in range(count)]
        self._outside = Server(folder / "outside", folder / "outside.log", settings=environment)
        self.tracebacks: list[str] = []
        self._clients: list[Client] = []

    def start(self) -> Cluster:
        done = self.run("db", "upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
        for node in self.nodes:
            node.start()
        return self

    def stop(self) -> None:
        """SIGTERM to all at once; returns when they have ended."""
        for node in self.nodes:
            os.kill(node.pid, signal.SIGTERM)
        for node in self.nodes:
            with suppress(subprocess.TimeoutExpired):
                node.stop()
            self._look(node)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()
            self._look(node)

    def restart(self, node: Server) -> None:
        """Start a node that has ended."""
        self._look(node)
        node.start()

    def _look(self, node: Server) -> None:
        if "Traceback" in node.said():
            self.tracebacks.append(node.said()[-6000:])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the program on a machine without a server."""
        return self._outside.run(*arguments)

    def client(self) -> Client:
        """A client that sprays, and comes again where it is told to; see :class:`Check`."""
        return Spray(self.nodes, random.Random("check"), timeout=60, patience=60)

    def count(self, table: str) -> int:
        """Rows of a table of the catalog: ``writers`` are the processes taken for alive, ``leases`` what they write."""
        with psycopg.connect(self._database.replace("+psycopg", "", 1)) as connection:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row
        return int(row[0])

    def settle(self) -> None:
        """All nodes ended in order and the dead among their processes buried; then all run again."""
        self.stop()
        for node in self.nodes:
            self.restart(node)
        with Spray(self.nodes, random.Random(1), timeout=60) as client:
            for _ in range(4 * len(self.nodes)):  # who writes sees whom it has to bury
                client.put("settled", os.urandom(16))
            until(lambda: client.put("settled", os.urandom(16)) and self.count("writers") <= sum(len(node.processes()) - 1 for node in self.nodes),
                  "the dead are buried", 60)
            client.delete("settled")


class Spray(Client):
    """Sends each request to a random node that has not ended; for up to ``patience`` seconds again where the answer is to come again."""

    def __init__(self, nodes: Sequence[Server], chance: random.Random, *, timeout: float, patience: float = 0) -> None:
        self._nodes, self._chance, self._timeout, self._patience = nodes, chance, timeout, patience
        self._open: dict[tuple[str, int], Client] = {}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        end = time.monotonic() + self._patience
        while True:
            answer = self._ask_one(method, path, body, headers)
            if answer.ok or time.monotonic() > end or answer.status not in (409, 503) or answer.code not in BUSY:
                return answer
            time.sleep(0.2)

    def _ask_one(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        running = [node.address for node in self._nodes if not node.ended()]
        if not running:
            raise ConnectionRefusedError("no node runs")
        address = self._chance.choice(running)
        if self._patience:  # none that the node may have let go meanwhile
            self.close()
        if address not in self._open:
            self._open[address] = Client(address, timeout=self._timeout)
        return self._open[address].ask(method, path, body, **headers)

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Spray:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Strikes:
    """Things that happen to nodes, one after another, while clients go on."""

    def __init__(self, cluster: Cluster, chance: random.Random, tell: Callable[[str], None] = lambda text: None) -> None:
        self._cluster, self._chance, self._tell = cluster, chance, tell
        self.counts: dict[str, int] = {}
        self._kinds: dict[str, tuple[Callable[[Server], None], int]] = {
            "kill": (self._kill, 3), "kill worker": (self._kill_worker, 3), "restart": (self._restart, 2), "stop": (self._stop, 3),
            "stop worker": (self._stop_worker, 2), "stop beyond expiry": (self._stop_long, 1), "restart database": (self._restart_database, 2)}

    def run(self, seconds: float, stop: threading.Event) -> None:
        """One strike after the other, until the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not stop.wait(self._chance.uniform(0.1, 1.0)):
            kind = self._chance.choices(list(self._kinds), [weight for _, weight in self._kinds.values()])[0]
            node = self._chance.choice(self._cluster.nodes)
            self._tell(f"{kind}: node {self._cluster.nodes.index(node)}")
            self._kinds[kind][0](node)
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def _kill(self, node: Server) -> None:
        node.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._cluster.restart(node)

    def _kill_worker(self, node: Server) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._worker(node), signal.SIGKILL)

    def _restart(self, node: Server) -> None:
        node.stop()
        self._cluster.restart(node)

    def _restart_database(self, node: Server) -> None:
        """As in a crash: all connections are cut, what was not committed is gone."""
        self._cluster.postgres.stop()
        time.sleep(self._chance.uniform(0, 1))
        self._cluster.postgres.start()

    def _stop(self, node: Server) -> None:
        self._stopped(node.processes(), self._chance.uniform(0.2, 3))

    def _stop_long(self, node: Server) -> None:
        self._stopped(node.processes(), 13)

    def _stop_worker(self, node: Server) -> None:
        self._stopped([self._worker(node)], self._chance.uniform(0.2, 3))

    def _stopped(self, pids: Sequence[int], seconds: float) -> None:
        for signal_ in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal_)
            if signal_ == signal.SIGSTOP:
                time.sleep(seconds)

    def _worker(self, node: Server) -> int:
        until(lambda: len(node.processes()) > 1, "a worker is there")
        return self._chance.choice([pid for pid in node.processes() if pid != node.pid])


def answered(ask: Callable[[], Answer]) -> Answer | None:
    """None where no answer came."""
    try:
        return ask()
    except (OSError, http.client.HTTPException):
        return None
