"""Finding and listing files."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Select, bindparam, select

from carboy.catalog import paths, rows
from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, files, versions
from carboy.model import File, Page, Version

_FILES = select(*rows.FILE).join_from(files, blobs, files.c.blob_id == blobs.c.id)
_BY_ID = _FILES.where(files.c.id == bindparam("id"))
_BY_PATH = _FILES.where(files.c.space == bindparam("space"), files.c.path == bindparam("path"))
BY_ID_LOCKED = _BY_ID.with_for_update(of=files)
BY_PATH_LOCKED = _BY_PATH.with_for_update(of=files)
_FROM = (_FILES.where(files.c.space == bindparam("space"), files.c.path >= bindparam("low"))
         .order_by(files.c.path).limit(bindparam("count")))
_BETWEEN = _FROM.where(files.c.path < bindparam("high"))
_VERSIONS = (select(versions.c.number, versions.c.media_type, versions.c.created_at, *rows.BLOB)
             .join_from(versions, blobs, versions.c.blob_id == blobs.c.id)
             .where(versions.c.file_id == bindparam("file_id")).order_by(versions.c.number.desc()))


def by_id(session: Session, id: str) -> File | None:
    """Wherever it is, on the shelf too."""
    row = session.one(_BY_ID, id=id)
    return rows.file_of(row) if row else None


def at_its_path(session: Session, id: str) -> File | None:
    """None for a file in the trash, or staged."""
    file = by_id(session, id)
    return None if file is None or file.space.startswith(".") else file


def by_path(session: Session, space: str, path: str) -> File | None:
    row = session.one(_BY_PATH, space=space, path=path)
    return rows.file_of(row) if row else None


def versions_of(session: Session, file_id: str) -> list[Version]:
    """Newest first."""
    return [Version(number, rows.blob_of(tuple(blob)), media_type, created_at)
            for number, media_type, created_at, *blob in session.rows(_VERSIONS, file_id=file_id)]


def page(session: Session, space: str, prefix: str, cursor: str | None, limit: int, folders: bool) -> Page:
    """At most ``limit`` files and folders after ``cursor``."""
    low = prefix if cursor is None else max(prefix, _following(paths.from_cursor(cursor)))
    items = _items(session, space, prefix, low, limit + 1) if folders else _slice(session, space, prefix, low, limit + 1)
    shown: list[File | str] = []
    for item in items:
        if len(shown) == limit:
            return _page(shown, more=True)
        shown.append(item)
    return _page(shown, more=False)


def _page(shown: list[File | str], more: bool) -> Page:
    cursor = paths.to_cursor(shown[-1] if isinstance(shown[-1], str) else shown[-1].path) if more else None
    return Page([item for item in shown if isinstance(item, File)], [item for item in shown if isinstance(item, str)], cursor)


def _following(last: str) -> str:
    """Where a list goes on after a file or, with its slash, a folder."""
    return last[:-1] + "0" if last.endswith("/") else paths.after(last)


def _slice(session: Session, space: str, prefix: str, low: str, count: int) -> list[File]:
    high = paths.successor(prefix)
    statement: Select[*tuple[object, ...]] = _FROM if high is None else _BETWEEN
    return [rows.file_of(row) for row in session.rows(statement, space=space, low=low, high=high, count=count)]


def _items(session: Session, space: str, prefix: str, low: str, count: int) -> Iterator[File | str]:
    """Files and folders in order. After a folder it seeks past all that is in it, and reads ahead little, because the
    next item may be a folder as well."""
    ahead = count
    while found := _slice(session, space, prefix, low, ahead):
        asked, ahead = ahead, min(2 * ahead, count)
        for file in found:
            if file.path < low:
                continue
            folder = paths.folder_of(file.path, prefix)
            low, ahead = (paths.after(file.path), ahead) if folder is None else (_following(folder), 1)
            yield file if folder is None else folder
        if len(found) < asked:
            return
