"""What a broker delivers is the id of a job. Nothing depends on its keeping any of them: the catalog says what there is to do."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from carboy.catalog.base import Catalog
from carboy.engine.leases import Leases
from carboy.errors import CarboyError, CommitUnknown
from carboy.jobs import Claim, Job, JobState
from carboy.processing.running import Runner
from carboy.processing.wakes import Wakes

log = logging.getLogger("carboy.jobs")

TASK = "carboy.run"
"""What running a job is called where it is delivered."""

_LOOK_AFTER = 0.5
_IDLE = 30.0


class BrokerAway(Exception):
    """It can't be reached, or takes nothing."""


class Broker(Protocol):
    """Takes ids of jobs to those who run them. Whatever else goes wrong with it is BrokerAway too."""

    def connect(self) -> None:
        """Be ready to send. Raises BrokerAway within seconds."""

    def send(self, job: Job) -> None:
        """Have the job's id delivered to its queue. Raises BrokerAway where it may not have got there."""

    def waiting(self, queue: str) -> int | None:
        """How many ids wait in the queue of jobs; None where that can't be told. Raises BrokerAway."""

    def close(self) -> None:
        """Repeatable; what is used again connects again."""


class Deliverer:
    """Runs jobs whose ids are delivered to this process, from any number of threads. Delivering one again is harmless."""

    def __init__(self, catalog: Catalog, leases: Leases, runner: Runner, wakes: Wakes, *, rests: bool = True,
                 clock: Callable[[], float] = time.time) -> None:
        """``rests``: whether nothing but jobs needs the process to give signs of life."""
        self._catalog = catalog
        self._leases = leases
        self._runner = runner
        self._wakes = wakes
        self._rests = rests
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._pid = 0

    def deliver(self, id: str) -> JobState | None:
        """Run the job, and say what has become of it. None where it is not to be run, or not here: it is another's already, it is over,
        nobody here knows its step. Whoever sends ids sends it again then, if it is still due."""
        with self._looked_after():
            claims = self._claim(id)
            state = None
            for claim in claims:
                state = self._runner.run(claim)
        if claims:
            self._wakes.wake()  # others may have waited for it
        return state

    def stop(self, patience: float = 5.0) -> bool:
        """Have what is under way end: its jobs are queued again, if they heed it in time. Whether they did."""
        self._runner.stop_all("this worker ends")
        until = time.monotonic() + patience
        while self._running and time.monotonic() < until:
            time.sleep(0.02)
        return not self._running

    def rest(self) -> None:
        """Be taken for alive no more; the next job changes that."""
        self._leases.close()

    # --- inside ---

    def _claim(self, id: str) -> list[Claim]:
        try:
            job = self._catalog.job(id)
            if job is None or job.state != "queued" or job.step not in self._runner.steps.known:
                return []
            return self._catalog.claim_jobs(self._leases.instance(), now=self._clock(), steps=[job.step], id=id)
        except CarboyError as error:
            log.warning("job %s could not be taken: %s", id, error.detail)
            if isinstance(error, CommitUnknown):
                self._leases.close()  # if it was taken, it is nobody's then, and queued again
            return []

    @contextmanager
    def _looked_after(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=self._look_after, name="jobs", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _look_after(self) -> None:
        busy_at = time.monotonic()
        while True:
            time.sleep(_LOOK_AFTER)
            self._runner.look_after()
            with self._lock:
                if self._running or self._runner.owes:
                    busy_at = time.monotonic()
                elif time.monotonic() - busy_at > _IDLE:
                    self._pid = 0
                    if self._rests:
                        self.rest()  # nobody begins meanwhile
                    return
