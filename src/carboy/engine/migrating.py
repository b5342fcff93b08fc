"""A space's contents go to another storage, one by one, beside live traffic.

Each is copied, proved, and then switched in one transaction, which condemns the bytes where they were: downloads under way have
``delete_grace`` to end. What is cut short leaves every content in one storage, whole; the next run finds what is still elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.engine.pacing import Rate, Stopped
from carboy.engine.parallel import each
from carboy.engine.reading import is_where_it_was, look
from carboy.engine.trees import Moved
from carboy.errors import BytesDamaged, CarboyError, CommitUnknown, InvalidRequest, NotFound
from carboy.model import Blob, Key
from carboy.storage.base import Storage, Vouches, Writer

PAGE = 16
"""How many contents are on their way before any of them is told of."""
_FATAL = frozenset({"storage_full", "storage_read_only", "storage_failed", "storage_unavailable", "catalog_unavailable", "commit_unknown",
                    "interrupted"})
"""What would befall every further content too."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a space still has in other storages: contents, and uploads under way, which end where they began."""

    blobs: int
    uploads: int


class Migrator:
    """Moves contents between storages."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], executor: Executor,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self._executor = executor
        self._clock = clock

    def run(self, space: str, to: str, *, dry_run: bool = False, rate: int | None = None,
            stop: threading.Event | None = None) -> Iterator[Moved]:
        """Every content that files of the space have, in the trash, staged and older ones too, and that is kept elsewhere, told one by one:
        ``copied``, or ``left out`` with the reason (``due`` with ``dry_run``, and nothing is done). What is deleted meanwhile is not told
        of. A content that files of other spaces have too goes along: there is one of it. At most ``rate`` bytes a second are read.
        ``stop``, once set, ends it soon.

        Raises NotFound for an unknown space, InvalidRequest for an unknown storage, StorageFull, StorageUnavailable, StorageFailed,
        CatalogUnavailable, CommitUnknown: what was moved until then stays so.
        """
        target = self._target(space, to)
        pace = Rate(rate, stop or threading.Event())
        with suppress(Stopped):
            for page in self._pages(space, to):
                if dry_run:
                    yield from (Moved(_name(blob), "due", blob.size) for blob in page)
                else:
                    yield from _all_of(each(self._executor, lambda blob: self._move(blob, target, pace), page))

    def left(self, space: str, to: str) -> Left:
        """What is not there yet."""
        self._target(space, to)
        blobs = sum(len(page) for page in self._pages(space, to, limit=1000))
        return Left(blobs, sum(storage != to for storage in self._under_way(space)))

    def _target(self, space: str, to: str) -> Storage:
        if space not in self._settings.spaces:
            raise NotFound(f"there is no space {space!r}", space=space)
        if to not in self._storages:
            raise InvalidRequest(f"there is no storage {to!r}; there is {', '.join(self._storages)}")
        return self._storages[to]

    def _pages(self, space: str, to: str, limit: int = PAGE) -> Iterator[list[Blob]]:
        after: str | None = None
        while page := self._catalog.blobs_apart(space, to, after=after, limit=limit):
            yield page
            after = page[-1].id

    def _under_way(self, space: str) -> Iterator[str]:
        cursor: str | None = None
        while True:
            uploads, cursor = self._catalog.uploads(space=space, cursor=cursor)
            yield from (one.upload.storage for one in uploads)
            if cursor is None:
                return

    def _move(self, blob: Blob, target: Storage, pace: Rate) -> Moved | Exception | None:
        """None where it went, or somebody else moved it, meanwhile. What ends the run is returned, as other threads are to end first."""
        try:
            if blob.damaged_at is not None:
                raise BytesDamaged("a scrub found it damaged; `carboy scrub --repair` first")
            return Moved(_name(blob), "copied", blob.size) if self._copied(blob, target, pace) else None
        except Stopped as stopped:
            return stopped
        except CarboyError as error:
            if error.code in _FATAL:
                return error
            return Moved(_name(blob), "left out", blob.size, error.detail) if is_where_it_was(self._catalog, blob) else None

    def _copied(self, blob: Blob, target: Storage, pace: Rate) -> bool:
        """Whether the content is there now, and this has brought it."""
        source, fence = self._storages[blob.storage], target.fence()
        unused: list[Key] = []
        try:
            with target.stage(blob.size) as (key, writer):
                unused.append(key)
                if not look(_passing(source.read(blob.key), writer), sha256=blob.sha256 is not None, pace=pace).fits(blob):
                    raise BytesDamaged("the bytes are not the ones that were received")
                writer.flush()
                _prove(target, key, blob)
                return self._switched(blob, target.name, unused, fence)
        finally:
            for key in unused:
                with suppress(CarboyError):  # the sweeper removes it then
                    target.delete(key)

    def _switched(self, blob: Blob, storage: str, unused: list[Key], fence: str | None) -> bool:
        """Whether the catalog names the copy now; then, or where that is unknown, it is ``unused`` no more."""
        [key] = unused
        try:
            switched = self._catalog.switch_blob(blob, storage, key, now=self._clock(), fence=[fence] if fence else [])
        except CommitUnknown:
            unused.clear()
            found = self._catalog.blob(blob.id)
            if found is None or found.key != key:
                raise CommitUnknown("it is unknown whether a content was moved; run it again") from None
            switched = True
        if switched:
            unused.clear()
        return switched


def _passing(pieces: Iterable[bytes], writer: Writer) -> Iterator[bytes]:
    for piece in pieces:
        writer.write(piece)
        yield piece


def _prove(target: Storage, key: Key, blob: Blob) -> None:
    """What is stored is the content, by the storage's own checksum or read back. Raises BytesDamaged."""
    vouched = target.vouched(key) if isinstance(target, Vouches) else None
    if vouched is None:
        there = look(target.read(key), sha256=blob.sha256 is not None).fits(blob)
    else:
        there = (vouched, target.size(key)) == (blob.crc64nvme, blob.size)
    if not there:
        raise BytesDamaged("the storage has other bytes than it was sent")


def _name(blob: Blob) -> str:
    return f"{blob.storage}:{blob.key}"


def _all_of(done: Iterable[Moved | Exception | None]) -> Iterator[Moved]:
    """Those that were moved; then raises the first error."""
    ended = list(done)
    yield from (one for one in ended if isinstance(one, Moved))
    for one in ended:
        if isinstance(one, Exception):
            raise one
