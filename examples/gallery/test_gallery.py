"""Photos are there at once; what is found out about them comes."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from flask.testing import FlaskClient

from carboy.testing import run_jobs, temporary_carboy

Image = pytest.importorskip("PIL.Image")
HERE = Path(__file__).parent


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("gallery_app", HERE / "app.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # Flask finds its templates beside it
    spec.loader.exec_module(module)
    module.app.testing = True
    return module


@pytest.fixture
def client(gallery: ModuleType) -> Iterator[FlaskClient]:
    with temporary_carboy(gallery.app):
        yield gallery.app.test_client()


def a_photo(colour: str = "#3264c8", size: tuple[int, int] = (640, 480)) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, colour).save(made, "PNG")
    return made.getvalue()


def add(client: FlaskClient, data: bytes) -> str:
    """Its address."""
    assert client.post("/", data={"photo": (io.BytesIO(data), "sea.png")}).status_code == 302
    return re.findall(r'href="(/photos/\w+)"', client.get("/").text)[-1]


def test_a_photo_is_there_at_once_and_its_thumbnail_later(client: FlaskClient) -> None:
    data = a_photo()
    address = add(client, data)
    assert client.get(address).data == client.get(f"{address}/small").data == data
    assert "being made" in client.get("/").text
    assert {step: job["state"] for step, job in client.get(f"{address}/jobs").json.items()} == {
        "image": "queued", "thumbnails": "queued", "colour": "waiting"}
    run_jobs()
    page = client.get("/").text
    assert ("being made" in page, "640 × 480" in page, "#3264c8" in page) == (False, True, True)
    small = client.get(f"{address}/small")
    assert (small.content_type, Image.open(io.BytesIO(small.data)).size) == ("image/webp", (160, 120))


def test_what_only_looks_like_a_photo_fails_by_itself(client: FlaskClient) -> None:
    address = add(client, a_photo()[:100])
    assert {job.step: job.state for job in run_jobs(dead=True)} == {"image": "done", "thumbnails": "dead"}
    assert client.get(address).status_code == 200
