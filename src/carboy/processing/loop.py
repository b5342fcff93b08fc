"""The claim loop: jobs are taken from the catalog itself and run in threads, without a broker."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor

from carboy.catalog.base import Catalog
from carboy.engine.leases import Leases
from carboy.errors import CarboyError, CommitUnknown
from carboy.jobs import Claim
from carboy.processing.running import Runner, each_by_itself, facts_of
from carboy.processing.wakes import Wakes

log = logging.getLogger("carboy.jobs")

_LOOK_AFTER, _RECOVER = 0.5, 1.0
_IDLE = 30.0
"""After so many seconds without a job this process gives no more signs of life: an idle machine is to be left alone."""


class Loop:
    """Runs jobs of all steps that are known here, those of ``queues`` alone where any are named, so many at once, until told to stop."""

    def __init__(self, catalog: Catalog, leases: Leases, runner: Runner, wakes: Wakes, *, workers: int = 0, queues: Collection[str] = (),
                 poll: float = 1.0, rests: bool = True, clock: Callable[[], float] = time.time) -> None:
        """``rests``: whether nothing but this loop needs the process to give signs of life."""
        self._catalog = catalog
        self._leases = leases
        self._runner = runner
        self._wakes = wakes
        self._workers = workers or max(1, os.cpu_count() or 1)
        self._queues = tuple(queues)
        self._poll = poll
        self._rests = rests
        self._clock = clock
        self._stopped = threading.Event()
        self._over = threading.Event()
        self._under_way: set[Future[object]] = set()
        self._lock = threading.Lock()
        self._busy_at = time.monotonic()

    def stop(self) -> None:
        """Take no more jobs. Repeatable; from any thread."""
        self._stopped.set()
        self._wakes.wake()

    def run(self, patience: float = 30.0) -> None:
        """Until :meth:`stop`; what is under way then has ``patience`` seconds to end, and is begun anew by another else."""
        beside = threading.Thread(target=self._look_after, name="jobs", daemon=True)
        beside.start()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="job")
        try:
            while not self._stopped.is_set():
                if not self._fill(pool):
                    self._wakes.wait(self._poll)
        finally:
            self._end(pool, patience)

    def drain(self, most: float = 0.0) -> int:
        """Run what is due now in this thread, and what becomes due of it, and how many it were; waits up to ``most`` seconds for retries
        that are due later. For tests and commands."""
        done, until = 0, time.monotonic() + most
        while True:
            claims = self._claim(1)
            for claim in claims:
                self._runner.run(claim)
                done += 1
            if not claims:
                if time.monotonic() >= until:
                    return done
                self._wakes.wait(0.05)

    # --- inside ---

    def _fill(self, pool: ThreadPoolExecutor) -> bool:
        """Whether there is more to be had at once: all threads have a job, or the last look found some."""
        with self._lock:
            free = self._workers - len(self._under_way)
        if free <= 0:
            return False
        claims = self._claim(free)
        for claim in claims:
            self._begin(pool, claim)
        self._rest(bool(claims))
        return bool(claims)

    def _begin(self, pool: ThreadPoolExecutor, claim: Claim) -> None:
        future: Future[object] = pool.submit(self._runner.run, claim)
        with self._lock:
            self._under_way.add(future)
        future.add_done_callback(self._ended)

    def _ended(self, future: Future[object]) -> None:
        with self._lock:
            self._under_way.discard(future)
        self._wakes.ring()

    def _claim(self, limit: int) -> list[Claim]:
        try:
            if not self._catalog.jobs_due(now=self._clock(), steps=self._runner.steps.known, queues=self._queues):
                return []
            return self._catalog.claim_jobs(self._leases.instance(), now=self._clock(), steps=self._runner.steps.known, queues=self._queues,
                                            limit=limit)
        except CarboyError as error:
            log.warning("no jobs could be taken: %s", error.detail)
            if isinstance(error, CommitUnknown):
                self._leases.close()  # what was taken, perhaps, is nobody's then, and queued again
            self._stopped.wait(self._poll)
            return []

    def _rest(self, busy: bool) -> None:
        with self._lock:
            busy = busy or bool(self._under_way)
        if busy:
            self._busy_at = time.monotonic()
        elif self._rests and time.monotonic() - self._busy_at > _IDLE:
            self._leases.close()

    def _look_after(self) -> None:
        recover_at = 0.0
        while not self._over.wait(_LOOK_AFTER):
            self._runner.look_after()
            if time.monotonic() >= recover_at:
                recover_at = time.monotonic() + _RECOVER
                each_by_itself(self._leases.bury_the_dead_here, self._recover)

    def _recover(self) -> None:
        for job in self._catalog.recover_jobs(now=self._clock()):
            log.warning("job %s (%s) was left by a process that is gone; it is queued again", job.id, job.step,
                        extra={"request_id": job.request, "facts": facts_of(job)})
            self._wakes.ring()

    def _end(self, pool: ThreadPoolExecutor, patience: float) -> None:
        self._stopped.set()
        until = time.monotonic() + patience
        while self._under_way and time.monotonic() < until:
            time.sleep(0.05)
        self._runner.stop_all("this worker ends")
        pool.shutdown(wait=False, cancel_futures=True)
        self._wait_a_little()
        self._over.set()
        self._leases.close()

    def _wait_a_little(self) -> None:
        """For those that heed being cancelled; their jobs are released then."""
        until = time.monotonic() + 5.0
        while self._under_way and time.monotonic() < until:
            time.sleep(0.05)
