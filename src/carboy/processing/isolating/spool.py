"""Folders for what a job wants on a disk. Each is locked by who made it, so that what a killed process has left is known, and removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "step-"


@contextmanager
def own_folder(spool: Path) -> Iterator[Path]:
    """A new one in ``spool``, which is made if need be; removed after the block, with all that is in it. What others have left there goes
    too."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_abandoned(spool)
    folder, lock = _made(spool)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _made(spool: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=spool))
        with suppress(FileNotFoundError):  # another took it for abandoned before it was locked
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(spool: Path) -> None:
    for entry in os.scandir(spool):
        if entry.name.startswith(_PREFIX):
            with suppress(OSError):
                lock = _opened(Path(entry.path))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(lock)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
