"""Processes that write to a storage shared by many, and the ranges that each alone may write.

Whoever commits what a process made locks that process's row as a foreign key does (``FOR KEY SHARE``): its heartbeats and the marks on its
leases go on meanwhile, but who takes it for dead, and so deletes the row, waits, or has done so before and the commit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import TypeVar

from sqlalchemy import ColumnElement, SelectBase, bindparam, delete, insert, literal_column, or_, select, update
from sqlalchemy.sql.dml import Update

from carboy.catalog import rows
from carboy.catalog.sessions import Session, among, among_values, padded
from carboy.catalog.tables import leases, writers
from carboy.errors import Interrupted, StorageFailed
from carboy.model import MAX_SIZE, Instance, Key, Lease

T = TypeVar("T")

_ONE: ColumnElement[int] = literal_column("1")
_INSTANCES = select(writers.c.id, writers.c.host, writers.c.pid, writers.c.beats).order_by(writers.c.id)
_REGISTERED = select(_ONE).where(writers.c.id == bindparam("instance"))
_APPEAR = insert(writers)
_BEAT = update(writers).where(writers.c.id == bindparam("instance")).values(beats=writers.c.beats + 1)
_BURY = delete(writers).where(writers.c.id == bindparam("instance"), writers.c.beats == bindparam("seen"))

_LEASE = (leases.c.id, leases.c.storage, leases.c.key, leases.c.start, leases.c.end, leases.c.instance)
_ID = leases.c.id == bindparam("lease")
_ON = (leases.c.storage == bindparam("of"), leases.c.key == bindparam("on"))
_HELD = select(_ONE).where(_ID).with_for_update(read=True, key_share=True)
_BY_ID = select(*_LEASE).where(_ID)
_LEASES = select(*_LEASE).where(*_ON).order_by(leases.c.start, leases.c.id)
_OVERLAPPING = _LEASES.where(leases.c.start < bindparam("high"), or_(leases.c.end.is_(None), leases.c.end > bindparam("low")))
_ADD = insert(leases)
_EXTEND = update(leases).where(_ID).values(end=bindparam("reach"))
_RELEASE = delete(leases).where(_ID)
_WANTED = select(*_LEASE).where(leases.c.instance == bindparam("holder"), leases.c.wanted == 1).order_by(leases.c.id)


@cache
def _alive(count: int) -> SelectBase:
    return select(writers.c.id).where(among(writers.c.id, count)).with_for_update(read=True, key_share=True)


@cache
def _want(count: int) -> Update:
    return update(leases).where(among(leases.c.id, count), leases.c.wanted == 0).values(wanted=1)


# --- instances ---


def appear(session: Session, instance: Instance) -> None:
    """Repeatable."""
    if not session.one(_REGISTERED, instance=instance.id):
        session.run(_APPEAR, id=instance.id, host=instance.host, pid=instance.pid, beats=instance.beats)


def beat(session: Session, instance: str) -> list[Instance] | None:
    return instances(session) if session.run(_BEAT, instance=instance) else None


def instances(session: Session) -> list[Instance]:
    """By id."""
    return [rows.instance_of(row) for row in session.rows(_INSTANCES)]


def bury(session: Session, instance: Instance) -> bool:
    """Its leases go with its row."""
    return session.run(_BURY, instance=instance.id, seen=instance.beats) == 1


def fenced(session: Session, fence: Collection[str], work: Callable[[Session], T]) -> T:
    """``work``, while none of these instances can be buried. Raises StorageFailed if one was."""
    asked = padded(sorted(set(fence)))
    alive = {id for id, in session.rows(_alive(len(asked)), **among_values(asked))}
    if not alive.issuperset(asked):
        raise StorageFailed("this process was taken for dead, so what it wrote may be removed; send it again",
                            instances=sorted(set(asked) - alive))
    return work(session)


# --- leases ---


def lease(session: Session, wanted: Lease) -> list[Lease]:
    """Repeatable."""
    return fenced(session, [wanted.instance], lambda session: _lease(session, wanted))


def _lease(session: Session, wanted: Lease) -> list[Lease]:
    _queue(session, wanted)
    found = _overlapping(session, wanted, wanted.end)
    others = [other for other in found if other.id != wanted.id]
    if not found:
        session.run(_ADD, id=wanted.id, storage=wanted.storage, key=wanted.key, start=wanted.start, end=wanted.end,
                    instance=wanted.instance, wanted=0)
    return _marked(session, others)


def extend(session: Session, id: str, end: int | None) -> list[Lease]:
    """A lease that reaches further already stays as it is."""
    row = session.one(_BY_ID, lease=id)
    if row:
        _queue(session, rows.lease_of(row))
        row = session.one(_BY_ID, lease=id)
    if row is None:
        raise _gone(id)
    held = rows.lease_of(row)
    if held.end is None or (end is not None and end <= held.end):
        return []
    others = [other for other in _overlapping(session, held, end) if other.id != id]
    if not others and not session.run(_EXTEND, lease=id, reach=end):
        raise _gone(id)
    return _marked(session, others)


def _queue(session: Session, lease: Lease) -> None:
    """One at a time for each key: who looks for others before it enters its own must not miss who does the same."""
    session.serialise(f"lease {lease.storage} {lease.key}")


def _overlapping(session: Session, lease: Lease, end: int | None) -> list[Lease]:
    """All that overlap the lease, did it reach to ``end``; it is among them if it is entered."""
    high = MAX_SIZE if end is None else end
    return [rows.lease_of(row) for row in session.rows(_OVERLAPPING, of=lease.storage, on=lease.key, low=lease.start, high=high)]


def _marked(session: Session, others: list[Lease]) -> list[Lease]:
    """Their holders learn that they are waited for."""
    if others:
        asked = padded([other.id for other in others])
        session.run(_want(len(asked)), **among_values(asked))
    return others


def require_held(session: Session, id: str) -> None:
    """It can't be lost until this transaction ends. Raises Interrupted."""
    if not session.one(_HELD, lease=id):
        raise _gone(id)


def _gone(id: str) -> Interrupted:
    return Interrupted("this process was taken for dead, and others may write these bytes now", lease=id)


def release(session: Session, id: str) -> None:
    """Repeatable."""
    session.run(_RELEASE, lease=id)


def wanted(session: Session, instance: str) -> list[Lease]:
    """By id."""
    return [rows.lease_of(row) for row in session.rows(_WANTED, holder=instance)]


def on(session: Session, storage: str, key: Key) -> list[Lease]:
    """By start."""
    return [rows.lease_of(row) for row in session.rows(_LEASES, of=storage, on=key)]
