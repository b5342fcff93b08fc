"""Contents that are the same: one takes the other's place, and the bytes are kept once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sqlalchemy import ColumnElement, CompoundSelect, Select, bindparam, delete, literal_column, null, or_, select, update

from carboy.catalog import contents
from carboy.catalog.ordering import of_blob, settle_waiting
from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, derived, files, jobs, versions
from carboy.jobs import Job, JobState, Outcome
from carboy.model import Blob

_LEAST = 1
"""Empty contents keep nothing, so nothing is saved."""
_ONE: ColumnElement[int] = literal_column("1")


@cache
def _twin(owned: bool) -> Select[tuple[str]]:
    found = (select(blobs.c.id).join_from(blobs, files, files.c.blob_id == blobs.c.id)
             .where(blobs.c.sha256 == bindparam("hash"), blobs.c.size == bindparam("size"), blobs.c.storage == bindparam("kept_in"),
                    blobs.c.id != bindparam("blob"), blobs.c.damaged_at.is_(None), blobs.c.quarantine.is_(None),
                    files.c.space == bindparam("of_space")))
    if owned:
        found = found.where(files.c.owner == bindparam("of_owner"))
    return found.order_by(blobs.c.created_at, blobs.c.id).limit(1)


@cache
def _other_uses(owned: bool) -> CompoundSelect[int]:
    """What has the content besides the files that are to get another."""
    elsewhere = files.c.space != bindparam("of_space")
    if owned:
        elsewhere = or_(elsewhere, files.c.owner.is_distinct_from(bindparam("of_owner")))
    blob: ColumnElement[str] = bindparam("blob")
    return (select(_ONE).where(files.c.blob_id == blob, elsewhere)
            .union_all(select(_ONE).where(versions.c.blob_id == blob), select(_ONE).where(derived.c.blob_id == blob)))


_FILES = (files.c.blob_id == bindparam("blob"), files.c.space == bindparam("of_space"))
_TAKE = update(files).where(*_FILES).values(blob_id=bindparam("twin"))
_TAKE_OWN = update(files).where(*_FILES, files.c.owner == bindparam("of_owner")).values(blob_id=bindparam("twin"))
_MOVE_JOB = update(jobs).where(jobs.c.id == bindparam("job")).values(blob_id=bindparam("twin"))
_BEGIN_ANEW = update(jobs).where(jobs.c.id == bindparam("job"), jobs.c.state == "running").values(
    state="queued", fence=jobs.c.fence + 1, attempts=jobs.c.attempts - 1, instance=null(), sent_at=null(), changed_at=bindparam("now"),
    due_at=bindparam("now"))
_DROP_JOB = delete(jobs).where(jobs.c.id == bindparam("job"))
_HOLD = update(blobs).where(blobs.c.id == bindparam("twin")).values(held=blobs.c.held + bindparam("more"))
_COMES_TO: Mapping[JobState, int] = {"done": 2, "running": 1, "queued": 1, "waiting": 1, "dead": 0, "cancelled": 0}
"""How much comes of a job in that state unless somebody asks."""


def twin(session: Session, blob: Blob, space: str, owner: str | None) -> str | None:
    """See :meth:`carboy.catalog.base_jobs.Jobs.twin`."""
    if blob.sha256 is None or blob.size < _LEAST or blob.quarantine or blob.damaged_at is not None:
        return None
    asked = {"of_owner": owner} if owner is not None else {}
    row = session.one(_twin(owner is not None), hash=blob.sha256, size=blob.size, kept_in=blob.storage, blob=blob.id,
                      of_space=space, **asked)
    return row[0] if row else None


def lock_with_twin(session: Session, blob: Blob, outcome: Outcome) -> tuple[Blob | None, Blob | None]:
    """The blob as it is, locked, None if it is gone; and the one that is to be joined with it, locked too. Two of the same bytes that are
    looked at in the same moment don't miss each other, and no two wait for each other."""
    found = outcome.same_as
    sha256 = outcome.sha256 or blob.sha256
    if outcome.same_in and not found and sha256:
        session.serialise(f"content {sha256.hex()}")
        known = Blob(blob.id, blob.storage, blob.key, blob.size, blob.crc64nvme, sha256, blob.created_at)
        found = twin(session, known, *outcome.same_in)
    locked = {id: contents.lock_blob(session, id) for id in sorted({blob.id, *([found] if found else [])})}
    return locked[blob.id], locked[found] if outcome.same_in and found else None


