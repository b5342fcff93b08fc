"""Folder sums and usage: what a transaction changes of them is gathered, and written once, before it commits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from sqlalchemy import BigInteger, Column, Table, and_, bindparam, case, delete, insert, literal, select, update

from carboy.catalog.sessions import Session
from carboy.catalog.tables import folders, usage
from carboy.errors import QuotaExceeded
from carboy.model import MAX_SIZE, File, Limits, Usage

_FOLDER = (folders.c.files, folders.c.bytes)
_KEPT = (usage.c.files, usage.c.bytes, usage.c.older, usage.c.trash)


def folders_of(path: str) -> list[str]:
    """``a/`` and ``a/b/`` for ``a/b/c`` and for ``a/b/`` itself."""
    found, at = [], path.find("/")
    while at >= 0:
        found.append(path[:at + 1])
        at = path.find("/", at + 1)
    return found


def whose(owner: str | None) -> str:
    """The key of an owner's row in ``usage``."""
    return f"={owner}"


def _grow(table: Table, *keys: Column[str]) -> object:
    """An update that adds to each number; a sum past 63 bits stays at the largest there is."""
    numbers = [column for column in table.c if not column.primary_key]
    return update(table).where(and_(*[key == bindparam(f"key_{key.name}") for key in keys])).values({
        column.name: case((column > bindparam(f"room_{column.name}", type_=BigInteger), literal(MAX_SIZE, BigInteger)),
                          else_=column + bindparam(f"by_{column.name}", type_=BigInteger)) for column in numbers})


_GROW_FOLDER = _grow(folders, folders.c.space, folders.c.path)
_ADD_FOLDER = insert(folders)
_DROP_FOLDER = delete(folders).where(folders.c.space == bindparam("space"), folders.c.path == bindparam("path"), folders.c.files == 0)
_GROW_USAGE = _grow(usage, usage.c.space, usage.c.who)
_ADD_USAGE = insert(usage)
_USED = select(*_KEPT).where(usage.c.space == bindparam("space"), usage.c.who == bindparam("who"))


@dataclass(slots=True)
class _Change:
    files: int = 0
    bytes: int = 0
    older: int = 0
    trash: int = 0

    @property
    def total(self) -> int:
        return self.bytes + self.older + self.trash


class Tally:
    """The changes of one transaction. Rows are written in one order, so that no two transactions wait for each other."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], list[int]] = {}
        self._usage: dict[tuple[str, str], _Change] = {}
        self._limits: dict[tuple[str, str], tuple[str, int]] = {}

    def live(self, space: str, path: str, owner: str | None, files: int, size: int) -> None:
        """``files`` files at ``path``, or in it where it is a folder, came (or, below 0, went) with ``size`` bytes."""
        self.within(space, folders_of(path), files, size)
        for change in self._of(space, owner):
            change.files += files
            change.bytes += size

    def within(self, space: str, paths: Iterable[str], files: int, size: int) -> None:
        """The same for these folders, and nobody's usage."""
        for folder in paths:
            numbers = self._folders.setdefault((space, folder), [0, 0])
            numbers[0] += files
            numbers[1] += size

    def kept(self, space: str, owner: str | None, *, files: int = 0, size: int = 0, older: int = 0, trash: int = 0) -> None:
        """Usage alone changes."""
        for change in self._of(space, owner):
            change.files += files
            change.bytes += size
            change.older += older
            change.trash += trash

    def limit(self, space: str, owner: str | None, limits: Limits) -> None:
        """What the transaction adds must stay within these."""
        if limits.space is not None:
            self._limits[space, ""] = ("space", limits.space)
        if limits.owner is not None and owner is not None:
            self._limits[space, whose(owner)] = ("owner", limits.owner)

    def settle(self, session: Session) -> None:
        """Write it all. Raises QuotaExceeded, exactly: whoever changes a sum holds its row until the end."""
        for (space, path), numbers in sorted(self._folders.items()):
            if any(numbers):
                _settle_folder(session, space, path, *numbers)
        for (space, who), change in sorted(self._usage.items(), key=lambda item: item[0]):
            if any(astuple(change)):
                _settle_usage(session, space, who, change)
            limit = self._limits.get((space, who))
            if limit and change.total > 0:
                _check(session, space, who, *limit, change.total)

    def _of(self, space: str, owner: str | None) -> list[_Change]:
        keys = [(space, "")] if owner is None else [(space, ""), (space, whose(owner))]
        return [self._usage.setdefault(key, _Change()) for key in keys]


def _settle_folder(session: Session, space: str, path: str, files: int, size: int) -> None:
    grown = session.run(_GROW_FOLDER, key_space=space, key_path=path, **_amounts(files=files, bytes=size))  # type: ignore[arg-type]
    if not grown:
        session.run(_ADD_FOLDER, space=space, path=path, files=files, bytes=min(size, MAX_SIZE))
    elif files < 0:
        session.run(_DROP_FOLDER, space=space, path=path)


def _settle_usage(session: Session, space: str, who: str, change: _Change) -> None:
    numbers = {"files": change.files, "bytes": change.bytes, "older": change.older, "trash": change.trash}
    if not session.run(_GROW_USAGE, key_space=space, key_who=who, **_amounts(**numbers)):  # type: ignore[arg-type]
        session.run(_ADD_USAGE, space=space, who=who, **{name: min(number, MAX_SIZE) for name, number in numbers.items()})


def _amounts(**numbers: int) -> dict[str, int]:
    return {f"by_{name}": max(-MAX_SIZE, min(number, MAX_SIZE)) for name, number in numbers.items()} | {
        f"room_{name}": max(0, MAX_SIZE - max(number, 0)) for name, number in numbers.items()}


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
