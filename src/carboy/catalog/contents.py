"""Which contents are kept: a file's older ones, and what nothing refers to any more is condemned.

Blobs' rows are locked before anyone looks at what refers to them, so that nobody can adopt a blob that is going.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, LargeBinary, bindparam, cast, delete, exists, insert, literal_column, select, update

from carboy.catalog import rows
from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, condemned, derived, files, jobs, versions
from carboy.catalog.tallying import Tally
from carboy.errors import NotFound
from carboy.model import Blob, File

_ONE: ColumnElement[int] = literal_column("1")
_CONDEMNED = select(_ONE).where(condemned.c.storage == bindparam("storage"), condemned.c.key == bindparam("key"))
_LOCK_BLOB = select(*rows.BLOB).where(blobs.c.id == bindparam("id")).with_for_update()
_ADD_BLOB = insert(blobs).from_select(
    list(blobs.c),
    select(*[cast(bindparam(c.name), c.type) if isinstance(c.type, LargeBinary) else bindparam(c.name, type_=c.type)
             for c in blobs.c]).where(~exists(_CONDEMNED)))
_DERIVED_OF = select(derived.c.blob_id).where(derived.c.of == bindparam("blob"))
_DROP_DERIVED = delete(derived).where(derived.c.of == bindparam("blob"))
_MADE_BY = (derived.c.of == bindparam("blob"), derived.c.step == bindparam("of_step"))
_OF_STEP = select(derived.c.blob_id).where(*_MADE_BY)
_DROP_OF_STEP = delete(derived).where(*_MADE_BY)
_MOVE_OF_STEP = update(derived).where(*_MADE_BY).values(of=bindparam("to_blob"))
_DROP_JOBS = delete(jobs).where(jobs.c.blob_id == bindparam("id"))
_DROP_BLOB = delete(blobs).where(blobs.c.id == bindparam("id"))
USES = (select(_ONE).where(files.c.blob_id == bindparam("id"))
        .union_all(select(_ONE).where(versions.c.blob_id == bindparam("id")),
                   select(_ONE).where(derived.c.blob_id == bindparam("id"))))
"""A row for each use of a content."""
_CONDEMN = insert(condemned)
_ADD_VERSION = insert(versions)
_OLDER = (select(versions.c.number, versions.c.blob_id, blobs.c.size).join_from(versions, blobs, versions.c.blob_id == blobs.c.id)
          .where(versions.c.file_id == bindparam("file_id")).order_by(versions.c.number.desc()))
_DROP_VERSION = delete(versions).where(versions.c.file_id == bindparam("file_id"), versions.c.number == bindparam("number"))


@dataclass(frozen=True, slots=True)
class Older:
    """An older content of a file, as far as keeping it goes."""

    number: int
    blob_id: str
    size: int


def older_of(session: Session, file_id: str) -> list[Older]:
    """Newest first."""
    return [Older(*row) for row in session.rows(_OLDER, file_id=file_id)]


def keep_older(session: Session, old: File, keep: int, now: float, tally: Tally) -> None:
    """The content that a file had becomes a version of it; the oldest beyond ``keep`` go."""
    session.run(_ADD_VERSION, file_id=old.id, number=old.version, blob_id=old.blob.id, media_type=old.media_type,
                created_at=old.modified_at)
    tally.kept(old.space, old.owner, older=old.size)
    beyond = older_of(session, old.id)[keep:]
    for older in beyond:
        drop_older(session, old, older, tally)
    drop_blobs(session, [older.blob_id for older in beyond], now)


def drop_older(session: Session, file: File, older: Older, tally: Tally) -> None:
    """The file has this version no more; what becomes of its blob is the caller's."""
    session.run(_DROP_VERSION, file_id=file.id, number=older.number)
    tally.kept(file.space, file.owner, older=-older.size)


def lock_blob(session: Session, id: str) -> Blob | None:
    """Nobody changes it, or what refers to it, until this transaction ends."""
    row = session.one(_LOCK_BLOB, id=id)
    return rows.blob_of(row) if row else None


def adopt(session: Session, blob: Blob) -> Blob:
    """The blob as kept, locked; new ones are added. Raises NotFound if its bytes are condemned."""
    row = session.one(_LOCK_BLOB, id=blob.id)
    if row:
        return rows.blob_of(row)
    if session.run(_ADD_BLOB, **rows.blob_values(blob)) != 1:
        raise NotFound("the stored bytes are being removed", blob=blob.id)
    return blob


def drop_blobs(session: Session, blob_ids: Sequence[str], now: float) -> None:
    """Forget those that nothing refers to, what was derived of them too, and condemn their bytes. In one order, so that no two wait for
    each other."""
    for blob_id in sorted(set(blob_ids)):
        blob = lock_blob(session, blob_id)
        if blob and not session.one(USES, id=blob_id):
            session.run(_DROP_JOBS, id=blob_id)
            session.run(_DROP_BLOB, id=blob_id)
            condemn(session, blob.storage, blob.key, now)
            drop_derived(session, blob_id, now)


def drop_derived(session: Session, blob_id: str, now: float) -> None:
    """What was derived of the blob goes."""
    made = [id for id, in session.rows(_DERIVED_OF, blob=blob_id)]
    if made:
        session.run(_DROP_DERIVED, blob=blob_id)
        drop_blobs(session, made, now)


def drop_made_by(session: Session, blob_id: str, step: str) -> list[str]:
    """What the step derived of the blob is no more; whose blobs the caller is to drop."""
    made = [id for id, in session.rows(_OF_STEP, blob=blob_id, of_step=step)]
    if made:
        session.run(_DROP_OF_STEP, blob=blob_id, of_step=step)
    return made


def move_derived(session: Session, blob_id: str, to: str, step: str, now: float) -> None:
    """What the step derived of the blob is another's, in place of what it had derived of that."""
    old = drop_made_by(session, to, step)
    session.run(_MOVE_OF_STEP, blob=blob_id, of_step=step, to_blob=to)
    drop_blobs(session, old, now)


def condemn(session: Session, storage: str, key: str, now: float) -> None:
    """From now on the sweeper may remove these bytes."""
    if not session.one(_CONDEMNED, storage=storage, key=key):
        session.run(_CONDEMN, storage=storage, key=key, since=now)
