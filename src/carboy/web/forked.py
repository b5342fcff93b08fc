"""A process of ours beside this one: forked, and again when it has died."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress

log = logging.getLogger("carboy.jobs")

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


class Forked:
    """The pipe between the two tells when the other has ended: it ends with the process, whoever waits for it."""

    def __init__(self, name: str) -> None:
        """``name`` is for ``top`` and ``ps``."""
        self._name = name
        self._pid: int | None = None
        self._alive: int | None = None

    def ensure(self, be: Callable[[int], None]) -> None:
        """It runs. ``be`` is all that it does; called in the child with this process's id."""
        if self._pid and not self._is_over():
            return
        if self._pid:
            log.warning("the process %s has ended; another one is started", self._name)
        parent = os.getpid()
        ours, theirs = os.pipe()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until the child heeds them itself, or one would be lost
        pid = os.fork()
        if pid == 0:
            self._run(be, parent, held)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        os.close(theirs)
        self._pid, self._alive = pid, ours

    def tell(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self._pid and not self._is_over():
            os.kill(self._pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        return self._alive is None or bool(select.select([self._alive], [], [], seconds)[0])

    def reap(self) -> None:
        """Once it has ended: until nothing of it is left. For a parent that starts no more processes, or the id might be another's."""
        if self._pid:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def _is_over(self) -> bool:
        if self._alive is not None and self.wait(0):
            os.close(self._alive)
            self._alive = None
            with suppress(ChildProcessError):
                os.waitpid(self._pid or 0, os.WNOHANG)
        return self._alive is None

    def _run(self, be: Callable[[int], None], parent: int, held: Iterable[int]) -> None:
        """In the child: never returns."""
        status = 1
        try:
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            _call_myself(self._name)
            be(parent)
            status = 0
        except Exception:
            log.exception("the process %s failed", self._name)
        finally:
            logging.shutdown()
            os._exit(status)


def _call_myself(name: str) -> None:
    with suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)
