"""The real server as a fixture: a process of its own, on a port of its own, whose log must hold no traceback.

``server(...)`` starts one for a test, ``live`` is one that many tests share. When a test fails its servers' logs are shown.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import wire

READY = re.compile(r"Carboy is ready at (https?://\S+)")
JOBS = "carboy-jobs"
SHOWN = 100
"""Lines of a log that a failed test shows."""

T = TypeVar("T")


def eventually(ask: Callable[[], T], limit: float = wire.LIMIT) -> T:
    """The first true answer; fails the test where there is none within ``limit`` seconds."""
    pause, end = threading.Event(), time.monotonic() + limit
    while not (answer := ask()):
        if time.monotonic() > end:
            pytest.fail(f"not within {limit:g} s: {ask}")
        pause.wait(0.01)
    return answer


def _comm(pid: int) -> str:
    """What a process calls itself; "" where it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


class Server:
    """``carboy serve`` on a data folder. It may be killed and started again; the address may change then."""

    def __init__(self, data: Path, *, args: Sequence[str] = (), env: Mapping[str, str] | None = None, workers: int = 1,
                 token: str | None = None) -> None:
        self.data = data
        self.token = token or "test-" + secrets.token_hex(16)
        self.log_file = data.with_name(data.name + ".log")
        self.url = ""
        self._command = [sys.executable, "-m", "carboy.cli.main", "serve", "--port", "0", "--data", str(data),
                         "--workers", str(workers), *args]
        own = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}
        self._env = {**own, "CARBOY_ADMIN_TOKEN": self.token, "CARBOY_LOGIN_RATE_LIMIT": "", "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    # --- its life ---

    def start(self) -> Server:
        """Returns when it accepts connections; fails the test where it doesn't."""
        assert not self.running, "it runs already"
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(self._command, cwd=self.data.parent, env=self._env, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        told, self.url = threading.Event(), ""
        self._reader = threading.Thread(target=self._read, args=(self._process, told), daemon=True)
        self._reader.start()
        if not told.wait(wire.LIMIT) or not self.url:
            self.kill()
            pytest.fail(f"the server did not start:\n{self.log_end()}")
        return self

    def stop(self, signal_: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, as an operator does, and wait. Its exit code."""
        assert self._process, "it never ran"
        self._process.send_signal(signal_)
        try:
            code = self._process.wait(wire.LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the server did not stop:\n{self.log_end()}")
        self._end()
        return code

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, and wait."""
        assert self._process, "it never ran"
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._end()

    def restart(self) -> Server:
        """Start it again on the same data, after a stop where it still runs."""
        if self.running:
            self.stop()
        return self.start()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The first process; the others are its children."""
        assert self._process, "it never ran"
        return self._process.pid

    def workers(self) -> list[int]:
        """The process ids of its children that serve requests."""
        return [pid for pid in self._children() if _comm(pid) != JOBS]

    def job_process(self) -> int | None:
        """The process id of the child that runs jobs."""
        return next((pid for pid in self._children() if _comm(pid) == JOBS), None)

    def _children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    # --- talking to it ---

    @property
    def auth(self) -> dict[str, str]:
        """The header that proves the first token."""
        return {"Authorization": f"Bearer {self.token}"}

    def connect(self, timeout: float = wire.LIMIT) -> wire.Connection:
        return wire.Connection(self.url, timeout)

    def request(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> wire.Response:
        """One request with the first token, on a connection of its own."""
        return wire.request(self.url, method, target, {**self.auth, **(headers or {})}, body)

    # --- its log ---

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_end(self) -> str:
        return "\n".join(self.log().splitlines()[-SHOWN:])

    def must_be_sound(self, since: int = 0) -> None:
        """Fail the test where the log has a traceback after its first ``since`` characters."""
        if "Traceback" in self.log()[since:]:
            pytest.fail(f"the server's log has a traceback:\n{self.log_end()}")

    def _read(self, process: subprocess.Popen[bytes], told: threading.Event) -> None:
        assert process.stdout
        with self.log_file.open("ab", buffering=0) as log:
            for line in process.stdout:
                log.write(line)
                if match := READY.search(line.decode(errors="replace")):
                    self.url = match[1]
                    told.set()
        told.set()

    def _end(self) -> None:
        assert self._process and self._process.stdout and self._reader
        self._reader.join(wire.LIMIT)
        if not self._reader.is_alive():
            self._process.stdout.close()


ServerFactory = Callable[..., Server]
USED = pytest.StashKey[list[Server]]()


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerFactory]:
    """``server()`` starts a server with data of its own; ``data=``, ``args=``, ``env=``, ``workers=`` and ``token=`` say
    otherwise, ``allow_errors=True`` lets its log hold tracebacks, ``start=False`` leaves starting it to the test."""
    made: list[tuple[Server, bool]] = []
    shown = request.node.stash.setdefault(USED, [])

    def factory(*, data: Path | None = None, allow_errors: bool = False, start: bool = True, **options: Any) -> Server:
        one = Server(data or tmp_path / f"data{len(made) or ''}", **options)
        made.append((one, allow_errors))
        shown.append(one)
        return one.start() if start else one

    yield factory
    for one, _ in made:
        if one.running:
            one.stop()
    for one, allow_errors in made:
        if not allow_errors:
            one.must_be_sound()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server that all tests share: they use names of their own and leave its settings alone."""
    one = Server(tmp_path_factory.mktemp("live") / "data").start()
    yield one
    if one.running:
        one.stop()
    one.must_be_sound()


@pytest.fixture(autouse=True)
def _sound_live(request: pytest.FixtureRequest) -> Iterator[None]:
    """Which test made the shared server fail is known at once."""
    one = request.getfixturevalue("live") if "live" in request.fixturenames else None
    since = len(one.log()) if one else 0
    yield
    if one:
        one.must_be_sound(since)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the logs of a failed test's servers."""
    outcome: Any = yield
    report = outcome.get_result()
    if not report.failed:
        return
    live_one = getattr(item, "funcargs", {}).get("live")
    for one in [*item.stash.get(USED, []), *([live_one] if live_one else [])]:
        report.sections.append((f"log of the server at {one.url}", one.log_end()))
