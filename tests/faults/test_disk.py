"""The power cut itself, with plain files and no server: it takes what was not synced, and nothing that was synced before it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.disk import MIB, Disk, FileSystem, until

THREADS = 6


class Appender(threading.Thread):
    """Appends to a file of its own and syncs, until the disk is gone. ``done`` lists what was synced, and when."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.done: list[tuple[float, int, int, bytes]] = []

    def run(self) -> None:
        file, folder = os.open(self._path, os.O_CREAT | os.O_RDWR), os.open(self._path.parent, os.O_RDONLY)
        at = 0
        try:
            os.fsync(folder)
            while True:
                data = os.urandom(20_000)
                os.pwrite(file, data, at)
                os.fdatasync(file)
                self.done.append((time.monotonic(), at, len(data), hashlib.sha256(data).digest()))
                at += len(data)
        except OSError:
            pass
        finally:
            os.close(file)
            os.close(folder)

    def lost(self) -> list[float]:
        """When the syncs returned whose bytes are gone."""
        content = self._path.read_bytes() if self._path.exists() else b""
        return [when for when, at, size, digest in self.done if hashlib.sha256(content[at:at + size]).digest() != digest]


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_cut_takes_nothing_that_was_synced_before_it_began(kind: FileSystem, make_disk: Callable[..., Disk]) -> None:
    """Syncs that return while the ioctl runs are not to be trusted: the kernel gives some of them success and loses their bytes."""
    disk = make_disk(kind, 512 * MIB)
    appenders = [Appender(disk.root / str(number)) for number in range(THREADS)]
    for appender in appenders:
        appender.start()
    until(lambda: all(len(appender.done) > 20 for appender in appenders), "all have synced something")
    began = time.monotonic()
    disk.cut_power()
    for appender in appenders:
        appender.join(60)
    disk.unmount()
    disk.mount()
    assert [when for appender in appenders for when in appender.lost() if when < began] == []


def test_a_cut_takes_what_was_not_synced(make_disk: Callable[..., Disk]) -> None:
    disk = make_disk("ext4", 48 * MIB)
    (disk.root / "written").write_bytes(b"x" * 100_000)
    disk.cut_power()
    disk.unmount()
    disk.mount()
    left = (disk.root / "written").read_bytes() if (disk.root / "written").exists() else b""
    assert left == b""
