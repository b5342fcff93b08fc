"""What happens, told while it happens: one thread of a process follows the log, however many listen.

The news of the last minutes are kept in memory, the same for all. Who listens has a place in the log, and whoever falls behind what is
kept reads on in the catalog: a slow listener costs no memory and misses nothing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from carboy.catalog.base import Catalog
from carboy.errors import CarboyError
from carboy.jobs import Happening, Job, JobFilter, place_in_log

log = logging.getLogger("carboy")

POLL = 0.2
"""How often the log is looked at, in seconds, while nobody rings."""
_BREATH = 0.02
_PROGRESS = 0.5
_LINGER = 5.0
_KEPT, _PAGE, _RUNNING = 2000, 200, 1000
_LARGE = 8192
_LOOK_AGAIN = 2.0


class Bell(Protocol):
    """Heard by all who wait at it, on this machine."""

    def ring(self) -> None:
        """For this process alone."""

    def wait(self, seconds: float) -> object:
        """Until it rings, or has rung since the last time; no longer than so many seconds."""

    def close(self) -> None:
        """Hear it no more, until the next :meth:`wait`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a listener is told at once: how far jobs are, which is no part of the log, and what happened, in order."""

    running: Sequence[Job] = ()
    happenings: Sequence[Happening] = ()


class News:
    """Thread-safe. Nothing runs while nobody listens; each process has a thread of its own."""

    def __init__(self, catalog: Catalog, bell: Bell) -> None:
        self._catalog = catalog
        self._bell = bell
        self._changed = threading.Condition()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._base = self._cursor = ""
        self._settled_at = 0.0
        self._kept: list[Happening] = []
        self._places: list[tuple[int, ...]] = []
        self._running: dict[str, tuple[int, Job]] = {}
        self._round = self._moved = 0

    def listen(self, after: str | None = None, *, at: float = 0.0, progress: bool = False) -> Listener:
        """A listener, to be closed, who hears what happens after that place in the log, where nothing older than ``at`` is, or from now on;
        and with ``progress`` how far running jobs are."""
        if after is None:
            at = time.time()
        listener = Listener(self, self._catalog.latest() if after is None else after, at, progress)
        with self._changed:
            self._listeners.add(listener)
            self._go_on()
        self._bell.ring()
        return listener

    def until(self, over: Callable[[], bool], wanted: Callable[[Happening], bool], seconds: float,
              given_up: Callable[[], bool] = lambda: False) -> bool:
        """Whether ``over()`` within so many seconds. It is asked at once, and again when something ``wanted`` has happened."""
        deadline = time.monotonic() + seconds
        with self.listen() as listener:
            asked_at = time.monotonic()
            if over():
                return True
            while (left := deadline - time.monotonic()) > 0 and not listener.ended and not given_up():
                heard = listener.hear(min(left, 1.0))
                if any(map(wanted, heard.happenings)) or time.monotonic() - asked_at > _LOOK_AGAIN:
                    asked_at = time.monotonic()
                    if over():
                        return True
        return over()

    def stop(self) -> None:
        """All listeners have heard enough, at once. Repeatable; from any thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._bell.ring()

    def close(self) -> None:
        """The same, and nothing runs any more."""
        self.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._bell.close()

    def is_known(self, cursor: str) -> bool:
        """Whether this place in the log has been one yet, here and not in another database. Raises InvalidRequest for what is no place."""
        self._catalog.happened(cursor, limit=1)
        latest, place = place_in_log(self._catalog.latest()), place_in_log(cursor)
        return len(place) == len(latest) and place <= latest

    # --- for listeners ---

    def _leave(self, listener: Listener) -> None:
        with self._changed:
            self._listeners.discard(listener)

    def _next(self, listener: Listener, seconds: float) -> Heard:
        """What is new, after at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or listener.ended or self._has_news(listener), seconds)
            if self._stopped or listener.ended:
                return Heard()
            running = self._progress_since(listener)
            if not self._base or not self._is_behind(listener):
                return Heard(running, self._kept_since(listener))
            base = self._base
        return Heard(running, self._read(listener, base))

    def _has_news(self, listener: Listener) -> bool:
        return bool(self._base) and (self._is_behind(listener) or bool(self._places and self._places[-1] > listener.place)
                                     or (listener.progress and self._moved > listener.round))

    def _is_behind(self, listener: Listener) -> bool:
        return listener.place < place_in_log(self._base)

    def _kept_since(self, listener: Listener) -> Sequence[Happening]:
        first = bisect_right(self._places, listener.place)
        found = self._kept[first:first + _PAGE]
        if found:
            listener.stand(found[-1].cursor, found[-1].at)
        elif self._cursor and place_in_log(self._cursor) > listener.place:
            listener.stand(self._cursor)
        if self._cursor and listener.place >= place_in_log(self._cursor):
            listener.at = max(listener.at, self._settled_at)
        return found

    def _progress_since(self, listener: Listener) -> list[Job]:
        before, listener.round = listener.round, self._round
        return [job for round, job in self._running.values() if round > before] if listener.progress else []

    def _read(self, listener: Listener, base: str) -> Sequence[Happening]:
        """From the catalog. Where nothing more is there, nothing is missing before ``base`` either."""
        found, cursor = self._catalog.happened(listener.cursor, limit=_PAGE)
        listener.stand(base if cursor == listener.cursor else cursor, found[-1].at if found else None)
        return [_slim(one) for one in found]

    # --- following ---

    def _go_on(self) -> None:
        if (self._thread is None or not self._thread.is_alive()) and not self._stopped:
            self._base = self._cursor = ""
            self._settled_at = 0.0
            self._kept, self._places, self._running = [], [], {}
            self._thread = threading.Thread(target=self._follow, name="news", daemon=True)
            self._thread.start()

    def _follow(self) -> None:
        failed, idle_since, progress_at = False, time.monotonic(), 0.0
        while True:
            began = time.monotonic()
            with self._changed:
                if self._listeners:
                    idle_since = began
                if self._stopped or began - idle_since > _LINGER:
                    self._thread = None
                    break
                wants_progress = began >= progress_at and any(one.progress for one in self._listeners)
            try:
                if wants_progress:
                    progress_at = began + _PROGRESS
                self._look(wants_progress)
                failed = False
            except Exception as error:
                if not failed:
                    log.warning("what happens can't be followed at present: %s", error, exc_info=not isinstance(error, CarboyError))
                failed = True
            self._bell.wait(POLL)
            if time.monotonic() - began < _BREATH:
                time.sleep(_BREATH)
        self._bell.close()

    def _look(self, progress: bool) -> None:
        """Progress first: what is in the log by then has ended later."""
        running = self._catalog.jobs(JobFilter(states=("running",)), limit=_RUNNING)[0] if progress else None
        began, before = time.time(), self._cursor
        if not before:
            found: Sequence[Happening] = ()
            cursor = self._catalog.latest()
        else:
            found, cursor = self._catalog.happened(before, limit=_PAGE * 5)
            found = [_slim(one) for one in found]
        with self._changed:
            self._keep(found, cursor)
            if cursor == before or not before:
                self._settled_at = began
            fresh = running is not None and self._note(running)
            if found or fresh:
                self._changed.notify_all()
        if len(found) > _PAGE:
            self._bell.ring()

    def _keep(self, found: Sequence[Happening], cursor: str) -> None:
        self._base, self._cursor = self._base or cursor, cursor
        self._kept += found
        self._places += [place_in_log(one.cursor) for one in found]
        if len(self._kept) > _KEPT:
            gone = len(self._kept) - _KEPT // 2
            self._base = self._kept[gone - 1].cursor
            del self._kept[:gone], self._places[:gone]

    def _note(self, running: Sequence[Job]) -> bool:
        """Whether any is further than it was."""
        before, self._round = self._running, self._round + 1
        self._running = {job.id: (_round_of(before.get(job.id), job) or self._round, job) for job in running}
        if any(round == self._round for round, _ in self._running.values()):
            self._moved = self._round
        return self._moved == self._round


class Listener:
    """Somebody's place in the news; a context manager. For one thread, but for :meth:`close`. What comes after it happened ``at`` this
    time or later, but for transactions that take their time and clocks that differ."""

    def __init__(self, news: News, cursor: str, at: float, progress: bool) -> None:
        self._news = news
        self.progress = progress
        self.round = 0
        self.ended = False
        self.at = at
        self.stand(cursor)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hear(self, seconds: float) -> Heard:
        """What is new, as soon as there is any; nothing after so many seconds. Raises CatalogUnavailable where it has to be read there."""
        return self._news._next(self, seconds)

    def stand(self, cursor: str, at: float | None = None) -> None:
        self.cursor = cursor
        self.place = place_in_log(cursor)
        if at is not None:
            self.at = at

    @property
    def stopped(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self._news._stopped

    def close(self) -> None:
        """Repeatable."""
        self.ended = True
        self._news._leave(self)


def _round_of(before: tuple[int, Job] | None, job: Job) -> int | None:
    """When it was so far first, if it was before."""
    if before is None:
        return None
    round, was = before
    return round if (was.fence, was.progress, was.phrase) == (job.fence, job.progress, job.phrase) else None


def _slim(happening: Happening) -> Happening:
    """Without a large result: whoever wants it asks for the job."""
    result = happening.facts.get("result")
    if not result or len(json.dumps(result)) <= _LARGE:
        return happening
    return replace(happening, facts={**happening.facts, "result": None})
