"""A claimed job is run: once, to its end or to its next attempt."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from carboy.catalog.base import Catalog
from carboy.config import Settings
from carboy.errors import Cancelled, CarboyError, CommitUnknown, InvalidRequest, StepFailed
from carboy.jobs import Claim, Job, JobState, Outcome
from carboy.measuring import NOTHING, Meter
from carboy.metrics import JOB_ATTEMPTS, JOB_SECONDS
from carboy.processing.context import Attempt
from carboy.processing.keeping import Attachments
from carboy.processing.step import Step, Steps
from carboy.processing.values import arguments, as_json, writable
from carboy.storage.base import Storage
from carboy.tracing import working_for

log = logging.getLogger("carboy.jobs")

LONGEST_PAUSE = 3600.0
_OUTCOMES: Mapping[JobState | None, str] = {"done": "done", "queued": "retried", "dead": "dead"}
"""What is counted of an attempt; ``lost`` is one whose claim was no more: its job was cancelled, or is somebody else's."""
Within = Callable[[], AbstractContextManager[object]]


class Isolated(Protocol):
    """Runs a step in a process of its own, and gives what it gave."""

    def __call__(self, step: Step, attempt: Attempt, args: Mapping[str, Any]) -> Any: ...


def pause_before(attempts: int, backoff: float) -> float:
    """Seconds until the next attempt after so many: twice as long each time, an hour at most, and between half and one and a half of
    that, so that what failed together isn't tried again together."""
    return min(LONGEST_PAUSE, backoff * 2.0 ** min(attempts - 1, 40)) * random.uniform(0.5, 1.5)


