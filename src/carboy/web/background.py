"""What runs beside the web: the process that runs jobs, or sends their ids to a broker, in ``carboy serve`` and as ``carboy worker``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection
from typing import Any

from carboy.bootstrap import Services, postman
from carboy.heeding import Heed
from carboy.processing.delivering.delivery import Broker
from carboy.processing.delivering.dispatch import Dispatcher
from carboy.processing.loop import Loop
from carboy.storage.base import OnDisk
from carboy.web.brokered import of_settings
from carboy.web.forked import Forked

ENDING = 6.0
"""Seconds that jobs which are told to end may take to heed it."""


class Background:
    """Runs until told to stop, by :meth:`stop`, by SIGTERM or SIGINT where it is told to heed them, or because its parent is gone."""

    def __init__(self, services: Services, *, workers: int = 0, queues: Collection[str] = (), broker: Broker | None = None,
                 alone: bool = True) -> None:
        """With a ``broker`` it sends ids of jobs to others, else it runs them. ``alone``: whether nothing else in this process
        needs it to be taken for alive."""
        settings = services.settings
        on_disk = all(isinstance(storage, OnDisk) for storage in services.storages.values())
        self._services = services
        self._work: Loop | Dispatcher
        if broker:
            self._work = Dispatcher(services.catalog, services.leases, services.wakes, broker, poll=settings.job_poll, alone=alone)
        else:
            self._work = Loop(services.catalog, services.leases, services.runner, services.wakes, workers=workers or settings.job_workers,
                              queues=queues, poll=settings.job_poll, rests=alone and on_disk)
        self._postman = postman(services)
        self._ended = threading.Event()

    def run(self, *, patience: float | None = None) -> None:
        """``patience`` in seconds, of the setting ``graceful_timeout`` if None, is what jobs under way have to end."""
        self._services.meter.role = "jobs"
        self._services.meter.touch()
        if self._postman:
            self._postman.start()
        self._work.run(self._services.settings.graceful_timeout if patience is None else patience)
        if self._postman:
            self._postman.stop()
            self._postman.join(ENDING)
        self._ended.set()

    def stop(self) -> None:
        """Repeatable; from any thread."""
        self._work.stop()
        if self._postman:
            self._postman.stop()

    def heed_signals(self) -> None:
        """SIGTERM and SIGINT stop it."""
        heed = Heed(self.stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, heed)

    def end_with(self, parent: int) -> None:
        """Stop once this process's parent is another one: the server is gone."""
        def watch() -> None:
            while not self._ended.wait(1.0):
                if os.getppid() != parent:
                    self.stop()
                    return

        threading.Thread(target=watch, name="parent", daemon=True).start()


class JobProcess:
    """The server's own process for jobs: forked by gunicorn's arbiter, and again when it has died. Where a broker delivers them to others,
    it only sends their ids."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._process = Forked("carboy-jobs")
        self.tell, self.wait, self.reap = self._process.tell, self._process.wait, self._process.reap

    def ensure(self, arbiter: Any) -> None:
        """It runs, if it is wanted."""
        if self._services.settings.worker:
            self._process.ensure(lambda parent: self._be(arbiter, parent))

    def _be(self, arbiter: Any, parent: int) -> None:
        for number in (*arbiter.SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for listener in arbiter.LISTENERS:
            listener.sock.close()
        brokered = of_settings(self._services)
        background = Background(self._services, broker=brokered.broker() if brokered else None)
        background.heed_signals()
        background.end_with(parent)
        background.run()
        self._services.meter.close()
