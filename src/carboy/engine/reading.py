"""Reading stored bytes, or a file's, to see what they are: size, CRC-64/NVME, SHA-256 where it is wanted, first bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from carboy import checksums
from carboy.catalog.base import Catalog
from carboy.errors import BytesDamaged
from carboy.model import Blob
from carboy.storage.base import Storage
from carboy.streams import HEAD_SIZE

PIECE = 2**20
Pace = Callable[[int], None]
"""Called with the number of bytes just read; it may wait."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the bytes were. ``sha256`` only where it was asked for."""

    size: int
    crc64nvme: int
    sha256: bytes | None
    head: bytes

    def fits(self, blob: Blob) -> bool:
        """Whether they are those of the blob."""
        return (self.size == blob.size and self.crc64nvme == blob.crc64nvme
                and (blob.sha256 is None or self.sha256 is None or self.sha256 == blob.sha256))


def look(pieces: Iterable[bytes], *, sha256: bool = False, pace: Pace | None = None) -> Seen:
    """Read all of it."""
    size, crc, head, digest = 0, 0, b"", hashlib.sha256()
    for piece in pieces:
        if len(head) < HEAD_SIZE:
            head += piece[:HEAD_SIZE - len(head)]
        size += len(piece)
        crc = checksums.crc64nvme(piece, crc)
        if sha256:
            digest.update(piece)
        if pace:
            pace(len(piece))
    return Seen(size, crc, digest.digest() if sha256 else None, head)


def stored(storage: Storage, blob: Blob, pace: Pace | None = None) -> Seen:
    """The bytes that a storage has for the blob, with their SHA-256 where the blob's is known. Raises BytesMissing, StorageFailed."""
    return look(storage.read(blob.key), sha256=blob.sha256 is not None, pace=pace)


def proved(pieces: Iterable[bytes], blob: Blob) -> Iterator[bytes]:
    """The whole of a blob on its way to somebody, from a storage that may send something else. The last piece is given only when their
    CRC-64/NVME is the blob's, so that nobody gets all of a file that isn't it. Raises BytesDamaged instead."""
    crc, last = 0, b""
    for piece in pieces:
        crc = checksums.crc64nvme(piece, crc)
        if last:
            yield last
        last = piece
    if crc != blob.crc64nvme:
        raise BytesDamaged("the storage sent other bytes than were received", blob=blob.id)
    if last:
        yield last


def is_where_it_was(catalog: Catalog, blob: Blob) -> bool:
    """Whether the blob is still known, and still under this key of this storage."""
    found = catalog.blob(blob.id)
    return found is not None and (found.storage, found.key) == (blob.storage, blob.key)


def pieces(file: int) -> Iterator[bytes]:
    """An open file's bytes from its start, in pieces of at most 1 MiB. Raises OSError."""
    at = 0
    while piece := os.pread(file, PIECE, at):
        yield piece
        at += len(piece)
