"""The files into which processes write what they count: each has one of its own, and anyone reads all of them.

A file has two halves, which are written in turn, so that one of them is whole at any moment. Nothing is synced.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carboy.metrics import METRICS, Labels

Values = dict[tuple[str, Labels], list[float]]
"""By the name of a metric, and its labels."""

_HALF = 2**20
_HEAD = struct.Struct("<8sQII")
_MAGIC = b"carboy\0\1"
_MOST_PROCESSES = 1024
_FLOCK = struct.Struct("@hhqqi4x")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one process has counted. Gauges of one that is gone are of nothing. ``pid`` is None where it is not to be seen from here:
    it lives in another container."""

    slot: int
    alive: bool
    pid: int | None
    role: str
    values: Values


class Ledger:
    """This process's file, locked until it is closed, or the process and all its children are gone. Thread-safe."""

    def __init__(self, file: int, slot: int) -> None:
        self.slot = slot
        self._file = file
        self._lock = threading.Lock()
        self._identity = _identity(file)
        self._generation, told = _newest(file)
        self._written = b""
        self.counted: Values = {key: cells for key, cells in _values(told) if METRICS[key[0]].kind != "gauge"}
        """The counters that are in it from those before."""

    def write(self, pid: int, role: str, values: Values) -> None:
        """What can't be written now, because the disk is full or fails, is written the next time."""
        data = json.dumps({"pid": pid, "born": born(pid), "role": role,
                           "values": [[name, labels, cells] for (name, labels), cells in values.items()]}, separators=(",", ":")).encode()
        if data == self._written or len(data) > _HALF - _HEAD.size:
            return
        with self._lock:
            try:
                if self._is_there():
                    self._generation += 1
                    head = _HEAD.pack(_MAGIC, self._generation, len(data), zlib.crc32(data))
                    os.pwrite(self._file, head + data, self._generation % 2 * _HALF)
                    self._written = data
            except OSError:
                return

    def close(self) -> None:
        """Let another process have it. Repeatable."""
        with self._lock:
            if self._is_there():
                os.close(self._file)
            self._file = -1

    def _is_there(self) -> bool:
        """Whether the descriptor is still this file's: somebody may have closed all there were, and it is another's by now."""
        try:
            return self._file >= 0 and _identity(self._file) == self._identity
        except OSError:
            return False


def claim(folder: Path) -> Ledger | None:
    """The first file that no living process has; None where there can't be any."""
    file = -1
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for slot in range(_MOST_PROCESSES):
            file = os.open(folder / str(slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if _lock(file):
                return Ledger(file, slot)
            os.close(file)
            file = -1
    except OSError:
        if file >= 0:
            os.close(file)
    return None


def read_all(folder: Path) -> Iterator[Reading]:
    """All that there are."""
    try:
        slots = sorted(int(name) for name in os.listdir(folder) if name.isdigit())
    except OSError:
        return
    for slot in slots:
        try:
            file = os.open(f"{folder}/{slot}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            _, told = _newest(file)
            alive = _is_locked(file)
        except OSError:
            continue
        finally:
            os.close(file)
        if told:
            pid = int(told["pid"]) if alive and born(int(told["pid"])) == told["born"] else None
            yield Reading(slot, alive, pid, str(told["role"]), dict(_values(told)))


def born(pid: int) -> int | None:
    """When the process began, in ticks since the machine did; None where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _identity(file: int) -> tuple[int, int]:
    stat = os.fstat(file)
    return stat.st_dev, stat.st_ino


def _lock(file: int) -> bool:
    """Whether the file is this descriptor's now."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_locked(file: int) -> bool:
    return bool(_FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)))[0] != fcntl.F_UNLCK)


def _newest(file: int) -> tuple[int, Mapping[str, Any]]:
    """The generation and the numbers of the newer half that is whole; nothing where none is."""
    found: tuple[int, Mapping[str, Any]] = (0, {})
    for half in (0, _HALF):
        data = os.pread(file, _HALF, half)
        if len(data) < _HEAD.size:
            continue
        magic, generation, length, crc = _HEAD.unpack_from(data)
        body = data[_HEAD.size:_HEAD.size + length]
        if magic == _MAGIC and generation > found[0] and len(body) == length and zlib.crc32(body) == crc:
            found = generation, json.loads(body)
    return found


def _values(told: Mapping[str, Any]) -> Iterator[tuple[tuple[str, Labels], list[float]]]:
    """Those that this version counts too, and in the same way."""
    for name, labels, cells in told.get("values", ()):
        metric = METRICS.get(name)
        if metric and len(labels) == len(metric.labels) and len(cells) == metric.cells:
            yield (name, tuple(labels)), cells
