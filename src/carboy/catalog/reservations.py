"""Room promised to declared sizes."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update

from carboy.catalog.base import Reservation
from carboy.catalog.sessions import Session
from carboy.catalog.tables import reservations
from carboy.errors import StorageFull

_LIVE = (select(reservations.c.id, reservations.c.principal, reservations.c.size)
         .where(reservations.c.storage == bindparam("storage"), reservations.c.expires_at > bindparam("now")))
_RENEW = update(reservations).where(reservations.c.id == bindparam("reservation")).values(
    {name: bindparam(name) for name in ("storage", "principal", "size", "expires_at")})
_ADD = insert(reservations)
_SHRINK = update(reservations).where(reservations.c.id == bindparam("reservation")).values(
    {name: bindparam(name) for name in ("size", "expires_at")})
_DROP = delete(reservations).where(reservations.c.id == bindparam("id"))
_LAPSE = delete(reservations).where(reservations.c.expires_at <= bindparam("now"))


def reserve(session: Session, wanted: Reservation, room: int, cap: int, now: float) -> None:
    session.serialise(f"reserve {wanted.storage}")
    others = [row[1:] for row in session.rows(_LIVE, storage=wanted.storage, now=now) if row[0] != wanted.id]
    left = room - sum(size for _, size in others)
    allowed = cap - sum(size for principal, size in others if principal == wanted.principal)
    if wanted.size > min(left, allowed):
        raise StorageFull("there is no room for this size", size=wanted.size, room=max(0, min(left, allowed)))
    renew(session, wanted)


def renew(session: Session, reservation: Reservation) -> None:
    values = {"storage": reservation.storage, "principal": reservation.principal, "size": reservation.size,
              "expires_at": reservation.expires_at}
    if not session.run(_RENEW, reservation=reservation.id, **values):
        session.run(_ADD, id=reservation.id, **values)


def shrink(session: Session, id: str, size: int, expires_at: float) -> None:
    """What is left of a live reservation after bytes came; a lapsed one stays gone."""
    session.run(_SHRINK, reservation=id, size=size, expires_at=expires_at)


def total(session: Session, storage: str, now: float) -> int:
    """Summed here: SQLite's sum() fails beyond 63 bits."""
    return sum(size for _, _, size in session.rows(_LIVE, storage=storage, now=now))


def release(session: Session, id: str) -> None:
    """Repeatable."""
    session.run(_DROP, id=id)


def lapse(session: Session, now: float) -> int:
    return session.run(_LAPSE, now=now)
