"""What writes one blob's file, with the disk's headroom and errors."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from carboy.errors import Busy, BytesMissing, CarboyError, RangeBusy, StorageFailed, StorageFull, StorageReadOnly
from carboy.measuring import NOTHING, Meter
from carboy.metrics import STORAGE_ERRORS, SYNC_SECONDS
from carboy.model import Key, Span
from carboy.storage.base import Kept
from carboy.storage.copying import copy_bytes
from carboy.storage.locks import try_lock

E = TypeVar("E", bound=CarboyError)
_PIECE = 2**20


def storage_error(error: OSError) -> CarboyError:
    """What an operating system's error means for the bytes."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("there is no room left on the storage")
    if error.errno == errno.EROFS:
        return StorageReadOnly("the storage is mounted read-only")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Busy("the server has no file descriptor left; try again")
    return StorageFailed(f"the storage failed: {errno.errorcode.get(error.errno or 0, 'unknown error')}")


class Told:
    """What a storage meets, told to the meter."""

    def __init__(self, meter: Meter = NOTHING, name: str = "local") -> None:
        self._meter = meter
        self._name = name

    def error(self, error: OSError) -> CarboyError:
        """What it means for the bytes."""
        return self.counted(storage_error(error))

    def counted(self, error: E) -> E:
        """The same error."""
        self._meter.add(STORAGE_ERRORS, (self._name, error.code))
        return error

    def sync(self, sync: Callable[[int], None], fd: int, kind: str) -> None:
        """Sync a ``file`` or a ``folder``. Raises OSError."""
        began = time.perf_counter()
        sync(fd)
        self._meter.observe(SYNC_SECONDS, time.perf_counter() - began, (self._name, kind))


class Headroom:
    """Keeps min(64 MiB, 10 %) of the file system free for the catalog. Asks the kernel once in many writes."""

    def __init__(self, fd: int, told: Told) -> None:
        self._fd = fd
        self._told = told
        self._budget = 0
        self._lock = threading.Lock()

    def room(self) -> int:
        stat = os.statvfs(self._fd)
        return max(0, stat.f_bavail * stat.f_frsize - min(64 * 2**20, stat.f_blocks * stat.f_frsize // 10))

    def spend(self, size: int) -> None:
        """Raises StorageFull where ``size`` more bytes would go into the headroom."""
        with self._lock:
            self._budget -= size
            if self._budget >= 0:
                return
            room = self.room()
            self._budget = min(room // 8, 64 * 2**20)
        if room < size:
            raise self._told.counted(StorageFull("there is no room left on the storage", room=room))


class LocalWriter:
    """Writes one blob's file at a moving place; see :class:`carboy.storage.base.Writer`."""

    lease: str | None = None

    def __init__(self, fd: int, at: int, headroom: Headroom, durable: bool, open_blob: Callable[[Key], int],
                 told: Told) -> None:
        self._fd = fd
        self._open = open_blob
        self._told = told
        self._at = at
        self._headroom = headroom
        self._durable = durable
        self._failed: CarboyError | None = None

    def write(self, data: memoryview | bytes) -> None:
        self._headroom.spend(len(data))
        view = memoryview(data)
        try:
            while view:
                size = os.pwrite(self._fd, view, self._at)
                self._at += size
                view = view[size:]
        except OSError as error:
            raise self._told.error(error) from error

    def compare(self, data: memoryview | bytes) -> bool:
        view, at = memoryview(data), self._at
        self._at += len(view)
        while view:
            stored = os.pread(self._fd, min(len(view), _PIECE), at)
            if not stored or view[:len(stored)] != stored:
                return False
            at += len(stored)
            view = view[len(stored):]
        return True

    def copy(self, key: Key, start: int, size: int, crc: int | None = None) -> None:
        source = self._open(key)
        try:
            if os.fstat(source).st_size < start + size:
                raise BytesMissing("a piece of the upload is cut", key=key)
            self.take(source, start, size)
        finally:
            os.close(source)

    def take(self, source: int, start: int, size: int) -> None:
        """As :meth:`copy`, from an open file."""
        self._headroom.spend(size)
        try:
            copy_bytes(source, start, self._fd, self._at, size)
        except OSError as error:
            raise self._told.error(error) from error
        self._at += size

    def flush(self) -> None:
        if self._failed:
            raise self._failed
        if self._durable:
            try:
                self._told.sync(os.fdatasync, self._fd, "file")
            except OSError as error:
                self._failed = self._told.counted(StorageFailed("the bytes could not be synced to stable storage"))
                raise self._failed from error

    spread = flush

    def keep(self, written: Sequence[Span], *, last: bool) -> Kept:
        self.flush()
        return Kept(written)

    def extend(self, end: int) -> None:
        if not try_lock(self._fd, self._at, end):
            raise RangeBusy("another request is writing these bytes", start=self._at, end=end)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
