"""A server under test: its processes, its folder, its costs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from benchmarks import procs
from benchmarks.envs import Unavailable

_START = 30.0
_STOP = 15.0
_BIG = 1 << 20


class Server:
    """Starts on entering, stops on leaving. Everything it keeps is in ``folder``; what it receives ends in ``store``."""

    name = "server"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.host, self.port = "127.0.0.1", free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        """What was measured, for the report."""
        return ""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def command(self) -> list[str]:
        """The command line. Raises Unavailable."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Variables besides our own. Temporary files belong beside the store, so that both are on the same kind of storage."""
        return {"TMPDIR": str(self.folder / "tmp")}

    def ready(self) -> bool:
        """Does it accept connections?"""
        with socket.socket() as sock:
            return sock.connect_ex((self.host, self.port)) == 0

    def __enter__(self) -> Self:
        for folder in (self.store, self.folder / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, env={**os.environ, **self.environment()},
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            self._wait(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "log.txt"

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                words = self.log.read_text(errors="replace").strip().splitlines()[-1:]
                raise Unavailable(f"{self.name} did not start: {' '.join(words) or 'it said nothing'}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, by force if it must be. Repeatable."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self) -> None:
        """Stop, and start anew with the same files."""
        self.stop()
        self.__enter__()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def cpu(self) -> float:
        """User and system seconds of all its processes since their start."""
        return procs.cpu_seconds(self.pid)

    def worker(self) -> int:
        """The process that serves, where there is one: the biggest that isn't the parent of all."""
        return max(procs.tree(self.pid)[1:] or [self.pid], key=procs.rss)

    def largest(self) -> int:
        """Bytes of the largest file it keeps, for checking that what was sent has arrived."""
        return max((path.stat().st_size for path in self.store.rglob("*") if path.is_file()), default=0)

    def discard(self) -> None:
        """Remove the bytes of big files, so that runs never fill the storage. Not measured: it is we who unlink."""
        for path in self.store.rglob("*"):
            if path.is_file() and path.stat().st_size >= _BIG:
                path.unlink()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
