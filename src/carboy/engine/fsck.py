"""Compares catalog and storage, both ways, beside live traffic. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from carboy.catalog.base import Catalog, batched
from carboy.engine.reading import is_where_it_was, stored
from carboy.errors import StorageFailed, StorageUnavailable
from carboy.model import Blob, Key
from carboy.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``kind``: missing, cut, damaged, orphan, or (of no bytes, so without a key) miscounted and unreachable."""

    kind: str
    storage: str
    key: str
    detail: str


class Fsck:
    """``run()`` yields findings; a sound store has none. Blobs deleted meanwhile are not findings."""

    def __init__(self, catalog: Catalog, storages: Mapping[str, Storage]) -> None:
        self._catalog = catalog
        self._storages = storages
        self.blobs = 0
        self.bytes = 0

    def run(self, *, deep: bool = False) -> Iterator[Finding]:
        """With ``deep`` every byte is read and its CRC-64/NVME (and SHA-256, where known) compared."""
        for storage in self._storages.values():
            try:
                yield from self._blobs(storage, deep)
                yield from self._orphans(storage)
            except StorageUnavailable as error:
                yield Finding("unreachable", storage.name, "", error.detail)
        for name, (count, size) in self._catalog.stored().items():
            if name not in self._storages:
                yield Finding("unreachable", name, "", f"the settings name no such storage, which has {count} contents of {size} bytes")
        yield from (Finding("miscounted", "catalog", "", told) for told in self._catalog.miscounted())

    def _blobs(self, storage: Storage, deep: bool) -> Iterator[Finding]:
        after: Key | None = None
        while blobs := self._catalog.blobs(storage.name, after=after):
            for blob in blobs:
                self.blobs += 1
                self.bytes += blob.size
                finding = self._check(storage, blob, deep)
                if finding and is_where_it_was(self._catalog, blob):
                    yield finding
            after = blobs[-1].key

    def _check(self, storage: Storage, blob: Blob, deep: bool) -> Finding | None:
        size = storage.size(blob.key)
        if size is None:
            return Finding("missing", storage.name, blob.key, "the catalog names it, the storage has no such bytes")
        if size != blob.size:
            return Finding("cut", storage.name, blob.key, f"{size} bytes are stored, {blob.size} are in the catalog")
        if blob.damaged_at is not None and not deep:
            return Finding("damaged", storage.name, blob.key, "a scrub found that the bytes are not the ones that were received")
        try:
            if deep and not stored(storage, blob).fits(blob):
                return Finding("damaged", storage.name, blob.key, "the bytes are not the ones that were received")
        except StorageFailed as error:
            return Finding("missing", storage.name, blob.key, error.detail)
        return None

    def _orphans(self, storage: Storage) -> Iterator[Finding]:
        for keys in batched(storage.keys(), 500):
            known = self._catalog.known(storage.name, keys)
            for key in keys:
                if key not in known and not self._in_use(storage, key):
                    yield Finding("orphan", storage.name, key, "the catalog doesn't know these bytes; the sweeper removes them")

    def _in_use(self, storage: Storage, key: Key) -> bool:
        """Whether a writer holds it, or it came to be known or went meanwhile: asked under the file's lock."""
        asked = []

        def ask(key: Key) -> bool:
            asked.append(bool(self._catalog.known(storage.name, [key])))
            return True

        storage.delete(key, unless=ask)
        return not asked or asked[0]
