"""The part of the catalog's contract that is about what happens to files in the background: jobs, what they derive, and the log.

Proved by tests/contracts/test_catalog_jobs.py. As in :mod:`carboy.catalog.base`, each changing method is one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from carboy.jobs import Claim, Derived, Happening, Job, JobFilter, Order, Outcome, QueueDepth
from carboy.model import Act, File


class Jobs(Protocol):
    """Jobs are made where a file gets its content (``place``, ``complete``, ``publish``), in that transaction, by the plan that the catalog
    was opened with. The methods here are repeatable: what was decided once stays."""

    # --- asking for work ---
    def order(self, file_id: str, orders: Sequence[Order], *, now: float, request: str = "") -> list[Job]:
        """Have the file's content go through these steps: the jobs, those that there were already too. Raises NotFound."""

    def retry_job(self, id: str, *, now: float, by: Act | None = None) -> Job:
        """A dead or cancelled job, or one that is done and didn't let its content through, or put it into quarantine, is queued again, with
        no attempts; or waits again, where steps before it are not done. One that holds a content back which no other file has goes by what
        its space orders now. Raises NotFound, Conflict in another state. (job.retry)"""

    def cancel_job(self, id: str, *, now: float, by: Act | None = None) -> Job:
        """Nothing comes of it: who runs it finds its claim gone. The content stays held back if this held it. Raises NotFound; Conflict for
        one that is done. (job.cancel)"""

    # --- running ---
    def jobs_due(self, *, now: float, steps: Collection[str], queues: Collection[str] = ()) -> bool:
        """Whether there is a job to be claimed."""

    def claim_jobs(self, instance: str, *, now: float, steps: Collection[str], queues: Collection[str] = (), id: str | None = None,
                   limit: int = 1) -> list[Claim]:
        """Up to ``limit`` jobs that are due, of these steps (and queues, where any are named), or the one with this ``id``, are this
        instance's to run: highest priority first, then those that are due for longest. One that is named may be due within a second: who
        named it may have another clock. Each has one claim at a time, with a fence of its own, until it ends or its instance is taken for
        dead. Raises StorageFailed if the instance was taken for dead."""

    def report_jobs(self, reports: Sequence[tuple[str, int, float, str]], *, now: float) -> set[tuple[str, int]]:
        """Note progress and phrase of claimed jobs: ``(id, fence, progress, phrase)``. The ``(id, fence)`` of each claim that is no more:
        its job was cancelled, is gone with its content, or is claimed anew."""

    def finish_job(self, claim: Claim, outcome: Outcome, *, now: float) -> bool:
        """The job is done, and what it came to is the content's: all in one transaction. Jobs that waited for it are queued. False, and
        nothing changes, where the claim is no more. Raises StorageFailed if its instance was taken for dead. (job.done)"""

    def fail_job(self, claim: Claim, failure: str, *, now: float, due_at: float | None) -> bool:
        """The attempt has failed: queued again for then, or, without a time, dead. False where the claim is no more.
        (job.failed, job.dead)"""

    def release_job(self, claim: Claim, *, now: float) -> bool:
        """It was not tried after all: queued again at once, and the attempt doesn't count."""

    def recover_jobs(self, *, now: float) -> list[Job]:
        """Running jobs whose instance is gone are queued again; the attempt counts."""

    # --- delivering ids ---
    def unsent_jobs(self, *, now: float, before: float, limit: int = 1000) -> list[Job]:
        """Queued jobs that are due and were not sent to a broker since ``before``; the highest priority first."""

    def mark_sent(self, ids: Sequence[str], *, at: float) -> None:
        """Their ids were handed to a broker."""

    # --- looking ---
    def job(self, id: str) -> Job | None: ...

    def jobs(self, filter: JobFilter = JobFilter(), *, cursor: str | None = None, limit: int = 100) -> tuple[list[Job], str | None]:
        """The newest first, with the next cursor."""

    def jobs_of(self, blob_id: str) -> list[Job]:
        """Of one content, in the order in which they were ordered."""

    def queue_depths(self) -> list[QueueDepth]:
        """How many jobs there are of each step and state."""

    # --- derived files ---
    def derived(self, blob_id: str) -> list[Derived]:
        """By step and name. Those of a quarantined content too."""

    def derived_named(self, blob_id: str, step: str, name: str) -> Derived | None: ...

    def twin(self, file: File, *, owner: str | None) -> str | None:
        """The oldest other blob with the SHA-256 and size of the file's, in the same storage, sound, of a file in the same space, and of
        this owner's alone where one is given."""

    # --- the log ---
    def latest(self) -> str:
        """The cursor after everything that has happened."""

    def happened(self, after: str, *, limit: int = 1000) -> tuple[list[Happening], str]:
        """What happened to files, uploads and jobs after the cursor, in the order of commits, with the cursor to go on from. Nothing that
        was committed before this was asked comes to stand before that cursor. A cursor that is older than what is kept begins with the
        oldest. Raises InvalidRequest for what is no cursor."""
