"""flask-limiter counts views that receive files, and Carboy's own routes, as it does any others; Carboy's own limits work without it."""

from __future__ import annotations

from typing import Any

from fixtures_flask import AppFactory, a_file, stored_bytes
from flask import Flask, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from carboy import Carboy


def limiter_of(app: Flask, **options: Any) -> Limiter:
    return Limiter(get_remote_address, app=app, storage_uri="memory://", **options)


def test_a_view_that_receives_files(app: Flask) -> None:
    carboy = Carboy(app)
    photos = carboy.space("photos")
    limiter = limiter_of(app)

    @app.post("/photo")
    @limiter.limit("2/day")
    @carboy.receives(photos)
    def photo() -> str:
        return str(request.files["photo"].keep().id)

    client = app.test_client()
    statuses = [client.post("/photo", data={"photo": a_file()}).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert len(stored_bytes(app)) == 2, "what is refused is not received"


def test_all_routes_of_carboy(app: Flask) -> None:
    carboy = Carboy(app, expose=["files", "api"], authenticate=lambda: "ann")
    carboy.space("home", private=True)
    limiter = limiter_of(app, headers_enabled=True)
    limiter.limit("3/day")(carboy.blueprint)

    @app.get("/free")
    def free() -> str:
        return "free"

    client = app.test_client()
    answers = [client.get("/carboy/api/v1/files?space=home") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["X-RateLimit-Remaining"] == "2"
    assert [client.get("/free").status_code for _ in range(5)] == [200] * 5


def test_an_application_wide_limit(app: Flask) -> None:
    Carboy(app, expose=["api"], authenticate=lambda: "ann").space("home", private=True)
    limiter_of(app, default_limits=["2/day"])
    client = app.test_client()
    assert [client.get("/carboy/api/v1/spaces").status_code for _ in range(4)] == [200, 200, 429, 429]


def test_carboys_own_limits_count_an_applications_users(make_app: AppFactory) -> None:
    app = make_app(CARBOY_RATE_LIMIT="2/day")
    Carboy(app, expose=["api"], authenticate=lambda: request.headers["X-User"]).space("home", private=True)
    client = app.test_client()

    def ask(who: str) -> Any:
        return client.get("/carboy/api/v1/spaces", headers={"X-User": who})

    assert [ask("ann").status_code for _ in range(3)] == [200, 200, 429]
    assert ask("bob").status_code == 200
    refused = ask("ann")
    assert (refused.json["code"], refused.headers["RateLimit-Remaining"]) == ("rate_limited", "0")
    assert int(refused.headers["Retry-After"]) >= 1
