"""The folders in a folder, with what lies in them, found by their own table: files are not looked at, however many there are."""

from __future__ import annotations

from sqlalchemy import SelectBase, bindparam, func, literal_column, select, true

from carboy.catalog.paths import from_cursor, successor, to_cursor
from carboy.catalog.sessions import Session
from carboy.catalog.tables import folders
from carboy.model import Folder

_FOLDER = (folders.c.path, folders.c.files, folders.c.bytes)
_IN = (folders.c.space == bindparam("of"), folders.c.path < bindparam("high"))
_NEXT = select(*_FOLDER).where(*_IN, folders.c.path > bindparam("low")).order_by(folders.c.path).limit(1)


def _walk() -> SelectBase:
    """One after another in one question, for a database that is far away."""
    first = _NEXT.subquery("first")
    walked = select(first.c.path, first.c.files, first.c.bytes).cte("walked", recursive=True)
    behind = func.left(walked.c.path, func.length(walked.c.path) - literal_column("1")).concat(literal_column("'0'"))
    following = select(*_FOLDER).where(*_IN, folders.c.path > behind).order_by(folders.c.path).limit(1).lateral("following")
    step = select(following.c.path, following.c.files, following.c.bytes).select_from(walked.join(following, true()))
    walked = walked.union_all(step)
    return select(walked.c.path, walked.c.files, walked.c.bytes).limit(bindparam("count"))


_WALK = _walk()


def page(session: Session, space: str, prefix: str, cursor: str | None, limit: int) -> tuple[list[Folder], str | None]:
    """A folder comes before all that is in it, so what follows the last one found, and all in it, is the next."""
    low, high = prefix, successor(prefix) or "\U0010ffff"
    if cursor is not None:
        low = max(low, _behind(from_cursor(cursor)))
    find = _asked_once if session.dialect == "postgresql" else _step_by_step
    found = find(session, space, low, high, limit + 1)
    shown = found[:limit]
    return shown, to_cursor(shown[-1].path) if len(found) > limit else None


def _asked_once(session: Session, space: str, low: str, high: str, count: int) -> list[Folder]:
    return [Folder(*row) for row in session.rows(_WALK, of=space, low=low, high=high, count=count)]


def _step_by_step(session: Session, space: str, low: str, high: str, count: int) -> list[Folder]:
    found: list[Folder] = []
    while len(found) < count and (row := session.one(_NEXT, of=space, low=low, high=high)):
        found.append(Folder(*row))
        low = _behind(found[-1].path)
    return found


def _behind(folder: str) -> str:
    """What sorts behind everything in the folder, and before all else: its slash becomes the character after it."""
    return f"{folder.removesuffix('/')}0"
