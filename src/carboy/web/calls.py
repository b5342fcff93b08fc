"""What an application calls from Python: files put, found, read, changed and sent. These calls are trusted: whoever asks for them has
been checked by the application."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from flask import request
from werkzeug import Response

from carboy.bootstrap import Services
from carboy.config import SpaceSettings
from carboy.engine.changes import check_metadata, check_tags
from carboy.engine.names import clean_path, home_of
from carboy.engine.opening import Content, ContentSource, open_blob
from carboy.engine.receive import Target
from carboy.errors import NotFound
from carboy.metrics import UPLOADS
from carboy.model import NOBODY, TRUSTED, File, OnConflict, Page, Principal, Usage
from carboy.web import download
from carboy.web.forms import Received

_PAGE = 1000
Named = File | Received | str
"""A file: itself, what it was received as, or its id."""
Owner = str | int | None


@dataclass(frozen=True, slots=True)
class Space:
    """A named area of files with rules of its own."""

    name: str
    rules: SpaceSettings


Place = Space | str
"""A space: itself, or its name."""


class Calls:
    """The Python calls of :class:`carboy.Carboy`. Owners are any ids of the application's; in a private space each has a tree of its own,
    whose folder begins the paths that ``File.path`` shows here."""

    @property
    def services(self) -> Services:
        """The engine."""
        raise NotImplementedError

    def _acting(self) -> Principal:
        """Who changes something, for the audit log; trusted."""
        raise NotImplementedError

    # --- in and out ---

    def put(self, space: Place, path: str, content: Content, *, owner: Owner = None, metadata: Mapping[str, Any] | None = None,
            tags: Sequence[str] = (), on_conflict: OnConflict | None = None) -> File:
        """Bytes, a binary file from where it stands, or pieces of bytes become the file at ``path``. When this returns they are on stable
        storage.

        Raises NotFound for a space that isn't there, InvalidName, TooLarge, UnsupportedType, QuotaExceeded, StorageFull, Conflict,
        PathConflict; then nothing is kept.
        """
        check_metadata(metadata or {})
        check_tags(tags)
        target = self._target(name_of(space), path, _id(owner), metadata or {})
        if on_conflict:
            target = replace(target, rules=target.rules.model_copy(update={"on_conflict": on_conflict}))
        placed = self.services.receiver.receive(target, ContentSource(content))
        self.services.meter.add(UPLOADS, ("call", "complete"))
        return self.update(placed.file, tags=tags) if tags else placed.file

    def get(self, id: Named) -> File:
        """The file as it is now. Raises NotFound, also for one in the trash."""
        return self.services.files.get(TRUSTED, id_of(id))

    def at(self, space: Place, path: str, *, owner: Owner = None) -> File:
        """The file at a path. Raises NotFound."""
        name = name_of(space)
        return self.services.files.at(self._principal(name, owner), name, clean_path(path))

    def open(self, id: Named, *, version: int | None = None) -> BinaryIO:
        """The file's bytes, or those of an older ``version``, as a seekable file, also while they are held back from others. Raises
        NotFound, BytesMissing, BytesDamaged, Quarantined."""
        file = self.get(id)
        older = self.services.files.version(file, version) if version is not None else None
        return open_blob(older.blob if older else file.blob, self.services.files.storage(TRUSTED, file, older))

    def send(self, id: Named, *, download: bool = False, name: str | None = None, version: int | None = None,
             pending: bool = False) -> Response:
        """The answer that gives the file to whoever makes this request: ranges, conditions, ETag, the cheapest way the bytes can go. With
        ``download`` browsers save it, under ``name`` where one is given. What the space holds back is sent only with ``pending``: say so
        where whoever asks may have it before it is checked, such as its owner.

        Raises NotFound, BytesMissing, PreconditionFailed, RangeNotSatisfiable, Pending, Quarantined.
        """
        file, files = self.get(id), self.services.files
        older = files.version(file, version) if version is not None else None
        storage = files.storage(NOBODY, file, older, pending=pending)
        response = _respond(file, storage, settings=self.services.settings, version=older, attachment=download, name=name)
        if not files.is_public(file):
            response.vary.add("Cookie")
        return response

    # --- lists ---

    def list(self, space: Place, prefix: str = "", *, owner: Owner = None) -> Iterator[File]:
        """All files whose path begins with ``prefix``, by path, fetched a page at a time; in a private space those of one ``owner``, or
        everybody's. Raises NotFound at once."""
        name = name_of(space)
        principal = self._principal(name, owner, everybody=True)
        return _pages(lambda cursor: self.services.files.page(principal, name, prefix=prefix, cursor=cursor, limit=_PAGE))

    def usage(self, space: Place, *, owner: Owner = None) -> Usage:
        """What is kept in the space, or by one owner in it."""
        return self.services.catalog.usage(name_of(space), _id(owner))

    # --- changes ---

    def delete(self, id: Named, *, permanent: bool = False) -> None:
        """To the trash, where it can be restored from; away where the space keeps none, or with ``permanent``. Raises NotFound."""
        self.services.changes.delete(self._acting(), self.get(id), permanent=permanent)

    def restore(self, id: Named, *, path: str | None = None) -> File:
        """Back from the trash. Raises NotFound, Conflict where there is a file at its path meanwhile."""
        return self.services.changes.restore(self._acting(), id_of(id), path=path)

    def move(self, id: Named, path: str, *, space: Place | None = None, on_conflict: OnConflict = "refuse") -> File:
        """To another path, of another ``space`` where one is given; its id stays. Raises NotFound, Conflict, PathConflict,
        QuotaExceeded."""
        where = None if space is None else name_of(space)
        return self.services.changes.move(self._acting(), self.get(id), path, space=where, on_conflict=on_conflict)

    def copy(self, id: Named, path: str, *, space: Place | None = None, on_conflict: OnConflict = "refuse") -> File:
        """A second file with the same content, of which no byte is copied. Raises as :meth:`move`."""
        where = None if space is None else name_of(space)
        return self.services.changes.copy(self._acting(), self.get(id), path, space=where, on_conflict=on_conflict).file

    def update(self, id: Named, *, metadata: Mapping[str, Any] | None = None, tags: Sequence[str] | None = None) -> File:
        """Merge ``metadata`` into what there is (None removes), and set the tags. Raises NotFound, InvalidRequest."""
        return self.services.changes.update(self._acting(), self.get(id), metadata=metadata, tags=tags)

    # --- inside ---

    def _target(self, space: str, path: str, owner: str | None, metadata: Mapping[str, Any]) -> Target:
        target = self.services.files.target(self._acting(), space, clean_path(path), metadata=metadata)
        home = home_of(owner) if target.rules.private else ""
        return replace(target, path=home + target.path, owner=owner)

    def _principal(self, space: str, owner: Owner, *, everybody: bool = False) -> Principal:
        """Who sees the owner's tree. Raises NotFound for a space that isn't there."""
        rules = self.services.files.rules(space)
        if rules is None:
            raise NotFound(f"there is no space {space!r}", space=space)
        if not rules.private or (everybody and owner is None):
            return TRUSTED
        return replace(TRUSTED, id=_id(owner))


def _respond(file: File, storage: Any, **how: Any) -> Response:
    return download.respond(request, file, storage, **how)


def name_of(space: Place) -> str:
    return space if isinstance(space, str) else space.name


def _id(owner: Owner) -> str | None:
    return None if owner is None else str(owner)


def id_of(file: Named) -> str:
    if isinstance(file, Received) and file.file is None:
        raise NotFound("this was received and isn't kept; keep() makes it a file", id=file.id)
    return file if isinstance(file, str) else file.id


def _pages(page: Callable[[str | None], Page]) -> Iterator[File]:
    """The first page is fetched at once, so that what is wrong is told at once."""
    first = page(None)

    def files() -> Iterator[File]:
        found = first
        yield from found.files
        while found.cursor is not None:
            found = page(found.cursor)
            yield from found.files

    return files()


