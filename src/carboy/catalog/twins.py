"""Contents that are the same: one takes the other's place, and the bytes are kept once."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Select, bindparam, delete, select, update

from carboy.catalog import contents
from carboy.catalog.ordering import of_blob, settle_waiting
from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, files, jobs
from carboy.model import File

_LEAST = 1
"""Empty contents keep nothing, so nothing is saved."""


@cache
def _twin(owned: bool) -> Select[tuple[str]]:
    found = (select(blobs.c.id).join_from(blobs, files, files.c.blob_id == blobs.c.id)
             .where(blobs.c.sha256 == bindparam("hash"), blobs.c.size == bindparam("size"), blobs.c.storage == bindparam("kept_in"),
                    blobs.c.id != bindparam("blob"), blobs.c.damaged_at.is_(None), blobs.c.quarantine.is_(None),
                    blobs.c.created_at <= bindparam("born"), files.c.space == bindparam("of_space")))
    if owned:
        found = found.where(files.c.owner == bindparam("of_owner"))
    return found.order_by(blobs.c.created_at, blobs.c.id).limit(1)


_FILES = (files.c.blob_id == bindparam("blob"), files.c.space == bindparam("of_space"))
_TAKE = update(files).where(*_FILES).values(blob_id=bindparam("twin"))
_TAKE_OWN = update(files).where(*_FILES, files.c.owner == bindparam("of_owner")).values(blob_id=bindparam("twin"))
_MOVE_JOB = update(jobs).where(jobs.c.id == bindparam("job")).values(blob_id=bindparam("twin"))
_DROP_JOB = delete(jobs).where(jobs.c.id == bindparam("job"))
_HOLD = update(blobs).where(blobs.c.id == bindparam("twin")).values(held=blobs.c.held + bindparam("more"))
_IN_USE = select(files.c.id).where(files.c.blob_id == bindparam("blob")).limit(1)


def twin(session: Session, file: File, owner: str | None) -> str | None:
    blob = file.blob
    if blob.sha256 is None or blob.size < _LEAST or blob.quarantine or blob.damaged_at is not None:
        return None
    asked = {"of_owner": owner} if owner is not None else {}
    row = session.one(_twin(owner is not None), hash=blob.sha256, size=blob.size, kept_in=blob.storage, blob=blob.id, born=blob.created_at,
                      of_space=file.space, **asked)
    return row[0] if row else None


def join_twin(session: Session, blob_id: str, twin_id: str, where: tuple[str, str | None], now: float) -> None:
    """Files there get the twin's content instead of this one, which is locked; if nothing else has it, its jobs go along and it is
    condemned. Nothing happens where the twin has gone meanwhile, or is sound no more."""
    kept = contents.lock_blob(session, twin_id)
    if kept is None or kept.quarantine or kept.damaged_at is not None:
        return
    space, owner = where
    values = {"blob": blob_id, "twin": twin_id, "of_space": space}
    moved = session.run(_TAKE, **values) if owner is None else session.run(_TAKE_OWN, **values, of_owner=owner)
    if moved and not session.one(_IN_USE, blob=blob_id):
        _bring_jobs(session, blob_id, twin_id, now)
    contents.drop_blobs(session, [blob_id], now)


def _bring_jobs(session: Session, blob_id: str, twin_id: str, now: float) -> None:
    """Those that were asked for last keep their ids; what the twin is through with isn't done again."""
    before = {(job.step, job.version): job for job in of_blob(session, twin_id)}
    holding = 0
    for job in of_blob(session, blob_id):
        other = before.get((job.step, job.version))
        if other and (other.state != "done" or job.state != "done"):
            session.run(_DROP_JOB, job=job.id)
            continue
        if other:
            session.run(_DROP_JOB, job=other.id)
        session.run(_MOVE_JOB, job=job.id, twin=twin_id)
        holding += job.holds and job.state != "done"
    if holding:
        session.run(_HOLD, twin=twin_id, more=holding)
    settle_waiting(session, twin_id, now)


