"""Who may write where, among processes and machines that share a storage without locks of its own: rows in the catalog.

Every process that writes is an *instance* with a row whose counter it moves each second. Others take it for dead when the counter has
not moved for ``expiry`` seconds of *their* monotonic clock, and then remove the row and its leases: no clocks are compared, and a process
that was only stopped finds its row gone whatever it tries to commit. It knows so itself before others do: see :meth:`_Held.check`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

from carboy.catalog.base import Catalog
from carboy.errors import CarboyError, CommitUnknown, Interrupted, RangeBusy
from carboy.model import Instance, Key, Lease, new_id

log = logging.getLogger("carboy.leases")

_BEAT, _POLL = 1.0, 0.4
_TASKS = "(tasks)"
"""In place of a storage's name: no storage is called so."""
_BLIND = 3.0
"""Who has not looked for so many seconds can't tell how long others have been silent: perhaps nobody could reach the catalog."""
Asked = Callable[[Key, int, int | None], None]


@dataclass(slots=True)
class _Self:
    """This process as others see it. ``safe_until`` is when, at the earliest, they may take it for dead, less some margin. ``owed`` are the
    leases that could not be released yet: they go with the instance, or before."""

    id: str
    pid: int
    safe_until: float
    held: int = 0
    owed: deque[str] = field(default_factory=deque)
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    former: _Self | None = None

    def end(self) -> None:
        """It gives no more signs of life, and neither does who it was before, when this returns."""
        self.ended.set()
        if self.thread and self.thread is not threading.current_thread():
            self.thread.join()
        if self.former:
            self.former.end()
            self.former = None


