"""Counters that all worker processes of a machine share: a file of fixed size in the data folder.

It is what a rate limit needs and no more: a table of slots, each a hash of a name, a count and when that ends, under one lock. Nothing is
synced, for a crash may forget who asked how often. Memory and disk are the same however many clients there are: where
all slots that a name may have are taken, the one that ends first makes way.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limits.storage import Storage

_SLOT = struct.Struct("<16sdQ")
_BUCKET = 16
"""Slots that a name may have, side by side."""
_BUCKETS = 4096


class SharedStorage(Storage):
    """A storage of ``limits`` for fixed windows. Exact between threads and processes; opens lazily, in each process for itself."""

    STORAGE_SCHEME = ["carboy"]  # noqa: RUF012  as the base class has it

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, *, path: Path | None = None, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions, **options)
        self._path = path or Path((uri or "").removeprefix("carboy://"))
        self._opened: tuple[int, int] | None = None
        self._lock = threading.Lock()

    @property
    def base_exceptions(self) -> type[Exception]:
        return OSError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count ``amount`` more in the window that is open, or begins now, and is ``expiry`` seconds long; the new count."""
        now = time.time()
        with self._bucket(key) as (slots, name):
            at = slots.find(name)
            count, ends = slots.at(at) if at is not None else (0, 0.0)
            if at is None or not now < ends <= now + expiry:  # over, or begun before the clock was set back
                at, count, ends = slots.spare() if at is None else at, 0, now + expiry
            slots.put(at, name, count + amount, ends)
            return count + amount

    def get(self, key: str) -> int:
        return self._read(key)[0]

    def get_expiry(self, key: str) -> float:
        return self._read(key)[1]

    def clear(self, key: str) -> None:
        with self._bucket(key) as (slots, name):
            at = slots.find(name)
            if at is not None:
                slots.put(at, bytes(16), 0, 0.0)

    def check(self) -> bool:
        try:
            self._descriptor()
        except OSError:
            return False
        return True

    def reset(self) -> None:
        with self._lock:
            os.ftruncate(self._descriptor(), 0)

    def close(self) -> None:
        """Let the file go. Repeatable; it opens again when it is needed."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened and opened[0] == os.getpid():
            os.close(opened[1])

    def _read(self, key: str) -> tuple[int, float]:
        now = time.time()
        with self._bucket(key) as (slots, name):
            at = slots.find(name)
            count, ends = slots.at(at) if at is not None else (0, 0.0)
        return (count, ends) if ends > now else (0, now)

    @contextmanager
    def _bucket(self, key: str) -> Iterator[tuple[_Slots, bytes]]:
        """The slots where this name may be, and the name's hash; nobody else touches them meanwhile. Written back if changed."""
        name = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        offset = int.from_bytes(name[:4], "little") % _BUCKETS * _BUCKET * _SLOT.size
        with self._lock:
            file = self._descriptor()
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                slots = _Slots(os.pread(file, _BUCKET * _SLOT.size, offset))
                yield slots, name
                if slots.changed:
                    os.pwrite(file, slots.data, offset)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def _descriptor(self) -> int:
        """The file, opened by this very process: what a parent opened shares the parent's lock."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._opened = os.getpid(), os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return self._opened[1]


class _Slots:
    """A bucket's slots."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data.ljust(_BUCKET * _SLOT.size, b"\0"))
        self.changed = False

    def find(self, name: bytes) -> int | None:
        return next((at for at in range(_BUCKET) if self.data.startswith(name, at * _SLOT.size)), None)

    def spare(self) -> int:
        """The slot that ends first, which is one that has ended, if there is any."""
        return min(range(_BUCKET), key=lambda at: self.at(at)[1])

    def at(self, at: int) -> tuple[int, float]:
        _, ends, count = _SLOT.unpack_from(self.data, at * _SLOT.size)
        return count, ends

    def put(self, at: int, name: bytes, count: int, ends: float) -> None:
        _SLOT.pack_into(self.data, at * _SLOT.size, name, ends, count)
        self.changed = True