def join(session: Session, blob: Blob, twin: Blob, outcome: Outcome, now: float) -> str | None:
    """One of the two, both locked, takes the other's place where the outcome says: the older one, unless it names which. The id of the
    one that stays, None where they aren't joined."""
    gone, kept = blob, twin
    if outcome.same_as is None and (blob.created_at, blob.id) < (twin.created_at, twin.id):
        gone, kept = twin, blob
    return kept.id if outcome.same_in and _join(session, gone.id, kept.id, outcome.same_in, now) else None


def _join(session: Session, blob_id: str, kept_id: str, where: tuple[str, str | None], now: float) -> bool:
    """Files there get the kept content instead of this one. If nothing else has it, its jobs go along and it is condemned. Whether it came
    to that: not where one of them isn't sound or was not let through, where something would get around what holds it back, or where the
    files would be without a job that they have, which stays with what else has the content."""
    blob, kept = contents.lock_blob(session, blob_id), contents.lock_blob(session, kept_id)
    if not blob or not kept or any(one.quarantine is not None or one.damaged_at is not None for one in (blob, kept)):
        return False
    space, owner = where
    values = {"blob": blob_id, "of_space": space, **({"of_owner": owner} if owner is not None else {})}
    every, theirs = of_blob(session, blob_id), of_blob(session, kept_id)
    other_uses = session.one(_other_uses(owner is not None), **values)
    if any(job.is_holding and job.state == "done" for job in (*every, *theirs)):
        return False
    if other_uses and (blob.held or not _has_all(theirs, every)):
        return False
    if not session.run(_TAKE if owner is None else _TAKE_OWN, **values, twin=kept_id):
        return False
    if not other_uses:
        _bring_jobs(session, every, theirs, kept, now)
        contents.drop_blobs(session, [blob_id], now)
    return True


def _has_all(theirs: list[Job], every: list[Job]) -> bool:
    """Whether there is one for the same for each of these jobs, that as much comes of."""
    comes_to = {(job.step, job.version): _COMES_TO[job.state] for job in theirs}
    return all(comes_to.get((job.step, job.version), -1) >= _COMES_TO[job.state] for job in every)


def _bring_jobs(session: Session, every: list[Job], theirs: list[Job], kept: Blob, now: float) -> None:
    """Of two jobs for the same, one stays. What is done isn't done again, and nothing is held back less than before."""
    before = {(job.step, job.version): job for job in theirs}
    holding = 0
    for job in every:
        other = before.get((job.step, job.version))
        if other and not _counts_more(job, other):
            session.run(_DROP_JOB, job=job.id)
            continue
        if other:
            session.run(_DROP_JOB, job=other.id)
        session.run(_MOVE_JOB, job=job.id, twin=kept.id)
        session.run(_BEGIN_ANEW, job=job.id, now=now)
        if job.state == "done" and not (other and other.state == "done"):
            contents.move_derived(session, job.blob_id, kept.id, job.step, now)
        holding += job.is_holding - (other.is_holding if other else 0)
    if holding:
        session.run(_HOLD, twin=kept.id, more=holding)
    settle_waiting(session, kept.id, now)


def _counts_more(job: Job, other: Job) -> bool:
    """Whether the job of the newer content is kept, and not that of the older one: who asked last keeps the job's id, but nothing that was
    to be done is given up for it, and what runs goes on."""
    if job.holds != other.holds:
        return job.holds
    more = _COMES_TO[job.state] - _COMES_TO[other.state]
    return more > 0 or (more == 0 and other.state != "running")
