"""A copy of everything that is a data folder itself, made beside live traffic.

The catalog comes first, as it is at one moment; then the bytes that it refers to, whose removal is held off meanwhile. The copy's catalog
is exchanged when all of them are there, so a backup that is cut short leaves the one before it whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Protocol, TextIO

from carboy.catalog.base import Catalog, batched
from carboy.config import Settings
from carboy.engine.holding import Removal, alone
from carboy.engine.manifest import CATALOG, MANIFEST, Entry, Former, Note, read_note, replacing, sums_of, take_name
from carboy.engine.parallel import each
from carboy.engine.reading import look
from carboy.engine.trees import Moved
from carboy.errors import BytesDamaged, CarboyError, ConfigError, InvalidRequest, NotFound, StorageFull
from carboy.model import Key, Progress, Span
from carboy.storage.base import Adopts, OnDisk, Storage

POSTGRESQL = ("the catalog is in PostgreSQL, whose backups are pg_dump's: set delete_grace longer than a backup takes, "
              "run pg_dump first, then copy the blobs folder (see 'Backup' in docs/operations.md)")


PAGE = 100
"""How many contents are brought before any of them is told of."""


LOST_AND_FOUND = "lost+found"
"""Of a disk's root, which is empty nonetheless."""


class Vault(Storage, OnDisk, Adopts, Protocol):
    """A storage that is a folder."""


class Folders(Protocol):
    """How catalogs and storages in other folders are opened."""

    def catalog(self, file: Path) -> Catalog: ...

    def vault(self, folder: Path) -> Vault: ...


