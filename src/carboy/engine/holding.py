"""Locks of whole tasks, between all processes on one data folder. The kernel frees them when a process dies.

Holding off the removal of bytes while somebody copies them is one on ``data/removal.lock``: those who copy share it, the sweeper
removes only while it has it alone.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carboy.errors import Conflict

_PATIENCE = 5.0


class Removal:
    """The right to remove stored bytes, in all processes on one data folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / "removal.lock"

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Nothing that was ever in the catalog is removed meanwhile; waits for a removal under way."""
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield
        finally:
            os.close(file)

    @contextmanager
    def allowed(self) -> Iterator[bool]:
        """Whether bytes may be removed now; nobody begins to copy them meanwhile. Another who removes is waited for, who copies is not:
        that takes longer."""
        file = self._open()
        try:
            yield _taken(file, _PATIENCE)
        finally:
            os.close(file)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def alone(path: Path, otherwise: str) -> Iterator[None]:
    """Nobody else has the lock on the file, which is made, meanwhile. Raises Conflict, which says ``otherwise``, where somebody has."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _taken(file):
            raise Conflict(otherwise)
        yield
    finally:
        os.close(file)


def _taken(file: int, patience: float = 0.0) -> bool:
    until, pause = time.monotonic() + patience, threading.Event()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            pause.wait(0.02)
        else:
            return True
