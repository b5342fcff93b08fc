"""A Redis of the tests' own: Debian's server on a free port, which keeps nothing when it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis


@dataclass
class RedisServer:
    """It may be stopped, killed and started again at the same address."""

    program: str
    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Empty, and ready when it returns. It dies with the tests, however they end."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.port = int(listener.getsockname()[1])
        settings = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self.folder}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", self.program, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while not self.answers():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            if time.monotonic() > deadline:
                raise RuntimeError("Redis did not answer within a minute")

    def answers(self) -> bool:
        with suppress(redis.RedisError):
            self.say("PING")
            return True
        return False

    def say(self, *words: str | int) -> object:
        """One command, on a connection of its own; its answer."""
        with redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=30, retry=None) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """kill -9; all that it knew is gone. Repeatable."""
        if self.process:
            self.process.kill()
            self.process.wait(60)
            self.process = None

    def hang(self) -> None:
        """SIGSTOP: it takes connections and says nothing, until :meth:`go_on`."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)


def _unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"Redis is part of the tests: {reason}")
    pytest.skip(f"NOT TESTED with Redis: {reason}")


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Outside of tests."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed (make services)")
    with tempfile.TemporaryDirectory(prefix="carboy-redis-") as folder:
        server = RedisServer(program, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    program = shutil.which("redis-server")
    if program is None:
        _unavailable("redis-server is not installed (make services)")
        raise AssertionError
    with tempfile.TemporaryDirectory(prefix="carboy-redis-") as folder:
        server = RedisServer(program, Path(folder))
        yield server
        server.kill()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """Running and empty, whatever an earlier test did to it."""
    if shared_redis.process is None:
        try:
            shared_redis.start()
        except (OSError, RuntimeError) as error:
            _unavailable(str(error))
    shared_redis.go_on()
    shared_redis.say("FLUSHALL")
    return shared_redis