class Backup:
    """Makes backups of the catalog in SQLite and the local storage."""

    def __init__(self, settings: Settings, catalog: Catalog, vault: Vault, folders: Folders, executor: Executor,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._vault = vault
        self._folders = folders
        self._executor = executor
        self._clock = clock

    def run(self, to: Path, *, copy: bool = False, prune: bool = False) -> Iterator[Moved]:
        """Every stored content, told one by one: ``linked``, ``copied``, ``kept`` (an earlier backup brought it) or ``left out`` (its bytes
        are missing or damaged here). With ``prune`` what the new backup doesn't need goes: ``pruned``. What other storages keep stays
        there, ``elsewhere``, told in one for each: the backup only knows of it.

        When it ends the folder has every file of the local storage that was acknowledged before it began, and uploads under way as far as
        they had come; each byte that was brought has been read back and compared. Hard links where the file system allows it, unless
        ``copy``.
        Raises ConfigError with PostgreSQL, InvalidRequest for a folder that is something else, Conflict while another backup writes
        into it, StorageFull.
        """
        if self._settings.database.startswith("postgresql"):
            raise ConfigError(POSTGRESQL, setting="database")
        _check_apart(to, self._settings.data)
        to.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(to / "backup.lock", "another backup into this folder is under way"):
            former = _former(to)
            vault = self._folders.vault(to / "blobs")
            try:
                vault.prepare()
                yield from self._save(to, vault, former, link=not copy)
                if prune:
                    yield from self._prune(to, vault)
            finally:
                vault.close()

    def _save(self, to: Path, vault: Vault, former: Note, *, link: bool) -> Iterator[Moved]:
        now, snapshot = self._clock(), to / f"{CATALOG}.new"
        blobs = size = 0
        with Removal(self._settings.data).held_off(), _lines(to / MANIFEST) as lines:
            self._snapshot(snapshot)
            with closing(self._folders.catalog(snapshot)) as catalog, replacing(to / f"{MANIFEST}.next") as manifest:
                for entry, moved in self._bring(catalog, vault, Former(lines), link):
                    yield moved
                    if moved.outcome != "left out":
                        manifest.write(entry.line())
                        blobs, size = blobs + 1, size + entry.size
                yield from elsewhere(catalog, self._vault.name)
            vault.sync()
        _remove_log(snapshot)
        done = Note(now, (sums_of(snapshot),), (sums_of(to / f"{MANIFEST}.next"),), blobs, size)
        Note(former.at, former.catalog + done.catalog, former.manifest + done.manifest, former.blobs, former.bytes).write(to)
        take_name(to / f"{MANIFEST}.next", to / MANIFEST)
        take_name(snapshot, to / CATALOG)
        done.write(to)

    def _snapshot(self, path: Path) -> None:
        for leftover in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            leftover.unlink(missing_ok=True)
        self._catalog.snapshot(str(path))
        path.chmod(0o600)

    def _bring(self, catalog: Catalog, vault: Vault, former: Former, link: bool) -> Iterator[tuple[Entry, Moved]]:
        bringing = Bringing(self._vault, vault, link)
        after: Key | None = None
        while page := [Entry.of(blob) for blob in catalog.blobs(self._vault.name, after=after, limit=PAGE)]:
            known = [(entry, former.has(entry)) for entry in page]
            yield from zip(page, all_of(each(self._executor, lambda one: bringing.bring(*one), known)), strict=True)
            after = page[-1].key
        for entry in _under_way(catalog, self._vault.name):
            yield entry, all_of([bringing.bring(entry, False)])[0]

    def _prune(self, to: Path, vault: Vault) -> Iterator[Moved]:
        with closing(self._folders.catalog(to / CATALOG)) as catalog:
            for keys in batched(vault.keys(), 500):
                known = catalog.known(self._vault.name, keys)
                for key in keys:
                    if key not in known:
                        size = vault.size(key) or 0
                        vault.delete(key)
                        yield Moved(key, "pruned", size)
            vault.sync()


class Bringing:
    """Brings the bytes of keys from one folder into another, and proves them."""

    def __init__(self, source: Vault, target: Vault, link: bool) -> None:
        self._source = source
        self._target = target
        self._link = link

    def bring(self, entry: Entry, known: bool) -> Moved | StorageFull:
        """``known``: an earlier run has proved what is there under the key. StorageFull is returned, not raised: it ends the run, but other
        threads are to end first."""
        try:
            if self._is_there(entry, known):
                return Moved(entry.key, "kept", entry.size)
            with self._source.open(entry.key) as file:
                linked = self._target.put(entry.key, file.fileno(), link=self._link and entry.spans is None)
            if not self._proved(entry):
                self._target.delete(entry.key)
                raise BytesDamaged("the bytes are not the ones that were received")
            return Moved(entry.key, "linked" if linked else "copied", entry.size)
        except StorageFull as error:
            return error
        except CarboyError as error:
            return Moved(entry.key, "left out", entry.size, error.detail)

    def _is_there(self, entry: Entry, known: bool) -> bool:
        if entry.spans is not None or self._target.size(entry.key) != entry.size:
            return False
        return known or self._proved(entry)

    def _proved(self, entry: Entry) -> bool:
        if entry.spans is None:
            return look(self._target.read(entry.key), sha256=entry.sha256 is not None).fits(entry.blob)
        return all(_span_proved(self._target, entry.key, span) for span in entry.spans)


def all_of(brought: Iterable[Moved | StorageFull]) -> list[Moved]:
    """Raises the first error once all have ended."""
    done = list(brought)
    for one in done:
        if isinstance(one, StorageFull):
            raise one
    return [one for one in done if isinstance(one, Moved)]


def _span_proved(vault: Vault, key: Key, span: Span) -> bool:
    seen = look(vault.read(key, span))
    return (seen.size, seen.crc64nvme) == (span.length, span.crc)


def elsewhere(catalog: Catalog, here: str) -> Iterator[Moved]:
    """What the catalog knows in each storage but this one."""
    for name, (count, size) in catalog.stored().items():
        if name != here:
            yield Moved(name, "elsewhere", size, f"{count} contents are kept in the storage {name!r}, whose bytes a backup doesn't hold")


def _under_way(catalog: Catalog, storage: str) -> Iterator[Entry]:
    """The bytes of uploads that have not become files yet, and their pieces."""
    cursor: str | None = None
    while True:
        uploads, cursor = catalog.uploads(cursor=cursor)
        yield from chain.from_iterable(_of_upload(catalog, progress) for progress in uploads if progress.upload.storage == storage)
        if cursor is None:
            return


def _of_upload(catalog: Catalog, progress: Progress) -> Sequence[Entry]:
    spans = tuple(progress.spans)
    pieces = [Entry(chunk.key, chunk.size, spans=(Span(0, chunk.size, chunk.crc),))
              for chunk in catalog.chunks(progress.upload.id) if chunk.key]
    return [Entry(progress.upload.key, max((span.end for span in spans), default=0), spans=spans), *pieces]


def _former(to: Path) -> Note:
    """What the folder says of the backup in it. Raises InvalidRequest unless it is one, untouched, or empty."""
    note = read_note(to)
    if note is None:
        if set(os.listdir(to)) - {"backup.lock", LOST_AND_FOUND}:
            raise InvalidRequest(f"the folder {str(to)!r} is neither empty nor a backup")
        note = Note()
        note.write(to)
    elif note.at is not None and not untouched(to, note):
        raise InvalidRequest(f"the backup in {str(to)!r} was used as a data folder since, or is damaged; give another folder")
    return note


def untouched(folder: Path, note: Note) -> bool:
    """Whether the catalog in the folder is the one that the backup wrote."""
    log = folder / f"{CATALOG}-wal"
    with suppress(FileNotFoundError):
        return not (log.exists() and log.stat().st_size) and sums_of(folder / CATALOG) in note.catalog
    return False


def _check_apart(to: Path, data: Path) -> None:
    there, here = to.resolve(), data.resolve()
    if not here.is_dir():
        raise NotFound(f"there is no data folder {str(data)!r}")
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise InvalidRequest("a backup goes into a folder of its own, apart from the data folder")


def _remove_log(catalog: Path) -> None:
    """What reading the snapshot left beside it: it was never written to, so there is nothing in it."""
    for suffix in ("-wal", "-shm"):
        catalog.with_name(catalog.name + suffix).unlink(missing_ok=True)


@contextmanager
def _lines(path: Path) -> Iterator[TextIO | list[str]]:
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        yield []
        return
    with file:
        yield file
