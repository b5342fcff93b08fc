"""The life of an upload: bytes that come in several requests, at any place, in any order, over many connections.

Every 2xx about received bytes follows their sync and the catalog's commit. There is no public ``finish``: whatever makes an
upload covered completes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress

from carboy import checksums, streams
from carboy.catalog.base import Catalog, Reservation
from carboy.config import Settings, SpaceSettings
from carboy.engine import limits, quotas
from carboy.engine.asks import Asks
from carboy.engine.receive import Digests, Target
from carboy.engine.turns import Turns
from carboy.engine.writing import Piece, Writing
from carboy.errors import (
    BytesDiffer,
    CarboyError,
    CommitUnknown,
    Conflict,
    InvalidRequest,
    MissingBytes,
    NotFound,
    StorageFailed,
    TooLarge,
    UploadGone,
)
from carboy.model import Act, Blob, Chunk, Condition, File, Key, Placed, Progress, Span, Upload, new_id
from carboy.storage.base import Storage, Writer


class Uploads:
    """Begins, writes, completes and ends uploads. Safe from any thread; several processes may share the catalog."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], executor: Executor,
                 clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.catalog = catalog
        self.executor = executor
        self.turns = Turns(Asks(settings.data.absolute() / "turns"))
        self._storages = storages
        self._clock = clock

    # --- beginning and finding ---

    def begin(self, target: Target, *, protocol: str, name: str | None = None, size: int | None = None,
              chunk_size: int | None = None) -> Progress:
        """A new upload, durable before this returns; with a ``name`` that is taken, the one that has it.

        Raises TooLarge, QuotaExceeded or StorageFull for a declared size that won't fit.
        """
        limits.check_size(size, limits.largest(self.settings, target.rules))
        storage = self._storages[target.rules.storage]
        room = quotas.room_at(self.catalog, target.space, target.path, target.owner, target.rules)
        if room and size is not None:
            room.check(size)
        with storage.stage(size) as (key, writer):
            upload = self._new(target, key, dict(writer.flush()), protocol, name, size, chunk_size)
            try:
                self._reserve(upload, storage, room)
            except CarboyError:
                writer.close()
                storage.delete(key)
                raise
            kept = self.catalog.create_upload(upload)
        if kept.id != upload.id:
            storage.delete(key)
            self.catalog.release(upload.id)
        return self.progress(kept.id)

    def progress(self, id: str) -> Progress:
        """What is recorded of it. Completes it first where a crash came between the last byte and the file. Raises NotFound."""
        progress = self._found(id)
        if progress.upload.state == "receiving" and progress.covered:
            with suppress(CarboyError):
                self.complete(progress)
            return self.catalog.upload(id) or progress
        return progress

    def named(self, space: str, owner: str | None, name: str) -> Progress | None:
        """The receiving upload with the client's own name for it, else the last completed one."""
        return self.catalog.upload_named(space, owner, name)

    def file(self, upload: Upload) -> File | None:
        """What a complete upload became, if it is still there."""
        return self.catalog.file(upload.file_id) if upload.file_id else None

    # --- bytes ---

    @contextmanager
    def writing(self, upload: Upload, at: int, length: int | None, source: streams.Source, *, limit: int | None = None,
                likely: int | None = None, digests: Digests = (), index: int | None = None,
                whole: bool = False) -> Iterator[Writing]:
        """Write from ``at``: at most ``limit`` bytes, ``length`` where it is known. Feed in the block, then call ``end``.

        Where the length isn't known but is ``likely``, only that range is locked at first, so that neighbours go on.
        Leaving the block without ``end`` keeps what came (see :meth:`Writing.salvage`), unless digests prove it: those given, or
        with ``whole`` ones that the caller verifies before ``end``. Takes over from a request that
        writes the same bytes. Raises UploadGone, TooLarge past the declared size, RangeBusy.
        """
        if upload.state != "complete":  # what comes once more for a complete one is compared
            self._check_writable(upload, at, length)
        storage = self._storages[upload.storage]
        most = self._most(upload, at, limit)
        end = at + min(most, next((size for size in (length, likely) if size is not None), most))
        with self.turns.take(upload.key, at, end, source,
                             lambda: storage.writer(upload.key, at, end, upload.driver_state)) as writer:
            progress = self.written(upload)
            most = self._most(progress.upload, at, limit)
            pump = streams.Pump(writer, at=at, known=progress.spans, limit=most, digests=[name for name, _ in digests],
                                head=at == 0)
            writing = Writing(self, progress, pump, writer, end, digests, index, whole)
            try:
                yield writing
            except StorageFailed as error:
                self._fail(upload, error)
                raise
            except (BytesDiffer, TooLarge):
                self._salvage(writing, keep=False)
                raise
            except BaseException:
                self._salvage(writing)
                raise
            self._salvage(writing)
        if writing.progress.covered and writing.progress.upload.state == "receiving":
            writing.placed = self.complete(writing.progress)

    @contextmanager
    def repeating(self, upload: Upload, at: int) -> Iterator[streams.Pump]:
        """Bytes that come once more after the upload is complete: compared with what is there, and nothing is written. Raises
        BytesDiffer, TooLarge past the end, NotFound once the bytes are gone."""
        storage, size = self._storages[upload.storage], upload.size or 0
        with storage.writer(upload.key, at, size, upload.driver_state) as writer:
            yield streams.Pump(writer, at=at, known=[Span(0, size)], limit=max(0, size - at))

    def write(self, upload: Upload, at: int, source: streams.Source, *, digests: Digests = (), index: int | None = None) -> Writing:
        """All that the source gives, from ``at``. Raises BodyCut or TooSlow, with what came recorded, if it ended early."""
        with self.writing(upload, at, source.remaining, source, digests=digests, index=index) as writing:
            for piece in source.lend():
                writing.feed(piece)
            failure = streams.ending_error(source, writing.received)
            if failure:
                raise failure
            writing.end()
        return writing

    @contextmanager
    def piece(self, rules: SpaceSettings, digests: Digests = ()) -> Iterator[Piece]:
        """A numbered chunk whose place, or even upload, is not known yet: a file of its own. Kept only by ``Piece.keep``."""
        storage = self._storages[rules.storage]
        with storage.stage(None) as (key, writer):
            piece = Piece(self, key, writer, limits.largest(self.settings, rules), digests)
            try:
                yield piece
            finally:
                writer.close()
                if not piece.kept:
                    storage.delete(key)

    def check_type(self, upload: Upload, head: bytes) -> None:
        """Raises UnsupportedType where the first bytes already tell that the space won't have the file."""
        limits.media_type(head, upload.path.rpartition("/")[2], self._rules(upload.space))

    def record(self, upload: Upload, spans: list[Span], chunk: Chunk | None = None, size: int | None = None) -> Progress:
        """Commit what is already on stable storage. A lost answer to COMMIT is found out by reading again."""
        now = self._clock()
        try:
            return self.catalog.record(upload.id, spans, now=now, expires_at=now + self.settings.upload_expiry, size=size,
                                       chunk=chunk, reserve_until=now + self.settings.reservation_expiry)
        except CommitUnknown:
            progress = self.catalog.upload(upload.id)
            if progress is None or not self._recorded(progress, spans, chunk, size):
                raise
            return progress
        except UploadGone:
            if spans or size is not None or (chunk and chunk.key):
                raise
            return self.written(upload)

    def _recorded(self, progress: Progress, spans: list[Span], chunk: Chunk | None, size: int | None) -> bool:
        return (all(_within(span, progress.spans) for span in spans) and size in (None, progress.upload.size)
                and (chunk is None or chunk in self.catalog.chunks(progress.upload.id)))

    # --- ending ---

    def complete(self, progress: Progress, *, blob: Blob | None = None) -> Placed:
        """A covered upload becomes its file; repeatable. Raises UnsupportedType, PreconditionFailed or PathConflict, and
        then the bytes stay until the upload expires."""
        upload = progress.upload
        storage = self._storages[upload.storage]
        rules = self._rules(upload.space)
        blob = blob or self._blob(progress, storage)
        head = b"".join(storage.read(blob.key, Span(0, min(blob.size, streams.HEAD_SIZE))))
        target = self._target(upload, rules)
        now = self._clock()
        placement = target.placement(blob, limits.media_type(head, target.name, rules))
        return self.catalog.complete(upload.id, placement, now=now, expires_at=now + self.settings.upload_expiry, by=self._act(upload))

    def _act(self, upload: Upload) -> Act | None:
        return Act(upload.owner, "upload", upload.id) if self.settings.audit_expiry else None

    def complete_chunks(self, progress: Progress, total: int) -> Placed:
        """All of ``total`` numbered chunks are there: complete; whoever else asks meanwhile gets the same file. Raises
        MissingBytes that lists the missing indices."""
        try:
            return self._complete_chunks(progress.upload, total)
        except (Conflict, InvalidRequest, UploadGone, StorageFailed):
            done = self.catalog.upload(progress.upload.id)
            file = self.file(done.upload) if done and done.upload.state == "complete" else None
            if file is None:
                raise
            return Placed(file, created=file.version == 1)

    def _complete_chunks(self, upload: Upload, total: int) -> Placed:
        totals = self.catalog.chunk_totals(upload.id)
        if totals.count < total or totals.highest >= total:
            self._check_chunks(upload, total)
        if totals.pieces:
            return self._join(upload, self.catalog.chunks(upload.id))
        progress = self.record(upload, [], size=totals.end)
        if not progress.covered:
            raise MissingBytes("there are gaps between the chunks", missing=[list(gap) for gap in progress.missing])
        return self.complete(progress)

    def cancel(self, upload: Upload) -> None:
        """Take no more bytes and remove those that came. Raises UploadGone if it was no longer receiving."""
        now = self._clock()
        if not self.catalog.end_upload(upload.id, "cancelled", now=now, expires_at=now + self.settings.upload_expiry):
            raise UploadGone(f"the upload is already {upload.state}", state=upload.state)
        self.turns.stop(upload.key)

    # --- inside ---

    def _new(self, target: Target, key: Key, driver_state: dict[str, object], protocol: str, name: str | None,
             size: int | None, chunk_size: int | None) -> Upload:
        now = self._clock()
        return Upload(id=new_id(), space=target.space, path=target.path, owner=target.owner, protocol=protocol,
                      storage=target.rules.storage, key=key, name=name, size=size, chunk_size=chunk_size,
                      metadata=target.metadata, driver_state=driver_state,
                      if_match=",".join(target.condition.etags) if target.condition.etags else None,
                      created_at=now, touched_at=now, expires_at=now + self.settings.upload_expiry)

    def _reserve(self, upload: Upload, storage: Storage, quota: quotas.Room | None) -> None:
        if upload.size is None or upload.size < self.settings.reserve_from:
            return
        now, room = self._clock(), storage.room()
        reservation = Reservation(upload.id, storage.name, upload.owner or "", upload.size, now + self.settings.reservation_expiry)
        reservation = quotas.promised(reservation, upload.space, upload.size, quota)
        self.catalog.reserve(reservation, room=room, cap=int(room * self.settings.reservation_cap), now=now)

    def _check_writable(self, upload: Upload, at: int, length: int | None) -> None:
        if upload.state != "receiving":
            raise UploadGone(f"the upload is {upload.state}", state=upload.state, failure=upload.failure)
        end = at + (length or 0)
        if upload.size is not None and end > upload.size:
            raise TooLarge(f"bytes to {end} are past the declared size of {upload.size}", limit=upload.size)

    def written(self, upload: Upload) -> Progress:
        """What is recorded of an upload that takes bytes, or whose declared size another request has completed meanwhile: then
        that is all of it, and what comes once more is only compared. Raises NotFound, UploadGone."""
        progress = self._found(upload.id)
        if upload.size is None or progress.upload.state != "complete" or not progress.covered:
            self._check_writable(progress.upload, 0, None)
        return progress

    def receiving(self, id: str) -> Progress:
        """What is recorded of an upload that takes bytes. Raises NotFound, UploadGone."""
        progress = self._found(id)
        self._check_writable(progress.upload, 0, None)
        return progress

    def _found(self, id: str) -> Progress:
        progress = self.catalog.upload(id)
        if progress is None:
            raise NotFound("there is no such upload", upload=id)
        return progress

    def _most(self, upload: Upload, at: int, limit: int | None) -> int:
        largest = limits.largest(self.settings, self._rules(upload.space))
        end = upload.size if upload.size is not None else largest
        return max(0, min(end - at, limit if limit is not None else end))

    def _salvage(self, writing: Writing, keep: bool = True) -> None:
        try:
            writing.salvage() if keep else writing.discard()
        except StorageFailed as error:
            self._fail(writing.progress.upload, error)
            raise

    def _fail(self, upload: Upload, error: CarboyError) -> None:
        now = self._clock()
        self.catalog.end_upload(upload.id, "failed", now=now, failure=error.code, expires_at=now + self.settings.upload_expiry)

    def _blob(self, progress: Progress, storage: Storage) -> Blob:
        upload = progress.upload
        size = upload.size or 0
        storage.seal(upload.key, size, upload.driver_state)
        crc = progress.spans[0].crc if size else 0
        return Blob(upload.key[3:], upload.storage, upload.key, size, crc, None, self._clock())

    def _check_chunks(self, upload: Upload, total: int) -> None:
        """Raises MissingBytes with the indices that are missing, InvalidRequest where there are more."""
        indices = {chunk.index for chunk in self.catalog.chunks(upload.id)}
        missing = [index for index in range(total) if index not in indices]
        if missing:
            raise MissingBytes(f"{len(missing)} of {total} chunks are missing", missing=missing[:1000])
        if len(indices) > total:
            raise InvalidRequest(f"{len(indices)} chunks came, not {total}", total_chunks=total, received=len(indices))

    def _join(self, upload: Upload, chunks: list[Chunk]) -> Placed:
        storage = self._storages[upload.storage]
        size = sum(chunk.size for chunk in chunks)
        limits.check_size(size, self._most(upload, 0, None))
        if upload.size is not None and size < upload.size:
            raise MissingBytes(f"the chunks hold {size} bytes, {upload.size} were declared", declared=upload.size, size=size)
        kept = False
        with storage.stage(size) as (key, writer):
            try:
                crc = self._copy_chunks(upload, chunks, storage, writer)
                blob = Blob(key[3:], upload.storage, key, size, crc, None, self._clock())
                placed = self.complete(self.receiving(upload.id), blob=blob)
                kept = placed.file.blob.key == key
            except CommitUnknown:
                kept = True
                raise
            finally:
                writer.close()
                if not kept:
                    storage.delete(key)
        return placed

    def _copy_chunks(self, upload: Upload, chunks: list[Chunk], storage: Storage, writer: Writer) -> int:
        """One after another into the writer, on stable storage; their CRC."""
        crc = 0
        for chunk in chunks:
            start = 0 if chunk.key else chunk.start or 0
            writer.copy(chunk.key or upload.key, start, chunk.size)
            crc = checksums.combine(crc, chunk.crc if chunk.key else _crc(storage, upload.key, start, chunk.size), chunk.size)
        writer.flush()
        return crc

    def _rules(self, space: str) -> SpaceSettings:
        rules = self.settings.spaces.get(space)
        if rules is None:
            raise NotFound(f"there is no space {space!r} any more", space=space)
        return rules

    def _target(self, upload: Upload, rules: SpaceSettings) -> Target:
        etags = tuple(upload.if_match.split(",")) if upload.if_match else None
        return Target(upload.space, upload.path, upload.owner, rules, upload.metadata, Condition(etags=etags))


def _within(span: Span, spans: Sequence[Span]) -> bool:
    return any(known.start <= span.start and span.end <= known.end for known in spans)


def _crc(storage: Storage, key: Key, start: int, size: int) -> int:
    crc = 0
    for piece in storage.read(key, Span(start, start + size)):
        crc = checksums.crc64nvme(piece, crc)
    return crc
