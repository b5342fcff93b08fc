"""Numbers that the processes on one data folder count, each for itself, and anyone adds up.

A process counts in memory, and writes its numbers once a second into a file of its own, ``data/metrics/0``, ``1`` …, which it holds locked
while it lives. Who comes after it takes the file over and counts on from there: so sums never fall, and there are as many files as there
were processes at once. What the last second brought is lost with a process that is killed. Nothing is synced. Where a file can't be
written the process counts for itself alone.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import struct
import threading
import weakref
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from carboy.metrics import METRICS, Labels, Metric

log = logging.getLogger("carboy")

FLUSH = 1.0
"""Seconds between two writings of what changed."""
MOST_SERIES = 4096
"""So many combinations of names and labels a process counts; more, which would be a mistake, are left out."""
_HALF = 2**20
_HEAD = struct.Struct("<8sQII")
_MAGIC = b"carboy\0\1"
_MOST_PROCESSES = 1024
_FLOCK = struct.Struct("@hhqqi4x")
_FOLDER = "metrics"

Sample = Callable[[], bool]
"""Sets what is read off rather than counted, and says whether something is under way, so that it has to be read again soon."""


Values = dict[tuple[str, Labels], list[float]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one process has counted. Gauges of one that is gone are of nothing. ``pid`` is None where it is not to be seen from here:
    it lives in another container."""

    slot: int
    alive: bool
    pid: int | None
    role: str
    values: Values


@dataclass(slots=True)
class _Book:
    """What this process counts, and the file that it is written into; none, where there can't be one."""

    pid: int
    born: int | None
    file: int | None = None
    slot: int = 0
    generation: int = 0
    written: bytes = b""
    values: Values = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    writing: threading.Lock = field(default_factory=threading.Lock)
    changed: threading.Event = field(default_factory=threading.Event)
    ended: bool = False


