"""The log, read in the order of commits."""

from __future__ import annotations

import json

from sqlalchemy import ColumnElement, bindparam, func, literal_column, select, tuple_

from carboy.catalog.sessions import Row, Session
from carboy.catalog.tables import audit
from carboy.errors import InvalidRequest
from carboy.jobs import Happening

_KINDS = ("file.", "folder.", "upload.", "job.")
_COLUMNS = (audit.c.id, audit.c.xact, audit.c.at, audit.c.action, audit.c.space, audit.c.path, audit.c.file_id, audit.c.owner,
            audit.c.upload_id, audit.c.job_id, audit.c.facts, audit.c.request)
_LAST = select(func.max(audit.c.id))
_BY_ID = select(*_COLUMNS).where(audit.c.id > bindparam("after")).order_by(audit.c.id).limit(bindparam("count"))
_SETTLED: ColumnElement[int] = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_HORIZON = select(_SETTLED)
_BY_XACT = (select(*_COLUMNS).where(
    audit.c.xact.is_not(None), tuple_(audit.c.xact, audit.c.id) > tuple_(bindparam("in_xact"), bindparam("after")),
    audit.c.xact < bindparam("horizon")).order_by(audit.c.xact, audit.c.id).limit(bindparam("count")))


def latest(session: Session) -> str:
    if session.dialect == "sqlite":
        row = session.one(_LAST)
        return str(row[0] or 0) if row else "0"
    return f"{_horizon(session) - 1}.{2**62}"


def _horizon(session: Session) -> int:
    """All transactions before this number have ended. What began later, and has committed already, waits for those."""
    row = session.one(_HORIZON)
    assert row
    return int(row[0])


def happened(session: Session, after: str, limit: int) -> tuple[list[Happening], str]:
    if session.dialect == "sqlite":
        found = session.rows(_BY_ID, after=_numbers(after, 1)[0], count=limit)
        cursor = str(found[-1][0]) if found else after
    else:
        xact, id = _numbers(after, 2)
        horizon = _horizon(session)
        if xact >= horizon:  # a cursor of this database is older than that: the log was brought here from another
            xact, id = 0, 0
        found = session.rows(_BY_XACT, in_xact=xact, after=id, horizon=horizon, count=limit)
        cursor = f"{found[-1][1]}.{found[-1][0]}" if found else after
    return [_happening(row) for row in found if row[3].startswith(_KINDS)], cursor


def _numbers(cursor: str, count: int) -> list[int]:
    """The numbers of a cursor. One of another database begins at the oldest."""
    parts = cursor.split(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 20 and int(part) < 2**63 for part in parts) or len(parts) > 2:
        raise InvalidRequest("this is no place in the log; leave it out to begin with what happens next", cursor=cursor)
    return [int(part) for part in parts] if len(parts) == count else [0] * count


def _happening(row: Row) -> Happening:
    id, xact, at, action, space, path, file_id, owner, upload_id, job_id, facts, request = row
    cursor = str(id) if xact is None else f"{xact}.{id}"
    return Happening(cursor, at, action, space, path, file_id, owner, upload_id, job_id, json.loads(facts), request)
