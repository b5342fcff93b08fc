"""Numbers that the processes on one data folder count, each for itself, and anyone adds up.

A process counts in memory, and writes its numbers once a second into a file of its own, ``data/metrics/0``, ``1`` …, which it holds locked
while it lives. Who comes after it takes the file over and counts on from there: so sums never fall, and there are as many files as there
were processes at once. What the last second brought is lost with a process that is killed. Nothing is synced. Where a file can't be
written the process counts for itself alone.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from carboy.ledgers import Ledger, Reading, Values, claim, read_all
from carboy.metrics import Labels, Metric

log = logging.getLogger("carboy")

FLUSH = 1.0
"""Seconds between two writings of what changed."""
MOST_SERIES = 4096
"""So many combinations of names and labels a process counts; more, which would be a mistake, are left out."""
_FOLDER = "metrics"

Sample = Callable[[], bool]
"""Sets what is read off rather than counted, and says whether something is under way, so that it has to be read again soon."""


@dataclass(slots=True)
class _Book:
    """What this process counts, and the file that it is written into; none, where there can't be one."""

    pid: int
    ledger: Ledger | None = None
    values: Values = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    changed: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    writer: threading.Thread | None = None

    def now(self) -> Values:
        """A copy."""
        with self.lock:
            return {key: list(cells) for key, cells in self.values.items()}


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
        slot = own.ledger.slot if own and own.ledger else -1
        found = [one for one in read_all(self.folder) if one.slot != slot] if self.folder else []
        if own:
            found.append(Reading(slot, True, own.pid, self.role, own.now()))
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
            if book.writer and book.writer is not threading.current_thread():
                book.writer.join(FLUSH)  # who closes may be about to fork

    # --- inside ---

    def _open(self) -> _Book:
        with self._opening:
            book = self._book
            if book is None:
                book = _Book(os.getpid())
                if self.folder and self._data and self._data.is_dir():
                    book.ledger = claim(self.folder)
                    book.values = book.ledger.counted if book.ledger else {}
                self._book = book
                weakref.finalize(self, _close, book, self.role)
                self._write_on(book)
            return book

    def _write_on(self, book: _Book) -> None:
        book.writer = threading.Thread(target=_keep_writing, args=(weakref.ref(self), book), name="metrics", daemon=True)
        try:
            book.writer.start()
        except RuntimeError:  # there is no thread left: what is counted is written when somebody asks, and at the end
            book.writer = None

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
    while True:
        book.changed.wait()
        owner = None if book.over.wait(FLUSH) else meter()
        if owner is None:
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


def _write(book: _Book, role: str) -> None:
    if book.ledger:
        book.ledger.write(book.pid, role, book.now())


def _close(book: _Book, role: str) -> None:
    if book.over.is_set() or book.pid != os.getpid():
        return
    _write(book, role)
    book.over.set()
    book.changed.set()
    if book.ledger:
        book.ledger.close()
