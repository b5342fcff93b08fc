"""Signed addresses: stateless, expiring, of one file."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fixtures_flask import AppFactory, a_file
from flask import Flask, render_template_string

from carboy import Carboy, Principal
from carboy.errors import NotFound
from carboy.model import Action, File


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def carboy(app: Flask, clock: Clock) -> Carboy:
    return Carboy(app, clock=clock)


def address(app: Flask, carboy: Carboy, *args: object, **options: object) -> str:
    with app.test_request_context():
        return carboy.url_for(*args, **options)  # type: ignore[arg-type]


def test_it_gives_the_file_to_whoever_has_it(app: Flask, carboy: Carboy) -> None:
    file = carboy.put("main", "ä b.txt", b"0123456789")
    for named in (file, file.id):
        where = address(app, carboy, named)
        answer = app.test_client().get(where, headers={"Range": "bytes=3-5"})
        assert (answer.status_code, answer.data) == (206, b"345")
    assert app.test_client().head(where).headers["Content-Length"] == "10"
    assert address(app, carboy, file).endswith("/%C3%A4%20b.txt"), "who saves it gets its name"


@pytest.mark.parametrize("expires", [60, 60.0, timedelta(minutes=1)])
def test_its_time_runs_out(app: Flask, carboy: Carboy, clock: Clock, expires: float) -> None:
    where = address(app, carboy, carboy.put("main", "a.txt", b"a"), expires=expires)
    clock.now += 59
    assert app.test_client().get(where).status_code == 200
    clock.now += 1
    answer = app.test_client().get(where)
    assert (answer.status_code, answer.json["code"], answer.json["reason"]) == (410, "link_expired", "expired")  # type: ignore[index]


def test_it_may_last_as_long_as_the_file(app: Flask, carboy: Carboy, clock: Clock) -> None:
    file = carboy.put("main", "a.txt", b"a")
    where = address(app, carboy, file, expires=None)
    assert where == address(app, carboy, file, expires=None), "and caches know it again"
    clock.now += 10**8
    assert app.test_client().get(where).status_code == 200
    carboy.delete(file)
    assert app.test_client().get(where).status_code == 404
    carboy.put("main", "a.txt", b"another")
    assert app.test_client().get(where).status_code == 404, "a new file of the same name is another one"


def test_no_letter_of_it_can_be_altered(app: Flask, carboy: Carboy) -> None:
    token = address(app, carboy, carboy.put("main", "a.txt", b"a").id).rpartition("/")[2]
    client = app.test_client()
    assert client.get(f"/carboy/signed/{token}").status_code == 200
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        answer = client.get(f"/carboy/signed/{token[:at]}{other}{token[at + 1:]}")
        assert (answer.status_code, answer.json["code"]) == (403, "bad_signature"), at  # type: ignore[index]
    for wrong in (token[:-1], token + "A", "x", "~", "%00", "é"):
        assert client.get(f"/carboy/signed/{wrong}").status_code == 403, wrong


def test_what_was_signed_for_something_else_is_no_address(app: Flask, carboy: Carboy) -> None:
    file = carboy.put("main", "a.txt", b"a")
    token = carboy.services.signer.sign("csrf", [file.id, 0])
    assert app.test_client().get(f"/carboy/signed/{token}").status_code == 403


def test_it_can_ask_to_be_saved_and_stand_in_a_mail(app: Flask, carboy: Carboy) -> None:
    file = carboy.put("main", "a.txt", b"a")
    answer = app.test_client().get(address(app, carboy, file, download=True))
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert address(app, carboy, file, _external=True).startswith("http://localhost/carboy/signed/")


def test_outside_a_request_the_server_name_makes_it_whole(make_app: AppFactory) -> None:
    app = make_app(SERVER_NAME="files.example")
    carboy = Carboy(app)
    with app.app_context():
        assert carboy.url_for("0" * 32).startswith("http://files.example/carboy/signed/")


def test_it_stands_under_the_prefix_and_the_applications_root(make_app: AppFactory) -> None:
    app = make_app(APPLICATION_ROOT="/shop")
    carboy = Carboy(app, url_prefix="/media/files")
    file = carboy.put("main", "a.txt", b"a")
    with app.test_request_context("/", base_url="http://localhost/shop/"):
        where = carboy.url_for(file)
    assert where.startswith("/shop/media/files/signed/")
    assert app.test_client().get(where.removeprefix("/shop"), base_url="http://localhost/shop/").data == b"a"


def test_templates_and_received_files(app: Flask, carboy: Carboy) -> None:
    @app.post("/up")
    @carboy.receives("main")
    def up() -> str:
        photo = carboy.received("photo")
        with pytest.raises(NotFound):
            carboy.url_for(photo)
        photo.keep()
        return render_template_string("{{ carboy.url_for(photo) }}", photo=photo)

    where = app.test_client().post("/up", data={"photo": a_file(b"text", "a.txt")}).text
    assert app.test_client().get(where).data == b"text"


def test_the_application_may_still_say_no(make_app: AppFactory) -> None:
    asked: list[tuple[str, Action, str, str]] = []

    def authorise(principal: Principal, action: Action, space: str, file: File | None) -> bool | None:
        asked.append((principal.kind, action, space, file.path if file else ""))
        return False if file and file.path == "secret" else None

    app = make_app()
    carboy = Carboy(app, authorise=authorise)
    secret, plain = carboy.put("main", "secret", b"s"), carboy.put("main", "plain", b"p")
    assert asked == [], "Python calls are trusted"
    assert app.test_client().get(address(app, carboy, secret)).status_code == 404
    assert app.test_client().get(address(app, carboy, plain)).status_code == 200
    assert asked == [("link", "read", "main", "secret"), ("link", "read", "main", "plain")]
