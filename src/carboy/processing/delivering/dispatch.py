"""The dispatcher: what is queued in the catalog and due is sent to a broker, and sent again where the broker has lost it.

Any number of dispatchers may run. One of all machines sends what it finds; on each machine one sends what it hears of at once. Where two do
the same for a moment, an id is delivered twice, which is harmless (:class:`carboy.processing.delivering.delivery.Deliverer`).
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from carboy.catalog.base import Catalog
from carboy.engine.leases import Leases
from carboy.errors import CarboyError
from carboy.jobs import Job
from carboy.processing.delivering.delivery import Broker, BrokerAway
from carboy.processing.running import facts_of
from carboy.processing.wakes import Wakes

log = logging.getLogger("carboy.jobs")

BATCH, MOST = 256, 1000
LOST = 5.0
"""What was sent so many seconds ago, and isn't begun though nothing waits in its queue, is lost."""
OVERTAKEN = 2.0
"""So is what isn't begun although others that were sent so many seconds later are; each time that it is sent again, twice as many."""
OLD, OLDEST = 60.0, 3600.0
"""What is still queued after so long is sent again whatever its queue looks like; then after twice as long each time, up to this."""
_NEVER = 1.0
"""A time of sending before any: marks what was not sent after all."""
_RECOVER, _FIRST = 1.0, 1.0
_IDLE = 30.0
_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


Lane = tuple[str, int]
"""A queue and a priority: within one, ids are delivered in the order of their sending."""


@dataclass(slots=True)
class _Sent:
    """An id that was sent, when (by the monotonic clock), and when it is sent again at the latest."""

    at: float
    again: float
    lane: Lane
    times: int = 0


class _Sendings:
    """What is known here of ids that were sent and are not begun yet."""

    def __init__(self, old: float) -> None:
        self._old = old
        self._known: dict[str, _Sent] = {}
        self._fronts: dict[Lane, float] = {}
        """When the last id was sent of those that are begun."""

    def note(self, job: Job) -> None:
        """It is sent now."""
        now, known = time.monotonic(), self._known.get(job.id)
        if known is None:
            known = self._known[job.id] = _Sent(now, 0.0, (job.queue, job.priority), -1)
        known.at, known.times = now, known.times + 1
        known.again = now + min(OLDEST, self._old * 2.0 ** min(known.times, 20))

    def compare(self, stale: Collection[str]) -> None:
        """With those that are still queued, all of them: others that were sent that long ago are begun."""
        before = time.monotonic() - LOST - 0.5
        for id, sent in [one for one in self._known.items() if one[1].at < before and one[0] not in stale]:
            self._fronts[sent.lane] = max(sent.at, self._fronts.get(sent.lane, 0.0))
            del self._known[id]

    def lost(self, job: Job) -> bool:
        """Whether it is to be sent again, though others may be waiting before it. Who sees one for the first time doesn't know when it was
        sent: no later than could be."""
        now = time.monotonic()
        sent = self._known.setdefault(job.id, _Sent(now - LOST, now + self._old, (job.queue, job.priority)))
        return now >= sent.again or sent.at + OVERTAKEN * 2.0 ** min(sent.times, 10) < self._fronts.get(sent.lane, 0.0)


@dataclass(slots=True)
class _Away:
    """Since when the broker is away, and when it is asked again."""

    since: float
    ask_at: float = 0.0
    pause: float = _PAUSE


@dataclass(slots=True)
class _Firsts:
    """Which tasks this process was the first for, and until when it needn't ask again."""

    known: dict[str, tuple[bool, float]] = field(default_factory=dict)

    def ask(self, task: str, leases: Leases) -> bool:
        first, until = self.known.get(task, (False, 0.0))
        if time.monotonic() >= until:
            first = leases.first(task)
            self.known[task] = first, time.monotonic() + _FIRST
        return first


