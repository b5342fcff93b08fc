"""An application whose files lie in S3 hands them out as one with a disk, or sends the client to S3."""

from __future__ import annotations

import os
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from fixtures_flask import AppFactory
from fixtures_s3 import S3Server
from flask import Flask

from carboy import Carboy
from carboy.jobs import Outcome

BIG = os.urandom(6 * 2**20)


@pytest.fixture(params=[False, True], ids=["streamed", "redirected"])
def app(request: pytest.FixtureRequest, make_app: AppFactory, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Flask:
    for name, value in moto_server.env.items():
        monkeypatch.setenv(name, value)
    storage = {"bucket": moto_server.new_bucket(), "endpoint": moto_server.endpoint, "style": "path", "redirect": request.param}
    app = make_app(CARBOY_STORAGES={"bulk": storage}, SERVER_NAME="films.example", CARBOY_SPACES={
        "films": {"storage": "bulk"}, "guarded": {"storage": "bulk", "hold": ["digest"]}})
    carboy = Carboy(app)
    app.extensions["tested"] = request.param

    @app.get("/film/<id>")
    def film(id: str) -> object:
        return carboy.send(id)

    @app.get("/named/<id>")
    def named(id: str) -> object:
        return carboy.send(id, download=True, name="grüße.bin")

    return app


def got(app: Flask, path: str) -> tuple[bytes, str]:
    """Bytes and Content-Disposition, wherever they come from."""
    answer = app.test_client().get(path)
    if not app.extensions["tested"]:
        assert answer.status_code == 200
        return answer.data, answer.headers["Content-Disposition"]
    assert (answer.status_code, answer.headers["Cache-Control"]) == (307, "no-store")
    with urlopen(answer.headers["Location"], timeout=30) as there:
        return there.read(), there.headers["Content-Disposition"]


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_files_are_sent(app: Flask, data: bytes) -> None:
    carboy: Carboy = app.extensions["carboy"].carboy
    with app.app_context():
        file = carboy.put("films", "film.bin", data)
        with carboy.open(file) as content:
            assert content.read() == data
    assert got(app, f"/film/{file.id}") == (data, 'inline; filename="film.bin"')
    body, disposition = got(app, f"/named/{file.id}")
    assert (body, disposition.startswith("attachment")) == (data, True)
    assert "filename*=UTF-8''gr%C3%BC%C3%9Fe.bin" in disposition
    ranged = app.test_client().get(f"/film/{file.id}", headers={"Range": "bytes=1-3"})
    assert ranged.status_code == (307 if app.extensions["tested"] else 206)
    with app.test_request_context():
        address = carboy.url_for(file, expires=60)
    parts = urlsplit(address)
    assert got(app, f"{parts.path}?{parts.query}")[0] == data


def test_what_is_held_back_or_in_quarantine_leaves_no_way(app: Flask) -> None:
    """Neither its bytes nor an address of S3."""
    carboy: Carboy = app.extensions["carboy"].carboy
    client = app.test_client()
    with app.app_context():
        file = carboy.put("guarded", "film.bin", b"guarded", owner="ann")
        catalog, leases = carboy.services.catalog, carboy.services.leases
        for way in (f"/film/{file.id}", f"/named/{file.id}", carboy.url_for(file, _external=False)):
            answer = client.get(way)
            assert (answer.status_code, "Location" in answer.headers, b"guarded" in answer.data) == (409, False, False)
        claim, = catalog.claim_jobs(leases.instance(), now=2e9, steps=["digest"])
        assert catalog.finish_job(claim, Outcome(quarantine="bad"), now=2e9)
        for way in (f"/film/{file.id}", carboy.url_for(file, _external=False)):
            answer = client.get(way)
            assert (answer.status_code, "Location" in answer.headers, b"guarded" in answer.data) == (403, False, False)
