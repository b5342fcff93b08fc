"""Links, counted exactly: the row decides, however many come at once."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Update, bindparam, delete, insert, or_, select, update

from carboy.catalog import auditing, paths
from carboy.catalog.sessions import Session
from carboy.catalog.tables import files, links
from carboy.errors import LinkExpired, NotFound
from carboy.model import MAX_SIZE, STAGED, TRASH, Act, Link

_DEAD = 30 * 86400.0
_COLUMNS = tuple(links.c)
_NAMES = tuple(links.c.keys())
_ADD = insert(links)
_FILE = (select(files.c.id).where(files.c.id == bindparam("id"), files.c.space != TRASH, files.c.space != STAGED)
         .with_for_update(read=True, of=files))
_BY_ID = select(*_COLUMNS).where(links.c.id == bindparam("id"))
_LIVE = (links.c.revoked_at.is_(None), or_(links.c.expires_at.is_(None), links.c.expires_at > bindparam("now")))
_TIMES: ColumnElement[int] = bindparam("times", type_=links.c.uses.type)
_MORE: ColumnElement[int] = bindparam("more", type_=links.c.received.type)
_ROOM = (MAX_SIZE - links.c.received >= _MORE, or_(links.c.max_uses.is_(None), links.c.max_uses - links.c.uses >= _TIMES),
         or_(links.c.max_bytes.is_(None), links.c.max_bytes - links.c.received >= _MORE))
_USE: Update = update(links).where(links.c.id == bindparam("link"), *_LIVE, *_ROOM).values(
    uses=links.c.uses + _TIMES, received=links.c.received + _MORE)
_REVOKE = update(links).where(links.c.id == bindparam("link"), links.c.revoked_at.is_(None)).values(revoked_at=bindparam("revoked_at"))
_FORGET = delete(links).where(or_(links.c.revoked_at <= bindparam("time"), links.c.expires_at <= bindparam("time")))
_ASKED = {"space": links.c.space, "created_by": links.c.created_by, "file_id": links.c.file_id}


def _link(row: tuple[Any, ...]) -> Link:
    return Link(**dict(zip(_NAMES, row, strict=True)))


def add(session: Session, link: Link, by: Act | None) -> None:
    if link.file_id is not None and not session.one(_FILE, id=link.file_id):
        raise NotFound("there is no such file any more", id=link.file_id)
    session.run(_ADD, **{name: getattr(link, name) for name in _NAMES})
    auditing.enter(session, by, "link.create", at=link.created_at, space=link.space, path=link.path or None, file_id=link.file_id,
                   facts={"link": link.id, "kind": link.kind, "expires_at": link.expires_at})


def by_id(session: Session, id: str) -> Link | None:
    row = session.one(_BY_ID, id=id)
    return _link(row) if row else None


@cache
def _list(names: frozenset[str]) -> Select[Any]:
    asked = [_ASKED[name] == bindparam(name) for name in sorted(names)]
    return select(*_COLUMNS).where(links.c.id > bindparam("low"), *asked).order_by(links.c.id).limit(bindparam("count"))


def listed(session: Session, cursor: str | None, limit: int, **asked: str | None) -> tuple[list[Link], str | None]:
    given = {name: value for name, value in asked.items() if value is not None}
    low = paths.from_cursor(cursor) if cursor else ""
    found = [_link(row) for row in session.rows(_list(frozenset(given)), low=low, count=limit + 1, **given)]
    return found[:limit], paths.to_cursor(found[limit - 1].id) if len(found) > limit else None


def use(session: Session, id: str, now: float, uses: int, received: int) -> Link:
    counted = session.run(_USE, link=id, now=now, times=uses, more=received)
    link = by_id(session, id)
    if link is None:
        raise NotFound("there is no such link", link=id)
    if not counted:
        raise dead(link, now) or LinkExpired("the link is used up", reason="used_up")
    return link


def dead(link: Link, now: float) -> LinkExpired | None:
    """Why the link is no good whatever it is used for, if so."""
    if link.revoked_at is not None:
        return LinkExpired("the link was revoked", reason="revoked")
    if link.expires_at is not None and link.expires_at <= now:
        return LinkExpired("the link has expired", reason="expired")
    return None


def revoke(session: Session, id: str, now: float, by: Act | None) -> bool:
    """False if there is none or it was revoked before."""
    if not session.run(_REVOKE, link=id, revoked_at=now):
        return False
    link = by_id(session, id)
    if link:
        auditing.enter(session, by, "link.revoke", at=now, space=link.space, path=link.path or None, file_id=link.file_id,
                       facts={"link": id, "kind": link.kind})
    return True


def forget(session: Session, now: float) -> int:
    """Drop links that are dead for a month; how many."""
    return session.run(_FORGET, time=now - _DEAD)