class Dispatcher:
    """Sends ids until told to stop. The broker being away is told once, and changes nothing for anybody but those who wait for jobs."""

    def __init__(self, catalog: Catalog, leases: Leases, wakes: Wakes, broker: Broker, *, poll: float = 1.0, alone: bool = True,
                 old: float = OLD, clock: Callable[[], float] = time.time) -> None:
        """``alone``: whether nothing but this needs the process to give signs of life."""
        self._catalog = catalog
        self._leases = leases
        self._wakes = wakes
        self._broker = broker
        self._poll = poll
        self._alone = alone
        self._clock = clock
        self._stopped = threading.Event()
        self._sendings = _Sendings(old)
        self._away: _Away | None = None
        self._firsts = _Firsts()
        self._recover_at = 0.0
        self._busy_at = time.monotonic()

    def stop(self) -> None:
        """Repeatable; from any thread."""
        self._stopped.set()
        self._wakes.ring()

    def run(self, patience: float = 0.0) -> None:
        """Until :meth:`stop`. (Nothing is under way that would need patience.)"""
        rung = True
        while not self._stopped.is_set():
            try:
                self.look(rung)
            except CarboyError as error:
                log.warning("jobs could not be sent: %s", error.detail)
            except Exception:
                log.exception("jobs could not be sent")
            rung = self._wakes.wait(self._poll)
        self._broker.close()
        if self._alone:
            self._leases.close()

    def look(self, rung: bool = False) -> None:
        """Send what there is to send; ``rung`` says that somebody on this machine has just asked for it."""
        if time.monotonic() >= self._recover_at:
            self._recover_at = time.monotonic() + _RECOVER
            self._recover()
        if self._away and time.monotonic() < self._away.ask_at:
            return
        try:
            self._send_fresh(rung)
            self._send_lost()
        except BrokerAway as error:
            self._is_away(error)

    # --- sending ---

    def _send_fresh(self, rung: bool) -> None:
        while jobs := self._catalog.unsent_jobs(now=self._clock(), before=_NEVER, limit=BATCH):
            self._busy_at = time.monotonic()
            if not self._ours(rung):
                return
            self._send(jobs)
            if len(jobs) < BATCH:
                return

    def _send_lost(self) -> None:
        """All those whose queue is empty, and of others those that were overtaken, or sent long ago."""
        stale, since = self._stale(), self._clock() - LOST
        if len(stale) < MOST:
            self._sendings.compare({job.id for job in stale})
        if not stale or not self._ours(False):
            return
        empty = self._empty({job.queue for job in stale})
        while stale:
            again = [job for job in stale if self._sendings.lost(job) or job.queue in empty]
            if again:
                log.info("%d job(s) are still queued; they are sent again", len(again))
                self._send(again)
            stale = self._stale(since) if len(again) == MOST else []

    def _stale(self, since: float | None = None) -> list[Job]:
        now = self._clock()
        return self._catalog.unsent_jobs(now=now, before=now - LOST if since is None else since, limit=MOST)

    def _empty(self, queues: Collection[str]) -> set[str]:
        self._broker.connect()
        return {queue for queue in queues if self._broker.waiting(queue) == 0}

    def _send(self, jobs: Sequence[Job]) -> None:
        """They are marked first: who claims one before it is marked may have it queued again, and that is another sending."""
        self._broker.connect()
        self._catalog.mark_sent([job.id for job in jobs], at=self._clock())
        for number, job in enumerate(jobs):
            try:
                self._broker.send(job)
                self._sendings.note(job)
            except BrokerAway:
                self._catalog.mark_sent([job.id for job in jobs[number:]], at=0.0)
                raise
        self._is_there()

    def _is_there(self) -> None:
        """It has just taken something."""
        if self._away:
            log.warning("the broker is there again, after %.0f s", time.monotonic() - self._away.since)
            self._away = None

    def _is_away(self, error: BrokerAway) -> None:
        now = time.monotonic()
        if self._away is None:
            log.warning("the broker is away; jobs wait in the catalog until it is there again: %s", error)
            self._away = _Away(now)
        self._away.ask_at = now + self._away.pause
        self._away.pause = min(_LONGEST_PAUSE, self._away.pause * 2)
        self._broker.close()
        if self._alone:  # another machine may reach it
            self._leases.close()
            self._firsts = _Firsts()

    # --- who sends ---

    def _ours(self, rung: bool) -> bool:
        return self._firsts.ask("dispatch", self._leases) or (rung and self._firsts.ask(f"dispatch {socket.gethostname()}", self._leases))

    def _recover(self) -> None:
        self._leases.bury_the_dead_here()
        for job in self._catalog.recover_jobs(now=self._clock()):
            log.warning("job %s (%s) was left by a process that is gone; it is queued again", job.id, job.step,
                        extra={"request_id": job.request, "facts": facts_of(job)})
        if self._alone and time.monotonic() - self._busy_at > _IDLE:
            self._leases.close()
            self._firsts = _Firsts()
