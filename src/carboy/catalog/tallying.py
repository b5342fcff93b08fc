"""Folder sums and usage: what a transaction changes of them is gathered, and written once, before it commits."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import BigInteger, Table, Update, bindparam, delete, insert, select, update

from carboy.catalog.paths import ancestors
from carboy.catalog.sessions import Session
from carboy.catalog.tables import folders, usage
from carboy.errors import QuotaExceeded
from carboy.model import File, Limits, Usage

_KEPT = (usage.c.files, usage.c.bytes, usage.c.older, usage.c.trash)


def folders_of(path: str) -> list[str]:
    """``a/`` and ``a/b/`` for ``a/b/c`` and for ``a/b/`` itself."""
    return [f"{folder}/" for folder in ancestors(path)]


def whose(owner: str | None) -> str:
    """The key of an owner's row in ``usage``."""
    return f"={owner}"


def _plus(table: Table, *names: str) -> Update:
    """An update that adds to some of a row's numbers."""
    keys = [column == bindparam(f"key_{column.name}") for column in table.primary_key]
    return update(table).where(*keys).values({name: table.c[name] + bindparam(f"by_{name}", type_=BigInteger) for name in names})


_GROW_FOLDER = _plus(folders, "files", "bytes")
_ADD_FOLDER = insert(folders)
_DROP_FOLDER = delete(folders).where(folders.c.space == bindparam("space"), folders.c.path == bindparam("path"), folders.c.files == 0)
_GROW_CONTENTS = _plus(usage, "files", "bytes")
_GROW_ALL = _plus(usage, "files", "bytes", "older", "trash")
_ADD_USAGE = insert(usage)
_USED = select(*_KEPT).where(usage.c.space == bindparam("space"), usage.c.who == bindparam("who"))


class Tally:
    """The changes of one transaction. Rows are written in one order, so that no two transactions wait for each other."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], list[int]] = {}
        self._usage: dict[tuple[str, str], list[int]] = {}
        self._limits: dict[tuple[str, str], tuple[str, int]] = {}

    def live(self, space: str, path: str, owner: str | None, files: int, size: int) -> None:
        """``files`` files at ``path``, or in it where it is a folder, came (or, below 0, went) with ``size`` bytes."""
        self.within(space, folders_of(path), files, size)
        self.kept(space, owner, files=files, size=size)

    def within(self, space: str, paths: Iterable[str], files: int, size: int) -> None:
        """The same for these folders, and nobody's usage."""
        for folder in paths:
            numbers = self._folders.setdefault((space, folder), [0, 0])
            numbers[0] += files
            numbers[1] += size

    def kept(self, space: str, owner: str | None, *, files: int = 0, size: int = 0, older: int = 0, trash: int = 0) -> None:
        """Usage alone changes."""
        for who in ("",) if owner is None else ("", whose(owner)):
            numbers = self._usage.setdefault((space, who), [0, 0, 0, 0])
            numbers[0] += files
            numbers[1] += size
            numbers[2] += older
            numbers[3] += trash

    def limit(self, space: str, owner: str | None, limits: Limits) -> None:
        """What the transaction adds must stay within these."""
        if limits.space is not None:
            self._limits[space, ""] = ("space", limits.space)
        if limits.owner is not None and owner is not None:
            self._limits[space, whose(owner)] = ("owner", limits.owner)

    def settle(self, session: Session) -> None:
        """Write it all. Raises QuotaExceeded, exactly: whoever changes a sum holds its row until the end."""
        for (space, path), (files, size) in sorted(self._folders.items()):
            if files or size:
                _settle_folder(session, space, path, files, size)
        for (space, who), numbers in sorted(self._usage.items()):
            if any(numbers):
                _settle_usage(session, space, who, *numbers)
            added = sum(numbers[1:])
            if added > 0 and (space, who) in self._limits:
                _check(session, space, who, *self._limits[space, who], added)


def _settle_folder(session: Session, space: str, path: str, files: int, size: int) -> None:
    if not session.run(_GROW_FOLDER, key_space=space, key_path=path, by_files=files, by_bytes=size):
        session.run(_ADD_FOLDER, space=space, path=path, files=files, bytes=size)
    elif files < 0:
        session.run(_DROP_FOLDER, space=space, path=path)


def _settle_usage(session: Session, space: str, who: str, files: int, size: int, older: int, trash: int) -> None:
    if older or trash:
        grown = session.run(_GROW_ALL, key_space=space, key_who=who, by_files=files, by_bytes=size, by_older=older, by_trash=trash)
    else:
        grown = session.run(_GROW_CONTENTS, key_space=space, key_who=who, by_files=files, by_bytes=size)
    if not grown:
        session.run(_ADD_USAGE, space=space, who=who, files=files, bytes=size, older=older, trash=trash)


def _check(session: Session, space: str, who: str, scope: str, limit: int, added: int) -> None:
    used = used_by(session, space, who)
    if used.total > limit:
        raise QuotaExceeded(f"the {scope} may keep {limit} bytes together", scope=scope, limit=limit, used=used.total - added,
                            in_trash=used.trash, size=added)


def used_by(session: Session, space: str, who: str) -> Usage:
    """What the row of ``usage`` says; nothing where there is none."""
    row = session.one(_USED, space=space, who=who)
    return Usage(*row) if row else Usage()


def total_of(file: File, older: Iterable[int]) -> int:
    """The bytes that quotas count for a file: its content and its versions."""
    return file.size + sum(older)
