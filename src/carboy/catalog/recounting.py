"""Whether folder sums and usage are what the files add up to: for fsck, in one look at the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import bindparam, func, select, tuple_, union_all

from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, files, folders, shelf, usage, versions
from carboy.catalog.tallying import folders_of, whose
from carboy.model import TRASH

_PAGE = 5000
_FILES = (select(files.c.space, files.c.path, files.c.size)
          .where(tuple_(files.c.space, files.c.path) > tuple_(bindparam("space"), bindparam("path")))
          .order_by(files.c.space, files.c.path).limit(bindparam("count")))
_FOLDERS = select(folders.c.space, folders.c.path, folders.c.files, folders.c.bytes)
_LIVE = (select(files.c.space, files.c.owner, func.count(), func.sum(files.c.size)).where(~files.c.space.startswith("."))
         .group_by(files.c.space, files.c.owner))
_OLDER = (select(files.c.space, files.c.owner, func.sum(blobs.c.size)).join_from(versions, files, files.c.id == versions.c.file_id)
          .join(blobs, blobs.c.id == versions.c.blob_id).where(~files.c.space.startswith(".")).group_by(files.c.space, files.c.owner))
_LYING = select(shelf.c.space, files.c.owner, files.c.size.label("size")).join_from(shelf, files, files.c.id == shelf.c.file_id).where(
    files.c.space == TRASH)
_LYING_OLDER = (select(shelf.c.space, files.c.owner, blobs.c.size.label("size")).join_from(shelf, files, files.c.id == shelf.c.file_id)
                .join(versions, versions.c.file_id == files.c.id).join(blobs, blobs.c.id == versions.c.blob_id)
                .where(files.c.space == TRASH))
_IN_TRASH = union_all(_LYING, _LYING_OLDER).subquery()
_TRASH = select(_IN_TRASH.c.space, _IN_TRASH.c.owner, func.sum(_IN_TRASH.c.size)).group_by(_IN_TRASH.c.space, _IN_TRASH.c.owner)
_USAGE = select(usage.c.space, usage.c.who, usage.c.files, usage.c.bytes, usage.c.older, usage.c.trash)


def miscounted(session: Session) -> list[str]:
    """What is wrong, in words; run in one view."""
    return [*_folders(session), *_usage(session)]


def _folders(session: Session) -> Iterator[str]:
    right: dict[tuple[str, str], tuple[int, int]] = {}
    for space, path, size in _all_files(session):
        for folder in folders_of(path) if not space.startswith(".") else ():
            count, total = right.get((space, folder), (0, 0))
            right[space, folder] = (count + 1, total + size)
    kept = {(space, path): (count, size) for space, path, count, size in session.rows(_FOLDERS)}
    yield from _differences("the folder", right, kept, (0, 0))


def _all_files(session: Session) -> Iterator[tuple[str, str, int]]:
    space = path = ""
    while found := session.rows(_FILES, space=space, path=path, count=_PAGE):
        for space, path, size in found:
            yield space, path, size


def _usage(session: Session) -> Iterator[str]:
    right: dict[tuple[str, str], list[int]] = {}
    for space, owner, count, size in session.rows(_LIVE):
        _add(right, space, owner, [count, int(size), 0, 0])
    for statement, at in ((_OLDER, 2), (_TRASH, 3)):
        for space, owner, size in session.rows(statement):
            _add(right, space, owner, [int(size) if number == at else 0 for number in range(4)])
    kept = {(space, who): tuple(numbers) for space, who, *numbers in session.rows(_USAGE)}
    yield from _differences("the usage of", {key: tuple(numbers) for key, numbers in right.items()}, kept, (0, 0, 0, 0))


def _add(sums: dict[tuple[str, str], list[int]], space: str, owner: str | None, numbers: list[int]) -> None:
    for who in [""] if owner is None else ["", whose(owner)]:
        sums[space, who] = [old + new for old, new in zip(sums.get((space, who), [0, 0, 0, 0]), numbers, strict=True)]


def _differences(what: str, right: dict[tuple[str, str], Any], kept: dict[tuple[str, str], Any], nothing: tuple[int, ...]) -> Iterator[str]:
    for key in sorted(right.keys() | kept.keys()):
        if right.get(key, nothing) != kept.get(key, nothing):
            yield f"{what} {key[0]}/{key[1]} is {list(kept.get(key, nothing))}, the files add up to {list(right.get(key, nothing))}"
