"""Where the bytes of an upload lie in a storage that can't write in place. Rows of a locked upload."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, exists, func, insert, literal_column, select

from carboy.catalog import rows
from carboy.catalog.sessions import Session
from carboy.catalog.tables import condemned, fragments
from carboy.errors import Conflict
from carboy.model import MAX_SIZE, Fragment, Key, Upload

_OF = fragments.c.upload_id == bindparam("upload_id")
_FRAGMENT = (fragments.c.start, fragments.c.end, fragments.c.crc, fragments.c.ref, fragments.c.key)
_ALL = select(*_FRAGMENT).where(_OF).order_by(fragments.c.start)
_BEFORE = select(func.max(fragments.c.start)).where(_OF, fragments.c.start < bindparam("low")).scalar_subquery()
_MET = select(fragments.c.start, fragments.c.end).where(
    _OF, fragments.c.start >= func.coalesce(_BEFORE, bindparam("low")), fragments.c.start < bindparam("high"))
"""Those between ``low`` and ``high``, and the last one before: as none overlap, no other can reach in."""
_ADD = insert(fragments)
_DROP = delete(fragments).where(_OF, fragments.c.start >= bindparam("low"), fragments.c.start < bindparam("high"))
_CONDEMNED = exists(select(literal_column("1")).where(condemned.c.storage == bindparam("of"), condemned.c.key == fragments.c.key))
_CONDEMN = insert(condemned).from_select(["storage", "key", "since"], select(
    bindparam("of", type_=condemned.c.storage.type), fragments.c.key, bindparam("now", type_=condemned.c.since.type)).where(
    _OF, fragments.c.start >= bindparam("low"), fragments.c.start < bindparam("high"), fragments.c.key.is_not(None),
    fragments.c.key != bindparam("kept"), ~_CONDEMNED))
"""The pieces between, but one; in one statement, however many they are."""


def of(session: Session, upload_id: str) -> list[Fragment]:
    """By start."""
    return [rows.fragment_of(row) for row in session.rows(_ALL, upload_id=upload_id)]


def keep(session: Session, upload: Upload, new: Sequence[Fragment], now: float) -> None:
    """Each takes the place of those within it. Raises Conflict for one that cuts another."""
    for fragment in new:
        _make_place(session, upload, fragment, now)
        session.run(_ADD, upload_id=upload.id, start=fragment.start, end=fragment.end, ref=rows.dump(fragment.ref), key=fragment.key,
                    crc=None if fragment.crc is None else rows.pack_crc(fragment.crc))


def _make_place(session: Session, upload: Upload, new: Fragment, now: float) -> None:
    met = [row for row in session.rows(_MET, upload_id=upload.id, low=new.start, high=new.end) if row[1] > new.start]
    for start, end in met:
        if start < new.start or end > new.end:
            raise Conflict("a fragment would cut another", start=max(start, new.start), end=min(end, new.end))
    if met:
        _drop(session, upload, now, new.key, low=new.start, high=new.end)


def drop(session: Session, upload: Upload, now: float, kept: Key | None) -> None:
    """The upload has none any more; its pieces but ``kept`` are condemned."""
    _drop(session, upload, now, kept, low=0, high=MAX_SIZE)


def _drop(session: Session, upload: Upload, now: float, kept: Key | None, **between: int) -> None:
    session.run(_CONDEMN, upload_id=upload.id, of=upload.storage, now=now, kept=kept or "", **between)
    session.run(_DROP, upload_id=upload.id, **between)
