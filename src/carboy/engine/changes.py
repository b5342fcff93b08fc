"""What becomes of files once they are there: moved, copied, described, deleted, restored. Every call is authorised here.

Paths are as the principal writes them. A move wants the rights to delete where the file is and to write where it goes, a copy to read and
to write. What is held back goes to another space only with who is given it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carboy.catalog.base import Catalog, Move
from carboy.config import Settings, SpaceSettings
from carboy.engine import limits
from carboy.engine.access import authorise
from carboy.engine.files import Files
from carboy.engine.names import clean_folder, clean_path, clean_prefix
from carboy.errors import BytesDamaged, InvalidName, InvalidRequest, NotFound, UnsupportedType
from carboy.mediatypes import accepts
from carboy.model import Action, File, OnConflict, Page, Placed, Placement, Principal, Shelved

_PAGE = 1000
MAX_TAGS, MAX_TAG = 50, 100
"""Tags of a file, and characters of each."""
MAX_METADATA = 64 * 2**10
"""Bytes of a file's metadata as JSON."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A space that the principal may act in, and the beginning of its paths there."""

    space: str
    rules: SpaceSettings
    home: str


class Changes:
    """Changes of files and folders, for one principal or another. Each is one transaction, and entered in the audit log."""

    def __init__(self, settings: Settings, catalog: Catalog, files: Files, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._catalog = catalog
        self._files = files
        self._clock = clock

    # --- paths ---

    def move(self, principal: Principal, file: File, path: str, *, space: str | None = None, on_conflict: OnConflict = "refuse",
             etags: tuple[str, ...] | None = None) -> File:
        """The file goes to ``path``, of another ``space`` where one is given, with its id, versions, tags and links. Raises PathConflict,
        Conflict, PreconditionFailed, QuotaExceeded, and what the other space refuses: TooLarge, UnsupportedType. Pending where the
        principal isn't given it, or an older content: in another space it could be."""
        self._authorise(principal, "delete", file)
        there = self._there(principal, file, space)
        to = there.home + clean_path(path)
        self._check(file, there, to)
        move = replace(self._move(there, to, on_conflict), pending=self._along(principal, file.space, file.path, there))
        return self._catalog.move(file.id, move, now=self._clock(), etags=etags,
                                  by=self._files.act(principal))

    def move_folder(self, principal: Principal, space: str, folder: str, to: str, *, to_space: str | None = None) -> int:
        """All that is in the folder, at any depth, at once; how many files. Raises NotFound for an empty one, Conflict where ``to`` is
        there, and what :meth:`move` raises."""
        here, there = self._place(principal, "delete", space), self._place(principal, "write", to_space or space)
        old, new = here.home + _a_folder(folder), there.home + _a_folder(to)
        clean_path(new.removesuffix("/"))
        if there.space != here.space:
            for file in self._within(here, old):
                self._check(file, there, new + file.path[len(old):])
        move = replace(self._move(there, new, "refuse"), pending=self._along(principal, here.space, old, there))
        return self._catalog.move_folder(here.space, old, move, now=self._clock(), by=self._files.act(principal))

    def copy(self, principal: Principal, file: File, path: str, *, space: str | None = None, on_conflict: OnConflict = "refuse") -> Placed:
        """Another file of the same content, metadata and tags; no bytes are copied. Raises what :meth:`move` raises, and
        Pending, Quarantined: who has the copy would be given it."""
        self._authorise(principal, "read", file)
        there = self._there(principal, file, space)
        return self._copy(principal, [(file, there.home + clean_path(path))], there, on_conflict)[0]

    def copy_folder(self, principal: Principal, space: str, folder: str, to: str, *, to_space: str | None = None) -> int:
        """All that is in the folder, at once; how many files. Raises NotFound for an empty one, Conflict where a file is in the way,
        Pending and Quarantined where one of them isn't given."""
        here, there = self._place(principal, "read", space), self._place(principal, "write", to_space or space)
        old, new = here.home + _a_folder(folder), there.home + _a_folder(to)
        if there.space == here.space and new.startswith(old):
            raise InvalidRequest("a folder can't go into itself", folder=folder, to=to)
        copies = [(file, new + file.path[len(old):]) for file in self._within(here, old)]
        if not copies:
            raise NotFound("there is no such folder", space=space, folder=folder)
        return len(self._copy(principal, copies, there, "refuse"))

    def _copy(self, principal: Principal, copies: Sequence[tuple[File, str]], there: _Place, on_conflict: OnConflict) -> list[Placed]:
        for file, path in copies:
            self._check(file, there, path)
            self._files.check(principal, file)
            if file.blob.damaged_at is not None:
                raise BytesDamaged("the file's bytes are damaged", id=file.id)
        placements = [Placement(there.space, path, principal.id, file.media_type, file.metadata, file.blob, on_conflict=on_conflict,
                                keep_versions=there.rules.versions, tags=file.tags, limits=limits.quotas(there.rules)) for file,
                                    path in copies]
        return self._catalog.place(placements, now=self._clock(), by=self._files.act(principal))

    # --- what is said of a file ---

    def update(self, principal: Principal, file: File, *, metadata: Mapping[str, Any] | None = None, tags: Sequence[str] | None = None,
               etags: tuple[str, ...] | None = None) -> File:
        """``metadata`` is a merge patch (RFC 7396), ``tags`` takes the place of those that were. Raises InvalidRequest,
        PreconditionFailed."""
        self._authorise(principal, "write", file)
        if tags is not None:
            check_tags(tags)
        if metadata is not None:
            check_metadata(metadata)
        return self._catalog.update_file(file.id, metadata=metadata, tags=tags, now=self._clock(), etags=etags,
                                         by=self._files.act(principal))

    def restore_version(self, principal: Principal, file: File, number: int, *, etags: tuple[str, ...] | None = None) -> File:
        """An older content becomes the current one; what it replaces is kept as a replaced content is. Raises NotFound,
        PreconditionFailed, Pending, Quarantined."""
        rules = self._authorise(principal, "write", file)
        if version := self._files.version(file, number):
            self._files.check(principal, file, blob=version.blob)
        return self._catalog.restore_version(file.id, number, keep=max(1, rules.versions), now=self._clock(), etags=etags,
                                             by=self._files.act(principal))

    # --- away and back ---

    def delete(self, principal: Principal, file: File, *, etags: tuple[str, ...] | None = None, permanent: bool = False) -> None:
        """To the trash; away where the space keeps none, or with ``permanent``. Bytes go after the grace, so that downloads under way end
        well. Raises PreconditionFailed, NotFound."""
        rules = self._authorise(principal, "delete", file)
        now, by = self._clock(), self._files.act(principal)
        if permanent or not rules.trash:
            gone = self._catalog.delete_file(file.id, now=now, etags=etags, by=by)
        else:
            gone = self._catalog.trash_file(file.id, now=now, expires_at=now + rules.trash, etags=etags, by=by)
        if gone is None:
            raise NotFound("there is no such file any more", id=file.id)

    def delete_folder(self, principal: Principal, space: str, folder: str) -> int:
        """All that is in it, to the trash where the space keeps one; how many files. Raises NotFound."""
        here = self._place(principal, "delete", space)
        path, now, by = here.home + _a_folder(folder), self._clock(), self._files.act(principal)
        if here.rules.trash:
            return self._catalog.trash_folder(space, path, now=now, expires_at=now + here.rules.trash, by=by)
        gone = sum(self._catalog.delete_file(file.id, now=now, by=by) is not None for file in self._within(here, path))
        if not gone:
            raise NotFound("there is no such folder", space=space, folder=folder)
        return gone

    def trash(self, principal: Principal, space: str, *, prefix: str = "", cursor: str | None = None,
              limit: int = 100) -> tuple[list[Shelved], str | None]:
        """What of the space lies in the trash, last deleted first, with the next cursor."""
        here = self._place(principal, "read", space)
        return self._catalog.trashed(space, prefix=here.home + clean_prefix(prefix), cursor=cursor, limit=limit)

    def trashed(self, principal: Principal, id: str, action: Action = "read") -> Shelved:
        """A file in the trash that the principal may see. Raises NotFound."""
        lying = self._catalog.shelved(id)
        if lying is None or lying.kind != "trash":
            raise NotFound("there is no such file in the trash", id=id)
        try:
            self._authorise(principal, action, lying.file)
        except NotFound:
            raise NotFound("there is no such file in the trash", id=id) from None
        return lying

    def restore(self, principal: Principal, id: str, *, path: str | None = None, on_conflict: OnConflict = "refuse") -> File:
        """From the trash to where it was, or to ``path``. Raises NotFound, Conflict, PathConflict, QuotaExceeded."""
        lying = self.trashed(principal, id, "write")
        there = self._there(principal, lying.file, None)
        to = lying.file.path if path is None else there.home + clean_path(path)
        return self._catalog.restore(id, self._move(there, to, on_conflict), now=self._clock(), by=self._files.act(principal))

    def purge(self, principal: Principal, id: str) -> None:
        """A file in the trash is gone for good. Raises NotFound."""
        self.trashed(principal, id, "delete")
        self._catalog.delete_file(id, now=self._clock(), by=self._files.act(principal))

    def empty_trash(self, principal: Principal, space: str) -> int:
        """Everything that lies there, as far as it is the principal's to see; how many files."""
        here, by, gone = self._place(principal, "delete", space), self._files.act(principal), 0
        while lying := self._catalog.trashed(space, prefix=here.home, limit=_PAGE)[0]:
            gone += sum(self._catalog.delete_file(one.file.id, now=self._clock(), by=by) is not None for one in lying)
        return gone

    # --- inside ---

    def _authorise(self, principal: Principal, action: Action, file: File) -> SpaceSettings:
        rules = self._files.rules(file.space)
        authorise(principal, action, file.space, rules, owner=file.owner, owned=rules is not None and rules.private, file=file)
        if rules is None:
            raise NotFound("there is no such file", id=file.id)
        return rules

    def _place(self, principal: Principal, action: Action, space: str) -> _Place:
        rules, home = self._files.inside(principal, action, space)
        return _Place(space, rules, home)

    def _there(self, principal: Principal, file: File, space: str | None) -> _Place:
        """Where a file may go: within a private space it stays with its owner, whoever moves it."""
        there = self._place(principal, "write", space or file.space)
        if there.space == file.space and there.rules.private:
            return replace(there, home=file.path.partition("/")[0] + "/")
        return there

    def _within(self, here: _Place, folder: str) -> Iterator[File]:
        cursor: str | None = None
        while True:
            page: Page = self._catalog.files(here.space, prefix=folder, cursor=cursor, limit=_PAGE)
            yield from page.files
            cursor = page.cursor
            if cursor is None:
                return

    def _check(self, file: File, there: _Place, path: str) -> None:
        """Raises what the other space would say of the file, had it been uploaded there."""
        clean_path(path)
        rules, name = there.rules, path.rpartition("/")[2]
        if there.space != file.space:
            limits.check_size(file.size, limits.largest(self._settings, rules))
        if rules.accept and not accepts(file.media_type, rules.accept, name):
            raise UnsupportedType(f"{name!r} is {file.media_type}; the space accepts {', '.join(rules.accept)}",
                                  detected=file.media_type, accepted=list(rules.accept))

    def _along(self, principal: Principal, space: str, path: str, there: _Place) -> Collection[str] | None:
        """The contents that are held back and go along to another space. Raises Pending unless the principal is given all of them."""
        if there.space == space:
            return None
        held = self._catalog.pending(space, path)
        for file in held:
            self._files.check(principal, file)
        return {file.blob.id for file in held}

    def _move(self, there: _Place, to: str, on_conflict: OnConflict) -> Move:
        return Move(there.space, to, on_conflict, there.rules.versions, limits.quotas(there.rules))


def _a_folder(raw: str) -> str:
    folder = clean_folder(raw)
    if not folder:
        raise InvalidName("the folder has no name", rule="empty")
    return folder


def check_tags(tags: Sequence[str]) -> None:
    """Raises InvalidRequest for tags that can't be."""
    if len(set(tags)) > MAX_TAGS:
        raise InvalidRequest(f"a file has at most {MAX_TAGS} tags", field="tags")
    for tag in tags:
        if not 1 <= len(tag) <= MAX_TAG or not tag.isprintable() or tag != tag.strip():
            raise InvalidRequest(f"a tag is 1 to {MAX_TAG} printable characters without spaces around them", field="tags",
                                 tag=tag[:MAX_TAG])


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for metadata that is too large."""
    if len(json.dumps(metadata, default=dict)) > MAX_METADATA:
        raise InvalidRequest(f"metadata is JSON of at most {MAX_METADATA} bytes", field="metadata", limit=MAX_METADATA)
