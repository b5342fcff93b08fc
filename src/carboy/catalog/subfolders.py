"""The folders in a folder, with what lies in them, found by their own table: files are not looked at, however many there are."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from carboy.catalog.paths import from_cursor, successor, to_cursor
from carboy.catalog.sessions import Session
from carboy.catalog.tables import folders
from carboy.model import Folder

_NEXT = (select(folders.c.path, folders.c.files, folders.c.bytes)
         .where(folders.c.space == bindparam("of"), folders.c.path > bindparam("low"), folders.c.path < bindparam("high"))
         .order_by(folders.c.path).limit(1))


def page(session: Session, space: str, prefix: str, cursor: str | None, limit: int) -> tuple[list[Folder], str | None]:
    """A folder comes before all that is in it, so what follows the last one found, and all in it, is the next."""
    found: list[Folder] = []
    low, high = prefix, successor(prefix) or "\U0010ffff"
    if cursor is not None:
        low = max(low, _behind(from_cursor(cursor)))
    while len(found) <= limit and (row := session.one(_NEXT, of=space, low=low, high=high)):
        found.append(Folder(*row))
        low = _behind(found[-1].path)
    shown = found[:limit]
    return shown, to_cursor(shown[-1].path) if len(found) > limit else None


def _behind(folder: str) -> str:
    """What sorts behind everything in the folder, and before all else: its slash becomes the character after it."""
    return f"{folder.removesuffix('/')}0"
