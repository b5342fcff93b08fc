"""The postman: follows the log, and delivers what it tells.

One postman works on a catalog; others stand by. That is for economy: what holds when two work, because one was stopped and taken for dead,
is in the catalog (:mod:`carboy.catalog.base_hooks`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from carboy.catalog.base import Catalog
from carboy.catalog.base_hooks import Delivery
from carboy.engine.holding import Seat
from carboy.engine.leases import Leases
from carboy.errors import CarboyError, CommitUnknown
from carboy.processing.webhooks.messages import Messages, is_wanted
from carboy.processing.webhooks.office import Webhooks
from carboy.processing.webhooks.posting import Answer

log = logging.getLogger("carboy.webhooks")

AT_ONCE = 4
"""Messages that are on their way to one webhook at the same time."""
FIRST, LONGEST, GROWTH = 5.0, 4 * 3600.0, 3.0
"""Seconds before the second attempt, and between the later ones at most, and how they grow."""
MOST_ASKED = 86400.0
"""A receiver may have itself left alone for so many seconds at once."""
_ENTRIES = 200
_ELECTED, _RECOVER, _IDLE = 5.0, 1.0, 30.0


class Postman:
    """Works until told to stop. ``shared``: whether other machines work on the same catalog."""

    def __init__(self, catalog: Catalog, webhooks: Webhooks, leases: Leases, folder: Path, *, shared: bool = False, poll: float = 1.0,
                 clock: Callable[[], float] = time.time, chance: Callable[[], float] = random.random) -> None:
        """``leases`` are the postman's alone: it lets go of them when it has nothing to do."""
        self._catalog = catalog
        self._webhooks = webhooks
        self._messages = Messages(catalog)
        self._leases = leases
        self._shared = shared
        self._poll = poll
        self._clock = clock
        self._chance = chance
        self._stopped, self._rung = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()
        self._seat = Seat(folder / "webhooks.lock")
        self._first, self._asked_at, self._recover_at = False, -_ELECTED, 0.0
        self._busy_at = time.monotonic()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """In a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="postman", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more is sent. Repeatable; from any thread."""
        self._stopped.set()
        self._rung.set()

    def join(self, patience: float) -> None:
        """After :meth:`stop`: what is on its way has so many seconds, and is sent again by the next postman else."""
        until = time.monotonic() + patience
        if self._thread:
            self._thread.join(patience)
        while self._under_way.total() and time.monotonic() < until:
            self._rung.wait(0.05)
            self._rung.clear()
        self._leave()

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._stopped.is_set():
            if not self._round():
                self._rung.wait(self._poll)
                self._rung.clear()

    def drain(self) -> int:
        """Send in this thread what is due, and what becomes due of it; how many attempts it were. For tests."""
        self._look_after()
        attempts = 0
        for name in self._webhooks.names:
            while self._follow(name):
                pass
            while claimed := self._claim(name, 1):
                self._deliver(claimed[0])
                attempts += 1
        return attempts

    # --- one round ---

    def _round(self) -> bool:
        """Whether there is more to do at once: none of what failed. Raises nothing."""
        try:
            if not self._is_first():
                return False
            self._look_after()
            more = [self._serve(name) for name in self._webhooks.names]
            self._rest()
            return any(more)
        except CarboyError as error:
            log.warning("webhooks are put off: %s", error.detail)
        except Exception:
            log.exception("webhooks are put off")
        return False

    def _serve(self, name: str) -> bool:
        try:
            more = self._follow(name)
            with self._lock:
                free = AT_ONCE - self._under_way[name]
            if free > 0:
                self._begin(name, free)
            return more
        except CarboyError as error:
            log.warning("webhook %s is put off: %s", name, error.detail)
        except Exception:
            log.exception("webhook %s is put off", name)
        return False

    def _begin(self, name: str, limit: int) -> None:
        """Where it isn't known what was claimed, or it can't be sent, who claimed it is given up: then it is found again."""
        try:
            for claimed in self._claim(name, limit):
                sender = threading.Thread(target=self._send, args=(claimed,), name="webhook", daemon=True)
                self._count(name, 1)
                try:
                    sender.start()
                except RuntimeError:  # there are too many threads
                    self._count(name, -1)
                    raise
        except (CommitUnknown, RuntimeError):
            self._leases.close()
            raise

    def _follow(self, name: str) -> bool:
        """What has happened becomes deliveries; whether there may be more of it."""
        hook = self._catalog.hook(name) or self._catalog.begin_hook(name, self._catalog.latest())
        happened, cursor = self._catalog.happened(hook.cursor, limit=_ENTRIES)
        if cursor == hook.cursor:
            return False
        rules = self._webhooks.rules(name)
        wanted = [one for one in happened if is_wanted(rules, one)]
        self._catalog.tell_hook(hook, cursor, self._messages.of(wanted), now=self._clock())
        return True

    def _claim(self, name: str, limit: int) -> list[Delivery]:
        if not self._catalog.deliveries_due(name, now=self._clock()):
            return []
        return self._catalog.claim_deliveries(name, self._leases.instance(), now=self._clock(), limit=limit)

    def _send(self, delivery: Delivery) -> None:
        try:
            self._deliver(delivery)
        finally:
            self._count(delivery.hook, -1)
            self._rung.set()

    def _count(self, name: str, more: int) -> None:
        with self._lock:
            self._under_way[name] += more

    def _deliver(self, delivery: Delivery) -> None:
        """Send it, and keep what came of it, whatever fails and however long the catalog can't be reached: nobody else looks after it while
        this process lives."""
        try:
            answer = self._webhooks.post(delivery.hook, delivery.id, delivery.body)
        except CarboyError as error:
            answer = Answer(None, error.detail)
        except Exception as error:
            log.exception("message %s to %s could not be sent", delivery.id, delivery.hook)
            answer = Answer(None, f"it could not be sent: {type(error).__name__}")
        while not self._settled(delivery, answer) and not self._stopped.wait(self._poll):
            pass

    def _settled(self, delivery: Delivery, answer: Answer) -> bool:
        try:
            self._settle(delivery, answer)
        except CarboyError as error:
            log.warning("what became of message %s to %s could not be kept: %s", delivery.id, delivery.hook, error.detail)
            return False
        except Exception:
            log.exception("what became of message %s to %s could not be kept", delivery.id, delivery.hook)
            return False
        return True

    def _settle(self, delivery: Delivery, answer: Answer) -> None:
        now = self._clock()
        if answer.is_taken:
            self._catalog.settle_delivery(delivery, "taken", now=now, answer=answer.said)
            return
        due_at = None if answer.is_gone else self._due_at(delivery, answer, now)
        if due_at is None:
            log.warning("message %s to %s is given up after %d attempts: %s", delivery.id, delivery.hook, delivery.attempts, answer.said)
            self._catalog.settle_delivery(delivery, "dead", now=now, answer=answer.said)
        else:
            log.info("message %s to %s was not taken: %s", delivery.id, delivery.hook, answer.said)
            self._catalog.settle_delivery(delivery, "queued", now=now, due_at=due_at, answer=answer.said)

    def _due_at(self, delivery: Delivery, answer: Answer, now: float) -> float | None:
        """When to try again; None once it was tried for long enough, the last time just then."""
        last = delivery.since + self._webhooks.rules(delivery.hook).retry_for
        if now >= last:
            return None
        pause = min(LONGEST, FIRST * GROWTH ** min(delivery.attempts - 1, 20)) * (0.8 + 0.4 * self._chance())
        if answer.status in (429, 503) and answer.wait is not None:
            pause = max(pause, min(answer.wait, MOST_ASKED))
        return min(now + pause, last)

    # --- who works ---

    def _is_first(self) -> bool:
        """Whether this is the one that works, on this data folder and among all machines."""
        if not self._seat.take():
            return False
        if self._shared and time.monotonic() >= self._asked_at + _ELECTED:
            self._asked_at = time.monotonic()
            self._first = self._leases.first("webhooks")
        return self._first or not self._shared

    def _look_after(self) -> None:
        """What others had on its way when they ended is sent again."""
        if time.monotonic() < self._recover_at:
            return
        self._recover_at = time.monotonic() + _RECOVER
        self._leases.bury_the_dead_here()
        if count := self._catalog.recover_deliveries(now=self._clock()):
            log.warning("%d messages were on their way when their process ended; they are sent again", count)

    def _rest(self) -> None:
        """An idle machine is to be left alone, where no other waits for its signs of life, nor it for another's."""
        with self._lock:
            busy = self._under_way.total() > 0
        if busy or self._shared:
            self._busy_at = time.monotonic()
        elif time.monotonic() - self._busy_at > _IDLE:
            self._busy_at = time.monotonic()
            if not any(self._catalog.sending(name) for name in self._webhooks.names):
                self._leases.close()

    def _leave(self) -> None:
        self._leases.close()
        self._seat.leave()
