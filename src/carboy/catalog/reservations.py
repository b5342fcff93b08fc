"""Room promised to declared sizes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select, update

from carboy.catalog.base import Reservation
from carboy.catalog.sessions import Row, Session
from carboy.catalog.tables import reservations
from carboy.catalog.tallying import used_by, whose
from carboy.errors import QuotaExceeded, StorageFull

_VALUES = ("storage", "principal", "size", "expires_at", "space", "owner", "adds")
_LIVE = (select(reservations.c.id, reservations.c.principal, reservations.c.size, reservations.c.space, reservations.c.owner,
                reservations.c.adds)
         .where(reservations.c.storage == bindparam("storage"), reservations.c.expires_at > bindparam("now")))
_RENEW = update(reservations).where(reservations.c.id == bindparam("reservation")).values(
    {name: bindparam(name) for name in _VALUES})
_ADD = insert(reservations)
_SHRINK = update(reservations).where(reservations.c.id == bindparam("reservation")).values(
    {name: bindparam(name) for name in ("size", "expires_at")})
_DROP = delete(reservations).where(reservations.c.id == bindparam("id"))
_LAPSE = delete(reservations).where(reservations.c.expires_at <= bindparam("now"))


def reserve(session: Session, wanted: Reservation, room: int, cap: int, now: float) -> None:
    session.serialise(f"reserve {wanted.storage}")
    others = [row[1:] for row in session.rows(_LIVE, storage=wanted.storage, now=now) if row[0] != wanted.id]
    _check_quotas(session, wanted, [row[2:] for row in others])
    left = room - sum(size for _, size, *_ in others)
    allowed = cap - sum(size for principal, size, *_ in others if principal == wanted.principal)
    if wanted.size > min(left, allowed):
        raise StorageFull("there is no room for this size", size=wanted.size, room=max(0, min(left, allowed)))
    renew(session, wanted)


def _check_quotas(session: Session, wanted: Reservation, others: Sequence[Row]) -> None:
    """``others`` are the space, owner and promised bytes of the other reservations."""
    for scope, limit, who in (("space", wanted.limits.space, ""), ("owner", wanted.limits.owner, whose(wanted.owner))):
        if limit is None or (scope == "owner" and wanted.owner is None):
            continue
        promised = sum(adds for space, owner, adds in others if space == wanted.space and (scope == "space" or owner == wanted.owner))
        used = used_by(session, wanted.space, who)
        if used.total + promised + wanted.adds > limit and wanted.adds:
            raise QuotaExceeded(f"the {scope} may keep {limit} bytes together", scope=scope, limit=limit, used=used.total,
                                promised=promised, in_trash=used.trash, size=wanted.size)


def renew(session: Session, reservation: Reservation) -> None:
    values = {name: getattr(reservation, name) for name in _VALUES}
    if not session.run(_RENEW, reservation=reservation.id, **values):
        session.run(_ADD, id=reservation.id, **values)


def shrink(session: Session, id: str, size: int, expires_at: float) -> None:
    """What is left of a live reservation after bytes came; a lapsed one stays gone."""
    session.run(_SHRINK, reservation=id, size=size, expires_at=expires_at)


def total(session: Session, storage: str, now: float) -> int:
    """Summed here: SQLite's sum() fails beyond 63 bits."""
    return sum(size for _, _, size, *_ in session.rows(_LIVE, storage=storage, now=now))


def release(session: Session, id: str) -> None:
    """Repeatable."""
    session.run(_DROP, id=id)


def lapse(session: Session, now: float) -> int:
    return session.run(_LAPSE, now=now)
