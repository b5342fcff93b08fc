"""Reading all stored bytes again, slowly: what is no longer what was received is found before somebody needs it.

Damaged contents are put under quarantine: nobody is given them. Those that read right again, or are repaired from a
backup, leave it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.engine.backup import Folders, Vault
from carboy.engine.fsck import Finding
from carboy.engine.holding import alone
from carboy.engine.manifest import replacing
from carboy.engine.pacing import Rate, Stopped
from carboy.engine.reading import is_where_it_was, look, stored
from carboy.errors import BytesMissing, CarboyError, InvalidRequest, StorageUnavailable
from carboy.model import Blob, Key
from carboy.storage.base import Adopts, OnDisk, Storage

PAGE = 64
"""After so many contents the position is kept."""
BAD = frozenset({"missing", "cut", "damaged", "unreadable"})
"""The kinds of findings that something is to be done about."""


class Scrubber:
    """One pass may be cut short at any moment; the next call goes on where it was."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], folders: Folders,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self._folders = folders
        self._clock = clock
        self._position = settings.data / "scrub.json"
        self.blobs = 0
        self.bytes = 0

    def due(self) -> bool:
        """Whether ``scrub_interval`` has gone by since the last pass ended, or one was cut short."""
        interval = self._settings.scrub_interval
        ended = self._read().get("ended_at")
        return bool(interval) and (ended is None or abs(self._clock() - ended) >= interval)

    def run(self, *, rate: int | None = None, repair: Path | None = None, stop: Event | None = None, shared: bool = True,
            ) -> Iterator[Finding]:
        """What is wrong: ``missing``, ``cut``, ``damaged`` or ``unreadable``; and what is right again: ``repaired`` from the backup or data
        folder ``repair``, or ``healed``. At most ``rate`` bytes a second are read. Contents that go meanwhile are no findings. ``stop``,
        once set, ends it soon. Without ``shared`` only this machine's own disk is read.

        Raises Conflict while another scrub runs, InvalidRequest where ``repair`` is no such folder, StorageUnavailable: the next pass goes
        on where this one was then.
        """
        source = self._source(repair)
        self.blobs = self.bytes = 0
        pace = Rate(rate, stop or Event())
        with alone(self._settings.data / "scrub.lock", "another scrub is under way"), suppress(Stopped):
            position = self._read()
            for name, storage in sorted(self._storages.items()):
                if name >= position.get("storage", "") and (shared or isinstance(storage, OnDisk)):
                    after = position.get("after") if name == position.get("storage") else None
                    yield from self._pass(storage, after, pace, source)
            self._write({"ended_at": self._clock()})

    def _source(self, repair: Path | None) -> Vault | None:
        if repair is None:
            return None
        if not (repair / "blobs").is_dir():
            raise InvalidRequest(f"there is neither a backup nor a data folder in {str(repair)!r}")
        return self._folders.vault(repair / "blobs")

    def _pass(self, storage: Storage, after: Key | None, pace: Rate, source: Vault | None) -> Iterator[Finding]:
        while page := self._catalog.blobs(storage.name, after=after, limit=PAGE):
            for blob in page:
                found = self._check(storage, blob, pace)
                self.blobs, self.bytes = self.blobs + 1, self.bytes + blob.size
                if found and is_where_it_was(self._catalog, blob):
                    yield self._judge(storage, blob, found, source)
            after = page[-1].key
            self._write({"storage": storage.name, "after": after})

    def _check(self, storage: Storage, blob: Blob, pace: Rate) -> Finding | None:
        def finding(kind: str, detail: str) -> Finding:
            return Finding(kind, storage.name, blob.key, detail)

        try:
            seen = stored(storage, blob, pace)
        except BytesMissing:
            return finding("missing", "the catalog names it, the storage has no such bytes")
        except StorageUnavailable:
            raise
        except CarboyError as error:
            return finding("unreadable", error.detail)
        if seen.size != blob.size:
            return finding("cut", f"{seen.size} bytes are stored, {blob.size} are in the catalog")
        if not seen.fits(blob):
            return finding("damaged", "the bytes are not the ones that were received")
        return finding("healed", "the bytes are right again") if blob.damaged_at is not None else None

    def _judge(self, storage: Storage, blob: Blob, found: Finding, source: Vault | None) -> Finding:
        """What is told in the end, once the catalog knows it."""
        if found.kind in BAD and source and _repaired(storage, blob, source):
            found = Finding("repaired", storage.name, blob.key, f"was {found.kind}; the backup's bytes are the ones that were received")
        if found.kind in ("healed", "repaired"):
            self._catalog.set_damaged(blob.id, None)
        elif found.kind in ("damaged", "cut") and blob.damaged_at is None:
            self._catalog.set_damaged(blob.id, self._clock())
        return found

    def _read(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, ValueError):
            found = json.loads(self._position.read_text())
            return found if isinstance(found, dict) else {}
        return {}

    def _write(self, position: dict[str, Any]) -> None:
        with replacing(self._position) as text:
            json.dump(position, text)


def _repaired(storage: Storage, blob: Blob, source: Vault) -> bool:
    """Whether the other folder had the right bytes, and they are here now."""
    try:
        if not isinstance(storage, Adopts) or not stored(source, blob).fits(blob):
            return False
        with source.open(blob.key) as file:
            storage.put(blob.key, file.fileno())
        storage.sync()
        return look(storage.read(blob.key)).fits(blob)
    except CarboyError:
        return False
