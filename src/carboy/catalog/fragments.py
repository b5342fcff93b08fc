"""Where the bytes of an upload lie in a storage that can't write in place. Rows of a locked upload."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, func, insert, select

from carboy.catalog import rows
from carboy.catalog.contents import condemn
from carboy.catalog.sessions import Session
from carboy.catalog.tables import fragments
from carboy.errors import Conflict
from carboy.model import Fragment, Key, Upload

_OF = fragments.c.upload_id == bindparam("upload_id")
_FRAGMENT = (fragments.c.start, fragments.c.end, fragments.c.crc, fragments.c.ref, fragments.c.key)
_ALL = select(*_FRAGMENT).where(_OF).order_by(fragments.c.start)
_BEFORE = select(func.max(fragments.c.start)).where(_OF, fragments.c.start < bindparam("low")).scalar_subquery()
_MET = select(fragments.c.start, fragments.c.end, fragments.c.key).where(
    _OF, fragments.c.start >= func.coalesce(_BEFORE, bindparam("low")), fragments.c.start < bindparam("high"))
"""Those between ``low`` and ``high``, and the last one before: as none overlap, no other can reach in."""
_ADD = insert(fragments)
_DROP = delete(fragments).where(_OF, fragments.c.start >= bindparam("low"), fragments.c.start < bindparam("high"))
_DROP_ALL = delete(fragments).where(_OF)
_PIECES = select(fragments.c.key).where(_OF, fragments.c.key.is_not(None))


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
    for start, end, key in met:
        if start < new.start or end > new.end:
            raise Conflict("a fragment would cut another", start=max(start, new.start), end=min(end, new.end))
        if key not in (None, new.key):
            condemn(session, upload.storage, key, now)
    if met:
        session.run(_DROP, upload_id=upload.id, low=new.start, high=new.end)


def drop(session: Session, upload: Upload, now: float, kept: Key | None) -> None:
    """The upload has none any more; its pieces but ``kept`` are condemned."""
    for key, in session.rows(_PIECES, upload_id=upload.id):
        if key != kept:
            condemn(session, upload.storage, key, now)
    session.run(_DROP_ALL, upload_id=upload.id)