class Meter:
    """Counts. Thread-safe; it survives forks, and never raises. Nothing is opened before something is counted, and never a folder made
    for the data: without it, or where ``folder`` is None, nothing is written. ``role`` tells what the process is for."""

    def __init__(self, data: Path | None, *, on: bool = True) -> None:
        self.folder = data / _FOLDER if data else None
        self.role = "command"
        self._data = data
        self._on = on
        self._samples: list[Sample] = []
        self._opening = threading.Lock()
        self._book: _Book | None = None
        if on:
            os.register_at_fork(after_in_child=partial(_in_child, weakref.ref(self)))

    # --- counting ---

    def add(self, metric: Metric, labels: Labels = (), amount: float = 1.0) -> None:
        """Count so many more."""
        if self._on:
            book = self._book or self._open()
            cells = book.values.get((metric.name, labels)) or _new(book, metric, labels)
            with book.lock:
                cells[0] += amount
            if not book.changed.is_set():
                book.changed.set()

    def observe(self, metric: Metric, seconds: float, labels: Labels = ()) -> None:
        """Count one more that took so long."""
        if self._on:
            book = self._book or self._open()
            cells = book.values.get((metric.name, labels)) or _new(book, metric, labels)
            at = 1 + bisect_left(metric.buckets, seconds)
            with book.lock:
                cells[0] += seconds
                cells[at] += 1.0
            if not book.changed.is_set():
                book.changed.set()

    def set(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """What a gauge of this process shows from now on."""
        if self._on:
            book = self._book or self._open()
            (book.values.get((metric.name, labels)) or _new(book, metric, labels))[0] = value

    def sample(self, sample: Sample) -> None:
        """Have it called before what changed is written, from another thread."""
        self._samples.append(sample)

    def touch(self) -> None:
        """Something begins that samples tell of."""
        if self._on:
            book = self._book or self._open()
            if not book.changed.is_set():
                book.changed.set()

    # --- reading ---

    def readings(self) -> list[Reading]:
        """Of all processes on the data folder, those that are gone too, each as it was a second ago at most; this one's are of now."""
        self.flush()
        own = self._book
        found = [one for one in _read_all(self.folder) if own is None or own.file is None or one.slot != own.slot]
        if own:
            with own.lock:
                found.append(Reading(own.slot if own.file is not None else -1, True, own.pid, self.role,
                                     {key: list(cells) for key, cells in own.values.items()}))
        return found

    def flush(self) -> None:
        """Write what this process has counted."""
        if book := self._book:
            self._sampled()
            _write(book, self.role)

    def close(self) -> None:
        """Write it, and let the file go for another process. Repeatable; what is counted after that opens one again."""
        with self._opening:
            book, self._book = self._book, None
        if book is not None:
            _close(book, self.role)

    # --- inside ---

    def _open(self) -> _Book:
        with self._opening:
            book = self._book
            if book is None:
                book = _Book(os.getpid(), born(os.getpid()))
                if self.folder and self._data and self._data.is_dir():
                    _claim(book, self.folder)
                self._book = book
                weakref.finalize(self, _close, book, self.role)
                self._write_on(book)
            return book

    def _write_on(self, book: _Book) -> None:
        try:
            threading.Thread(target=_keep_writing, args=(weakref.ref(self), book), name="metrics", daemon=True).start()
        except RuntimeError:  # there is no thread left: what is counted is written when somebody asks, and at the end
            return

    def _leave_behind(self) -> None:
        """In a forked child: the numbers are the parent's, whose threads may have held the lock."""
        self._opening = threading.Lock()
        self._book = None

    def _sampled(self) -> bool:
        """Whether anything is under way."""
        try:
            told = [sample() for sample in self._samples]
        except Exception:
            log.exception("what is under way could not be counted")
            return False
        return any(told)


NOTHING = Meter(None, on=False)
"""Counts nothing."""


def _in_child(meter: weakref.ref[Meter]) -> None:
    if owner := meter():
        owner._leave_behind()


def _keep_writing(meter: weakref.ref[Meter], book: _Book) -> None:
    """While something changes, or is under way; else it sleeps."""
    pause = threading.Event()
    while not book.ended:
        book.changed.wait()
        pause.wait(FLUSH)
        owner = meter()
        if owner is None or book.ended:
            return
        book.changed.clear()
        if owner._sampled():
            book.changed.set()
        _write(book, owner.role)
        del owner


def _new(book: _Book, metric: Metric, labels: Labels) -> list[float]:
    with book.lock:
        if len(book.values) >= MOST_SERIES:
            return [0.0] * metric.cells  # thrown away
        return book.values.setdefault((metric.name, labels), [0.0] * metric.cells)


# --- files ---


def _claim(book: _Book, folder: Path) -> None:
    """Take the first file that no living process has, with the counters that are in it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for slot in range(_MOST_PROCESSES):
            file = os.open(folder / str(slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if _lock(file):
                break
            os.close(file)
        else:
            return
        book.generation, told = _newest(file)
        book.values = {key: cells for key, cells in _values(told) if METRICS[key[0]].kind != "gauge"}
        book.file, book.slot = file, slot
    except OSError:
        return


def _lock(file: int) -> bool:
    """Whether the file is this descriptor's now. The kernel lets it go with the process, and with its children."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_locked(file: int) -> bool:
    return bool(_FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)))[0] != fcntl.F_UNLCK)


def _write(book: _Book, role: str) -> None:
    """Into the half of the file that doesn't hold the newest, so that there is always one that is whole."""
    if book.file is None or book.ended:
        return
    with book.lock:
        values = [[name, labels, list(cells)] for (name, labels), cells in book.values.items()]
    data = json.dumps({"pid": book.pid, "born": book.born, "role": role, "values": values}, separators=(",", ":")).encode()
    if data == book.written or len(data) > _HALF - _HEAD.size:
        return
    with book.writing:
        book.generation += 1
        head = _HEAD.pack(_MAGIC, book.generation, len(data), zlib.crc32(data))
        try:
            os.pwrite(book.file, head + data, book.generation % 2 * _HALF)
            book.written = data
        except OSError:  # the disk is full, or fails: that is told elsewhere
            return


def _close(book: _Book, role: str) -> None:
    if book.ended or book.pid != os.getpid():
        return
    _write(book, role)
    with book.writing:
        book.ended = True
        if book.file is not None:
            os.close(book.file)
    book.changed.set()


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


def _read_all(folder: Path | None) -> Iterator[Reading]:
    try:
        names = sorted(int(name) for name in os.listdir(folder) if name.isdigit()) if folder else []
    except OSError:
        return
    for slot in names:
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
