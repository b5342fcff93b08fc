"""The part of the catalog that knows jobs, what they derive, and the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from carboy.catalog import claiming, finishing, happening, jobs, ordering, twins
from carboy.catalog.sql_leasing import SqlLeasing
from carboy.jobs import Claim, Derived, Happening, Job, JobFilter, Order, Outcome, Plan, QueueDepth
from carboy.model import Act, File, Placed

Wake = Callable[[], None]
"""Tells those who run jobs that there may be some. It must neither wait nor raise."""


class SqlJobs(SqlLeasing):
    """Each method is one transaction of the database; see :class:`carboy.catalog.base_jobs.Jobs` for what they guarantee."""

    _plan: Plan | None
    _wake: Wake

    def _woken(self, placed: list[Placed]) -> list[Placed]:
        if any(one.planned for one in placed):
            self._wake()
        return placed

    # --- asking for work ---

    def order(self, file_id: str, orders: Sequence[Order], *, now: float, request: str = "") -> list[Job]:
        ordered = self._database.write(lambda session: ordering.order(session, file_id, orders, now, request))
        self._wake()
        return ordered

    def retry_job(self, id: str, *, now: float, by: Act | None = None) -> Job:
        job = self._database.write(lambda session: finishing.retry(session, id, now, by, self._plan))
        self._wake()
        return job

    def cancel_job(self, id: str, *, now: float, by: Act | None = None) -> Job:
        return self._database.write(lambda session: finishing.cancel(session, id, now, by))

    # --- running ---

    def jobs_due(self, *, now: float, steps: Collection[str], queues: Collection[str] = ()) -> bool:
        return bool(steps and self._database.read(lambda session: claiming.due(session, now, steps, queues, None, 1)))

    def claim_jobs(self, instance: str, *, now: float, steps: Collection[str], queues: Collection[str] = (), id: str | None = None,
                   limit: int = 1) -> list[Claim]:
        return self._write_fenced([instance], lambda session: claiming.claim(session, instance, now, steps, queues, id, limit))

    def report_jobs(self, reports: Sequence[tuple[str, int, float, str]], *, now: float) -> set[tuple[str, int]]:
        return self._database.write(lambda session: claiming.report(session, reports)) if reports else set()

    def finish_job(self, claim: Claim, outcome: Outcome, *, now: float) -> bool:
        fence = [claim.job.instance] if claim.job.instance else []
        return self._write_fenced(fence, lambda session: finishing.finish(session, claim, outcome, now))

    def fail_job(self, claim: Claim, failure: str, *, now: float, due_at: float | None) -> bool:
        return self._database.write(lambda session: finishing.fail(session, claim, failure, now, due_at))

    def release_job(self, claim: Claim, *, now: float) -> bool:
        return self._database.write(lambda session: claiming.again(session, claim.job, now, now, claim.job.failure, counts=False))

    def recover_jobs(self, *, now: float) -> list[Job]:
        if not self._database.read(claiming.left):
            return []
        return self._database.write(lambda session: claiming.recover(session, now))

    # --- delivering ids ---

    def unsent_jobs(self, *, now: float, before: float, limit: int = 1000) -> list[Job]:
        return self._database.read(lambda session: claiming.unsent(session, now, before, limit))

    def mark_sent(self, ids: Sequence[str], *, at: float) -> None:
        self._database.write(lambda session: claiming.mark_sent(session, ids, at))

    # --- looking ---

    def job(self, id: str) -> Job | None:
        return self._database.read(lambda session: jobs.by_id(session, id))

    def jobs(self, filter: JobFilter = JobFilter(), *, cursor: str | None = None, limit: int = 100) -> tuple[list[Job], str | None]:
        return self._database.read(lambda session: jobs.page(session, filter, cursor, limit))

    def jobs_of(self, blob_id: str) -> list[Job]:
        return self._database.read(lambda session: ordering.of_blob(session, blob_id))

    def queue_depths(self) -> list[QueueDepth]:
        return self._database.read(jobs.depths)

    # --- derived files ---

    def derived(self, blob_id: str) -> list[Derived]:
        return self._database.read(lambda session: jobs.derived_of(session, blob_id))

    def derived_named(self, blob_id: str, step: str, name: str) -> Derived | None:
        return self._database.read(lambda session: jobs.derived_named(session, blob_id, step, name))

    def twin(self, file: File, *, owner: str | None) -> str | None:
        return self._database.read(lambda session: twins.twin(session, file.blob, file.space, owner))

    # --- the log ---

    def latest(self) -> str:
        return self._database.read(happening.latest)

    def happened(self, after: str, *, limit: int = 1000) -> tuple[list[Happening], str]:
        return self._database.view(lambda session: happening.happened(session, after, limit))
