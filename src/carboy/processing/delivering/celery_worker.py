"""A Celery worker that runs Carboy's jobs: what is done at its start, in its processes, and at its end."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from billiard import current_process
from celery import Celery, bootsteps, signals
from celery.concurrency.prefork import TaskPool
from celery.platforms import SecurityWarning

from carboy.heeding import Heed
from carboy.processing.delivering.delivery import Deliverer

log = logging.getLogger("carboy.jobs")

_PATIENCE = 5.0


class Beside(Protocol):
    """What runs beside a worker: the dispatcher."""

    def start(self, threaded: bool) -> None:
        """In a thread of this process, or in a process of its own; repeatable: where it has died it is started again."""

    def stop(self) -> None: ...


def attach(app: Celery, beside: Beside) -> None:
    """Have each worker of this application run that beside it."""
    class WorkerStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """From before the worker's processes are there, so that none of them is forked with anything open, to its end."""

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            beside.start(is_threaded(worker))

        def stop(self, worker: Any) -> None:
            beside.stop()

        terminate = stop

    class ConsumerStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """Each time that the worker is connected its timers begin anew."""

        requires = ("celery.worker.consumer.connection:Connection",)

        def start(self, consumer: Any) -> None:
            consumer.timer.call_repeatedly(1.0, beside.start, (is_threaded(consumer.controller),))

    app.steps["worker"].add(WorkerStep)
    app.steps["consumer"].add(ConsumerStep)


def before_worker(tell: Callable[[Celery], None]) -> None:
    """Have this called with the application of each worker that is about to begin in this process."""
    def begins(sender: Any, **_: Any) -> None:
        tell(sender.app)

    signals.worker_init.connect(begins, weak=False)


def is_threaded(worker: Any) -> bool:
    """Whether tasks run in the worker's own process."""
    return not (isinstance(worker.pool_cls, type) and issubclass(worker.pool_cls, TaskPool))


def in_worker(deliverer: Callable[[], Deliverer]) -> Callable[[str], object]:
    """Runs a job in a worker's process, whose end it survives: the job is queued again then, at once where its step heeds it."""
    known: set[int] = set()

    def deliver(job_id: str) -> None:
        here = deliverer()
        if os.getpid() not in known:
            known.add(os.getpid())
            signals.worker_process_shutdown.connect(lambda **_: here.rest(), weak=False)
        with _heeding_end(here):
            here.deliver(job_id)

    return deliver


def run_worker(app: Celery, *, concurrency: int, queues: Sequence[str], patience: float, ready: Callable[[], None]) -> int:
    """Be a worker, in this process and ``concurrency`` children, until SIGTERM or SIGINT; its exit status. The catalog must be closed here.

    Jobs under way have ``patience`` seconds to end then.
    """
    warnings.simplefilter("ignore", SecurityWarning)  # about root and pickle, which is not accepted
    ends = _Ends(patience)
    signals.setup_logging.connect(_own_logging)  # whose mere being there leaves logging as it is
    signals.worker_shutting_down.connect(ends.begin)
    signals.worker_ready.connect(ends.ready(ready))
    ends.worker = app.Worker(concurrency=concurrency or None, queues=list(queues) or None, loglevel=logging.WARNING, quiet=True,
                             pool="prefork", without_gossip=True, without_mingle=True, without_heartbeat=True)
    ends.worker.start()
    return int(ends.worker.exitcode or 0)


def _own_logging(**_: Any) -> None:
    """Celery's lines go where Carboy's go."""
    celery = logging.getLogger("celery")
    celery.handlers[:] = logging.getLogger("carboy").handlers
    celery.propagate = False
    celery.setLevel(logging.WARNING)


class _Ends:
    """The end of a worker: those that are not through in time are told to queue their jobs again."""

    worker: Any = None

    def __init__(self, patience: float) -> None:
        self._patience = patience

    def ready(self, tell: Callable[[], None]) -> Callable[..., None]:
        def is_ready(**_: Any) -> None:
            tell()

        self._kept = is_ready  # a signal of Celery's holds its receivers weakly
        return is_ready

    def begin(self, **_: Any) -> None:
        threading.Thread(target=self._end, name="patience", daemon=True).start()

    def _end(self) -> None:
        time.sleep(self._patience)
        pool = getattr(getattr(self.worker, "pool", None), "_pool", None)
        for process in list(getattr(pool, "_pool", ())):
            with suppress(OSError):
                os.kill(process.pid, signal.SIGTERM)


@contextmanager
def _heeding_end(deliverer: Deliverer) -> Iterator[None]:
    """SIGTERM to a worker's child ends the job first, and then the child as it would have. In a worker that has no children it is the
    worker's own affair."""
    if threading.current_thread() is not threading.main_thread() or current_process()._name == "MainProcess":
        yield
        return
    told: list[int] = []
    heed = Heed(partial(_end_job, deliverer))

    def hear(number: int, _: object) -> None:
        if not told:
            told.append(number)
            heed()

    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        heed.end()
        if told:
            deliverer.rest()
            os.kill(os.getpid(), signal.SIGTERM)


def _end_job(deliverer: Deliverer) -> None:
    if not deliverer.stop(_PATIENCE):
        log.warning("a job did not end in time; it is begun anew elsewhere")
        os._exit(1)
