"""``carboy serve``: gunicorn with Carboy's worker, configured from the settings alone."""

from __future__ import annotations

import logging
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from carboy import mediatypes
from carboy.bootstrap import Services, open_carboy, prepare
from carboy.config import Settings
from carboy.errors import ConfigError
from carboy.metrics import REQUESTS
from carboy.web import access, worker
from carboy.web.app import Application
from carboy.web.background import JobProcess
from carboy.web.balance import Balance
from carboy.web.cors import Cors
from carboy.web.measured import NO_ROUTE, Threads, count_sent
from carboy.web.tls import context_of
from carboy.web.upkeep import Upkeep

log = logging.getLogger("carboy")

ENDING = 8.0
"""How many seconds after its patience with jobs the process that runs them has ended."""


class CarboyArbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's master process, which also sees to the one that runs jobs."""

    def __init__(self, app: Server) -> None:
        super().__init__(app)
        self._jobs = app.jobs

    def manage_workers(self) -> None:
        super().manage_workers()
        self._jobs.ensure(self)

    def spawn_worker(self) -> Any:
        """What a worker is told before it heeds signals itself waits until it does: it would be lost, and the worker would be waited for
        as long as requests are, and killed."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, worker.TOLD)
        with quick_end():
            pid = super().spawn_worker()
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return pid

    def stop(self, graceful: bool = True) -> None:
        """Jobs under way have as long as requests have, and then a little to heed that they are ended."""
        until = time.monotonic() + self.cfg.graceful_timeout + ENDING
        self._jobs.tell(signal.SIGTERM)
        super().stop(graceful)
        if not self._jobs.wait(max(0.0, until - time.monotonic())):
            self._jobs.tell(signal.SIGKILL)
        self._jobs.reap()
        self.reap_workers()


class Server(BaseApplication):  # type: ignore[misc]
    """One arbiter, its workers, and the services each of them opens for itself."""

    def __init__(self, settings: Settings, services: Services, tls: ssl.SSLContext | None) -> None:
        self.settings = settings
        self.services = services
        self.header_timeout = settings.header_timeout
        self.cors = Cors(settings.cors_origins)
        self.tls = tls
        self.balance = Balance()
        self.jobs = JobProcess(services)
        self.busy = Threads(services.meter)
        super().__init__()

    def load_config(self) -> None:
        """Called at the start, and again for SIGHUP: then the certificate may be another."""
        self._load_certificate()
        for name, value in gunicorn_settings(self.settings).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", _announce)
        self.cfg.set("pre_request", worker.hold_continue)
        self.cfg.set("post_request", self._answered)
        self.cfg.set("post_worker_init", self._start_upkeep)
        self.cfg.set("worker_exit", self._leave)

    def _load_certificate(self) -> None:
        """Where the files have become unusable, the certificate that is in use stays."""
        try:
            self.tls = _tls_of(self.settings)
        except ConfigError as error:
            log.error("the certificate was not changed: %s", error.detail)

    def load(self) -> Callable[..., Any]:
        return Application(self.services)

    def run(self) -> None:
        CarboyArbiter(self).run()

    def stop_bodies(self) -> None:
        self.services.uploads.turns.stop_all()

    def stop_streams(self) -> None:
        self.services.news.stop()

    def _answered(self, worker: Any, request: Any, environ: dict[str, Any], response: Any) -> None:
        """gunicorn's ``post_request`` hook."""
        if response is not None and "carboy.began" in environ:
            count_sent(self.services.meter, environ, access.length_of(response))
            if self.settings.access_log:
                access.log_request(worker, request, environ, response)

    def count_refusal(self, status: int) -> None:
        """A request was refused before it was understood."""
        self.services.meter.add(REQUESTS, (NO_ROUTE, "other", f"{status // 100}xx"))

    def _start_upkeep(self, worker: Any) -> None:
        self.services.meter.role = "web"
        Upkeep(self.services).start()

    def _leave(self, arbiter: Any, worker: Any) -> None:
        """Other nodes need not wait until this process is taken for dead."""
        self.balance.leave()
        self.services.leases.close()
        self.services.meter.close()


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """What gunicorn is told. It reads no configuration of its own."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "bind": [f"{host}:{settings.port}"],
        "certfile": settings.tls_cert or None,
        "keyfile": settings.tls_key or None,
        "workers": processes(settings),
        "threads": settings.threads,
        "worker_class": worker.CarboyWorker,
        "worker_connections": max(1000, settings.threads * 4),
        "backlog": 2048,
        "keepalive": 15,
        "graceful_timeout": int(settings.graceful_timeout),
        "limit_request_line": 0,  # the whole head has a limit of its own, and a path of 4096 bytes may take 12 KiB encoded
        "limit_request_field_size": settings.max_header_size,
        "limit_request_fields": 100,
        "control_socket_disable": True,
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
        "forwarded_allow_ips": "",
        "loglevel": "warning",
        "accesslog": None,
        "proc_name": "carboy",
        "default_proc_name": "carboy",
    }


def serve(settings: Settings) -> None:
    """Prepare data and catalog, show the first token where there is a terminal, and serve until told to stop.

    Raises ConfigError before anything is done where a setting can't be.
    """
    tls = _tls_of(settings)
    _raise_file_limit()
    log_to_stderr(settings)
    services = open_carboy(settings)
    secret = prepare(services)
    if secret:
        _show(secret, settings.data / "first-token")
    services.catalog.close()
    services.meter.close()
    mediatypes.detect(b"PK\3\4", "")  # loads libmagic once, for all the workers
    with quick_end():
        Server(settings, services, tls).run()


@contextmanager
def quick_end() -> Iterator[None]:
    """A process that ends in the block does so at once: the interpreter takes a third of a second to take itself apart, object by object,
    and the system takes back all of it anyway."""
    try:
        yield
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                print(end="", file=stream, flush=True)
        os._exit(end.code or 0)


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    return context_of(settings.tls_cert, settings.tls_key) if settings.tls_cert else None


def _show(secret: str, path: Path) -> None:
    """The first token, but never into a log."""
    if sys.stdout.isatty():
        print(f"The first token, also in {path}:\n\n    {secret}\n", flush=True)
    else:
        print(f"The first token is in {path}", flush=True)


def log_to_stderr(settings: Settings) -> None:
    """Carboy's log lines, as text or JSON, to standard error."""
    from carboy.web.logs import RequestIds, formatter

    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings.log_format))
    handler.addFilter(RequestIds())
    logger = logging.getLogger("carboy")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _announce(arbiter: Any) -> None:
    scheme = "https" if arbiter.cfg.is_ssl else "http"
    for listener in arbiter.LISTENERS:
        host, port = listener.sock.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        print(f"Carboy is ready at {scheme}://{host}:{port}", flush=True)


def _raise_file_limit() -> None:
    """As many descriptors as the system lets us have: a connection and a blob need one each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def processes(settings: Settings) -> int:
    """How many processes serve requests."""
    return settings.workers or min(4, os.cpu_count() or 1)
