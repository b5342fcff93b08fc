"""Where the bytes of a part wait until it is sent: in memory, within a budget for the whole process, else in an unlinked file."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from carboy import checksums
from carboy.errors import CarboyError, StorageFull

SPOOL_FROM = 16 * 2**20
_PIECE = 2**20
_STEP = 64 * 2**10
_SPARE = 32 * 2**20


class Budget:
    """How much memory all blocks together may take. Thread-safe. ``folder`` is where files for the rest are made (None: the system's)."""

    def __init__(self, memory: int, folder: Path | None = None) -> None:
        self._left = memory
        self._lock = threading.Lock()
        self._folder = folder
        self._spare: list[memoryview] = []

    def take(self, size: int) -> bool:
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._left += size

    def buffer(self, size: int) -> memoryview:
        """One of that size with arbitrary content: memory that was in use is cheaper than new. Large ones are no part of the heap, which
        would keep them in each thread's arena."""
        if size < _PIECE:
            return memoryview(bytearray(size))
        with self._lock:
            for index, spare in enumerate(self._spare):
                if len(spare) == size:
                    return self._spare.pop(index)
        return memoryview(mmap.mmap(-1, size))

    def spare(self, buffer: memoryview) -> None:
        """Take back a buffer that nobody reads any more."""
        if len(buffer) < _PIECE:
            return
        with self._lock:
            self._spare.insert(0, buffer)
            while sum(map(len, self._spare)) > _SPARE:
                self._spare.pop()

    def block(self, capacity: int) -> Block:
        """Room for at most ``capacity`` bytes."""
        return Block(self, capacity)

    def file(self) -> BinaryIO:
        """An unlinked file, unbuffered."""
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(buffering=0, dir=self._folder)


class Block:
    """Bytes one after another, with their CRC-64/NVME; written by one thread, then read by any until closed."""

    def __init__(self, budget: Budget, capacity: int) -> None:
        self.size = 0
        self.crc = 0
        self._budget = budget
        self._capacity = capacity
        self._taken = 0
        self._memory = memoryview(b"")
        self._sent = memoryview(b"")
        self._file: BinaryIO | None = None

    def write(self, data: memoryview | bytes) -> None:
        """Raises StorageFull where it has to go to a file and there is no room for it."""
        crc, end = checksums.crc64nvme(data, self.crc), self.size + len(data)
        if self._file is None and (end <= self._taken or self._grow(end)):
            self._memory[self.size:end] = data
        else:
            self._spool(data)
        self.crc, self.size = crc, end

    def pieces(self) -> Iterator[memoryview]:
        """The bytes, in pieces of at most 1 MiB, each valid until the next is asked for."""
        if self._file is None:
            view = self._memory
            yield from (view[at:min(at + _PIECE, self.size)] for at in range(0, self.size, _PIECE))
            return
        buffer = memoryview(bytearray(min(_PIECE, self.size)))
        for at in range(0, self.size, _PIECE):
            size = os.preadv(self._file.fileno(), [buffer[:min(_PIECE, self.size - at)]], at)
            yield buffer[:size]

    def body(self) -> memoryview | _File:
        """What a request sends, from its start; good until the next is asked for, or the block is closed."""
        if self._file is not None:
            return _File(self._file.fileno(), self.size)
        self._sent.release()  # who sent it may still have it, in a cycle that is collected much later
        self._sent = self._memory[:self.size]
        return self._sent

    def close(self) -> None:
        """Nobody reads it any more. Repeatable."""
        self._release()
        if self._file is not None:
            self._file.close()

    def _grow(self, size: int) -> bool:
        """Room in memory for so many bytes, where there may be some: a little at first, then all that can come."""
        wanted = _STEP if size <= _STEP else min(_PIECE, max(size, self._capacity))
        if size > _PIECE:
            wanted = max(size, self._capacity)
            if self._capacity > SPOOL_FROM:
                return False
        if not self._budget.take(wanted - self._taken):
            return False
        self._taken = wanted
        before, self._memory = self._memory, self._budget.buffer(wanted)
        self._memory[:self.size] = before[:self.size]
        self._budget.spare(before)
        return True

    def _release(self) -> None:
        self._sent.release()
        taken, self._taken = self._taken, 0
        memory, self._memory = self._memory, memoryview(b"")
        self._budget.give(taken)
        self._budget.spare(memory)

    def _spool(self, data: memoryview | bytes) -> None:
        try:
            if self._file is None:
                self._file = self._budget.file()
                _write_all(self._file, self._memory[:self.size])
                self._release()
            _write_all(self._file, data)
        except OSError as error:
            raise _disk_error(error) from error


class _File:
    """A file of a part as a request's body: its length is known, it gives pieces, and may be sent again from the start."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size = fd, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        buffer, at = memoryview(bytearray(min(_PIECE // 4, self._size))), 0
        while at < self._size:
            got = os.preadv(self._fd, [buffer[:self._size - at]], at)
            if not got:
                raise OSError("a temporary file is cut")
            yield buffer[:got]
            at += got

    def seek(self, offset: int) -> None:
        """Each iteration begins at the start."""

    def tell(self) -> int:
        return 0


def _write_all(file: BinaryIO, data: memoryview | bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view):]


def _disk_error(error: OSError) -> CarboyError:
    return StorageFull(f"a part that waits for the storage finds no room on this machine's disk ({error.strerror})")
