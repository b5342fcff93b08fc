"""For tests of applications: Carboy on a temporary folder, closed and removed at the end.

With pytest::

    @pytest.fixture
    def client():
        app = create_app()
        with temporary_carboy(app):
            yield app.test_client()
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flask import Flask

from carboy.bootstrap import Services, close, make_ready, open_carboy
from carboy.config import of_application
from carboy.errors import StepFailed
from carboy.jobs import Job
from carboy.web.embedding import Embedded
from carboy.web.extension import Carboy

_QUICK = {"durability": "relaxed", "sweep": False}
_temporary: ContextVar[Carboy | None] = ContextVar("carboy_temporary", default=None)
"""The one of the innermost block."""


@contextmanager
def temporary_carboy(app: Flask | None = None, *, name: str = "carboy", **settings: Any) -> Iterator[Carboy]:
    """The Carboy of ``app`` (of an empty application where none is given) keeps its files in a temporary folder for the block, with these
    ``settings``; nothing is synced, and nothing sweeps by itself. No context is pushed, so that requests of a test client have one each;
    outside of them this application is meant. Afterwards the configuration is as it was.
    """
    if app is None:
        app = Flask("carboy.testing")
        app.config.update(TESTING=True, SECRET_KEY="testing")  # noqa: S106
        Carboy(app, name=name)
    embedded = app.extensions[name]
    if not isinstance(embedded, Embedded):
        raise RuntimeError(f"this application has no {name!r}")
    carboy, before = embedded.carboy, dict(app.config)
    meant, carboy.default_app = carboy.default_app, app
    with TemporaryDirectory(prefix="carboy-") as folder:
        embedded.close()
        prefix = name.upper()
        given = {"data": Path(folder) / "data", "database": "", **_QUICK, **settings}
        app.config.update({f"{prefix}_{key.upper()}": value for key, value in given.items()})
        outer = _temporary.get()
        _temporary.set(carboy)
        try:
            yield carboy
        finally:
            _temporary.set(outer)
            embedded.close()
            carboy.default_app = meant
            app.config.clear()
            app.config.update(before)


@contextmanager
def temporary_services(**settings: Any) -> Iterator[Services]:
    """The engine alone, without an application, on a temporary folder."""
    with TemporaryDirectory(prefix="carboy-") as folder:
        services = open_carboy(of_application({"data": Path(folder) / "data", **_QUICK, **settings}))
        make_ready(services)
        try:
            yield services
        finally:
            close(services)


def sweep(carboy: Carboy) -> None:
    """What the sweeper would do now: expired staged files and the bytes of deleted ones go at once."""
    carboy.services.sweeper.run(grace=0)


def run_jobs(carboy: Carboy | None = None, *, dead: bool = False) -> list[Job]:
    """What workers would do with all jobs that wait, here and now, and with those that follow from them; retries don't wait for their
    time. The jobs that ran, as they are now; that of the innermost :func:`temporary_carboy` where no other is given.

    Raises StepFailed where one has died, unless ``dead`` ones are fine; what the step raised is in the log (``carboy.jobs``).
    """
    carboy = carboy or _temporary.get()
    if carboy is None:
        raise RuntimeError("whose jobs? Use this in a block of temporary_carboy(), or give it the Carboy: run_jobs(carboy)")
    ran = carboy.run_jobs()
    died = next((job for job in ran if job.state == "dead"), None)
    if died and not dead:
        file = carboy.services.catalog.file(died.file_id)
        raise StepFailed(f"the step {died.step!r} failed with {file.path if file else died.file_id!r}: {died.failure}", job=died.id)
    return ran
