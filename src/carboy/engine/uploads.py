"""The life of an upload: bytes that come in several requests, at any place, in any order, over many connections.

Every 2xx about received bytes follows their sync and the catalog's commit. There is no public ``finish``: whatever makes an
upload covered completes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Literal

from carboy import checksums, streams
from carboy.catalog.base import Catalog, Reservation, paged
from carboy.config import Settings, SpaceSettings
from carboy.engine import joining, limits, quotas
from carboy.engine.asks import Asks
from carboy.engine.receive import Digests, Target
from carboy.engine.turns import Turns
from carboy.engine.writing import Piece, Stored, Writing
from carboy.errors import (
    BytesDamaged,
    BytesDiffer,
    BytesMissing,
    CarboyError,
    CommitUnknown,
    Conflict,
    InvalidRequest,
    NotFound,
    OffsetMismatch,
    RangeBusy,
    StorageFailed,
    TooLarge,
    UploadGone,
)
from carboy.measuring import NOTHING, Meter
from carboy.metrics import UPLOADS
from carboy.model import Act, Blob, Chunk, Condition, File, Fragment, Key, Placed, Progress, Span, Upload, new_id
from carboy.storage.base import DriverState, Fragments, OnDisk, Storage, Writer

DIRECT = "direct"
"""The protocol of uploads whose bytes go from the client straight to the storage: see :mod:`carboy.engine.direct`."""
Beginning = Callable[[], AbstractContextManager[tuple[Key, DriverState]]]


class Uploads:
    """Begins, writes, completes and ends uploads. Safe from any thread; several processes may share the catalog."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], executor: Executor,
                 clock: Callable[[], float] = time.time, meter: Meter = NOTHING) -> None:
        self.settings = settings
        self.catalog = catalog
        self.executor = executor
        self.turns = Turns(Asks(settings.data.absolute() / "turns"))
        self.storages = storages
        self.clock = clock
        self._meter = meter

    # --- beginning and finding ---

    def begin(self, target: Target, *, protocol: str, name: str | None = None, size: int | None = None,
              chunk_size: int | None = None, partial: bool = False, id: str | None = None,
              digests: Mapping[str, str] | None = None, begin: Beginning | None = None) -> Progress:
        """A new upload, durable before this returns; with a ``name`` that is taken, the one that has it. A ``partial`` one is to be part
        of another. An empty one is complete at once. ``id`` is a fresh one of :func:`carboy.model.new_id` where it had to be known before.
        ``digests`` are what the whole must hash to before it becomes a file (see :class:`carboy.model.Upload`). ``begin`` is how the
        storage begins it, where its bytes are not to pass through here.

        Raises TooLarge, QuotaExceeded or StorageFull for a declared size that won't fit.
        """
        return self.progress(self._begin(target, protocol, name, size, chunk_size, partial, (), id, digests or {}, begin=begin).id)

    def concatenate(self, target: Target, parts: Sequence[str], *, protocol: str, id: str | None = None,
                    given: str | None = None) -> Progress:
        """An upload whose bytes are those of ``parts``, one after another, which are used up by it. It completes when the last of them has
        come, which may be now. ``given`` is how the client named them, to be told again. Raises NotFound for a part that is none of this
        owner's, InvalidRequest for one that is no part, and UploadGone for one that is over."""
        for part_id in parts:
            part = self._found(part_id).upload
            if part.owner != target.owner or part.space != target.space:
                raise NotFound("there is no such upload", upload=part_id)
            if not part.partial:
                raise InvalidRequest("only partial uploads can be put together", upload=part_id)
            self._check_writable(part, 0, None)
        return self.progress(self._begin(target, protocol, None, None, None, False, tuple(parts), id, given=given).id)

    def _begin(self, target: Target, protocol: str, name: str | None, size: int | None, chunk_size: int | None, partial: bool,
               parts: tuple[str, ...], id: str | None, digests: Mapping[str, str] | None = None, given: str | None = None,
               begin: Beginning | None = None) -> Upload:
        limits.check_size(size, limits.largest(self.settings, target.rules))
        storage = self.storages[target.rules.storage]
        room = quotas.room_at(self.catalog, target.space, target.path, target.owner, target.rules)
        if room and size is not None:
            room.check(size)
        fence = storage.fence()
        with ExitStack() as held:
            key, state = held.enter_context(begin() if begin else storage.begin(size))
            upload = replace(self._new(target, key, state, protocol, name, size, chunk_size, id), partial=partial, parts=parts,
                             parts_given=given, digests=digests or {})
            try:
                self._reserve(upload, storage, room)
            except CarboyError:
                held.close()
                storage.delete(key)
                raise
            kept = self.catalog.create_upload(upload, fence=_known(fence))
        if kept.id != upload.id:
            storage.delete(key)
            self.catalog.release(upload.id)
        return kept

    def progress(self, id: str) -> Progress:
        """What is recorded of it. Joins its parts and completes it first, where that is due: a crash may have come between the last byte
        and the file. Raises NotFound."""
        progress = self._found(id)
        if progress.upload.parts and progress.upload.state == "receiving" and not progress.covered:
            joining.join_parts(self, progress.upload)
            progress = self._found(id)
        if progress.due:
            with suppress(CarboyError):
                self.complete(progress)
            return self.catalog.upload(id) or progress
        return progress

    def standing(self, id: str) -> Progress:
        """What is recorded of an upload whose bytes come in order, once whoever writes them has let go: it is asked to, and what it had
        received is recorded. Where it doesn't within the patience, what is recorded anyway. Who writes further on, a part of its own,
        isn't asked. Raises NotFound."""
        progress = self.progress(id)
        upload, at = progress.upload, progress.offset
        if upload.state != "receiving" or progress.covered:
            return progress
        with suppress(RangeBusy, NotFound), self.turns.take(
                upload.key, at, at + 1, streams.BytesSource(b""), lambda: self.writer(upload, at, at + 1)):
            pass
        return self.progress(id)

    def declare(self, upload: Upload, size: int) -> Progress:
        """The upload's size is known now; where all of it came, that completes it. Raises TooLarge for one that is not allowed or less
        than what came, Conflict for another than was declared, UploadGone."""
        limits.check_size(size, self.most(upload, 0, None))
        self.record(upload, [], size=size)
        return self.progress(upload.id)

    def sized(self, upload: Upload, size: int) -> Upload:
        """The upload with the size that a request tells which brings bytes: :meth:`writing` records it with the first of them, so that a
        refused one declares nothing. Raises as :meth:`declare`."""
        limits.check_size(size, self.most(upload, 0, None))
        return _sized(self.receiving(upload.id), size).upload

    def name(self, upload: Upload, path: str) -> Upload:
        """Where its file is to go, whole and clean, for an upload that was begun before that was known. Raises UploadGone."""
        if not self.catalog.name_upload(upload.id, path):
            raise UploadGone("the upload takes no more bytes", upload=upload.id)
        return replace(upload, path=path)

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
                whole: bool = False, exact: bool = False, late: bool = False) -> Iterator[Writing]:
        """Write from ``at``: at most ``limit`` bytes, ``length`` where it is known. Feed in the block, then call ``end``.

        Where the length isn't known but is ``likely``, only that range is locked at first, so that neighbours go on.
        Leaving the block without ``end`` keeps what came (see :meth:`Writing.salvage`), unless digests prove it: those given, or
        with ``whole`` ones that the caller verifies before ``end`` (``late``: by :meth:`Writing.verify`, with one that is known only then).
        Takes over from a request that
        writes the same bytes. With ``exact`` the bytes must go on where the upload stands: else OffsetMismatch, and who writes behind
        that is left alone. A size that the upload has from :meth:`sized` is recorded with the first bytes. Raises UploadGone, TooLarge past
        the declared size, RangeBusy, Conflict where another size was recorded meanwhile.
        """
        if exact and at < (standing := self.receiving(upload.id).offset):
            raise _mismatch(standing, at)
        if upload.state != "complete":  # what comes once more for a complete one is compared
            self._check_writable(upload, at, length)
        most = self.most(upload, at, limit)
        end = at + min(most, next((size for size in (length, likely) if size is not None), most))
        with self.turns.take(upload.key, at, end, source,
                             lambda: self.writer(upload, at, end)) as writer:
            recorded = self.written(upload)
            progress = _sized(recorded, upload.size)
            if exact and progress.offset != at:
                raise _mismatch(progress.offset, at)
            most = self.most(progress.upload, at, limit)
            names = [name for name, _ in digests] if not late or self._reads_back(upload) else list(checksums.DIGEST_SIZES)
            pump = streams.Pump(writer, at=at, known=progress.spans, limit=most, digests=names, head=at == 0)
            writing = Writing(self, progress, pump, writer, end, digests, index, whole or late, declares=recorded.upload.size is None)
            try:
                yield writing
            except StorageFailed as error:
                if pump.comparing and isinstance(error, (BytesMissing, BytesDamaged)):
                    self._salvage(writing)  # no byte failed to be kept: only this request can't be answered
                else:
                    self.give_up(upload, error.code)
                raise
            except (BytesDiffer, TooLarge):
                self._salvage(writing, keep=False)
                raise
            except BaseException:
                self._salvage(writing)
                raise
            self._salvage(writing)
        if writing.progress.due:
            writing.placed = self.complete(writing.progress, head=None if pump.compared else pump.head)
        elif upload.partial:
            self._tell_those_of(upload.id)

    @contextmanager
    def repeating(self, upload: Upload, at: int) -> Iterator[streams.Pump]:
        """Bytes that come once more after the upload is complete: compared with what is there, and nothing is written. Raises
        BytesDiffer, TooLarge past the end, NotFound once the bytes are gone."""
        storage, size = self.storages[upload.storage], upload.size or 0
        known = [Span(0, size)] if at < size else []
        yield streams.Pump(Stored(storage, upload.key, at, size), at=at, known=known, limit=max(0, size - at))

    def write(self, upload: Upload, at: int, source: streams.Source, *, digests: Digests = (), index: int | None = None,
              exact: bool = False) -> Writing:
        """All that the source gives, from ``at``. Raises BodyCut or TooSlow, with what came recorded, if it ended early."""
        with self.writing(upload, at, source.remaining, source, digests=digests, index=index, exact=exact) as writing:
            for piece in source.lend():
                writing.feed(piece)
            failure = streams.ending_error(source, writing.received)
            if failure:
                raise failure
            writing.end()
        return writing

    def verify(self, upload: Upload, at: int, size: int, digests: Digests) -> None:
        """Read once more what was written at ``at`` and is not recorded yet: for digests that are known only after the bytes. Raises
        DigestMismatch."""
        running = {name: checksums.new(name) for name, _ in digests}
        for piece in self.storages[upload.storage].read(upload.key, Span(at, at + size)):
            for digest in running.values():
                digest.update(piece)
        for name, expected in digests:
            if (received := running[name].digest()) != expected:
                raise streams.digest_error(name, expected, received)

    @contextmanager
    def piece(self, rules: SpaceSettings, digests: Digests = ()) -> Iterator[Piece]:
        """A numbered chunk whose place, or even upload, is not known yet: a file of its own. Kept only by ``Piece.keep``."""
        storage = self.storages[rules.storage]
        fence = storage.fence()
        with storage.stage(None) as (key, writer):
            piece = Piece(self, key, writer, limits.largest(self.settings, rules), digests, fence)
            try:
                yield piece
            finally:
                writer.close()
                if not piece.kept:
                    storage.delete(key)

    def check_type(self, upload: Upload, head: bytes) -> None:
        """Raises UnsupportedType where the first bytes already tell that the space won't have the file."""
        limits.media_type(head, upload.path.rpartition("/")[2], self._rules(upload.space))

    def writer(self, upload: Upload, at: int, end: int | None) -> AbstractContextManager[Writer]:
        """The storage's writer for ``[at, end)`` of the upload. Raises RangeBusy, NotFound, Conflict for one that Carboy doesn't write."""
        if upload.protocol == DIRECT:
            raise Conflict("the bytes of this upload go straight to the storage, not through Carboy", upload=upload.id)
        return self.storages[upload.storage].writer(upload.key, at, end, upload.driver_state, self._fragments(upload))

    def seal(self, upload: Upload, size: int) -> None:
        """The bytes that came are a blob of that size: they can be read, and copied. Repeatable. Whoever still writes past the end, or
        seals it too, is waited for. Raises RangeBusy where that takes longer than the patience."""
        with self.turns.take(upload.key, size, None, streams.BytesSource(b""), lambda: self._sealed(upload, size)):
            pass

    @contextmanager
    def _sealed(self, upload: Upload, size: int) -> Iterator[None]:
        self.storages[upload.storage].seal(upload.key, size, upload.driver_state, self._fragments(upload))
        yield

    def record(self, upload: Upload, spans: Sequence[Span], chunk: Chunk | None = None, size: int | None = None, *,
               fragments: Sequence[Fragment] = (), lease: str | None = None, fence: str | None = None) -> Progress:
        """Commit what is already on stable storage. A lost answer to COMMIT is found out by reading again."""
        now = self.clock()
        try:
            return self.catalog.record(upload.id, spans, now=now, expires_at=now + self.settings.upload_expiry, size=size,
                                       chunk=chunk, reserve_until=now + self.settings.reservation_expiry, fragments=fragments,
                                       lease=lease, fence=_known(fence))
        except CommitUnknown:
            progress = self.catalog.upload(upload.id)
            if progress is None or not self._recorded(progress, spans, chunk, size):
                raise
            return progress
        except UploadGone:
            if spans or size is not None or (chunk and chunk.key):
                raise
            return self.written(upload)

    def _recorded(self, progress: Progress, spans: Sequence[Span], chunk: Chunk | None, size: int | None) -> bool:
        return (all(_within(span, progress.spans) for span in spans) and size in (None, progress.upload.size)
                and (chunk is None or chunk in self.catalog.chunks(progress.upload.id)))

    # --- ending ---

    def complete(self, progress: Progress, *, blob: Blob | None = None, head: bytes | None = None, fence: str | None = None) -> Placed:
        """A covered upload becomes its file; repeatable. ``head`` is what it begins with, where that was just written. The instance
        ``fence`` made the blob.

        Raises UnsupportedType, PreconditionFailed or PathConflict, and then the bytes stay until the upload expires; DigestMismatch, and
        then the upload has failed for good."""
        upload = progress.upload
        storage = self.storages[upload.storage]
        rules = self._rules(upload.space)
        blob = self._proved(upload, blob or self._blob(progress), storage)
        if head is None or len(head) < min(blob.size, streams.HEAD_SIZE):
            head = b"".join(storage.read(blob.key, Span(0, min(blob.size, streams.HEAD_SIZE))))
        target = self._target(upload, rules)
        now = self.clock()
        placement = target.placement(blob, limits.media_type(head, target.name, rules))
        return self.catalog.complete(upload.id, placement, now=now, expires_at=now + self.settings.upload_expiry, by=self._act(upload),
                                     fence=_known(fence))

    def _act(self, upload: Upload) -> Act | None:
        return Act(upload.owner, "upload", upload.id) if self.settings.audit_expiry else None

    def complete_chunks(self, progress: Progress, total: int) -> Placed:
        """All of ``total`` numbered chunks are there: complete; whoever else asks meanwhile gets the same file. Raises
        MissingBytes that lists the missing indices."""
        return joining.complete_chunks(self, progress, total)

    def _tell_those_of(self, part: str) -> None:
        """Bytes of a part came: the uploads that wait for it live on with all their parts, and complete where those were the last. What
        one fails with is told to whoever asks for it."""
        for upload in paged(lambda after, limit: self.catalog.uploads_of_parts(after, limit, part=part)):
            with suppress(CarboyError):
                joining.keep_waiting(self, upload, self.clock() + self.settings.upload_expiry / 2)
                self.progress(upload.id)

    def cancel(self, upload: Upload) -> None:
        """Take no more bytes and remove those that came. Raises UploadGone if it was no longer receiving."""
        now = self.clock()
        if not self.end(upload, "cancelled", now=now):
            raise UploadGone(f"the upload is already {upload.state}", state=upload.state)
        self.turns.stop(upload.key)

    # --- inside ---

    def _new(self, target: Target, key: Key, driver_state: DriverState, protocol: str, name: str | None,
             size: int | None, chunk_size: int | None, id: str | None) -> Upload:
        now = self.clock()
        return Upload(id=id or new_id(), space=target.space, path=target.path, owner=target.owner, protocol=protocol,
                      storage=target.rules.storage, key=key, name=name, size=size, chunk_size=chunk_size,
                      metadata=target.metadata, driver_state=driver_state,
                      if_match=_as_text(target.condition),
                      created_at=now, touched_at=now, expires_at=now + self.settings.upload_expiry)

    def _reserve(self, upload: Upload, storage: Storage, quota: quotas.Room | None) -> None:
        if upload.size is None or upload.size < self.settings.reserve_from:
            return
        now, room = self.clock(), storage.room()
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

    def most(self, upload: Upload, at: int, limit: int | None) -> int:
        """The most bytes that a request may bring from ``at``, which asks for ``limit`` at most."""
        largest = limits.largest(self.settings, self._rules(upload.space))
        end = upload.size if upload.size is not None else largest
        return max(0, min(end - at, limit if limit is not None else end))

    def _salvage(self, writing: Writing, keep: bool = True) -> None:
        try:
            writing.salvage() if keep else writing.discard()
        except StorageFailed as error:
            self.give_up(writing.progress.upload, error.code)
            raise

    def give_up(self, upload: Upload, code: str) -> None:
        """The upload can never complete, for the reason with this error code."""
        self.end(upload, "failed", now=self.clock(), failure=code)

    def end(self, upload: Upload, state: Literal["cancelled", "expired", "failed"], *, now: float, failure: str | None = None) -> bool:
        """Its bytes are condemned. False if it was no longer receiving."""
        ended = self.catalog.end_upload(upload.id, state, now=now, failure=failure, expires_at=now + self.settings.upload_expiry)
        if ended:
            self._meter.add(UPLOADS, (upload.protocol, state))
        return ended

    def used_up(self, upload: Upload) -> None:
        """A part is in the whole now: it is over, and its own bytes go."""
        now = self.clock()
        self.catalog.end_upload(upload.id, "complete", now=now, expires_at=now + self.settings.upload_expiry)

    def _blob(self, progress: Progress) -> Blob:
        upload = progress.upload
        size = upload.size or 0
        self.seal(upload, size)
        crc = progress.spans[0].crc if size else 0
        return Blob(upload.key[3:], upload.storage, upload.key, size, crc, None, self.clock())

    def _proved(self, upload: Upload, blob: Blob, storage: Storage) -> Blob:
        """The blob, read once more where the upload says what its whole must hash to."""
        if not upload.digests:
            return blob
        running = {name: checksums.new(name) for name in upload.digests if name != "crc64nvme"}
        for piece in storage.read(blob.key, Span(0, blob.size)) if running else ():
            for digest in running.values():
                digest.update(piece)
        received = {"crc64nvme": blob.crc64nvme.to_bytes(8, "big"), **{name: digest.digest() for name, digest in running.items()}}
        for name, expected in upload.digests.items():
            if expected and received[name].hex() != expected:
                self.give_up(upload, "digest_mismatch")
                raise streams.digest_error(name, bytes.fromhex(expected), received[name])
        return replace(blob, sha256=running["sha-256"].digest() if "sha-256" in running else blob.sha256)

    def _fragments(self, upload: Upload) -> Fragments:
        return lambda: self.catalog.fragments(upload.id)

    def _reads_back(self, upload: Upload) -> bool:
        """Whether bytes can be read before the upload is sealed."""
        return isinstance(self.storages[upload.storage], OnDisk)

    def _rules(self, space: str) -> SpaceSettings:
        rules = self.settings.spaces.get(space)
        if rules is None:
            raise NotFound(f"there is no space {space!r} any more", space=space)
        return rules

    def _target(self, upload: Upload, rules: SpaceSettings) -> Target:
        return Target(upload.space, upload.path, upload.owner, rules, upload.metadata, _condition(upload.if_match))


