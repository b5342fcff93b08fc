"""What runs beside the web: the process that runs jobs, in ``carboy serve`` and as ``carboy worker``."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from carboy.bootstrap import Services
from carboy.processing.loop import Loop
from carboy.storage.base import OnDisk

log = logging.getLogger("carboy.jobs")


class Background:
    """Runs until told to stop, by :meth:`stop`, by SIGTERM or SIGINT where it is told to heed them, or because its parent is gone."""

    def __init__(self, services: Services, *, workers: int = 0, queues: Collection[str] = ()) -> None:
        settings = services.settings
        alone = all(isinstance(storage, OnDisk) for storage in services.storages.values())
        self._services = services
        self._loop = Loop(services.catalog, services.leases, services.runner, services.wakes, workers=workers or settings.job_workers,
                          queues=queues, poll=settings.job_poll, rests=alone)
        self._ended = threading.Event()

    def run(self, *, patience: float | None = None) -> None:
        """``patience`` in seconds, of the setting ``graceful_timeout`` if None, is what jobs under way have to end."""
        self._loop.run(self._services.settings.graceful_timeout if patience is None else patience)
        self._ended.set()

    def stop(self) -> None:
        """Repeatable; from any thread, or a signal's handler."""
        self._loop.stop()

    def heed_signals(self) -> None:
        """SIGTERM and SIGINT stop it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def end_with(self, parent: int) -> None:
        """Stop once this process's parent is another one: the server is gone."""
        def watch() -> None:
            while not self._ended.wait(1.0):
                if os.getppid() != parent:
                    self.stop()
                    return

        threading.Thread(target=watch, name="parent", daemon=True).start()


class JobProcess:
    """The server's own process for jobs: forked by gunicorn's arbiter, and again when it has died. The pipe between them tells: it ends
    with the process, whoever waits for it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pid: int | None = None
        self._alive: int | None = None

    def ensure(self, arbiter: Any) -> None:
        """It runs, if it is wanted."""
        if not self._services.settings.worker or (self._pid and not self._is_over()):
            return
        if self._pid:
            log.warning("the process that runs jobs has ended; another one is started")
        parent = os.getpid()
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._be(arbiter, parent)
        os.close(theirs)
        self._pid, self._alive = pid, ours

    def tell(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self._pid and not self._is_over():
            os.kill(self._pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        import select

        return self._alive is None or bool(select.select([self._alive], [], [], seconds)[0])

    def _is_over(self) -> bool:
        if self._alive is not None and self.wait(0):
            os.close(self._alive)
            self._alive = None
        return self._alive is None

    def _be(self, arbiter: Any, parent: int) -> None:
        """In the child: never returns."""
        status = 1
        try:
            _call_myself("carboy-jobs")
            for number in (*arbiter.SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for listener in arbiter.LISTENERS:
                listener.sock.close()
            background = Background(self._services)
            background.heed_signals()
            background.end_with(parent)
            background.run()
            status = 0
        except Exception:
            log.exception("the process that runs jobs failed")
        finally:
            logging.shutdown()
            os._exit(status)


def _call_myself(name: str) -> None:
    """For `top` and `ps`, where the system has a way."""
    with suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)
