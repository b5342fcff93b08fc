"""Blobs as objects of an S3-compatible server: AWS, Ceph, MinIO, Swift and others.

A key is ``ab/<id>`` under the storage's prefix; the id ends with the first digits of the *instance*, the process, that made it. Nobody
else knows a key before the catalog names it. An object is there whole or not at all; an upload that comes in several requests is a
multipart upload, and pieces beside it, until it is sealed. Who may write where is told by leases (:class:`carboy.storage.base.Holds`).
"""

from __future__ import annotations

import heapq
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from carboy.config import S3StorageSettings
from carboy.errors import ConfigError, NotFound, RangeBusy, StorageUnavailable
from carboy.measuring import NOTHING, Meter
from carboy.model import Key, Span, key_for, new_id
from carboy.storage.base import DriverState, Fragments, Holds
from carboy.storage.s3_buffers import Budget
from carboy.storage.s3_client import THREADS, S3Client
from carboy.storage.s3_direct import S3Direct
from carboy.storage.s3_filling import Kit
from carboy.storage.s3_flight import Threads
from carboy.storage.s3_multiparts import Multiparts
from carboy.storage.s3_parts import MIN_PART, plan
from carboy.storage.s3_reading import read
from carboy.storage.s3_seal import Sealing
from carboy.storage.s3_staging import StagedWriter
from carboy.storage.s3_writer import RangeWriter

_BLOB = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{30}")
_MAKER = 8
_ROOM = 2**63 - 1
_WRONG = frozenset({"keys", "bucket", "clock", "region", "certificate"})
"""Reasons for which a storage can't be used until somebody changes something."""


class S3Storage(S3Direct):
    """See :class:`carboy.storage.base.Storage`; also ``Redirects``. ``spool`` is the folder for parts that find no room in memory."""

    def __init__(self, settings: S3StorageSettings, holds: Holds, *, name: str = "s3", spool: Path | None = None,
                 meter: Meter = NOTHING) -> None:
        self.name = name
        self.settings = settings
        self.objects = Multiparts(S3Client(settings, name, meter))
        self._holds = holds
        self._threads = Threads(THREADS)
        self._lock = threading.Lock()
        self._progress: set[Key] = set()
        self._kit = Kit(self.objects, Budget(settings.memory, spool), self._threads, settings.part_size, self._new_key, self._forget)

    def prepare(self) -> None:
        """Raises ConfigError where the server refuses: wrong keys, no such bucket, a wrong clock. One that is only down may come."""
        try:
            self.objects.client.call("head_bucket", deadline=min(5.0, self.settings.deadline))
            self.objects.verifies()
        except StorageUnavailable as error:
            if error.facts.get("reason") in _WRONG:
                raise ConfigError(f"storages.{self.name}: {error.detail}", setting=f"storages.{self.name}") from error

    def close(self) -> None:
        self._threads.close()
        self.objects.client.close()

    # --- writing ---

    def fence(self) -> str | None:
        return self._holds.instance()

    @contextmanager
    def stage(self, size: int | None, most: int | None = None) -> Iterator[tuple[Key, StagedWriter]]:
        key = self._new_key()
        writer = StagedWriter(self._kit, key, size, most)
        try:
            yield key, writer
        finally:
            writer.close()

    @contextmanager
    def begin(self, size: int | None) -> Iterator[tuple[Key, DriverState]]:
        """Nothing is there yet of an upload that one part can hold."""
        key = self._new_key()
        try:
            yield key, self._begun(key, size)
        finally:
            self._forget(key)

    def _begun(self, key: Key, size: int | None) -> DriverState:
        upload = self.objects.create(key) if size is None or size >= MIN_PART else None
        return {"upload": upload, "size": size, **plan(size, self.settings.part_size, self.objects.most_parts).state()}

    @contextmanager
    def writer(self, key: Key, at: int, end: int | None, state: DriverState, fragments: Fragments) -> Iterator[RangeWriter]:
        if "upload" not in state and self.objects.head(key) is None:
            raise NotFound("the upload's bytes are gone")
        with self._holds.hold(self.name, key, at, end) as hold:
            writer = RangeWriter(self._kit, key, state, at, end, hold, fragments)
            try:
                yield writer
            finally:
                writer.close()

    def seal(self, key: Key, size: int, state: DriverState, fragments: Fragments) -> None:
        Sealing(self._kit, key, size, state, fragments(), lambda: self._holds.hold(self.name, key, 0, None)).run()

    def delete(self, key: Key, *, unless: Callable[[Key], bool] | None = None) -> bool:
        if self._in_progress(key) or self._holds.held(self.name, key):
            return False
        if unless is not None and not self._is_orphan(key, unless):
            return False
        self.objects.delete(key)
        for found, upload in list(self.objects.uploads(key)):
            if found == key:
                self.objects.abort(key, upload)
        return True

    def _is_orphan(self, key: Key, unless: Callable[[Key], bool]) -> bool:
        """Whether nobody can still make it known, and nobody knows it."""
        maker = key[-_MAKER:]
        if maker != self._holds.instance()[:_MAKER] and self._holds.alive(maker):
            return False
        try:
            with self._holds.hold(self.name, key, 0, None):
                return self._is_gone(key) or not unless(key)
        except RangeBusy:
            return False

    def _is_gone(self, key: Key) -> bool:
        return self.objects.head(key) is None and key not in (found for found, _ in self.objects.uploads(key))

    # --- reading ---

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]:
        return read(self.objects, key, span.start if span else 0, span.end if span else None)

    def size(self, key: Key) -> int | None:
        head = self.objects.head(key)
        return head.size if head else None

    def vouched(self, key: Key) -> int | None:
        """See :class:`carboy.storage.base.Vouches`. What a server says that doesn't check it is no proof."""
        head = self.objects.head(key) if self.objects.verifies() else None
        return head.crc if head else None

    def keys(self) -> Iterator[Key]:
        before = None
        for key in heapq.merge(self.objects.objects(""), (key for key, _ in self.objects.uploads(""))):
            if key != before and _BLOB.fullmatch(key):
                yield key
            before = key

    def room(self) -> int:
        return _ROOM

    def address(self, key: Key, *, media_type: str, disposition: str) -> str | None:
        if not self.settings.redirect:
            return None
        return self.objects.client.presigned("get_object", self.settings.redirect_expiry, Key=self.settings.prefix + key,
                                             ResponseContentType=media_type, ResponseContentDisposition=disposition,
                                             ResponseCacheControl="private, no-cache")

    # --- inside ---

    def _new_key(self) -> Key:
        key = key_for(new_id()[:-_MAKER] + self._holds.instance()[:_MAKER])
        with self._lock:
            self._progress.add(key)
        return key

    def _forget(self, key: Key) -> None:
        with self._lock:
            self._progress.discard(key)

    def _in_progress(self, key: Key) -> bool:
        with self._lock:
            return key in self._progress