class Leases:
    """See :class:`carboy.storage.base.Holds`. Thread-safe; registers, and starts a thread, in each process that first writes."""

    def __init__(self, catalog: Catalog, expiry: float = 15.0) -> None:
        self._catalog = catalog
        self._expiry = expiry
        self._every = min(_BEAT, expiry / 10)
        self._lock = threading.Lock()
        self._self: _Self | None = None
        self._asked: Asked = lambda key, start, end: None
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def listen(self, asked: Asked) -> None:
        """Have ``asked`` called, from a thread of its own, for what others want of the ranges held here."""
        self._asked = asked

    def instance(self) -> str:
        return self._alive_self().id

    @contextmanager
    def hold(self, storage: str, key: Key, start: int, end: int | None) -> Iterator[_Held]:
        me = self._alive_self()
        lease = Lease(new_id(), storage, key, start, end, me.id)
        self._take(me, lease)
        with self._lock:
            me.held += 1
        try:
            yield _Held(self._catalog, me, lease)
        finally:
            with self._lock:
                me.held -= 1
            self._release(me, lease.id)

    def held(self, storage: str, key: Key) -> bool:
        return bool(self._catalog.leases(storage, key))

    def alive(self, maker: str) -> bool:
        instances = self._catalog.instances()
        dead = {instance.id for instance in self._silent(instances) if self._bury(instance)}
        return any(instance.id.startswith(maker) and instance.id not in dead for instance in instances)

    def first(self, task: str) -> bool:
        """Whether this process is the one, on all machines, that does the task. It stays so until it closes or is taken for dead; then
        it is the next who asks."""
        me = self._alive_self()
        name = hashlib.blake2b(f"{me.id} {task}".encode(), digest_size=16).hexdigest()
        return not self._catalog.lease(Lease(name, _TASKS, Key(task), 0, None, me.id))

    def bury_the_dead_here(self) -> None:
        """Processes of this machine that have ended need not stay silent first. Those that were silent for too long are buried too, for who
        asks this every second or so, whether it is registered itself or not."""
        here, instances = _here(), self._catalog.instances()
        silent = {instance.id for instance in self._silent(instances)}
        for instance in instances:
            if instance.id in silent or (instance.host == here and not is_running(instance.pid)):
                self._bury(instance)

    def close(self) -> None:
        """Be registered no more, when nothing is written any more. Repeatable; the next writer registers again."""
        with self._lock:
            me, self._self = self._self, None
        if me is None or me.pid != os.getpid():
            return
        me.end()
        with suppress(CarboyError):
            for instance in self._catalog.instances():
                if instance.id == me.id:
                    self._catalog.bury(instance)

    # --- inside ---

    def _take(self, me: _Self, lease: Lease) -> None:
        try:
            _refuse(self._catalog.lease(lease), lease.start, lease.end)
        except CommitUnknown:
            self._release(me, lease.id)  # else it would be in this process's own way
            raise

    def _release(self, me: _Self, lease: str) -> bool:
        """Whether it is released; else it is owed, until it is after a sign of life to come."""
        try:
            self._catalog.release_lease(lease)
        except BaseException as error:
            me.owed.append(lease)
            if not isinstance(error, CarboyError):
                raise
            return False
        return True

    def _release_owed(self, me: _Self, until: float) -> None:
        """As many as can be until then, that the next sign of life is not late; the first that fails again ends it."""
        for _ in range(len(me.owed)):
            if not self._release(me, me.owed.popleft()) or time.monotonic() >= until:
                return

    def _alive_self(self) -> _Self:
        with self._lock:
            me = self._self
            if me is None or me.pid != os.getpid() or time.monotonic() > me.safe_until:
                if me:
                    me.ended.set()
                me = self._self = self._appear(me)
            return me

    def _appear(self, former: _Self | None) -> _Self:
        now = time.monotonic()
        me = _Self(new_id(), os.getpid(), now + 0.6 * self._expiry, former=former if former and former.pid == os.getpid() else None)
        self._catalog.appear(Instance(me.id, _here(), me.pid, 0))
        me.thread = threading.Thread(target=self._live, args=(me,), name="leases", daemon=True)
        me.thread.start()
        return me

    def _live(self, me: _Self) -> None:
        """Beat, and hear what others want, until it is closed or was taken for dead."""
        beat_at = time.monotonic() + self._every
        while not me.ended.wait(min(_POLL, self._every) if me.held else self._every):
            try:
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + self._every
                    if not self._beat(me):
                        return
                    self._release_owed(me, beat_at)
                if me.held:
                    for lease in self._catalog.wanted(me.id):
                        self._asked(lease.key, lease.start, lease.end)
            except CarboyError as error:
                log.warning("no sign of life could be given: %s", error.detail)
            except Exception:
                log.exception("no sign of life could be given")

    def _beat(self, me: _Self) -> bool:
        """Whether it still lives. Time counts from before the row was written: others may have seen it as soon."""
        before = time.monotonic()
        instances = self._catalog.beat(me.id)
        if instances is None:
            log.warning("this process was silent for too long; what it was writing to shared storage is interrupted")
            me.safe_until = 0.0
            return False
        me.safe_until = before + 0.6 * self._expiry
        for instance in self._silent(instances):
            if instance.id != me.id:
                self._bury(instance)
        return True

    def _silent(self, instances: Sequence[Instance]) -> list[Instance]:
        """Those whose counter has not moved for the expiry, as seen from here, looking all the time."""
        now, before = time.monotonic(), self._seen
        if now - self._looked > _BLIND:
            before = {}
        self._looked = now
        seen = {one.id: before[one.id] if before.get(one.id, (None,))[0] == one.beats else (one.beats, now) for one in instances}
        self._seen = seen
        return [one for one in instances if now - seen[one.id][1] >= self._expiry]

    def _bury(self, instance: Instance) -> bool:
        buried = self._catalog.bury(instance)
        if buried:
            log.info("instance %s on %s (process %d) is gone; its leases are free", instance.id[:8], instance.host, instance.pid)
        return buried


@cache
def _here() -> str:
    """This machine since it was started, and this one's view of its processes: a pid means the same to all who have the same of it. A
    container has a view of its own."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as file:
            marks.append(file.read(8))
        marks.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return " ".join(marks)


def is_running(pid: int) -> bool:
    """Whether there is a process of this number; it needn't be the one that had it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


class _Held:
    """See :class:`carboy.storage.base.Hold`."""

    def __init__(self, catalog: Catalog, me: _Self, lease: Lease) -> None:
        self.id = lease.id
        self._catalog = catalog
        self._self = me
        self._start = lease.start

    def extend(self, end: int) -> None:
        _refuse(self._catalog.extend_lease(self.id, end), self._start, end)

    def check(self) -> None:
        if time.monotonic() > self._self.safe_until:
            raise Interrupted("this process was silent for too long; another may be writing these bytes now")


def _refuse(others: Sequence[Lease], start: int, end: int | None) -> None:
    if others:
        raise RangeBusy("another request is writing these bytes", start=start, end=end)
