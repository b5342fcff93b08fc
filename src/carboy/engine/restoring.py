"""A backup, or a snapshot of the catalog, becomes a data folder's content."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import closing
from itertools import islice
from pathlib import Path

from carboy.config import Settings
from carboy.engine.backup import LOST_AND_FOUND, PAGE, POSTGRESQL, Bringing, Folders, Vault, all_of, elsewhere, untouched
from carboy.engine.holding import alone
from carboy.engine.manifest import CATALOG, MANIFEST, Entry, Note, read_note, sums_of, sync_folder, take_name
from carboy.engine.parallel import each
from carboy.engine.trees import Moved
from carboy.errors import CarboyError, ConfigError, InvalidRequest, StorageFailed
from carboy.storage.copying import copy_open_file

RESTORING = "restoring"
"""A file in a data folder that is being restored: no server starts on it."""


class Restore:
    """Fills the data folder of the settings."""

    def __init__(self, settings: Settings, catalog_file: Path | None, vault: Vault, folders: Folders, executor: Executor,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog_file = catalog_file
        self._vault = vault
        self._folders = folders
        self._executor = executor
        self._clock = clock

    def run(self, backup: Path) -> Iterator[Moved]:
        """Every stored content of the backup, told one by one: ``copied``, ``kept`` (a restore that was cut short brought it) or
        ``left out`` (its bytes are missing or damaged in the backup). Each is read back and compared; the catalog comes last. What other
        storages kept isn't in the backup, and is told of as ``elsewhere``, in one for each.

        Raises InvalidRequest for what is no whole backup or for a data folder that holds anything, ConfigError with PostgreSQL,
        StorageFull.
        """
        target = self._target()
        note = _whole(backup)
        self._begin(target)
        vault = self._folders.vault(backup / "blobs")
        try:
            self._vault.prepare()
            with (backup / MANIFEST).open(encoding="utf-8") as lines:
                yield from self._bring(vault, map(Entry.read, lines))
            self._vault.sync()
        finally:
            vault.close()
        if sums_of(backup / CATALOG) not in note.catalog:
            raise StorageFailed("the backup's catalog was changed meanwhile")
        _copy(backup / CATALOG, target)
        self._end()
        with closing(self._folders.catalog(target)) as catalog:
            yield from elsewhere(catalog, self._vault.name)

    def from_snapshot(self, snapshot: Path) -> Path:
        """The catalog becomes what it was at the snapshot; where the present one is kept. Bytes of files that were deleted since may be
        gone, which `carboy fsck` tells; files that came since are forgotten, and the sweeper removes their bytes.

        Raises InvalidRequest for no snapshot, Conflict while a server runs.
        """
        target = self._target()
        catalog = self._folders.catalog(snapshot)
        try:
            if not snapshot.is_file():
                raise InvalidRequest(f"there is no file {str(snapshot)!r}")
            catalog.counts()
        except CarboyError as error:
            raise InvalidRequest(f"{str(snapshot)!r} is no catalog that this Carboy can read: {error.detail}") from error
        finally:
            catalog.close()
        with alone(self._settings.data / "sweeper.lock", "a server runs on this data folder; stop it first"):
            aside = target.with_name(f"{target.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(self._clock()))}")
            _set_aside(target, aside)
            _copy(snapshot, target)
        return aside

    def _target(self) -> Path:
        if self._catalog_file is None:
            raise ConfigError(POSTGRESQL, setting="database")
        return self._catalog_file

    def _begin(self, target: Path) -> None:
        data = self._settings.data
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = set(os.listdir(data)) - {LOST_AND_FOUND}
        if target.exists() or (there and RESTORING not in there):
            raise InvalidRequest(f"the data folder {str(data)!r} is not empty; a backup is restored into a new one", setting="data")
        (data / RESTORING).touch(mode=0o600)
        sync_folder(data)

    def _end(self) -> None:
        (self._settings.data / RESTORING).unlink()
        sync_folder(self._settings.data)

    def _bring(self, vault: Vault, entries: Iterator[Entry]) -> Iterator[Moved]:
        bringing = Bringing(vault, self._vault, link=False)
        while page := list(islice(entries, PAGE)):
            yield from all_of(each(self._executor, lambda entry: bringing.bring(entry, False), page))


def _whole(backup: Path) -> Note:
    note = read_note(backup)
    if note is None:
        raise InvalidRequest(f"there is no backup in {str(backup)!r}")
    if note.at is None:
        raise InvalidRequest(f"the backup in {str(backup)!r} was cut short before it was whole; run it again")
    if not untouched(backup, note) or sums_of(backup / MANIFEST) not in note.manifest:
        raise InvalidRequest(f"the backup in {str(backup)!r} was used as a data folder since, or is damaged; use it with `--data` "
                             "as it is, or take another")
    return note


def _set_aside(catalog: Path, aside: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        part = catalog.with_name(catalog.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))


def _copy(source: Path, target: Path) -> None:
    new = target.with_name(f"{target.name}.new")
    new.unlink(missing_ok=True)
    folder, file = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY), os.open(source, os.O_RDONLY)
    try:
        copy_open_file(file, new.name, folder, durable=True)
    finally:
        os.close(file)
        os.close(folder)
    take_name(new, target)
