"""How much there is of everything, in one look."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, func, literal_column, null, select

from carboy.catalog import hooks
from carboy.catalog.base_figures import Standing, StepDepth, StoredFigures
from carboy.catalog.sessions import Session
from carboy.catalog.tables import QUEUED, RECEIVING, blobs, jobs, uploads, usage
from carboy.model import Usage

_ALL = func.count(literal_column("*"))
_USAGE = select(usage.c.space, usage.c.files, usage.c.bytes, usage.c.older, usage.c.trash).where(usage.c.who == literal_column("''"))
_STORED = select(blobs.c.storage, _ALL, func.sum(blobs.c.size), func.count(blobs.c.damaged_at), func.count(blobs.c.quarantine),
                 func.sum(case((blobs.c.held > literal_column("0"), literal_column("1")), else_=literal_column("0")))
                 ).group_by(blobs.c.storage).order_by(blobs.c.storage)
_RECEIVING = select(uploads.c.protocol, _ALL).where(uploads.c.state == RECEIVING).group_by(uploads.c.protocol)
_LIVE: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in ("waiting", "queued", "running", "dead")]
_DUE: Any = func.min(case(((jobs.c.state == QUEUED) & (jobs.c.due_at <= bindparam("now")), jobs.c.due_at), else_=null()))
_JOBS = (select(jobs.c.step, jobs.c.queue, jobs.c.state, _ALL, _DUE).where(jobs.c.state.in_(_LIVE))
         .group_by(jobs.c.step, jobs.c.queue, jobs.c.state).order_by(jobs.c.step, jobs.c.queue, jobs.c.state))


def standing(session: Session, now: float) -> Standing:
    return Standing(
        usage={space: Usage(*numbers) for space, *numbers in session.rows(_USAGE)},
        stored=[StoredFigures(storage, *map(int, numbers)) for storage, *numbers in session.rows(_STORED)],
        receiving={str(protocol): int(count) for protocol, count in session.rows(_RECEIVING)},
        jobs=[StepDepth(*row) for row in session.rows(_JOBS, now=now)],
        hooks=hooks.depths(session))
