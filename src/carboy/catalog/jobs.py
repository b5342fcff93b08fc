"""Jobs and derived files, as they are looked at."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, exists, func, literal_column, select, tuple_

from carboy.catalog import paths, rows
from carboy.catalog.sessions import Session, among, among_values, padded
from carboy.catalog.tables import blobs, derived, files, jobs
from carboy.jobs import Derived, Job, JobFilter, QueueDepth

_BY_ID = select(*rows.JOB).where(jobs.c.id == bindparam("job"))
_EQUAL = {"space": jobs.c.space, "owner": jobs.c.owner, "file_id": jobs.c.file_id, "blob_id": jobs.c.blob_id, "step": jobs.c.step}
_ELSEWHERE: ColumnElement[bool] = exists(select(files.c.id).where(
    files.c.id == jobs.c.file_id, files.c.space != jobs.c.space, files.c.space >= literal_column("'0'")))
"""Whether the file has gone to another space: who sees this one may not see that one. In the trash it is in none."""
_DERIVED = select(*rows.DERIVED).join_from(derived, blobs, derived.c.blob_id == blobs.c.id).where(derived.c.of == bindparam("blob"))
_DERIVED_ALL = _DERIVED.order_by(derived.c.step, derived.c.name)
_DERIVED_ONE = _DERIVED.where(derived.c.step == bindparam("of_step"), derived.c.name == bindparam("named"))
_DEPTHS = (select(jobs.c.step, jobs.c.state, func.count(literal_column("*")), func.min(jobs.c.changed_at))
           .group_by(jobs.c.step, jobs.c.state).order_by(jobs.c.step, jobs.c.state))


@cache
def _page(names: frozenset[str], states: int, following: bool) -> Select[Any]:
    found = select(*rows.JOB).where(*[_EQUAL[name] == bindparam(name, type_=_EQUAL[name].type) for name in sorted(names)])
    if "space" in names:
        found = found.where(~_ELSEWHERE)
    if states:
        found = found.where(among(jobs.c.state, states))
    if following:
        found = found.where(tuple_(jobs.c.created_at, jobs.c.id) < tuple_(
            bindparam("born", type_=jobs.c.created_at.type), bindparam("last", type_=jobs.c.id.type)))
    return found.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(bindparam("count"))


def by_id(session: Session, id: str) -> Job | None:
    row = session.one(_BY_ID, job=id)
    return rows.job_of(row) if row else None


def page(session: Session, filter: JobFilter, cursor: str | None, limit: int) -> tuple[list[Job], str | None]:
    given = {name: value for name in _EQUAL if (value := getattr(filter, name)) is not None}
    states = padded(sorted(filter.states)) if filter.states else []
    place = dict(zip(("born", "last"), paths.from_moment(cursor), strict=True)) if cursor else {}
    found = session.rows(_page(frozenset(given), len(states), bool(place)), count=limit + 1, **given, **place, **among_values(states))
    listed = [rows.job_of(row) for row in found[:limit]]
    return listed, paths.to_moment(listed[-1].created_at, listed[-1].id) if len(found) > limit else None


def derived_of(session: Session, blob_id: str) -> list[Derived]:
    return [rows.derived_of(row) for row in session.rows(_DERIVED_ALL, blob=blob_id)]


def derived_named(session: Session, blob_id: str, step: str, name: str) -> Derived | None:
    row = session.one(_DERIVED_ONE, blob=blob_id, of_step=step, named=name)
    return rows.derived_of(row) if row else None


def depths(session: Session) -> list[QueueDepth]:
    return [QueueDepth(*row) for row in session.rows(_DEPTHS)]
