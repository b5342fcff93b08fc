"""Jobs run one after the other in the caller's thread, for tests and scripts."""

from __future__ import annotations

from collections.abc import Callable

from carboy.catalog.base import Catalog
from carboy.engine.leases import Leases
from carboy.jobs import Job, JobFilter
from carboy.processing.running import Runner

_MOST = 100


def run_at_once(catalog: Catalog, leases: Leases, runner: Runner, clock: Callable[[], float]) -> list[Job]:
    """All jobs that are queued, whenever they are due, and those that follow from them, until there are none: what became of them, in the
    order of their ends. Those of steps that aren't known here stay."""
    ran: list[str] = []
    while sum(_run(job, ran, catalog, leases, runner, clock()) for job in _queued(catalog, runner)):
        pass
    return [job for id in dict.fromkeys(reversed(ran)) if (job := catalog.job(id))][::-1]


def _run(job: Job, ran: list[str], catalog: Catalog, leases: Leases, runner: Runner, now: float) -> bool:
    """Whether it was still there to be run."""
    claims = catalog.claim_jobs(leases.instance(), now=max(now, job.due_at), steps=runner.steps.known, id=job.id)
    for claim in claims:
        ran.append(job.id)
        runner.run(claim)
    return bool(claims)


def _queued(catalog: Catalog, runner: Runner) -> list[Job]:
    """Those that would be claimed first, first."""
    found, cursor = catalog.jobs(JobFilter(states=("queued",)), limit=_MOST)
    while cursor is not None:
        more, cursor = catalog.jobs(JobFilter(states=("queued",)), cursor=cursor, limit=_MOST)
        found += more
    known = [job for job in found if job.step in runner.steps.known]
    return sorted(known, key=lambda job: (-job.priority, job.due_at, job.created_at, job.id))
