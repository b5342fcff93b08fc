"""The broker of a Celery application, whichever it is, as one that ids are sent to."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from celery import Celery
from kombu.exceptions import ChannelError, KombuError

from carboy.jobs import DEFAULT_QUEUE, Job
from carboy.processing.delivering.celery_app import patience
from carboy.processing.delivering.delivery import TASK, BrokerAway

_TIMEOUT = 4.0
_MIDDLE = 3
"""The priority of jobs that have none, of 0 to 9."""


class CeleryBroker:
    """See :class:`carboy.processing.delivering.delivery.Broker`. One connection, for one thread; after a fork each process has its own."""

    def __init__(self, app: Celery, task: str = TASK) -> None:
        self._app = app
        self._task = task
        self._pid = 0
        self._connection: Any = None
        self._producer: Any = None

    def connect(self) -> None:
        if self._producer is not None and self._pid == os.getpid():
            return
        try:
            self._open()
        except Exception as error:  # of whichever transport
            self.close()
            raise BrokerAway(told(error)) from error

    def send(self, job: Job) -> None:
        self.connect()
        try:
            self._app.send_task(self._task, args=(job.id,), queue=self._queue(job.queue), priority=self._priority(job.priority),
                                producer=self._producer, retry=False, ignore_result=True)
        except Exception as error:
            self.close()
            raise BrokerAway(told(error)) from error

    def waiting(self, queue: str) -> int | None:
        self.connect()
        try:
            with self._connection.channel() as channel:
                return int(channel.queue_declare(queue=self._queue(queue), passive=True).message_count)
        except NotImplementedError:
            return None
        except Exception as error:
            if isinstance(error, ChannelError) and str(error.reply_code) == "404":  # it comes to be when something is sent there
                return 0
            self.close()
            raise BrokerAway(told(error)) from error

    def close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None and self._pid == os.getpid():
            with suppress(Exception):
                connection.release()

    # --- inside ---

    def _open(self) -> None:
        self._pid = os.getpid()
        scheme = self._app.connection_for_write().transport_cls or ""
        self._connection = self._app.connection_for_write(connect_timeout=_TIMEOUT, transport_options=patience(str(scheme)))
        self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=_TIMEOUT)
        self._producer = self._app.amqp.Producer(self._connection)
        _ = self._producer.channel

    def _queue(self, queue: str) -> str:
        """The queue of jobs that name none is that of the application's tasks which name none."""
        return str(self._app.conf.task_default_queue) if queue == DEFAULT_QUEUE else queue

    def _priority(self, priority: int) -> int:
        """From 0 to 9; with Redis lower ones go first."""
        level = max(0, min(9, _MIDDLE + priority))
        return 9 - level if self._connection.transport.driver_type == "redis" else level


def told(error: Exception) -> str:
    """What the log says of it."""
    return f"{type(error).__name__}: {error}" if not isinstance(error, KombuError) else str(error)
