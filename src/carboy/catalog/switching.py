"""Contents that go from one storage to another: which of a space lie where, and the moment when one is elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, bindparam, exists, func, literal_column, or_, select, update

from carboy.catalog import rows
from carboy.catalog.contents import condemn
from carboy.catalog.sessions import Database, Session
from carboy.catalog.sql_jobs import SqlJobs
from carboy.catalog.tables import blobs, derived, files, shelf, versions
from carboy.model import Blob, Key

_ONE: ColumnElement[int] = literal_column("1")
_OF = bindparam("of", type_=files.c.space.type)
_IN_SPACE = or_(files.c.space == _OF, exists(select(_ONE).where(shelf.c.file_id == files.c.id, shelf.c.space == _OF)))
_USED = or_(
    exists(select(_ONE).where(files.c.blob_id == blobs.c.id, _IN_SPACE)),
    exists(select(_ONE).where(versions.c.blob_id == blobs.c.id, versions.c.file_id == files.c.id, _IN_SPACE)),
    exists(select(_ONE).where(derived.c.blob_id == blobs.c.id, derived.c.of == files.c.blob_id, _IN_SPACE)),
    exists(select(_ONE).where(derived.c.blob_id == blobs.c.id, derived.c.of == versions.c.blob_id, versions.c.file_id == files.c.id,
                              _IN_SPACE)))
_APART = (select(*rows.BLOB).where(blobs.c.storage != bindparam("apart"), blobs.c.id > bindparam("low"), _USED)
          .order_by(blobs.c.id).limit(bindparam("count")))
_LOCK = select(blobs.c.storage, blobs.c.key).where(blobs.c.id == bindparam("blob")).with_for_update()
_SWITCH = update(blobs).where(blobs.c.id == bindparam("blob")).values(storage=bindparam("to_storage"), key=bindparam("to_key"))
_STORED = select(blobs.c.storage, func.count(_ONE), func.sum(blobs.c.size)).group_by(blobs.c.storage).order_by(blobs.c.storage)


class SqlSwitching(SqlJobs):
    """Each method is one transaction of the database; see :class:`carboy.catalog.base.Catalog` for what they guarantee."""

    _database: Database

    def blobs_apart(self, space: str, storage: str, *, after: str | None = None, limit: int = 100) -> list[Blob]:
        return self._database.read(lambda session: _apart(session, space, storage, after or "", limit))

    def switch_blob(self, blob: Blob, storage: str, key: Key, *, now: float, fence: Collection[str] = ()) -> bool:
        return self._write_fenced(fence, lambda session: _switch(session, blob, storage, key, now))

    def stored(self) -> Mapping[str, tuple[int, int]]:
        return self._database.read(lambda session: {name: (count, int(size)) for name, count, size in session.rows(_STORED)})


def _apart(session: Session, space: str, storage: str, after: str, limit: int) -> list[Blob]:
    return [rows.blob_of(row) for row in session.rows(_APART, of=space, apart=storage, low=after, count=limit)]


def _switch(session: Session, blob: Blob, storage: str, key: Key, now: float) -> bool:
    """Its row is locked as by who adopts it or lets it go, so they come before or after."""
    if session.one(_LOCK, blob=blob.id) != (blob.storage, blob.key):
        return False
    session.run(_SWITCH, blob=blob.id, to_storage=storage, to_key=key)
    condemn(session, blob.storage, blob.key, now)
    return True
