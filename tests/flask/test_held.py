"""Contents that are held back, or in quarantine, in an application: whom its calls and addresses give them to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
from fixtures_flask import AppFactory, a_file
from flask import Flask, request

from carboy import Carboy, File, Received
from carboy.engine.availability import status_of
from carboy.errors import Quarantined
from carboy.jobs import Job, Outcome

SIGNATURE = "Bad-Thing"


@dataclass
class Shop:
    app: Flask
    carboy: Carboy

    def put(self, path: str = "a.txt") -> File:
        return self.carboy.put("main", path, b"guarded", owner="ann")

    def quarantine(self, file: File) -> None:
        services = self.carboy.services
        claim, = services.catalog.claim_jobs(services.leases.instance(), now=time.time() + 1, steps=["digest"], id=self.job(file).id)
        services.catalog.finish_job(claim, Outcome(quarantine=SIGNATURE), now=time.time())

    def job(self, file: File) -> Job:
        job, = self.carboy.services.catalog.jobs_of(file.blob.id)
        return job


@pytest.fixture(params=["", "x-accel-redirect", "x-sendfile"])
def shop(request: pytest.FixtureRequest, make_app: AppFactory) -> Shop:
    app = make_app(SERVER_NAME="shop.example", CARBOY_ACCEL=request.param, CARBOY_SPACES={"main": {"hold": ["digest"]}})
    return Shop(app, Carboy(app))


def test_python_calls_and_signed_addresses(shop: Shop) -> None:
    app, carboy = shop.app, shop.carboy
    app.add_url_rule("/send/<file>", view_func=lambda file: carboy.send(file, pending="all" in request.args), endpoint="send")
    with app.app_context():
        file = shop.put()
        signed, client = carboy.url_for(file), app.test_client()
        with carboy.open(file) as opened:
            assert opened.read() == b"guarded", "Python calls are trusted"
        copy = carboy.copy(file, "copy.txt")
        assert copy.blob.held
        assert client.get(f"/send/{file.id}?all=1").status_code == 200
        for address in (f"/send/{file.id}", signed):
            answer = client.get(address)
            assert (answer.status_code, answer.json["code"]) == (409, "pending")  # type: ignore[index]
            assert not {"X-Accel-Redirect", "X-Sendfile"} & {name for name, _ in answer.headers}
        shop.quarantine(file)
        for address in (f"/send/{file.id}", f"/send/{file.id}?all=1", signed):
            answer = client.get(address)
            assert (answer.status_code, answer.json["code"]) == (403, "quarantined")  # type: ignore[index]
        with pytest.raises(Quarantined):
            carboy.open(file)
        with pytest.raises(Quarantined):
            carboy.copy(file, "copy2.txt")
        assert carboy.get(file).blob.quarantine == SIGNATURE
        carboy.delete(file)


def test_what_a_form_brought_is_held_once_it_is_kept(shop: Shop) -> None:
    app, carboy = shop.app, shop.carboy

    @app.post("/take")
    @carboy.receives("main")
    def take() -> dict[str, Any]:
        received = request.files["f"]
        assert isinstance(received, Received)
        before = received.stream.read()
        return {"status": status_of(received.keep("f.txt").blob), "read": before.decode()}

    answer = app.test_client().post("/take", data={"f": a_file(b"guarded", "f.txt")})
    assert answer.json == {"status": "pending", "read": "guarded"}
    with app.app_context():
        address = carboy.url_for(carboy.at("main", "f.txt"))
    assert app.test_client().get(address).status_code == 409
