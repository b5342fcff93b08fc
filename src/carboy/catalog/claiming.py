"""Who runs which job. A claim moves the job's fence, and nothing can be changed under an older one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, exists, null, or_, select, update
from sqlalchemy.sql.dml import Update

from carboy.catalog import auditing, rows
from carboy.catalog.files import at_its_path, by_id
from carboy.catalog.ordering import of_blob
from carboy.catalog.sessions import Session, among, among_values, padded
from carboy.catalog.tables import QUEUED, RUNNING, blobs, jobs, writers
from carboy.jobs import Claim, Job
from carboy.model import Act

SKEW = 1.0
"""A job that was changed so many seconds after now was changed before somebody set the clock back: it is due at once. Clocks may differ by
less: whoever names a job was told that it is due, and may have it so much earlier by its own."""

_PLACE = select(jobs.c.space, jobs.c.owner).where(jobs.c.id == bindparam("job"))
_BLOB = select(*rows.BLOB).where(blobs.c.id == bindparam("blob"))
_MINE = (jobs.c.id == bindparam("job"), jobs.c.fence == bindparam("at_fence"), jobs.c.state == RUNNING)
_TAKE = update(jobs).where(jobs.c.id == bindparam("job"), jobs.c.state == QUEUED).values(
    state=RUNNING, fence=jobs.c.fence + 1, attempts=jobs.c.attempts + 1, instance=bindparam("by"), changed_at=bindparam("now"),
    started_at=bindparam("now"), progress=0.0, phrase="")
_REPORT = update(jobs).where(*_MINE).values(progress=bindparam("share"), phrase=bindparam("words"))
_AGAIN = update(jobs).where(*_MINE).values(
    state=QUEUED, attempts=jobs.c.attempts - bindparam("undo"), failure=bindparam("why"), changed_at=bindparam("now"),
    due_at=bindparam("due"), instance=null(), sent_at=null())
_GONE: ColumnElement[bool] = ~exists(select(writers.c.id).where(writers.c.id == jobs.c.instance))
_LEFT = select(*rows.JOB).where(jobs.c.state == RUNNING, _GONE).order_by(jobs.c.id).limit(1000)
_SENT_BEFORE = or_(jobs.c.sent_at.is_(None), jobs.c.sent_at < bindparam("before"), jobs.c.sent_at > bindparam("later"))
_ORDER = (jobs.c.priority.desc(), jobs.c.due_at, jobs.c.id)
_DUE = (jobs.c.state == QUEUED, or_(jobs.c.due_at <= bindparam("now"), jobs.c.changed_at > bindparam("later")))
_UNSENT = select(*rows.JOB).where(*_DUE, _SENT_BEFORE).order_by(*_ORDER).limit(bindparam("count"))


@cache
def _due(steps: int, queues: int, by_id: bool) -> Select[Any]:
    """Jobs to be claimed. The names of queues come after those of steps in one list of values."""
    wanted: list[ColumnElement[bool]] = [*_DUE, among(jobs.c.step, steps)]
    if queues:
        wanted.append(jobs.c.queue.in_([bindparam(f"in{steps + number}", type_=jobs.c.queue.type) for number in range(queues)]))
    if by_id:
        wanted.append(jobs.c.id == bindparam("job"))
    return select(*rows.JOB).where(*wanted).order_by(*_ORDER).limit(bindparam("count"))


@cache
def _due_locked(steps: int, queues: int, by_id: bool) -> Select[Any]:
    return _due(steps, queues, by_id).with_for_update(skip_locked=True)


@cache
def _mark(count: int) -> Update:
    return update(jobs).where(among(jobs.c.id, count), jobs.c.state == QUEUED).values(sent_at=bindparam("at"))


def due(session: Session, now: float, steps: Collection[str], queues: Collection[str], id: str | None, limit: int, *,
        lock: bool = False) -> list[Job]:
    """Jobs that may be claimed now."""
    asked, among_queues = padded(sorted(steps)), padded(sorted(queues)) if queues else []
    statement = (_due_locked if lock else _due)(len(asked), len(among_queues), id is not None)
    values = among_values([*asked, *among_queues])
    later = now + SKEW
    if id is not None:
        values["job"], now = id, later
    return [rows.job_of(row) for row in session.rows(statement, now=now, later=later, count=limit, **values)]


def claim(session: Session, instance: str, now: float, steps: Collection[str], queues: Collection[str], id: str | None,
          limit: int) -> list[Claim]:
    found = due(session, now, steps, queues, id, limit, lock=True)
    return [_claimed(session, job, instance, now) for job in found if session.run(_TAKE, job=job.id, by=instance, now=now)]


def _claimed(session: Session, was: Job, instance: str, now: float) -> Claim:
    job = replace(was, state="running", fence=was.fence + 1, attempts=was.attempts + 1, instance=instance, changed_at=now, started_at=now,
                  progress=0.0, phrase="")
    row = session.one(_BLOB, blob=job.blob_id)
    assert row, "a foreign key keeps it"
    file = by_id(session, job.file_id)
    results = {other.step: other.result or {} for other in of_blob(session, job.blob_id) if other.state == "done"}
    return Claim(job, rows.blob_of(row), file if file and file.blob.id == job.blob_id else None, results)


def report(session: Session, reports: Sequence[tuple[str, int, float, str]]) -> set[tuple[str, int]]:
    return {(id, fence) for id, fence, progress, phrase in sorted(reports)
            if not session.run(_REPORT, job=id, at_fence=fence, share=progress, words=phrase)}


def again(session: Session, job: Job, now: float, due_at: float, failure: str | None, *, counts: bool) -> bool:
    """The claimed job is queued for then. Whether the claim still was."""
    return bool(session.run(_AGAIN, job=job.id, at_fence=job.fence, undo=0 if counts else 1, why=failure, now=now, due=due_at))


def left(session: Session) -> list[Job]:
    """Running jobs whose instance is gone."""
    return [rows.job_of(row) for row in session.rows(_LEFT)]


def recover(session: Session, now: float) -> list[Job]:
    """Those are queued again."""
    found = [job for job in left(session)
             if again(session, job, now, now, "the process that ran it is gone", counts=True)]
    for job in found:
        log_job(session, job, "job.failed", now, {"failure": "the process that ran it is gone"})
    return found


def unsent(session: Session, now: float, before: float, limit: int) -> list[Job]:
    return [rows.job_of(row) for row in session.rows(_UNSENT, now=now, later=now + SKEW, before=before, count=limit)]


def mark_sent(session: Session, ids: Sequence[str], at: float) -> None:
    for start in range(0, len(ids), 256):
        some = padded(sorted(ids[start:start + 256]))
        session.run(_mark(len(some)), at=at, **among_values(some))


def log_job(session: Session, job: Job, kind: str, now: float, facts: dict[str, Any], by: Act | None = None) -> None:
    """Enter it in the log, where the file is now, or was last."""
    file = at_its_path(session, job.file_id)
    space, owner = (file.space, file.owner) if file else session.one(_PLACE, job=job.id) or (job.space, job.owner)
    auditing.enter(session, by or Act(None, "", job.request), kind, at=now, space=space, path=file.path if file else None,
                   file_id=job.file_id, owner=owner, job_id=job.id, facts={"step": job.step, **facts})
