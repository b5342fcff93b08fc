"""Jobs are made where a content gets to its file, by the plan, and when somebody asks: one for each content, step and version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import bindparam, case, insert, null, select, update

from carboy.catalog import rows
from carboy.catalog.contents import lock_blob
from carboy.catalog.files import BY_ID_LOCKED
from carboy.catalog.sessions import Session
from carboy.catalog.tables import blobs, jobs
from carboy.errors import NotFound
from carboy.jobs import Job, Order, Plan
from carboy.model import Act, File, new_id

OF_BLOB = select(*rows.JOB).where(jobs.c.blob_id == bindparam("blob")).order_by(jobs.c.created_at, jobs.c.id)
_ADD = insert(jobs)
_HOLD = update(blobs).where(blobs.c.id == bindparam("blob")).values(held=blobs.c.held + bindparam("more"))
_HOLD_TOO = update(jobs).where(jobs.c.id == bindparam("job")).values(
    holds=1, file_id=bindparam("file"), space=bindparam("of_space"), owner=bindparam("of_owner"), fence=jobs.c.fence + 1, attempts=0,
    state=case(((jobs.c.state == "running") | (jobs.c.state == "done"), "queued"), else_=jobs.c.state), instance=null(), sent_at=null(),
    changed_at=bindparam("now"), due_at=bindparam("now"))


def plan_jobs(session: Session, plan: Plan | None, file: File, now: float, by: Act | None) -> tuple[File, int]:
    """What the file's content, whose blob is locked, is to go through by the plan, becomes jobs; how many it has by it, and the file as it
    is held back now."""
    orders = plan.orders(file) if plan else ()
    if not orders:
        return file, 0
    planned = len(enter_orders(session, file, orders, now, by.request if by else ""))
    if any(one.holds for one in orders) and (blob := lock_blob(session, file.blob.id)):
        file = replace(file, blob=blob)
    return file, planned


def order(session: Session, file_id: str, orders: Sequence[Order], now: float, request: str) -> list[Job]:
    row = session.one(BY_ID_LOCKED, id=file_id)  # or it could go to another space meanwhile, without these jobs
    file = rows.file_of(row) if row else None
    if file is None or not lock_blob(session, file.blob.id):
        raise NotFound("there is no such file", id=file_id)
    return enter_orders(session, file, orders, now, request)


def enter_orders(session: Session, file: File, orders: Sequence[Order], now: float, request: str) -> list[Job]:
    """The jobs of these orders; those that there are already stay as they are, unless they are to hold the content and didn't: then it
    goes through them once more, by the rules of this file's space. The blob is locked."""
    before = {(job.step, job.version): job for job in of_blob(session, file.blob.id)}
    steps = {order.step for order in orders} | {step for step, _ in before}
    holding = 0
    for one in orders:
        job = before.get((one.step, one.version))
        if job is None:
            job = before[one.step, one.version] = _job(file, one, steps, now, request)
            session.run(_ADD, **rows.job_values(job))
            holding += job.holds
        elif one.holds and not job.holds:
            session.run(_HOLD_TOO, job=job.id, file=file.id, of_space=file.space, of_owner=file.owner, now=now)
            holding += 1
    settle_waiting(session, file.blob.id, now)
    if holding:
        session.run(_HOLD, blob=file.blob.id, more=holding)
    wanted = {(one.step, one.version) for one in orders}
    return [job for job in of_blob(session, file.blob.id) if (job.step, job.version) in wanted]


def _job(file: File, order: Order, steps: set[str], now: float, request: str) -> Job:
    after = tuple(step for step in order.after if step in steps and step != order.step)
    return Job(new_id(), file.blob.id, file.id, file.space, file.owner, order.step, order.version, "waiting" if after else "queued",
               order.queue, order.priority, order.args, after, order.holds, request=request, created_at=now, changed_at=now, due_at=now)


def of_blob(session: Session, blob_id: str) -> list[Job]:
    """In the order in which they were ordered."""
    return [rows.job_of(row) for row in session.rows(OF_BLOB, blob=blob_id)]


_READY = update(jobs).where(jobs.c.id == bindparam("job"), jobs.c.state == "waiting").values(
    state="queued", changed_at=bindparam("now"), due_at=bindparam("now"))


def settle_waiting(session: Session, blob_id: str, now: float) -> None:
    """What waits for steps that are done is queued. The blob is locked."""
    every = of_blob(session, blob_id)
    open_steps = {job.step for job in every if job.state != "done"}
    for job in every:
        if job.state == "waiting" and not open_steps & set(job.after):
            session.run(_READY, job=job.id, now=now)
