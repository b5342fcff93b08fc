"""Applications of one's own, on a folder that goes away."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from carboy import Carboy

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(50)
PDF = b"%PDF-1.7\n" + bytes(50)
FETCHED_BY_A_PAGE_OF_ITS_OWN = {"Sec-Fetch-Site": "same-origin"}

AppFactory = Callable[..., Flask]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[AppFactory]:
    """``make_app(SETTING=…)``: an application with an instance folder of its own; what it opened is closed at the end."""
    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        app = Flask(f"app{len(made)}", instance_path=str(tmp_path / f"instance{len(made)}"))
        app.config.update({"TESTING": True, "SECRET_KEY": "a secret", "CARBOY_DURABILITY": "relaxed", **config})
        made.append(app)
        return app

    yield make
    for app in made:
        for extension in app.extensions.values():
            if hasattr(extension, "is_open"):
                extension.close()


@pytest.fixture
def app(make_app: AppFactory) -> Flask:
    return make_app()


def a_file(data: bytes = PNG, name: str = "me.png") -> tuple[io.BytesIO, str]:
    """A file of a form, as the test client takes it."""
    return io.BytesIO(data), name


def stored_bytes(app: Flask, name: str = "carboy") -> list[Path]:
    """The files that hold blobs."""
    return sorted((Path(app.instance_path) / name / "blobs").glob("*/*"))


def everything(carboy: Carboy, space: str) -> list[str]:
    return [file.path for file in carboy.list(space)]
