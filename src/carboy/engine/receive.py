"""Files that come whole in one request: a body, or the parts of a form. All of a request's files are placed, or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from carboy import streams
from carboy.catalog.base import Catalog, Reservation
from carboy.config import Settings, SpaceSettings
from carboy.engine import limits, quotas
from carboy.engine.checkpoints import Checkpoints
from carboy.errors import CarboyError, CommitUnknown
from carboy.model import Act, Blob, Condition, Key, Placed, Placement, Shelved, Upload
from carboy.storage.base import Storage, Writer

_SYNCS = 4
Digests = Sequence[tuple[str, bytes]]
"""``(algorithm, digest)`` pairs that the bytes must have, algorithms as in ``checksums.DIGEST_SIZES``."""
Around = Callable[[int, int], AbstractContextManager[object]]
"""What is to be done about so many files of so many bytes together while they are published."""


def uncounted(files: int, size: int) -> AbstractContextManager[object]:
    """Nothing."""
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file is to go, already authorised, its path already clean."""

    space: str
    path: str
    owner: str | None
    rules: SpaceSettings
    metadata: Mapping[str, Any] = field(default_factory=dict)
    condition: Condition = Condition()
    by: Act | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def placement(self, blob: Blob, media_type: str) -> Placement:
        return Placement(self.space, self.path, self.owner, media_type, self.metadata, blob, self.condition,
                         self.rules.on_conflict, self.rules.versions, limits=limits.quotas(self.rules))


@dataclass(frozen=True, slots=True)
class AsUpload:
    """How a file that came whole is told of by a protocol that knows uploads: by an id of its own, complete from the start."""

    id: str
    protocol: str


class Incoming:
    """One file on its way in. ``target`` may be replaced until the delivery is published (fields may come after files)."""

    def __init__(self, target: Target, key: Key, writer: Writer, limit: int, digests: Digests,
                 room: quotas.Room | None = None) -> None:
        self.target = target
        self.key = key
        self._room = room
        self._writer = writer
        self._expected = digests
        self._pump = streams.Pump(writer, limit=limit, digests=[name for name, _ in digests], head=True)
        self.checkpoints: Checkpoints | None = None
        self._media_type: str | None = None

    @property
    def received(self) -> int:
        return self._pump.received

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next bytes. Raises TooLarge, QuotaExceeded, UnsupportedType (as soon as the first bytes tell) or a storage's error."""
        self._pump.feed(data)
        if self._room:
            self._room.check(self._pump.received)
        if self._media_type is None and len(self._pump.head) >= streams.HEAD_SIZE:
            self._detect()
        if self.checkpoints:
            self.checkpoints.tick(self._pump.received)

    def end(self) -> None:
        """There are no more bytes. Raises DigestMismatch, UnsupportedType."""
        self._pump.verify(self._expected)
        if self._media_type is None:
            self._detect()

    def spread(self) -> None:
        """What came so far is on its way to stable storage, so that :meth:`flush` has less to do. Raises StorageFailed."""
        self._writer.spread()

    def flush(self) -> None:
        """Everything is on stable storage when this returns. Raises StorageFailed."""
        if self.checkpoints:
            self.checkpoints.settle()
        self._writer.flush()

    def abandon(self) -> None:
        """The bytes are thrown away. When this returns no sync of them runs: one that did would hold the file open, and with
        it the lock that keeps it from being removed."""
        with suppress(CarboyError):
            if self.checkpoints:
                self.checkpoints.settle()

    def placement(self, storage: str, now: float) -> Placement:
        """What is to be placed, once it is flushed."""
        spans = self._pump.spans()
        sha256 = self._pump.digest("sha-256") if "sha-256" in dict(self._expected) else None
        blob = Blob(self.key[3:], storage, self.key, self._pump.received, spans[0].crc if spans else 0, sha256, now)
        return self.target.placement(blob, self._media_type or "application/octet-stream")

    def _detect(self) -> None:
        self._media_type = limits.media_type(self._pump.head, self.target.name, self.target.rules)


