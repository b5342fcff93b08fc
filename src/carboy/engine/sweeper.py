"""Upkeep beside live traffic: expired uploads, completions a crash cut off, deleted and orphaned bytes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from carboy.catalog.base import Catalog, batched, paged
from carboy.config import Settings
from carboy.engine.holding import Removal
from carboy.engine.uploads import Uploads
from carboy.errors import CarboyError, StorageFailed, StorageUnavailable
from carboy.model import Key
from carboy.storage.base import OnDisk, Storage

log = logging.getLogger("carboy.sweeper")

_BATCHES = 50


@dataclass(slots=True)
class Swept:
    """What one run did, in items."""

    expired: int = 0
    completed: int = 0
    unshelved: int = 0
    deleted: int = 0
    orphans: int = 0
    purged: int = 0


class Sweeper:
    """Everything it does is repeatable and safe beside writers of any process."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], uploads: Uploads,
                 clock: Callable[[], float] = time.time, settle: Callable[[], int] = lambda: 0) -> None:
        """``settle`` completes uploads that nobody tells of, and how many it were."""
        self._settle = settle
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self._uploads = uploads
        self._clock = clock
        self._removal = Removal(settings.data)

    def run(self, *, orphans: bool = True, grace: float | None = None, shared: bool = True) -> Swept:
        """One round. ``grace`` in seconds overrides the setting ``delete_grace``. Bytes stay while a backup holds their removal off.
        Without ``shared`` only what this machine alone can do is done: removing bytes from its own disk."""
        swept = Swept()
        now = self._clock()
        storages = [storage for storage in self._storages.values() if shared or isinstance(storage, OnDisk)]
        if shared:
            self._catalogued(swept, now)
        with self._removal.allowed() as allowed:
            if allowed:
                swept.deleted = self._delete(storages, now - (self._settings.delete_grace if grace is None else grace))
                swept.orphans = sum(map(self._unknown, storages)) if orphans else 0
        return swept

    def _catalogued(self, swept: Swept, now: float) -> None:
        swept.completed = self._complete()
        swept.expired = self._expire(now)
        swept.unshelved = self._unshelve(now)
        swept.purged = self._catalog.purge(now=now, audit_before=now - self._settings.audit_expiry,
                                            log_before=now - self._settings.event_expiry)
        self._read_texts()

    def _read_texts(self) -> None:
        """Searches find little left to read, also after many files came at once."""
        for _ in range(_BATCHES):
            if not self._catalog.read_texts():
                return

    def _complete(self) -> int:
        done = 0
        for upload in chain(paged(self._catalog.covered_uploads), paged(self._catalog.uploads_of_parts)):
            with suppress(CarboyError):
                done += self._uploads.progress(upload.id).upload.state == "complete"
        return done + self._settle()

    def _expire(self, now: float) -> int:
        done = 0
        for upload in self._catalog.expired_uploads(now=now):
            if self._uploads.end(upload, "expired", now=now):
                self._uploads.turns.stop(upload.key)
                done += 1
        return done

    def _unshelve(self, now: float) -> int:
        """What has been in the trash, or staged, too long goes."""
        return sum(self._catalog.delete_file(one.file.id, now=now) is not None for one in self._catalog.expired_shelf(now=now))

    def _delete(self, storages: Sequence[Storage], before: float) -> int:
        done = 0
        for storage in storages:
            keys: list[Key] = []
            try:
                keys += (key for key in self._catalog.condemned(storage.name, before=before) if _deleted(storage, key))
            except StorageUnavailable as error:
                log.warning("could not remove bytes from %s: %s", storage.name, error.detail)
            if keys:
                self._catalog.forget(storage.name, keys)
            done += len(keys)
        return done

    def _unknown(self, storage: Storage) -> int:
        """The orphans of a storage; one that can't be reached now has them later."""
        try:
            return self._orphans(storage)
        except StorageUnavailable as error:
            log.warning("could not look for orphaned bytes in %s: %s", storage.name, error.detail)
            return 0

    def _orphans(self, storage: Storage) -> int:
        """The storage is listed first and the catalog asked after that, once more under the file's lock: whatever was
        committed in between is known by then, and a writer holds its lock until its commit is decided."""
        done = 0
        for keys in batched(storage.keys(), 500):
            known = self._catalog.known(storage.name, keys)
            for key in keys:
                if key not in known and _deleted(storage, key, lambda key: self._knows(storage, key)):
                    log.info("removed orphaned bytes %s", key)
                    done += 1
        return done

    def _knows(self, storage: Storage, key: Key) -> bool:
        return bool(self._catalog.known(storage.name, [key]))


def _deleted(storage: Storage, key: Key, unless: Callable[[Key], bool] | None = None) -> bool:
    """Whether the bytes are gone. What one file fails with is logged, and the round goes on."""
    try:
        return storage.delete(key, unless=unless)
    except StorageFailed as error:
        log.warning("could not remove %s: %s", key, error.detail)
        return False
