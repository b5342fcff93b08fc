"""Carboy in a Celery application: its own, made of the settings, or that of a Flask application."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from celery.worker.request import Request, logger

from carboy.config import Settings
from carboy.errors import ConfigError
from carboy.jobs import DEFAULT_QUEUE
from carboy.processing.delivering.delivery import TASK

PRIORITIES = 10
_REDIS = ("redis", "rediss", "sentinel", "valkey", "valkeys", "redis+socket")
_AMQP = ("amqp", "amqps", "pyamqp")
_CONNECT, _SILENT, _SEND = 4.0, 60.0, 5.0
_SILENT_REDIS = 10.0
"""A worker asks Redis for something each second, so ten without a word are a connection that is lost: after a restart kombu may wait for
the answer to what it never sent."""


def make_app(settings: Settings) -> Celery:
    """Carboy's own, which carries ids and keeps no results. Connects to nothing. Raises ConfigError for what is no broker's address."""
    scheme = urlsplit(settings.broker).scheme
    if not scheme:
        raise ConfigError("broker: write an address, such as redis://localhost:6379/0 or amqp://localhost", setting="broker")
    app = Celery("carboy", broker=settings.broker, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # as when Redis is out of memory
        broker_connection_timeout=_CONNECT,
        broker_transport_options={**_options(scheme), **settings.broker_options},
        task_default_queue=DEFAULT_QUEUE,
        task_queue_max_priority=PRIORITIES - 1,
        task_acks_late=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=4,  # what waits behind long jobs here is sent again, and others take it
        worker_soft_shutdown_timeout=settings.graceful_timeout,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app


def _options(scheme: str) -> dict[str, Any]:
    if scheme in _REDIS:
        return {"priority_steps": list(range(PRIORITIES)), **patience(scheme, _SILENT_REDIS)}
    return patience(scheme, _SILENT)


def patience(scheme: str, seconds: float = _SEND) -> dict[str, Any]:
    """How long the broker's sockets may be silent, in the words of its transport."""
    if scheme in _REDIS:
        return {"socket_timeout": seconds, "socket_connect_timeout": min(_CONNECT, seconds), "socket_keepalive": True}
    if scheme in _AMQP:
        return {"socket_settings": {socket.TCP_USER_TIMEOUT: int(seconds * 1000)}}
    return {}


class Delivery(Request):  # type: ignore[misc]
    """One id, as a worker has got it."""

    acknowledged: bool

    def acknowledge(self) -> None:
        """Where Celery's own logs that the broker took no acknowledgement, and then takes nothing more from it once it owes so many, this
        has the worker connect anew."""
        if not self.acknowledged:
            self._on_ack(logger, ())
            self.acknowledged = True


def register(app: Celery, deliver: Callable[[str], object], name: str = TASK) -> None:
    """Make running a job, by its id, a task of this application. It is acknowledged before it runs, and gives nothing: what becomes of the
    job is in the catalog."""
    def run(job_id: str) -> None:
        deliver(job_id)

    app.task(run, name=name, shared=False, acks_late=False, ignore_result=True, max_retries=0, serializer="json",
             Request=f"{__name__}:{Delivery.__name__}")
