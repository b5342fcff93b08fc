"""tus in an application: for its people, below its prefix, under any server."""

from __future__ import annotations

import base64

import pytest
from fixtures_flask import FETCHED_BY_A_PAGE_OF_ITS_OWN, AppFactory
from flask import Flask, session
from flask.testing import FlaskClient

from carboy import Carboy

TUS = {"Tus-Resumable": "1.0.0", **FETCHED_BY_A_PAGE_OF_ITS_OWN}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
NAME = f"filename {base64.b64encode(b'film.mkv').decode()}"


@pytest.fixture
def carboy() -> Carboy:
    return Carboy(expose=["tus"], url_prefix="/my/files", authenticate=lambda: session.get("user"))


@pytest.fixture
def app(make_app: AppFactory, carboy: Carboy) -> Flask:
    app = make_app()
    carboy.space("home", private=True)
    carboy.init_app(app)
    return app


def signed_in(app: Flask, who: str) -> FlaskClient:
    client = app.test_client()
    with client.session_transaction() as kept:
        kept["user"] = who
    return client


def test_an_upload_in_several_requests(app: Flask, carboy: Carboy) -> None:
    ann = signed_in(app, "ann")
    made = ann.post("/my/files/tus/home/", headers={**TUS, "Upload-Length": "10", "Upload-Metadata": NAME})
    assert made.status_code == 201
    address = made.headers["Location"]
    assert address.startswith("/my/files/tus/home/")
    assert ann.patch(address, headers={**BYTES, "Upload-Offset": "0"}, data=b"01234").status_code == 204
    told = ann.head(address, headers=TUS)
    assert (told.headers["Upload-Offset"], told.headers["Upload-Length"], told.headers["Upload-Metadata"]) == ("5", "10", NAME)
    last = ann.patch(address, headers={**BYTES, "Upload-Offset": "5"}, data=b"56789")
    with app.app_context():
        file = carboy.get(last.headers["Carboy-File"])
        assert (file.path, file.owner, b"".join(carboy.open(file))) == ("ann/film.mkv", "ann", b"0123456789")


def test_all_in_one_request(app: Flask, carboy: Carboy) -> None:
    made = signed_in(app, "ann").post("/my/files/tus/home/", headers={**BYTES, "Upload-Length": "5"}, data=b"hello")
    assert (made.status_code, made.headers["Upload-Offset"]) == (201, "5")
    with app.app_context():
        assert b"".join(carboy.open(carboy.get(made.headers["Carboy-File"]))) == b"hello"


def test_parts(app: Flask, carboy: Carboy) -> None:
    ann = signed_in(app, "ann")
    parts = [ann.post("/my/files/tus/home/", headers={**BYTES, "Upload-Length": "5", "Upload-Concat": "partial"}, data=data).headers["Location"]
             for data in (b"hello", b"world")]
    made = ann.post("/my/files/tus/home/", headers={**TUS, "Upload-Concat": f"final;{' '.join(parts)}"})
    with app.app_context():
        assert b"".join(carboy.open(carboy.get(made.headers["Carboy-File"]))) == b"helloworld"
    assert ann.head(made.headers["Location"], headers=TUS).headers["Upload-Concat"] == f"final;{' '.join(parts)}"


def test_what_this_server_does_not_show_is_not_advertised(app: Flask) -> None:
    ann = signed_in(app, "ann")
    told = ann.options("/my/files/tus/home/", headers=TUS)
    assert (told.status_code, told.headers["Tus-Version"]) == (204, "1.0.0")
    assert "checksum" in told.headers["Tus-Extension"].split(",")
    assert "checksum-trailer" not in told.headers["Tus-Extension"].split(",")
    address = ann.post("/my/files/tus/home/", headers={**TUS, "Upload-Length": "5"}).headers["Location"]
    refused = ann.patch(address, headers={**BYTES, "Upload-Offset": "0", "Trailer": "Upload-Checksum"}, data=b"hello")
    assert (refused.status_code, refused.get_json()["field"]) == (400, "Trailer")
    assert ann.head(address, headers=TUS).headers["Upload-Offset"] == "0"


def test_people_do_not_meet(app: Flask) -> None:
    address = signed_in(app, "ann").post("/my/files/tus/home/", headers={**TUS, "Upload-Length": "5"}).headers["Location"]
    bob = signed_in(app, "bob")
    assert bob.head(address, headers=TUS).status_code == 404
    assert bob.delete(address, headers=TUS).status_code == 404
    assert app.test_client().head(address, headers=TUS).status_code == 401


@pytest.mark.parametrize("foreign", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example", "Sec-Fetch-Site": ""}])
def test_another_site_can_not_have_a_browser_do_it(app: Flask, foreign: dict[str, str]) -> None:
    """Nor by a verb that hides in another: GET means GET."""
    ann = signed_in(app, "ann")
    address = ann.post("/my/files/tus/home/", headers={**TUS, "Upload-Length": "5"}).headers["Location"]
    wanted = {**TUS, **foreign, "X-HTTP-Method-Override": "DELETE"}
    assert ann.post(address, headers=wanted).status_code == 403
    assert ann.get(address, headers=wanted).status_code == 404
    assert ann.post("/my/files/tus/home/", headers={**TUS, **foreign, "Upload-Length": "5"}).status_code == 403
    assert ann.head(address, headers=TUS).status_code == 200
    assert ann.post(address, headers={**TUS, "X-HTTP-Method-Override": "DELETE"}).status_code == 204


def test_nothing_else_is_there(app: Flask) -> None:
    ann = signed_in(app, "ann")
    for address in ("/my/files/files/home/a", "/my/files/uploads/x", "/my/files/api/v1/spaces"):
        assert ann.get(address).status_code == 404
