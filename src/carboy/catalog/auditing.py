"""The log of what happens, and in it the audit log: who did what. Entries are made in the transaction of what they tell, so the two are
never apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, insert, literal_column, select

from carboy.catalog import rows
from carboy.catalog.sessions import Session
from carboy.catalog.tables import audit
from carboy.model import Act, AuditEntry

_COLUMNS = [column for column in audit.c if column.name not in ("id", "xact")]
_ENTER = insert(audit).values({column.name: bindparam(column.name, type_=column.type) for column in _COLUMNS}).inline()
_NOBODYS: ColumnElement[bool] = audit.c.kind == literal_column("''")
_MANY: ColumnElement[int] = literal_column("10000")
_OLDEST = select(audit.c.id).order_by(audit.c.id).limit(_MANY)
_LAST = select(func.max(audit.c.id)).scalar_subquery()
_FORGET = delete(audit).where(audit.c.id.in_(_OLDEST), audit.c.id < _LAST,
                               audit.c.at < bindparam("time"), audit.c.at < bindparam("passing"))
_PASSED = select(audit.c.id).where(_NOBODYS, audit.c.at < bindparam("passing")).limit(_MANY)
_PASS = delete(audit).where(audit.c.id.in_(_PASSED), audit.c.id < _LAST)
_EQUAL = {"space": audit.c.space, "principal": audit.c.principal, "action": audit.c.action, "file_id": audit.c.file_id}
_AUDIT = [column for column in audit.c if column.name in (
    "id", "at", "principal", "kind", "request", "address", "action", "space", "path", "file_id", "facts")]
_BOUNDS = {"since": audit.c.at >= bindparam("since"), "until": audit.c.at < bindparam("until"), "before": audit.c.id < bindparam("before")}


_NOBODY = Act(None, "")


def enter(session: Session, by: Act | None, action: str, *, at: float, space: str | None = None, path: str | None = None,
          file_id: str | None = None, facts: Mapping[str, Any] | None = None, owner: str | None = None, upload_id: str | None = None,
          job_id: str | None = None) -> None:
    """Enter what happens in this transaction; without anybody who did it, it is no part of the audit log."""
    by = by or _NOBODY
    session.run(_ENTER, at=at, principal=by.principal, kind=by.kind, request=by.request, address=by.address, action=action,
                space=space, path=path, file_id=file_id, facts=rows.dump(facts or {}), owner=owner, upload_id=upload_id, job_id=job_id)


def note(session: Session, entry: AuditEntry) -> None:
    enter(session, entry.by, entry.action, at=entry.at, space=entry.space, path=entry.path, file_id=entry.file_id, facts=entry.facts)


@cache
def _entries(names: frozenset[str]) -> Select[Any]:
    wanted = [_EQUAL[name] == bindparam(name) if name in _EQUAL else _BOUNDS[name] for name in sorted(names)]
    return select(*_AUDIT).where(~_NOBODYS, *wanted).order_by(audit.c.id.desc()).limit(bindparam("count"))


def entries(session: Session, limit: int, **asked: Any) -> list[AuditEntry]:
    """The newest first, of those that are all that is ``asked``; what is None is not asked."""
    given = {name: value for name, value in asked.items() if value is not None}
    return [_entry(*row) for row in session.rows(_entries(frozenset(given)), count=limit, **given)]


def _entry(id: int, at: float, principal: str | None, kind: str, request: str, address: str, action: str, space: str | None,
           path: str | None, file_id: str | None, facts: str) -> AuditEntry:
    return AuditEntry(id, at, Act(principal, kind, request, address), action, space, path, file_id, json.loads(facts))


def forget(session: Session, before: float, passing: float) -> int:
    """Drop what was entered before both times, if it is among the 10,000 oldest, and 10,000 entries that are no part of the audit log and
    older than ``passing``; how many. So it costs little however long the log is. The last one stays, or SQLite would give its number
    again."""
    return session.run(_FORGET, time=before, passing=passing) + session.run(_PASS, passing=passing)
