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
        file = _open(self._path)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield
        finally:
            os.close(file)

    @contextmanager
    def allowed(self) -> Iterator[bool]:
        """Whether bytes may be removed now; nobody begins to copy them meanwhile. Another who removes is waited for, who copies is not:
        that takes longer."""
        file = _open(self._path)
        try:
            yield _taken(file, _PATIENCE)
        finally:
            os.close(file)


class Seat:
    """Of all processes that want the lock on the file one has it, as long as it lives or until it leaves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def take(self) -> bool:
        """Whether it is this one's now. Waits for nobody."""
        if self._file is None:
            file, taken = _open(self._path), False
            try:
                taken = _taken(file)
            finally:
                if not taken:
                    os.close(file)
            self._file = file if taken else None
        return self._file is not None

    def leave(self) -> None:
        """Repeatable."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def alone(path: Path, otherwise: str) -> Iterator[None]:
    """Nobody else has the lock on the file, which is made, meanwhile. Raises Conflict, which says ``otherwise``, where somebody has."""
    file = _open(path)
    try:
        if not _taken(file):
            raise Conflict(otherwise)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


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
