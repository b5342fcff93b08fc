"""Where Celery delivers jobs: what of it runs beside the web, as ``carboy worker``, and in the workers of an application's own Celery."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carboy.bootstrap import Services
from carboy.config import Settings
from carboy.errors import ConfigError
from carboy.jobs import DEFAULT_QUEUE
from carboy.processing.delivering.delivery import TASK, Broker
from carboy.web.forked import Forked

if TYPE_CHECKING:
    from flask import Flask

    from carboy.processing.delivering.celery_worker import Beside
    from carboy.web.background import Background

log = logging.getLogger("carboy.jobs")


@dataclass(frozen=True, slots=True)
class Brokered:
    """A Celery application that carries the ids of one Carboy's jobs, as the task of this name. ``services`` gives those of whichever
    process asks."""

    app: Any
    task: str
    services: Callable[[], Services]

    def broker(self) -> Broker:
        from carboy.processing.delivering.celery_broker import CeleryBroker

        return CeleryBroker(self.app, self.task)

    def attach(self) -> None:
        """Workers of the application know the task, and have a dispatcher beside them. Repeatable."""
        from carboy.processing.delivering.celery_app import register
        from carboy.processing.delivering.celery_worker import attach, in_worker

        known = self.app.__dict__.setdefault("_carboy_tasks", set())
        if self.task in known:
            return
        known.add(self.task)
        register(self.app, in_worker(lambda: self.services().deliverer), self.task)
        beside: Beside = DispatchBeside(self)
        attach(self.app, beside)

    def work(self, queues: Collection[str], *, concurrency: int, ready: Callable[[], None]) -> int:
        """Be a worker until told to end; the exit status. The services of this process open nothing meanwhile: it forks."""
        from carboy.processing.delivering.celery_worker import run_worker

        services = self.services()
        wanted = [str(self.app.conf.task_default_queue) if queue == DEFAULT_QUEUE else queue for queue in queues or queues_of(services)]
        services.meter.role = "jobs"
        services.catalog.close()
        return run_worker(self.app, concurrency=concurrency or services.settings.job_workers, queues=wanted,
                          patience=services.settings.graceful_timeout, ready=ready)


def of_settings(services: Services) -> Brokered | None:
    """What the setting ``broker`` asks for. Raises ConfigError where it can't be had."""
    if not services.settings.broker:
        return None
    return Brokered(_app_of(services.settings), TASK, lambda: services)


def broker_of(settings: Settings) -> Broker:
    """The one that the setting names. Raises ConfigError where it can't be had."""
    app = _app_of(settings)
    from carboy.processing.delivering.celery_broker import CeleryBroker

    return CeleryBroker(app, TASK)


def _app_of(settings: Settings) -> Any:
    try:
        from carboy.processing.delivering.celery_app import make_app
    except ImportError:
        raise ConfigError("broker: Celery is not installed; pip install 'carboy[celery]'", setting="broker") from None
    return make_app(settings)


def of_application(app: Flask, name: str) -> Brokered | None:
    """The Celery that the Flask application has in its extensions, if it has one, for the Carboy of this name."""
    celery = app.extensions.get("celery")
    if not hasattr(celery, "send_task"):
        return None
    return Brokered(celery, f"{name}.run", lambda: app.extensions[name].opened.services)


def join_celery(app: Flask, name: str) -> None:
    """Have workers of the application's own Celery run the jobs of its Carboy, also where it gets its Celery only after its Carboy."""
    own = of_application(app, name)
    if own:
        own.attach()
    elif "celery" in sys.modules:
        from carboy.processing.delivering.celery_worker import before_worker

        there = weakref.ref(app)

        def attach(celery: Any) -> None:
            application = there()
            late = of_application(application, name) if application else None
            if late and late.app is celery:
                late.attach()

        before_worker(attach)


def queues_of(services: Services) -> list[str]:
    """All queues that a step's jobs go to."""
    return sorted({DEFAULT_QUEUE, *services.settings.job_queues.values(), *(step.queue for step in services.runner.steps.known.values())})


class DispatchBeside:
    """See :class:`carboy.processing.delivering.celery_worker.Beside`."""

    def __init__(self, brokered: Brokered) -> None:
        self._brokered = brokered
        self._process = Forked("carboy-dispatch")
        self._background: Background | None = None
        self._ended = False

    def start(self, threaded: bool) -> None:
        if self._ended:
            return
        if not threaded:
            self._process.ensure(self._be)
        elif self._background is None:
            from carboy.web.background import Background

            self._background = Background(self._brokered.services(), broker=self._brokered.broker(), alone=False)
            threading.Thread(target=self._background.run, name="dispatch", daemon=True).start()

    def stop(self) -> None:
        self._ended = True
        if self._background:
            self._background.stop()
        self._process.tell(signal.SIGTERM)
        if not self._process.wait(5.0):
            self._process.tell(signal.SIGKILL)

    def _be(self, parent: int) -> None:
        from carboy.web.background import Background

        for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        background = Background(self._brokered.services(), broker=self._brokered.broker())
        background.heed_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's affair, which ends this
        background.end_with(parent)
        background.run()
