"""What is put together from pieces: numbered chunks whose place was not known, and uploads that are parts of another.

The storage copies, inside the kernel where it can; no byte passes through Python, and CRCs combine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from carboy import checksums
from carboy.catalog.base import Catalog
from carboy.engine import limits
from carboy.errors import (
    CommitUnknown,
    Conflict,
    InvalidRequest,
    MissingBytes,
    RangeBusy,
    StorageFailed,
    UploadGone,
)
from carboy.model import Blob, Chunk, File, Fragment, Key, Placed, Progress, Span, Upload
from carboy.storage.base import OnDisk, Storage, Writer


class Host(Protocol):
    """The part of :class:`carboy.engine.uploads.Uploads` that joining needs."""

    catalog: Catalog
    storages: Mapping[str, Storage]
    clock: Callable[[], float]

    def record(self, upload: Upload, spans: Sequence[Span], chunk: Chunk | None = None, size: int | None = None, *,
               fragments: Sequence[Fragment] = (), lease: str | None = None) -> Progress: ...

    def writer(self, upload: Upload, at: int, end: int | None) -> AbstractContextManager[Writer]: ...

    def seal(self, upload: Upload, size: int) -> None: ...

    def receiving(self, id: str) -> Progress: ...

    def complete(self, progress: Progress, *, blob: Blob | None = None) -> Placed: ...

    def file(self, upload: Upload) -> File | None: ...

    def most(self, upload: Upload, at: int, limit: int | None) -> int: ...

    def give_up(self, upload: Upload, code: str) -> None: ...

    def used_up(self, upload: Upload) -> None: ...


# --- chunks --------------------------------------------------------------------------------------------------------


def complete_chunks(host: Host, progress: Progress, total: int) -> Placed:
    """All of ``total`` numbered chunks are there: complete; whoever else asks meanwhile gets the same file. Raises
    MissingBytes that lists the missing indices."""
    try:
        return _complete_chunks(host, progress.upload, total)
    except (Conflict, InvalidRequest, UploadGone, StorageFailed):
        done = host.catalog.upload(progress.upload.id)
        file = host.file(done.upload) if done and done.upload.state == "complete" else None
        if file is None:
            raise
        return Placed(file, created=file.version == 1)


def _complete_chunks(host: Host, upload: Upload, total: int) -> Placed:
    totals = host.catalog.chunk_totals(upload.id)
    if totals.count < total or totals.highest >= total:
        _check_chunks(host, upload, total)
    if totals.pieces:
        chunks = host.catalog.chunks(upload.id)
        reads_back = isinstance(host.storages[upload.storage], OnDisk)
        return _join(host, upload, chunks) if reads_back else _join_in_place(host, upload, chunks)
    progress = host.record(upload, [], size=totals.end)
    if not progress.covered:
        raise MissingBytes("there are gaps between the chunks", missing=[list(gap) for gap in progress.missing])
    return host.complete(progress)


def _check_chunks(host: Host, upload: Upload, total: int) -> None:
    """Raises MissingBytes with the indices that are missing, InvalidRequest where there are more."""
    indices = {chunk.index for chunk in host.catalog.chunks(upload.id)}
    missing = [index for index in range(total) if index not in indices]
    if missing:
        raise MissingBytes(f"{len(missing)} of {total} chunks are missing", missing=missing[:1000])
    if len(indices) > total:
        raise InvalidRequest(f"{len(indices)} chunks came, not {total}", total_chunks=total, received=len(indices))


def _join(host: Host, upload: Upload, chunks: list[Chunk]) -> Placed:
    storage = host.storages[upload.storage]
    size = sum(chunk.size for chunk in chunks)
    limits.check_size(size, host.most(upload, 0, None))
    if upload.size is not None and size < upload.size:
        raise MissingBytes(f"the chunks hold {size} bytes, {upload.size} were declared", declared=upload.size, size=size)
    kept = False
    with storage.stage(size) as (key, writer):
        try:
            crc = _copy_chunks(upload, chunks, storage, writer)
            blob = Blob(key[3:], upload.storage, key, size, crc, None, host.clock())
            placed = host.complete(host.receiving(upload.id), blob=blob)
            kept = placed.file.blob.key == key
        except CommitUnknown:
            kept = True
            raise
        finally:
            writer.close()
            if not kept:
                storage.delete(key)
    return placed


def _join_in_place(host: Host, upload: Upload, chunks: list[Chunk]) -> Placed:
    """Pieces go into the upload itself, between the chunks that have their place already: for storages where those can't be read before
    it is sealed. Repeatable."""
    limits.check_size(sum(chunk.size for chunk in chunks), host.most(upload, 0, None))
    at, run = 0, list[Chunk]()
    for chunk in chunks:
        if chunk.key is None:
            if chunk.start != at:
                raise Conflict("the chunks don't go on one after another", index=chunk.index, start=chunk.start, expected=at)
            _put_in_place(host, upload, at, run)
            run = []
        else:
            run.append(chunk)
        at += chunk.size
    _put_in_place(host, upload, at, run)
    return host.complete(host.record(upload, [], size=at))


def _put_in_place(host: Host, upload: Upload, end: int, pieces: Sequence[Chunk]) -> None:
    """Pieces that go on one after another, and end there."""
    span = Span(end - sum(piece.size for piece in pieces), end, _crc_of(pieces))
    if not span.length:
        return
    with host.writer(upload, span.start, span.end) as writer:
        if any(known.start <= span.start and span.end <= known.end for known in host.receiving(upload.id).spans):
            return
        for piece in pieces:
            if piece.key and piece.size:
                writer.copy(piece.key, 0, piece.size, piece.crc)
        kept = writer.keep([span], last=True)
        host.record(upload, kept.spans, fragments=kept.fragments, lease=writer.lease)


def _crc_of(pieces: Sequence[Chunk]) -> int:
    crc = 0
    for piece in pieces:
        crc = checksums.combine(crc, piece.crc, piece.size)
    return crc


def _copy_chunks(upload: Upload, chunks: list[Chunk], storage: Storage, writer: Writer) -> int:
    """One after another into the writer, on stable storage; their CRC."""
    crc = 0
    for chunk in chunks:
        start = 0 if chunk.key else chunk.start or 0
        writer.copy(chunk.key or upload.key, start, chunk.size, chunk.crc if chunk.key else None)
        crc = checksums.combine(crc, chunk.crc if chunk.key else _crc(storage, upload.key, start, chunk.size), chunk.size)
    writer.flush()
    return crc


def _crc(storage: Storage, key: Key, start: int, size: int) -> int:
    crc = 0
    for piece in storage.read(key, Span(start, start + size)):
        crc = checksums.crc64nvme(piece, crc)
    return crc


# --- uploads that are parts of another -----------------------------------------------------------------------------


def join_parts(host: Host, upload: Upload) -> None:
    """Put the parts of a receiving upload together, if all are covered: its bytes are recorded then, and the parts are used up.

    It fails for good where a part was cancelled, has failed or is too old. Whoever joins them already is left alone. Raises TooLarge.
    """
    parts = [host.catalog.upload(id) for id in upload.parts]
    if any(part is None or part.upload.state != "receiving" for part in parts):
        if not _is_joined(host, upload):  # they are used up where another has just joined them
            host.give_up(upload, "missing_bytes")
        return
    found = [part for part in parts if part is not None]
    if not all(part.covered for part in found):
        return
    size = sum(part.upload.size or 0 for part in found)
    limits.check_size(size, host.most(upload, 0, None))
    try:
        with host.writer(upload, 0, None) as writer:
            _join_parts(host, upload, found, size, writer)
    except RangeBusy:
        return
    for part in {part.upload.id: part.upload for part in found}.values():
        host.used_up(part)


def keep_waiting(host: Host, upload: Upload, until: float) -> None:
    """An upload of parts, and those parts, don't expire before that time."""
    for id in {upload.id, *upload.parts}:
        one = host.catalog.upload(id)
        if one and one.upload.state == "receiving" and one.upload.expires_at < until:
            host.record(one.upload, [])


def _is_joined(host: Host, upload: Upload) -> bool:
    progress = host.catalog.upload(upload.id)
    return progress is None or progress.upload.state != "receiving" or progress.covered


def _join_parts(host: Host, upload: Upload, parts: Sequence[Progress], size: int, writer: Writer) -> None:
    if _is_joined(host, upload):
        return
    crc = 0
    for part in parts:
        length = part.upload.size or 0
        if length:
            host.seal(part.upload, length)
            writer.copy(part.upload.key, 0, length, part.spans[0].crc)
            crc = checksums.combine(crc, part.spans[0].crc, length)
    kept = writer.keep([Span(0, size, crc)] if size else [], last=True)
    host.record(upload, kept.spans, size=size, fragments=kept.fragments, lease=writer.lease)