class Runner:
    """Runs claims of one process, from any number of threads. :meth:`look_after` has to be called every half second or so meanwhile."""

    def __init__(self, settings: Settings, catalog: Catalog, storages: Mapping[str, Storage], steps: Steps, isolated: Isolated, spool: Path,
                 clock: Callable[[], float] = time.time, within: Within = nullcontext,
                 ended: Callable[[], None] = lambda: None, meter: Meter = NOTHING) -> None:
        """``within`` is what each step runs in, as an application's context; ``ended`` is called after each attempt. What is logged
        meanwhile has the id of the request that ordered the job."""
        self._settings = settings
        self._catalog = catalog
        self._storages = storages
        self.steps = steps
        self._isolated = isolated
        self._spool = spool
        self._clock = clock
        self._within = within
        self._ended = ended
        self._meter = meter
        self._lock = threading.Lock()
        self._running: set[Attempt] = set()
        """Of one job there may be several: one that is no more ours, and hasn't noticed yet, and the next."""
        self._owed: list[Claim] = []
        """What ended, and the catalog couldn't be told: another attempt is to follow."""

    def run(self, claim: Claim) -> JobState | None:
        """What has become of the job; None where the claim is no more, and nothing came of it."""
        job = claim.job
        started = time.monotonic()
        with working_for(job.request):
            try:
                state = self._run(claim, self.steps.get(job.step))
            except Exception as error:  # the catalog or a storage is away, mostly
                log.warning("job %s (%s) could not be ended: %s", job.id, job.step, told(error), extra={"facts": facts_of(job)},
                            exc_info=not isinstance(error, CarboyError))
                self._meter.add(JOB_ATTEMPTS, (job.step, "unsettled"))
                with self._lock:
                    self._owed.append(claim)
                return None
            self._ended()
            seconds = time.monotonic() - started
            log.info("job %s (%s) %s", job.id, job.step, state or "is not ours any more",
                     extra={"facts": {**facts_of(job), "state": state, "seconds": round(seconds, 3)}})
        self._meter.add(JOB_ATTEMPTS, (job.step, _OUTCOMES.get(state, "lost")))
        self._meter.observe(JOB_SECONDS, seconds, (job.step,))
        return state

    @property
    def owes(self) -> bool:
        """Whether the catalog is to be told yet that an attempt has ended: :meth:`look_after` tries to."""
        return bool(self._owed)

    def look_after(self) -> None:
        """Tell the catalog how far each is, and stop those whose claim is no more, or whose time is over. Raises nothing."""
        with self._lock:
            running = list(self._running)
        now = time.monotonic()
        for attempt in running:
            if now > attempt.deadline:
                attempt.cancel("it took longer than its timeout")
        each_by_itself(partial(self._report, running), self._settle_owed)

    def stop_all(self, why: str) -> None:
        """What is under way ends as soon as it notices."""
        with self._lock:
            for attempt in self._running:
                attempt.cancel(why)

    # --- inside ---

    def _report(self, running: Sequence[Attempt]) -> None:
        reports = [(one.job.id, one.job.fence, one.share, one.phrase) for one in running]
        gone = self._catalog.report_jobs(reports, now=self._clock())
        for attempt in running:
            if (attempt.job.id, attempt.job.fence) in gone:
                attempt.cancel("the job is not ours any more")

    def _settle_owed(self) -> None:
        with self._lock:
            owed, self._owed = self._owed, []
        try:
            while owed:
                self._failed(owed[-1], "it could not be ended", pause_before(owed[-1].job.attempts, 1.0))
                owed.pop()
        finally:
            with self._lock:
                self._owed += owed

    def _run(self, claim: Claim, step: Step) -> JobState | None:
        if claim.job.attempts > step.retries + 1:
            return self._failed(claim, f"it was begun {claim.job.attempts - 1} times, and its process ended each time", None)
        storage = self._storages[claim.blob.storage]
        with Attachments(claim.job, storage, self._clock) as attachments:
            attempt = Attempt(claim, storage, self._spool, step.timeout, attachments)
            with self._lock:
                self._running.add(attempt)
            try:
                outcome = self._outcome(step, attempt, attachments)
            except Cancelled as error:
                return self._cancelled(claim, step, attempt, error)
            except Exception as error:
                return self._went_wrong(claim, step, error)
            finally:
                with self._lock:
                    self._running.discard(attempt)
            attachments.kept()
            return self._finish(claim, outcome)

    def _outcome(self, step: Step, attempt: Attempt, attachments: Attachments) -> Outcome:
        try:
            given = step.configure(self._settings, attempt.job.space) if step.configure else {}
            args = arguments(step.name, step.run, {**attempt.job.args, **given})
        except InvalidRequest as error:
            raise StepFailed(error.detail) from error
        with self._within():
            value = self._isolated(step, attempt, args) if step.isolated else step.run(attempt, **args)
        attempt.check()
        outcome = value if isinstance(value, Outcome) else Outcome(as_json(value))
        return Outcome(outcome.result, (*outcome.derived, *attachments.derived()), outcome.sha256, outcome.media_type, outcome.quarantine,
                       outcome.same_as, outcome.same_in, outcome.release)

    def _finish(self, claim: Claim, outcome: Outcome) -> JobState | None:
        try:
            done = self._catalog.finish_job(claim, outcome, now=self._clock())
        except CommitUnknown:
            job = self._catalog.job(claim.job.id)
            done = bool(job and job.state == "done" and job.fence == claim.job.fence)
            if not done:
                raise
        return "done" if done else None

    def _cancelled(self, claim: Claim, step: Step, attempt: Attempt, error: Cancelled) -> JobState | None:
        """Only a timeout, or this process ending, leaves the claim ours: then another attempt follows."""
        if time.monotonic() > attempt.deadline:
            return self._went_wrong(claim, step, StepFailed(f"it took longer than {step.timeout:g} s", retry=True))
        return "queued" if self._catalog.release_job(claim, now=self._clock()) else None

    def _went_wrong(self, claim: Claim, step: Step, error: Exception) -> JobState | None:
        attempts = claim.job.attempts
        if not isinstance(error, CarboyError):
            log.warning("job %s (%s) failed", claim.job.id, step.name, exc_info=error, extra={"facts": facts_of(claim.job)})
        final = isinstance(error, StepFailed) and error.retry is False
        if final or attempts > step.retries:
            return self._failed(claim, told(error), None)
        pause = pause_before(attempts, step.backoff)
        if isinstance(error, StepFailed) and not isinstance(error.retry, bool):
            pause = error.retry
        return self._failed(claim, told(error), pause)

    def _failed(self, claim: Claim, failure: str, pause: float | None) -> JobState | None:
        now = self._clock()
        changed = self._catalog.fail_job(claim, failure, now=now, due_at=None if pause is None else now + pause)
        if not changed:
            return None
        return "dead" if pause is None else "queued"


def each_by_itself(*parts: Callable[[], object]) -> None:
    """Each is done, whatever becomes of the others; what goes wrong is logged."""
    for part in parts:
        try:
            part()
        except CarboyError as error:
            log.warning("jobs could not be looked after: %s", error.detail)
        except Exception:
            log.exception("jobs could not be looked after")


def facts_of(job: Job) -> dict[str, Any]:
    """What a line of the log tells of a job."""
    return {"job": job.id, "step": job.step, "attempt": job.attempts, "blob": job.blob_id, "file": job.file_id, "space": job.space}


def told(error: Exception) -> str:
    """What a job's row says of an error."""
    if isinstance(error, CarboyError):
        return writable(error.detail)
    with suppress(Exception):
        return writable(f"{type(error).__name__}: {error}"[:2000])
    return type(error).__name__
