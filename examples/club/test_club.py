"""Sign in, change the photo, share papers: through the pages, as a browser would."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from carboy.testing import temporary_carboy

sys.path.insert(0, str(Path(__file__).parent))

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(50)
PDF = b"%PDF-1.7\n" + bytes(50)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    from club import create_app
    from club.extensions import database
    from club.models import Member

    app = create_app(TESTING=True, SECRET_KEY="testing", SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'club.sqlite3'}")
    with app.app_context():
        database.create_all()
        for name in ("ann", "bob"):
            member = Member(name=name)
            member.set_password(name)
            database.session.add(member)
        database.session.commit()
    with temporary_carboy(app):
        yield app
    with app.app_context():
        database.engine.dispose()


class Browser:
    """Somebody with cookies who fills in the forms that pages show."""

    def __init__(self, app: Flask, name: str | None = None) -> None:
        self.client: FlaskClient = app.test_client()
        if name:
            assert self.fill("/sign-in", name=name, password=name).status_code == 302

    def fill(self, page: str, **fields: Any) -> TestResponse:
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.client.get(page).text)
        assert token
        return self.client.post(page, data={"csrf_token": token[1], **fields})


@pytest.fixture
def ann(app: Flask) -> Browser:
    return Browser(app, "ann")


def stored(app: Flask, space: str) -> list[Any]:
    return list(app.extensions["carboy"].carboy.list(space))


def test_a_photo(app: Flask, ann: Browser) -> None:
    assert ann.fill("/photo", photo=(io.BytesIO(PNG), "me.png")).status_code == 302
    assert '<img src="/members/1/photo"' in ann.client.get("/").text
    assert Browser(app, "bob").client.get("/members/1/photo").data == PNG
    (file,) = stored(app, "photos")
    assert (file.owner, file.media_type) == ("1", "image/png")
    assert ann.fill("/photo", photo=(io.BytesIO(PNG + b"2"), "me.png")).status_code == 302
    assert [each.size for each in stored(app, "photos")] == [len(PNG) + 1]


@pytest.mark.parametrize(("data", "name", "told"), [
    (b"", "", "This field is required"), (PNG, "me.txt", "Photos only."), (PNG[:40], "me.png", "File must be between 60 and 5000000 bytes"),
])
def test_validators_tell_what_is_wrong_and_nothing_is_kept(app: Flask, ann: Browser, data: bytes, name: str, told: str) -> None:
    answer = ann.fill("/photo", photo=(io.BytesIO(data), name))
    assert (answer.status_code, told in answer.text) == (200, True)
    assert stored(app, "photos") == []


def test_what_only_is_called_a_photo_is_refused_before_the_view(app: Flask, ann: Browser) -> None:
    answer = ann.fill("/photo", photo=(io.BytesIO(b"<html>"), "me.png"))
    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_type")  # type: ignore[index]


def test_papers(app: Flask, ann: Browser) -> None:
    answer = ann.fill("/share", title="Minutes", papers=[(io.BytesIO(PDF), "minutes.pdf"), (io.BytesIO(b"notes"), "notes.txt")])
    assert answer.status_code == 302
    kept = stored(app, "papers")
    assert sorted((file.name, file.metadata["title"]) for file in kept) == [("minutes.pdf", "Minutes"), ("notes.txt", "Minutes")]
    addresses = re.findall(r'href="(/carboy/signed/[^"]+)"', Browser(app, "bob").client.get("/").text)
    answers = [app.test_client().get(address) for address in addresses]
    assert sorted(one.data for one in answers) == sorted([PDF, b"notes"])
    assert all(one.headers["Content-Disposition"].startswith("attachment") for one in answers)


def test_without_its_token_a_form_does_nothing(app: Flask, ann: Browser) -> None:
    answer = ann.client.post("/photo", data={"photo": (io.BytesIO(PNG), "me.png")})
    assert (answer.status_code, "CSRF" in answer.text, stored(app, "photos")) == (400, True, [])


def test_strangers_are_sent_to_sign_in(app: Flask) -> None:
    client = app.test_client()
    for address in ("/", "/photo", "/members/1/photo"):
        assert client.get(address).status_code == 302
    assert client.get("/carboy/files/own/").status_code == 401


def test_each_member_has_files_of_their_own(app: Flask, ann: Browser) -> None:
    """Carboy's own routes need no form token: they know requests of other sites by themselves."""
    bob, own = Browser(app, "bob"), {"Sec-Fetch-Site": "same-origin"}
    assert ann.client.put("/carboy/files/own/a.txt", data=b"ann's", headers=own).status_code == 201
    assert ann.client.put("/carboy/files/own/b.txt", data=b"x", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert ann.client.get("/carboy/files/own/a.txt").data == b"ann's"
    assert bob.client.get("/carboy/files/own/a.txt").status_code == 404


def test_the_command_line_serves_the_same_data(app: Flask, ann: Browser) -> None:
    ann.fill("/photo", photo=(io.BytesIO(PNG), "me.png"))
    result = app.test_cli_runner().invoke(args=["carboy", "fsck", "--deep"])
    assert (result.exit_code, "1 blobs" in result.output) == (0, True), result.output
