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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flask import Flask

from carboy.bootstrap import Services, close, make_ready, open_carboy
from carboy.config import of_application
from carboy.web.embedding import Embedded
from carboy.web.extension import Carboy

_QUICK = {"durability": "relaxed", "sweep": False}


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
        try:
            yield carboy
        finally:
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
