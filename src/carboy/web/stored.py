"""A blob's bytes on their way to a client, from a file or from a storage that streams."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import BinaryIO, Protocol

from carboy.engine.reading import proved
from carboy.errors import BytesMissing, CarboyError
from carboy.model import Blob, Key, Span
from carboy.storage.base import OnDisk
from carboy.web.ranges import Range

log = logging.getLogger("carboy")

PIECE = 64 * 2**10
"""The most that one write to a client carries where sendfile can't, and the size up to which a body is simply read."""


class Readable(Protocol):
    """The part of a storage that downloads need; ``OnDisk`` besides, where blobs are files."""

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]: ...

    def size(self, key: Key) -> int | None: ...


class Reader(Protocol):
    """One blob's bytes, known to be there."""

    def pieces(self, part: Range) -> Iterator[bytes]:
        """Those of a range, each as long as one write to a client."""

    def close(self) -> None:
        """Repeatable."""


def reader(blob: Blob, storage: Readable) -> Reader:
    """Raises BytesMissing, at the latest when the first piece is asked for."""
    return FileReader(blob, storage) if isinstance(storage, OnDisk) else StreamReader(blob, storage)


class FileReader:
    """Reads a file on a disk without moving its position."""

    def __init__(self, blob: Blob, storage: OnDisk) -> None:
        self._blob = blob
        self.file: BinaryIO = storage.open(blob.key)
        try:
            check_stored(blob, os.fstat(self.file.fileno()).st_size)
        except BytesMissing:
            self.close()
            raise

    def pieces(self, part: Range) -> Iterator[bytes]:
        at, end = part
        while at < end:
            piece = os.pread(self.file.fileno(), min(PIECE, end - at), at)
            if not piece:
                raise _missing(self._blob)
            at += len(piece)
            yield piece

    def close(self) -> None:
        self.file.close()


class StreamReader:
    """Reads from a storage that isn't a disk, and lets its connection go when the client does."""

    def __init__(self, blob: Blob, storage: Readable) -> None:
        self._blob = blob
        self._storage = storage
        self._open = ExitStack()

    def pieces(self, part: Range) -> Iterator[bytes]:
        """The storage is asked, and has sent the first bytes, before this returns. Raises BytesMissing."""
        read = self._storage.read(self._blob.key, Span(*part)) if part[1] > part[0] else iter(())
        if isinstance(read, Generator):
            self._open.callback(read.close)
        pieces = proved(read, self._blob) if part == (0, self._blob.size) else read
        return self._counted(next(pieces, b""), pieces, part)

    def _counted(self, first: bytes, others: Iterator[bytes], part: Range) -> Iterator[bytes]:
        left = part[1] - part[0]
        for piece in chain([first], others):
            left -= len(piece)
            for at in range(0, len(piece), PIECE):
                yield piece[at:at + PIECE]
        if left:
            raise _missing(self._blob)

    def close(self) -> None:
        self._open.close()


class Pieces:
    """A body that lets its reader go when the server is done with it, at the end or before. Where bytes turn out to be missing or damaged
    on the way, it breaks off: the client sees that they are too few."""

    def __init__(self, reader: Reader, pieces: Iterator[bytes]) -> None:
        self._reader = reader
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except CarboyError as error:
            log.error("a download breaks off: %s: %s %s", error.code, error.detail, error.facts)
            raise ConnectionResetError(errno.ECONNRESET, "the download breaks off") from error

    def close(self) -> None:
        self._reader.close()


def check_stored(blob: Blob, stored: int | None) -> None:
    """Raises BytesMissing unless so many bytes are all of the blob's."""
    if stored is None or stored < blob.size:
        raise _missing(blob)


def _missing(blob: Blob) -> BytesMissing:
    return BytesMissing(f"The blob {blob.id} is not in its storage as the catalog has it.", blob=blob.id)
