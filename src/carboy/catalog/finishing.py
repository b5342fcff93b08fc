"""How jobs end. What a job came to is committed with its being done, under its fence: so it has one effect, however often it ran."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import bindparam, case, delete, func, insert, null, select, update

from carboy.catalog import claiming, contents, rows
from carboy.catalog.files import by_id
from carboy.catalog.ordering import of_blob, settle_waiting
from carboy.catalog.sessions import Session
from carboy.catalog.tables import RUNNING, blobs, derived, files, jobs, versions
from carboy.catalog.twins import join, lock_with_twin
from carboy.errors import Conflict, NotFound
from carboy.jobs import MOVES, Claim, Job, JobState, Outcome, Plan
from carboy.model import Act

_BY_ID = select(*rows.JOB).where(jobs.c.id == bindparam("job"))
BY_ID_LOCKED = _BY_ID.with_for_update()
_MINE = (jobs.c.id == bindparam("job"), jobs.c.fence == bindparam("at_fence"), jobs.c.state == RUNNING)
_DONE = update(jobs).where(*_MINE).values(state="done", progress=1.0, result=bindparam("gave"), failure=bindparam("why"),
                                          changed_at=bindparam("now"), instance=null())
_DEAD = update(jobs).where(*_MINE).values(state="dead", failure=bindparam("why"), changed_at=bindparam("now"), instance=null())
_SET = update(jobs).where(jobs.c.id == bindparam("job")).values(
    state=bindparam("to"), fence=jobs.c.fence + 1, attempts=bindparam("tried"), changed_at=bindparam("now"), due_at=bindparam("now"),
    instance=null(), sent_at=null(), failure=bindparam("why"))
_LESS = bindparam("less", type_=blobs.c.held.type)
_LEARN = update(blobs).where(blobs.c.id == bindparam("blob")).values(
    sha256=func.coalesce(blobs.c.sha256, bindparam("hash", type_=blobs.c.sha256.type)),
    quarantine=func.coalesce(bindparam("why", type_=blobs.c.quarantine.type), blobs.c.quarantine),
    held=case((blobs.c.held > _LESS, blobs.c.held - _LESS), else_=0))
_LIFT = update(blobs).where(blobs.c.id == bindparam("blob"), blobs.c.quarantine == bindparam("before")).values(
    quarantine=bindparam("why", type_=blobs.c.quarantine.type))
_BECOME = update(jobs).where(jobs.c.id == bindparam("job")).values(version=bindparam("as_version"))
_DROP_JOB = delete(jobs).where(jobs.c.id == bindparam("job"))
_RETYPE = update(files).where(files.c.blob_id == bindparam("blob"), files.c.space == bindparam("in_space"),
                              files.c.media_type == bindparam("was")).values(media_type=bindparam("as_type"))
_RETYPE_VERSIONS = update(versions).where(
    versions.c.blob_id == bindparam("blob"), versions.c.media_type == bindparam("was"),
    versions.c.file_id.in_(select(files.c.id).where(files.c.space == bindparam("in_space")))).values(media_type=bindparam("as_type"))
_ADD_DERIVED = insert(derived)

NOT_THROUGH = "its step doesn't let the content through"
"""What a job tells as its failure that is done, and goes on holding the content back."""


def finish(session: Session, claim: Claim, outcome: Outcome, now: float) -> bool:
    job = claim.job
    blob, twin = lock_with_twin(session, claim.blob, outcome)
    passes = outcome.release and outcome.quarantine is None
    why = None if passes or not (job.holds or outcome.quarantine is not None) else NOT_THROUGH
    facts = {"quarantine": outcome.quarantine} if outcome.quarantine is not None else {}
    gave = rows.dump({**outcome.result, **facts})
    if not blob or not session.run(_DONE, job=job.id, at_fence=job.fence, gave=gave, why=why, now=now):
        return False
    _derive(session, job, outcome, now)
    if passes and (before := _quarantine_of(job)) is not None:
        others = (_quarantine_of(one) for one in of_blob(session, job.blob_id) if one.id != job.id)
        session.run(_LIFT, blob=job.blob_id, before=before, why=next((why for why in others if why is not None), None))
    less = int(job.holds and passes)
    if less or outcome.sha256 or outcome.quarantine is not None:
        session.run(_LEARN, blob=job.blob_id, hash=outcome.sha256, why=outcome.quarantine, less=less)
    if outcome.media_type and claim.file:
        for statement in (_RETYPE, _RETYPE_VERSIONS):
            session.run(statement, blob=job.blob_id, in_space=job.space, was=claim.file.media_type, as_type=outcome.media_type)
    settle_waiting(session, job.blob_id, now)
    if twin and (kept := join(session, blob, twin, outcome, now)):
        facts["joined"] = kept
    claiming.log_job(session, job, "job.done", now, {"result": outcome.result, **facts})
    return True


def _quarantine_of(job: Job) -> str | None:
    """Why the content is in quarantine by what the job found when it last got through."""
    why: str | None = (job.result or {}).get("quarantine")
    return why


def _derive(session: Session, job: Job, outcome: Outcome, now: float) -> None:
    """What the step derived takes the place of what it had derived before."""
    old = contents.drop_made_by(session, job.blob_id, job.step)
    for one in outcome.derived:
        blob = contents.adopt(session, one.blob)
        session.run(_ADD_DERIVED, of=job.blob_id, step=job.step, name=one.name, blob_id=blob.id, media_type=one.media_type,
                    facts=rows.dump(one.facts), created_at=now)
    contents.drop_blobs(session, old, now)


def fail(session: Session, claim: Claim, failure: str, now: float, due_at: float | None) -> bool:
    job = claim.job
    if due_at is not None:
        changed = claiming.again(session, job, now, due_at, failure, counts=True)
    else:
        changed = bool(session.run(_DEAD, job=job.id, at_fence=job.fence, why=failure, now=now))
    if changed:
        claiming.log_job(session, job, "job.failed" if due_at is not None else "job.dead", now,
                         {"failure": failure, "attempts": job.attempts})
    return changed


def retry(session: Session, id: str, now: float, by: Act | None, plan: Plan | None = None) -> Job:
    job = _locked_with_blob(session, id)
    if not job.may_be_retried:
        raise _not_now(job)
    if plan and job.holds and not job.args:
        _bring_up_to_date(session, job, plan)
    _change(session, job, "waiting" if job.after else "queued", "job.retry", now, by, attempts=0, failure=None)
    settle_waiting(session, job.blob_id, now)
    return locked(session, id)


def _bring_up_to_date(session: Session, job: Job, plan: Plan) -> None:
    """A job that holds a content back by what its space said before goes by what it says now: it gets the version that would be ordered.
    Only where no other file has the content, which may be in a space that says what this one said. The blob is locked."""
    file = by_id(session, job.file_id)
    if not file or file.blob.id != job.blob_id or len(session.rows(contents.USES, id=job.blob_id)) != 1:
        return
    version = next((order.version for order in plan.orders(file) if order.step == job.step and order.holds), job.version)
    if version == job.version:
        return
    other = next((one for one in of_blob(session, job.blob_id) if (one.step, one.version) == (job.step, version)), None)
    if other and _quarantine_of(other) is not None:
        return
    if other:
        session.run(_DROP_JOB, job=other.id)
        session.run(_LEARN, blob=job.blob_id, hash=None, why=None, less=int(other.is_holding))
    session.run(_BECOME, job=job.id, as_version=version)


def cancel(session: Session, id: str, now: float, by: Act | None) -> Job:
    """Repeatable."""
    job = locked(session, id)
    if job.state == "cancelled":
        return job
    if "cancelled" not in MOVES[job.state]:
        raise _not_now(job)
    return _change(session, job, "cancelled", "job.cancel", now, by, attempts=job.attempts, failure=job.failure)


def locked(session: Session, id: str) -> Job:
    """Raises NotFound."""
    row = session.one(BY_ID_LOCKED, job=id)
    if row is None:
        raise NotFound("there is no such job", id=id)
    return rows.job_of(row)


def _locked_with_blob(session: Session, id: str) -> Job:
    """The job, and its content first, as whoever ends a job locks them. Raises NotFound."""
    while row := session.one(_BY_ID, job=id):
        if contents.lock_blob(session, rows.job_of(row).blob_id):  # else it has gone to another content, or is gone
            break
    return locked(session, id)


def _not_now(job: Job) -> Conflict:
    return Conflict(f"the job is {job.state}", state=job.state, possible=sorted(MOVES[job.state]))


def _change(session: Session, job: Job, to: JobState, kind: str, now: float, by: Act | None, *, attempts: int, failure: str | None) -> Job:
    session.run(_SET, job=job.id, to=to, tried=attempts, now=now, why=failure)
    claiming.log_job(session, job, kind, now, {}, by)
    return replace(job, state=to, fence=job.fence + 1, attempts=attempts, changed_at=now, due_at=now, instance=None, failure=failure)
