"""Storages for tests, and uploads in them as the engine keeps them: what is recorded, without a catalog."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fixtures_s3 import S3Server

from carboy import checksums
from carboy.catalog.sql import open_catalog
from carboy.config import S3StorageSettings
from carboy.engine.leases import Leases
from carboy.model import Fragment, Key, Span
from carboy.storage.base import Kept, Storage, Writer
from carboy.storage.s3 import S3Storage


@contextmanager
def s3_storage(server: S3Server, folder: Path, empty_sqlite: Path, bucket: str | None = None, **options: Any) -> Iterator[S3Storage]:
    """A storage in a bucket of its own, whose leases are in a catalog of its own. The environment has to hold ``server.env``."""
    catalog = open_catalog(f"sqlite:///{shutil.copy(empty_sqlite, folder / 'leases.sqlite3')}")
    leases = Leases(catalog)
    settings = {"bucket": bucket or server.new_bucket(), "endpoint": server.endpoint, "region": server.region, "style": "path",
                "prefix": "some/where/", "deadline": 20.0, **options}
    storage = S3Storage(S3StorageSettings(**settings), leases, name="s3", spool=folder / "spool")
    try:
        yield storage
    finally:
        storage.close()
        leases.close()
        catalog.close()


class Begun:
    """An upload. Only what is recorded counts, and writers of any process see it."""

    def __init__(self, storage: Storage, size: int | None = None) -> None:
        self.storage = storage
        self.spans: list[Span] = []
        self.condemned: list[Key] = []
        self._recorded: list[Fragment] = []
        self._lock = threading.Lock()
        with storage.begin(size) as (self.key, self.state):
            pass

    def fragments(self) -> Sequence[Fragment]:
        with self._lock:
            return sorted(self._recorded, key=lambda one: one.start)

    @contextmanager
    def writer(self, at: int, end: int | None = None) -> Iterator[Writer]:
        with self.storage.writer(self.key, at, end, self.state, self.fragments) as writer:
            yield writer

    def write(self, at: int, data: bytes, step: int = 100_000) -> None:
        """As one request does."""
        with self.writer(at, at + len(data)) as writer:
            for place in range(0, len(data), step):
                writer.write(memoryview(data)[place:place + step])
            self.record(writer.keep([Span(at, at + len(data), checksums.crc64nvme(data))], last=True))

    def record(self, kept: Kept) -> None:
        with self._lock:
            for new in kept.fragments:
                covered = [old for old in self._recorded if new.start <= old.start and old.end <= new.end]
                self.condemned += [old.key for old in covered if old.key]
                self._recorded = [*(old for old in self._recorded if old not in covered), new]
            self.spans = sorted([*self.spans, *kept.spans])

    def seal(self, size: int) -> None:
        self.storage.seal(self.key, size, self.state, self.fragments)

    def content(self, span: Span | None = None) -> bytes:
        return b"".join(self.storage.read(self.key, span))

    def covers(self, data: bytes) -> bool:
        """Whether what is recorded are exactly these bytes, none twice."""
        at = crc = 0
        for span in self.spans:
            if span.start != at:
                return False
            at, crc = span.end, checksums.combine(crc, span.crc, span.length)
        return at == len(data) and crc == checksums.crc64nvme(data)