class Delivery:
    """The files of one request, until they are published or thrown away."""

    def __init__(self, receiver: Receiver, owner: str | None, most: int | None = None) -> None:
        self._receiver = receiver
        self._most = most
        self._owner = owner or ""
        self._writers = ExitStack()
        self._incoming: list[Incoming] = []
        self._storages: list[Storage] = []
        self._fence: set[str] = set()
        self._reservation: Reservation | None = None
        self._declared = 0
        self._space = ""
        self._room: quotas.Room | None = None
        self._keep = False

    def open(self, target: Target, *, size: int | None = None, digests: Digests = ()) -> Incoming:
        """Begin a file. Raises TooLarge, QuotaExceeded or StorageFull for a declared ``size`` that won't fit."""
        limit = limits.largest(self._receiver.settings, target.rules)
        limits.check_size(size, limit)
        room = quotas.room_at(self._receiver.catalog, target.space, target.path, target.owner, target.rules)
        if room and size is not None:
            room.check(size)
        storage = self._receiver.storages[target.rules.storage]
        fence = storage.fence()
        key, writer = self._writers.enter_context(storage.stage(size, self._most))
        self._storages.append(storage)
        if fence:
            self._fence.add(fence)
        incoming = Incoming(target, key, writer, limit, digests, room)
        incoming.checkpoints = Checkpoints(
            self._receiver.executor, lambda: partial(self._checkpoint, incoming, storage),
            every_bytes=self._receiver.settings.checkpoint_bytes, every_seconds=self._receiver.settings.reservation_expiry / 3)
        self._incoming.append(incoming)
        if size is not None and size >= self._receiver.settings.reserve_from:
            self._declared, self._space, self._room = size, target.space, room
            self._reserve(storage, key, size)
        return incoming

    def publish(self, as_upload: AsUpload | None = None) -> list[Placed]:
        """Sync all, then place all in one transaction; the first is also entered ``as_upload``. Raises what ``Catalog.place`` and the
        storage raise."""
        now = self._receiver.clock()
        placements = self._synced(now)
        try:
            placed = self._receiver.catalog.place(placements, now=now, release=self._reservation.id if self._reservation else None,
                                                  by=self._incoming[0].target.by if self._incoming else None,
                                                  upload=self._upload(as_upload, placements[0], now) if as_upload else None,
                                                  fence=self._fence)
        except CommitUnknown:
            self._keep = True
            return self._read_again(placements)
        self._keep = True
        return placed

    def _upload(self, as_upload: AsUpload, placed: Placement, now: float) -> Upload:
        blob = placed.blob
        return Upload(as_upload.id, placed.space, placed.path, placed.owner, as_upload.protocol, blob.storage, blob.key, "complete",
                      size=blob.size, metadata=placed.metadata, created_at=now, touched_at=now,
                      expires_at=now + self._receiver.settings.upload_expiry)

    def stage(self, expires_at: float) -> list[Shelved]:
        """Sync all, then keep all in one transaction as staged files. Raises what ``Catalog.stage`` and the storage raise."""
        now = self._receiver.clock()
        placements = self._synced(now)
        try:
            staged = self._receiver.catalog.stage(placements, now=now, expires_at=expires_at, fence=self._fence)
        except CommitUnknown:
            self._keep = True  # what the catalog doesn't know then is swept
            raise
        self._keep = True
        return staged

    def close(self) -> None:
        """Let the writers go; bytes that were not published are removed."""
        for incoming in self._incoming if not self._keep else ():
            incoming.abandon()
        self._writers.close()
        if self._keep:
            return
        for incoming, storage in zip(self._incoming, self._storages, strict=True):
            storage.delete(incoming.key)
        if self._reservation:
            self._receiver.catalog.release(self._reservation.id)

    def _synced(self, now: float) -> list[Placement]:
        """What is to be placed, all of it on stable storage."""
        self._flush()
        return [incoming.placement(storage.name, now) for incoming, storage in zip(self._incoming, self._storages, strict=True)]

    def _flush(self) -> None:
        """Sync all files, several at once: a file system that journals syncs them together."""
        if len(self._incoming) == 1:
            self._incoming[0].flush()
            return
        lots = [self._incoming[start::_SYNCS] for start in range(min(_SYNCS, len(self._incoming)))]
        others = [self._receiver.executor.submit(_flush_all, lot) for lot in lots[1:]]
        try:
            _flush_all(lots[0])
        finally:
            wait(others)
        for other in others:
            other.result()

    def _checkpoint(self, incoming: Incoming, storage: Storage) -> None:
        incoming.spread()
        if self._reservation:
            self._reserve(storage, incoming.key, max(0, self._declared - incoming.received))

    def _reserve(self, storage: Storage, key: Key, size: int) -> None:
        settings, now = self._receiver.settings, self._receiver.clock()
        reservation = Reservation(key, storage.name, self._owner, size, now + settings.reservation_expiry)
        reservation = quotas.promised(reservation, self._space, self._declared, self._room)
        room = storage.room()
        self._receiver.catalog.reserve(reservation, room=room, cap=room, now=now)  # its bytes are coming already
        self._reservation = reservation

    def _read_again(self, placements: Sequence[Placement]) -> list[Placed]:
        placed = []
        for placement in placements:
            file = self._receiver.catalog.file_at(placement.space, placement.path)
            if file is None or file.blob.id != placement.blob.id:
                raise CommitUnknown("it is unknown whether the file was kept; ask for it, then send it again")
            placed.append(Placed(file, created=file.version == 1))
        return placed


class Receiver:
    """Takes files that come whole in one request."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], executor: Executor,
                 clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.catalog = catalog
        self.storages = storages
        self.executor = executor
        self.clock = clock

    @contextmanager
    def delivery(self, owner: str | None, most: int | None = None) -> Iterator[Delivery]:
        """A delivery that keeps nothing unless it is published in the block. None of its files has more than ``most`` bytes, where that is
        known beforehand."""
        delivery = Delivery(self, owner, most)
        try:
            yield delivery
        finally:
            delivery.close()

    def precheck(self, target: Target, size: int | None) -> None:
        """Refuse what is refused anyway before its body is read. Raises TooLarge, QuotaExceeded, PreconditionFailed."""
        limits.check_size(size, limits.largest(self.settings, target.rules))
        room = quotas.room_at(self.catalog, target.space, target.path, target.owner, target.rules) if size else None
        if room and size:
            room.check(size)
        if target.condition != Condition():
            target.condition.check(self.catalog.file_at(target.space, target.path))

    def receive(self, target: Target, source: streams.Source, *, digests: Digests = (), around: Around = uncounted,
                as_upload: AsUpload | None = None) -> Placed:
        """The source's bytes become the file. When this returns they are on stable storage and in the catalog. ``around`` is
        held while the file is published.

        Raises BodyCut or TooSlow where the source did not end by itself, and then keeps nothing.
        """
        with self.delivery(target.owner) as delivery:
            incoming = delivery.open(target, size=source.remaining, digests=digests)
            for piece in source.lend():
                incoming.feed(piece)
            failure = streams.ending_error(source, incoming.received)
            if failure:
                raise failure
            incoming.end()
            with around(1, incoming.received):
                return delivery.publish(as_upload)[0]


def _flush_all(lot: Sequence[Incoming]) -> None:
    for incoming in lot:
        incoming.flush()
