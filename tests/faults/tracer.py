"""strace on a running server: errors, short writes and kills at chosen system calls."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from faults.disk import until
from faults.runner import Server


class Tracer:
    """Injects into the calls that all threads of a server make from here on, those of its future workers too.

    ``inject`` is strace's own, as ``fdatasync:error=EIO:when=1``; ``when`` counts per thread. With ``paths`` only calls on
    these files count. Entering the block waits until strace holds every thread.
    """

    def __init__(self, server: Server, inject: str, paths: list[Path] | None = None) -> None:
        self._server = server
        call = inject.partition(":")[0]
        self._log = server.log.with_suffix(".strace")
        chosen = [part for path in paths or [] for part in ("-P", str(path))]
        self._pids = server.processes()
        pids = [part for pid in self._pids for part in ("-p", str(pid))]
        self._line = ["strace", "-f", "-qq", "-y", "-o", str(self._log), "-e", f"trace={call}", "-e", f"inject={inject}", *chosen, *pids]
        self._process: subprocess.Popen[bytes] | None = None

    def lines(self) -> list[str]:
        """What was traced so far, the calls injected into among them."""
        return self._log.read_text(errors="replace").splitlines() if self._log.exists() else []

    def injected(self) -> int:
        return sum("(INJECTED)" in line for line in self.lines())

    def somebody_died(self) -> bool:
        """Whether a process that was there at the beginning is gone."""
        return not set(self._pids) <= set(self._server.processes())

    def detach(self) -> None:
        """Let the server run on by itself. strace may wait for ever for a process that dies just then; it is killed for
        that, which lets go of all it held."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            for pid in self._server.processes():  # what it had stopped to let go of may still stand
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def __enter__(self) -> Tracer:
        self._process = subprocess.Popen(self._line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: self._holds_all() or self.somebody_died(), "strace holds every thread", 20)
        except TimeoutError:
            self.detach()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def _holds_all(self) -> bool:
        tracer = self._process.pid if self._process else 0
        return all(f"TracerPid:\t{tracer}\n" in _status(task) for pid in self._pids for task in Path(f"/proc/{pid}/task").glob("*"))


def _status(task: Path) -> str:
    try:
        return (task / "status").read_text()
    except OSError:
        return ""
