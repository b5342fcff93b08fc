"""Stored bytes as a Python file, and a Python file as a Source."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO, Protocol

from carboy.errors import BytesDamaged, BytesMissing, InvalidRequest, StorageFailed, StorageUnavailable
from carboy.model import Blob, Span
from carboy.storage.base import OnDisk, Storage
from carboy.streams import Ending

PIECE = 2**20
SHORTEST, LONGEST = 2**20, 2**30
"""How much of a blob in a storage that isn't a disk is asked for at once."""
_BUFFER = 128 * 2**10


def open_blob(blob: Blob, storage: Storage) -> BinaryIO:
    """A buffered, seekable file of the blob's bytes. Raises BytesMissing, BytesDamaged."""
    if blob.damaged_at is not None:
        raise BytesDamaged("the stored bytes are not the ones that were received", blob=blob.id)
    raw = _OnDisk(blob, storage.open(blob.key)) if isinstance(storage, OnDisk) else _Remote(blob, storage)
    return io.BufferedReader(raw, min(_BUFFER, max(1, blob.size)))


class _Blob(io.RawIOBase):
    """The bytes of a blob, and not one past its size."""

    def __init__(self, blob: Blob) -> None:
        super().__init__()
        self._blob = blob
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blob.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        size = max(0, min(len(view), self._blob.size - self._at))
        got = self._fill(view[:size]) if size else 0
        if size and not got:
            raise BytesMissing("the stored bytes are missing", blob=self._blob.id)
        self._at += got
        return got

    def _fill(self, view: memoryview) -> int:
        raise NotImplementedError


class _OnDisk(_Blob):
    def __init__(self, blob: Blob, file: BinaryIO) -> None:
        super().__init__(blob)
        self._file = file

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _fill(self, view: memoryview) -> int:
        return os.preadv(self._file.fileno(), [view], self._at)


class _Remote(_Blob):
    """Reads ahead: while it is read on, one answer of the storage stays open for a stretch, which grows each time one was read to its end.
    After a seek it is short again, so that looking here and there fetches little."""

    def __init__(self, blob: Blob, storage: Storage) -> None:
        super().__init__(blob)
        self._storage = storage
        self._pieces: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")
        self._next, self._end = 0, -1
        self._stretch = SHORTEST

    def close(self) -> None:
        if not self.closed:
            self._let_go()
        super().close()

    def _fill(self, view: memoryview) -> int:
        self._go_to(self._at, len(view))
        if not self._rest:
            self._rest = memoryview(self._piece())
        size = min(len(view), len(self._rest))
        view[:size], self._rest = self._rest[:size], self._rest[size:]
        self._next += size
        return size

    def _piece(self) -> bytes:
        """The next one, b"" past the end. An answer that was left lying may have been broken off: it is asked for again, once."""
        try:
            return next(self._pieces, b"")
        except (StorageUnavailable, StorageFailed):
            self._open(self._end)
            return next(self._pieces, b"")

    def _go_to(self, at: int, size: int) -> None:
        skipped = at - self._next
        if 0 <= skipped <= len(self._rest) and (skipped or self._rest):
            self._rest, self._next = self._rest[skipped:], at
        if at == self._next and (self._rest or at < self._end):
            return
        self._stretch = min(self._stretch * 4, LONGEST) if at == self._next == self._end else SHORTEST
        self._next = at
        self._open(min(at + max(self._stretch, size), self._blob.size))

    def _open(self, end: int) -> None:
        self._let_go()
        self._end = end
        self._pieces = self._storage.read(self._blob.key, Span(self._next, end))

    def _let_go(self) -> None:
        self._rest = memoryview(b"")
        if isinstance(self._pieces, Generator):
            self._pieces.close()


class Readable(Protocol):
    """A binary file open for reading."""

    def read(self, size: int, /) -> bytes: ...


Content = bytes | bytearray | memoryview | Readable | Iterable[bytes]
"""What may be put: bytes, a binary file (from where it stands), or pieces of bytes."""


class ContentSource:
    """A Source over what a Python program gives. What fails while it is read fails the caller."""

    remaining: int | None = None

    def __init__(self, content: Content) -> None:
        self.ended: Ending = "open"
        self._content = content
        if isinstance(content, (bytes, bytearray, memoryview)):
            self.remaining = len(content)

    def lend(self) -> Iterator[memoryview]:
        for piece in _pieces(self._content):
            if self.ended != "open":
                return
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise InvalidRequest(f"a file's content is bytes, not {type(piece).__name__}; open files with mode 'rb'")
            yield memoryview(piece)
        self.ended = "complete"

    def give(self) -> Iterator[bytes]:
        return map(bytes, self.lend())

    def stop(self) -> None:
        self.ended = "stopped"


def _pieces(content: Content) -> Iterator[bytes | memoryview]:
    if isinstance(content, (bytes, bytearray, memoryview)):
        yield memoryview(content).cast("B")
    elif hasattr(content, "read"):
        while piece := content.read(PIECE):
            yield piece
    elif isinstance(content, Iterable) and not isinstance(content, str):
        yield from content
    else:
        raise InvalidRequest(f"a file's content is bytes, a binary file or pieces of bytes, not {type(content).__name__}")
