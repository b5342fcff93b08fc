"""What happens, told within an application: to its people, as it lets them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from fixtures_flask import AppFactory
from flask import Flask, current_app, session
from flask.testing import FlaskClient

from carboy import Carboy, File, Principal
from carboy.model import Action


def signed_in(app: Flask, who: str) -> FlaskClient:
    client = app.test_client()
    with client.session_transaction() as kept:
        kept["user"] = who
    return client


def stream(client: FlaskClient, query: str = "") -> Iterator[str]:
    """The pieces of the body as they come."""
    answer = client.get(f"/carboy/api/v1/events{query}", buffered=False)
    assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
    pieces = iter(answer.response)
    next(pieces)
    return (piece.decode() if isinstance(piece, bytes) else piece for piece in pieces)


def test_users_hear_of_their_own_files(make_app: AppFactory) -> None:
    app = make_app()
    carboy = Carboy(app, expose=["api"], authenticate=lambda: session.get("user"))
    carboy.space("home", private=True)
    ann = stream(signed_in(app, "ann"))
    with app.app_context():
        carboy.put("home", "secret", b"x", owner="bob")
        carboy.put("home", "own", b"x", owner="ann")
    first = next(ann)
    assert '"path": "own"' in first and "secret" not in first
    assert app.test_client().get("/carboy/api/v1/events").status_code == 401
    carboy.close()
    assert list(ann) == []


def test_the_application_has_its_say_of_each(make_app: AppFactory) -> None:
    """Its hook runs in its context, though the request is over by then."""
    app = make_app()

    def authorise(principal: Principal, action: Action, space: str, file: File | None) -> Any:
        assert current_app.name == app.name
        return file is None or file.name.startswith("open")

    carboy = Carboy(app, expose=["api"], authenticate=lambda: session.get("user"), authorise=authorise)
    ann = stream(signed_in(app, "ann"), "?space=main")
    with app.app_context():
        carboy.put("main", "shut", b"x")
        carboy.put("main", "open", b"x")
    first = next(ann)
    assert '"path": "open"' in first and "shut" not in first
    carboy.close()


def test_it_has_its_say_of_what_is_deleted_too(make_app: AppFactory) -> None:
    """Of what is in the trash as of what is there; what is gone for good is told to who owned it and who sees everything."""
    app = make_app()

    def authorise(principal: Principal, action: Action, space: str, file: File | None) -> Any:
        return file is None or file.name.startswith("open")

    carboy = Carboy(app, expose=["api"], authenticate=lambda: session.get("user"), authorise=authorise)
    begin = f"{carboy.services.catalog.latest()}-{int(time.time())}"
    with app.app_context():
        for path, owner, permanent in (("shut/a", "bob", False), ("shut/b", "bob", True), ("shut/c", "ann", True), ("open", "bob", False)):
            file = carboy.put("main", path, b"x", owner=owner)
            carboy.delete(file, permanent=permanent)
        carboy.put("main", "open-last", b"x", owner="bob")
    for who, told in (("ann", ["shut/c", "shut/c", "open", "open"]), ("eve", ["open", "open"])):
        pieces = stream(signed_in(app, who), f"?space=main&last_event_id={begin}")
        heard = ""
        while "open-last" not in heard:
            heard += next(pieces)
        assert re.findall('"path": "(.*?)"', heard) == [*told, "open-last"]
    carboy.close()