def _as_text(condition: Condition) -> str | None:
    """A condition as the catalog keeps it; :func:`_condition` reads it."""
    return None if condition == Condition() else json.dumps([condition.etags, condition.not_etags, condition.absent])


def _condition(text: str | None) -> Condition:
    if not text:
        return Condition()
    if not text.startswith("["):  # as it was kept before: a list of entity tags that are to match
        return Condition(etags=tuple(text.split(",")))
    etags, not_etags, absent = json.loads(text)
    return Condition(None if etags is None else tuple(etags), None if not_etags is None else tuple(not_etags), absent)


def _known(fence: str | None) -> tuple[str, ...]:
    return (fence,) if fence else ()


def _mismatch(expected: int, provided: int) -> OffsetMismatch:
    return OffsetMismatch(f"the upload stands at {expected}", expected=expected, provided=provided)


def _sized(progress: Progress, size: int | None) -> Progress:
    """With a size that is not recorded yet. Raises Conflict for another than is, TooLarge where bytes lie past it."""
    known, end = progress.upload.size, progress.spans[-1].end if progress.spans else 0
    if size is None or size == known:
        return progress
    if known is not None:
        raise Conflict("the upload was declared with another size", declared=known, size=size)
    if end > size:
        raise TooLarge("there are bytes past the declared size", limit=size, end=end)
    return replace(progress, upload=replace(progress.upload, size=size))


def _within(span: Span, spans: Sequence[Span]) -> bool:
    return any(known.start <= span.start and span.end <= known.end for known in spans)
