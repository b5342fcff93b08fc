"""Coming: a tree of files becomes files of a space. Running it again goes on where it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from carboy.catalog.base import Catalog
from carboy.config import Settings, SpaceSettings
from carboy.engine import limits
from carboy.engine.describing import Descriptions
from carboy.engine.names import clean_folder, clean_path, home_of
from carboy.engine.parallel import each
from carboy.engine.reading import Seen, look, pieces
from carboy.engine.receive import Target
from carboy.engine.trees import Moved, Walked, walk
from carboy.errors import CarboyError, CommitUnknown, Conflict, InvalidRequest, NotFound
from carboy.model import TRUSTED, Blob, File, Key, OnConflict, Placement, Principal
from carboy.storage.base import Adopts, Storage, Writer

BATCH = 64
"""Most files of one transaction."""
BATCH_BYTES = 256 * 2**20
"""A transaction takes no further file once its files have this many bytes."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a tree goes. ``on_conflict`` says what happens where a file with another content is already."""

    space: str
    rules: SpaceSettings
    folder: str
    owner: str | None
    on_conflict: OnConflict
    link: bool
    described: Descriptions | None


@dataclass(slots=True)
class _Taken:
    """A file whose bytes are stored, until the batch is placed."""

    walked: Walked
    storage: Storage
    key: Key
    linked: bool
    placement: Placement
    fence: str | None = None
    kept: bool = False


class Importer:
    """Adopts trees of files. Every file that is reported as stored is on stable storage and in the catalog."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], executor: Executor,
                 clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self._executor = executor
        self._clock = clock

    def run(self, root: Path, space: str = "main", *, to: str = "", link: bool = False, owner: str | None = None,
            on_conflict: OnConflict = "refuse", described: Path | None = None, principal: Principal = TRUSTED) -> Iterator[Moved]:
        """Every file below ``root``, told one by one: ``copied``, ``linked``, ``kept`` (the same content is at its path already) or
        ``left out``, with the reason. What may not be here (a name, a type, a size, a quota) is left out and the rest goes on.

        With ``described``, the file that an export wrote beside the tree, they have the metadata, tags, owners and times that they
        had; what is not what was exported is left out. Symbolic links are not followed. Bytes are shared or copied by the file
        system; with ``link`` they are hard links where that can be, and then whoever changes the original in place damages the file.
        Raises NotFound for an unknown space, InvalidRequest for a root or a description that is none, StorageFull, StorageFailed.
        """
        self._check_root(root)
        descriptions = Descriptions(root, described) if described else None
        destination = self._destination(space, to, owner, on_conflict, link, descriptions)
        for batch in _batches(_meant(walk(root), descriptions)):
            yield from self._adopt(batch, destination, principal)

    def _destination(self, space: str, to: str, owner: str | None, on_conflict: OnConflict, link: bool,
                     described: Descriptions | None) -> Destination:
        rules = self._settings.spaces.get(space)
        if rules is None:
            raise NotFound(f"there is no space {space!r}", space=space)
        if rules.private and owner is None:
            raise InvalidRequest(f"the space {space!r} has a tree for each owner: say whose files these are", space=space)
        home = home_of(owner) if rules.private else ""
        return Destination(space, rules, home + clean_folder(to), owner, on_conflict, link, described)

    def _check_root(self, root: Path) -> None:
        data = self._settings.data.resolve()
        if not root.is_dir():
            raise InvalidRequest(f"there is no folder {str(root)!r}")
        if data.is_relative_to(root.resolve()) or root.resolve().is_relative_to(data):
            raise InvalidRequest("the folder is part of the data folder, or the data folder of it")

    def _adopt(self, batch: Sequence[Walked], to: Destination, principal: Principal) -> Iterator[Moved]:
        taken: list[_Taken] = []
        with ExitStack() as open_:
            open_.callback(_remove_unkept, taken)  # after the writers have let go
            for walked in batch:
                open_.callback(walked.close)
            done = each(self._executor, lambda walked: self._take(walked, to, open_), batch)
            taken += [one for one in done if isinstance(one, _Taken)]
            for error in done:
                if isinstance(error, CarboyError):
                    raise error
            told = self._place(taken, principal)
        for one in done:
            if not isinstance(one, CarboyError):
                yield told[one.key] if isinstance(one, _Taken) else one

    def _take(self, walked: Walked, to: Destination, open_: ExitStack) -> _Taken | Moved | CarboyError:
        """The file's bytes as a blob that the batch holds, or why not; an error that would befall all others too."""
        if walked.file is None:
            return walked.told("left out", walked.reason)
        try:
            path = clean_path(to.folder + walked.path)
            if (there := self._catalog.file_at(to.space, path)) and (same := _compared(walked, walked.file, there, to.on_conflict)):
                return same
            limits.check_size(walked.size, limits.largest(self._settings, to.rules))
            return self._stored(walked, walked.file, path, to, open_)
        except CarboyError as error:
            return error if error.code in _FATAL else walked.told("left out", error.detail)
        except OSError as error:
            return walked.told("left out", f"can't be read: {error.strerror}")

    def _stored(self, walked: Walked, file: int, path: str, to: Destination, open_: ExitStack) -> _Taken:
        storage, holding = self._storages[to.rules.storage], ExitStack()
        fence = storage.fence()
        key, writer, linked = holding.enter_context(_adopted(storage, file, to.link))
        try:
            writer.flush()
            seen = look(storage.read(key))
            if seen.size != walked.size or not walked.unchanged():
                raise Conflict("it was changed while it was read")
            placement = self._placement(walked, path, to, key, seen)
        except BaseException:
            holding.close()
            storage.delete(key)
            raise
        open_.callback(holding.close)
        return _Taken(walked, storage, key, linked, placement, fence)

    def _placement(self, walked: Walked, path: str, to: Destination, key: Key, seen: Seen) -> Placement:
        now = self._clock()
        blob = Blob(key[3:], to.rules.storage, key, seen.size, seen.crc64nvme, None, now)
        media_type = limits.media_type(seen.head, path.rpartition("/")[2], to.rules)
        placement = Target(to.space, path, to.owner, to.rules).placement(blob, media_type)
        placement = replace(placement, on_conflict=to.on_conflict, modified_at=min(max(walked.modified_at, 0.0), now))
        description = to.described.of(walked.path) if to.described else None
        return description.applied(placement) if description else placement

    def _place(self, taken: Sequence[_Taken], principal: Principal) -> dict[Key, Moved]:
        """All in one transaction; where one of them may not be, each in one of its own."""
        if not taken:
            return {}
        try:
            self._enter(taken, principal)
        except CarboyError as error:
            if error.code in _FATAL:
                raise
            if len(taken) == 1:
                return {taken[0].key: taken[0].walked.told("left out", error.detail)}
            return {key: moved for one in taken for key, moved in self._place([one], principal).items()}
        return {one.key: one.walked.told("linked" if one.linked else "copied") for one in taken}

    def _enter(self, taken: Sequence[_Taken], principal: Principal) -> None:
        try:
            self._catalog.place([one.placement for one in taken], now=self._clock(),
                                by=principal.act if self._settings.audit_expiry else None,
                                fence={one.fence for one in taken if one.fence})
        except CommitUnknown:
            _keep(taken)
            raise
        _keep(taken)


