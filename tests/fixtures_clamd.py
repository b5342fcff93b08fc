"""A clamd of the tests' own, which knows one signature: that of the EICAR test string, which is no virus."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from carboy.processing.clamd import Clamd, ClamdAway

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"
SIGNATURE = "Eicar-Body"
STREAM_MAX = 2**20
"""The most bytes that it takes."""


@dataclass
class ClamdServer:
    """It may be stopped, killed and started again at the same address."""

    program: str
    folder: Path
    port: int = 0
    known: tuple[bytes, ...] = ()
    most: int = STREAM_MAX
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """For the setting ``clamd``."""
        return f"unix:{self.folder / 'ctl'}"

    def start(self) -> None:
        """Ready when it returns. It dies with the tests, however they end."""
        (self.folder / "ctl").unlink(missing_ok=True)
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.port = int(listener.getsockname()[1])
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", self.program, "--foreground", "--config-file", str(self._config())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while not self.answers():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            if time.monotonic() > deadline:
                raise RuntimeError("clamd did not answer within a minute")

    def answers(self) -> bool:
        with suppress(ClamdAway):
            return "ClamAV" in Clamd(self.address).version()
        return False

    def kill(self) -> None:
        """kill -9. Repeatable."""
        if self.process:
            self.process.kill()
            self.process.wait(60)
            self.process = None

    def learn(self, *further: bytes, most: int = STREAM_MAX) -> None:
        """Start anew, knowing what is infected besides, and taking so many bytes; without any of it, as ever."""
        self.kill()
        self.known, self.most = further, most
        self.start()

    def hang(self) -> None:
        """SIGSTOP: it takes connections and says nothing, until :meth:`go_on`."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def _config(self) -> Path:
        database = self.folder / "database"
        database.mkdir(exist_ok=True)
        (database / "test.ndb").write_text("".join(f"{SIGNATURE}:0:*:{known.hex()}\n" for known in (EICAR, *self.known)))
        path = self.folder / "clamd.conf"
        path.write_text(f"""LocalSocket {self.folder / 'ctl'}
LocalSocketMode 666
TCPSocket {self.port}
TCPAddr 127.0.0.1
DatabaseDirectory {database}
OfficialDatabaseOnly no
StreamMaxLength {self.most}
AlertEncrypted yes
AlertExceedsMax yes
TemporaryDirectory {self.folder}
MaxThreads 4
User {pwd.getpwuid(os.getuid()).pw_name}
""")
        return path


def _unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"clamd is part of the tests: {reason}")
    pytest.skip(f"NOT TESTED with clamd: {reason}")


@pytest.fixture(scope="session")
def shared_clamd() -> Iterator[ClamdServer]:
    program = shutil.which("clamd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        _unavailable("clamd is not installed (make services)")
        raise AssertionError
    with tempfile.TemporaryDirectory(prefix="carboy-clamd-") as folder:
        server = ClamdServer(program, Path(folder))
        yield server
        server.kill()


@pytest.fixture
def clamd(shared_clamd: ClamdServer) -> ClamdServer:
    """Running, whatever an earlier test did to it."""
    if shared_clamd.process is None or shared_clamd.known or shared_clamd.most != STREAM_MAX:
        try:
            shared_clamd.learn()
        except (OSError, RuntimeError) as error:
            _unavailable(str(error))
    shared_clamd.go_on()
    return shared_clamd