_FATAL = frozenset({"storage_full", "storage_read_only", "storage_failed", "catalog_unavailable", "commit_unknown"})
"""What would befall every further file too."""


def _batches(found: Iterator[Walked]) -> Iterator[list[Walked]]:
    batch: list[Walked] = []
    size = 0
    for walked in found:
        batch.append(walked)
        size += walked.size
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _meant(found: Iterator[Walked], described: Descriptions | None) -> Iterator[Walked]:
    """Without what an export wrote for itself."""
    for walked in found:
        if described and described.is_own(walked.path):
            walked.close()
        else:
            yield walked


def _compared(walked: Walked, file: int, there: File, on_conflict: OnConflict) -> Moved | None:
    """``kept`` where the file that is there has the same content; None where the new one is to be taken nonetheless."""
    if there.size == walked.size and look(pieces(file)).fits(there.blob):
        return walked.told("kept")
    return walked.told("left out", "there is a file with another content already") if on_conflict == "refuse" else None


@contextmanager
def _adopted(storage: Storage, file: int, link: bool) -> Iterator[tuple[Key, Writer, bool]]:
    if isinstance(storage, Adopts):
        with storage.adopt(file, link=link) as adopted:
            yield adopted
        return
    with storage.stage(None) as (key, writer):
        for piece in pieces(file):
            writer.write(piece)
        yield key, writer, False


def _keep(taken: Sequence[_Taken]) -> None:
    for one in taken:
        one.kept = True


def _remove_unkept(taken: Sequence[_Taken]) -> None:
    for one in taken:
        if not one.kept:
            one.storage.delete(one.key)
