"""What steps made of a file, over HTTP: listed, sent, and seen on the file's page; with the rights of the file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Browser
from fixtures_server import Server, eventually
from fixtures_site import Site
from PIL import Image

CONFIG = """
durability = "relaxed"
thumbnail_formats = ["webp", "jpeg"]
clamd = "unix:/nowhere/clamd"

[spaces]
main = { steps = ["image", "thumbnails"] }
home = { private = true, steps = ["thumbnails"] }
shop = { public = "read", steps = ["thumbnails"] }
checked = { steps = ["thumbnails"], hold = ["scan"] }
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that makes thumbnails, and people."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "carboy.toml").write_text(CONFIG)
    server = Server(folder / "data", args=["--config", str(folder / "carboy.toml")])
    site = Site(server.start())
    for name, scopes in {"ann": ["main:read,write,delete", "home:read,write", "checked:read,write"],
                         "bob": ["home:read,write", "checked:read,write"], "reader": ["main:read"]}.items():
        made = site.ask("POST", "/api/v1/tokens", body=json.dumps({"name": name, "scopes": scopes}).encode())
        site.secrets[name] = made.json()["secret"]
    yield site
    if server.running:
        server.stop()
    server.must_be_sound()


def photo(colour: str = "red") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (800, 600), colour).save(written, "JPEG")
    return written.getvalue()


def made(site: Site, target: str, data: bytes, *, who: str = "admin") -> dict[str, Any]:
    """The file once there are thumbnails of it."""
    answer = site.ask("PUT", target, body=data, who=who)
    assert answer.status in (200, 201), answer
    file: dict[str, Any] = answer.json()
    eventually(lambda: listed(site, file, who=who))
    return file


def listed(site: Site, file: dict[str, Any], *, who: str = "admin") -> list[dict[str, Any]]:
    answer = site.ask("GET", file["derived_url"], who=who)
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.json()["derived"]
    return found


def test_what_was_made_of_a_file_is_listed_and_sent(pictures: Site) -> None:
    file = made(pictures, "/files/main/listed.jpg", photo())
    found = {one["name"]: one for one in listed(pictures, file)}
    assert list(found) == ["160.jpeg", "160.webp", "640.jpeg", "640.webp"]
    one = found["160.webp"]
    assert one["content_url"] == f"/api/v1/files/{file['id']}/derived/thumbnails/160.webp"
    assert (one["step"], one["media_type"], one["facts"]) == ("thumbnails", "image/webp", {"width": 160, "height": 120})
    answer = pictures.ask("GET", one["content_url"])
    assert (answer.status, answer.header("Content-Type"), answer.header("ETag")) == (200, "image/webp", one["etag"])
    assert len(answer.body) == one["size"]
    assert Image.open(io.BytesIO(answer.body)).size == (160, 120)


def test_it_goes_out_as_carefully_as_files_do(pictures: Site) -> None:
    file = made(pictures, "/files/main/careful.jpg", photo())
    target = f"{file['derived_url']}/thumbnails/640.jpeg"
    whole = pictures.ask("GET", target)
    assert whole.header("X-Content-Type-Options") == "nosniff"
    assert whole.header("Content-Security-Policy") == "default-src 'none'; sandbox"
    assert whole.header("Cache-Control") == "private, no-cache" and whole.header("Vary") == "Cookie, Authorization"
    assert whole.header("Content-Disposition") == 'inline; filename="640.jpeg"'
    head = pictures.ask("HEAD", target)
    assert (head.status, head.header("Content-Length"), head.body) == (200, str(len(whole.body)), b"")
    part = pictures.ask("GET", target, {"Range": "bytes=2-9"})
    assert (part.status, part.body) == (206, whole.body[2:10])
    assert pictures.ask("GET", target, {"Range": "bytes=999999-"}).status == 416
    etag = whole.header("ETag") or ""
    assert pictures.ask("GET", target, {"If-None-Match": etag}).status == 304
    assert pictures.ask("GET", target, {"If-Match": '"other"'}).status == 412
    assert "attachment" in (pictures.ask("GET", f"{target}?download").header("Content-Disposition") or "")


def test_it_has_the_rights_of_the_file(pictures: Site) -> None:
    shared, own = made(pictures, "/files/main/shared.jpg", photo(), who="ann"), made(pictures, "/files/home/own.jpg", photo(), who="ann")
    statuses = {(who, file["space"]): [pictures.ask("GET", target, who=who).status
                                       for target in (file["derived_url"], f"{file['derived_url']}/thumbnails/160.webp")]
                for file in (shared, own) for who in ("ann", "bob", "reader", "nobody")}
    assert statuses == {
        ("ann", "main"): [200, 200], ("reader", "main"): [200, 200], ("bob", "main"): [404, 404], ("nobody", "main"): [401, 401],
        ("ann", "home"): [200, 200], ("reader", "home"): [404, 404], ("bob", "home"): [404, 404], ("nobody", "home"): [401, 401]}


def test_it_is_held_back_as_the_file_is(pictures: Site) -> None:
    """Nothing scans here, so the file stays pending; its owner gets both, and others don't even learn what was made of it."""
    file = made(pictures, "/files/checked/held.jpg", photo(), who="ann")
    assert listed(pictures, file, who="bob") == []
    target = f"{file['derived_url']}/thumbnails/160.webp"
    assert [pictures.ask("GET", one, who="ann").status for one in (file["content_url"], target)] == [200, 200]
    answers = [pictures.ask("GET", one, who="bob") for one in (file["content_url"], target)]
    assert [(answer.status, answer.json()["code"]) for answer in answers] == [(409, "pending")] * 2


def test_of_a_public_file_anybody_gets_them_and_caches_may_keep_them(pictures: Site) -> None:
    file = made(pictures, "/files/shop/public.jpg", photo())
    answer = pictures.ask("GET", f"{file['derived_url']}/thumbnails/160.webp", who="nobody")
    assert (answer.status, answer.header("Cache-Control"), answer.header("Vary")) == (200, "no-cache", None)


@pytest.mark.parametrize("rest", ["/thumbnails/161.webp", "/image/160.webp", "/thumbnails/..%2f160.webp", "/thumbnails/", "/thumbnails",
                                  "/thumbnails/160.webp/more", "/%ff/160.webp", "/thumbnails/%00"])
def test_what_nobody_made_is_not_there(pictures: Site, rest: str) -> None:
    file = made(pictures, "/files/main/rest.jpg", photo())
    answer = pictures.ask("GET", file["derived_url"] + rest)
    assert answer.status in (400, 404) and answer.header("Content-Type") == "application/problem+json"


def test_of_a_file_that_is_not_there_nothing_is(pictures: Site) -> None:
    for target in (f"/api/v1/files/{'0' * 32}/derived", f"/api/v1/files/{'0' * 32}/derived/thumbnails/160.webp"):
        assert pictures.ask("GET", target).json()["code"] == "not_found"


def test_a_new_content_has_pictures_of_its_own_and_a_copy_shares_them(pictures: Site) -> None:
    file = made(pictures, "/files/main/new.jpg", photo("red"))
    copied = pictures.ask("POST", f"/api/v1/files/{file['id']}/copy", body=b'{"path": "copied.jpg"}').json()
    before = {one["etag"] for one in listed(pictures, file)}
    assert {one["etag"] for one in listed(pictures, copied)} == before
    made(pictures, "/files/main/new.jpg", photo("blue"))
    after = {one["etag"] for one in listed(pictures, file)}
    assert len(after) == 4 and after & before == set()
    answer = pictures.ask("GET", f"{file['derived_url']}/thumbnails/160.webp")
    red, _, blue = Image.open(io.BytesIO(answer.body)).convert("RGB").getpixel((80, 60))  # type: ignore[misc]
    assert blue > 200 and red < 50
    pictures.ask("DELETE", f"/api/v1/files/{file['id']}?permanent")
    assert {one["etag"] for one in listed(pictures, copied)} == before


def test_a_bomb_fails_its_job_and_the_file_stays(pictures: Site) -> None:
    """Security case 34, end to end."""
    bomb = b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(3) + b"\xff" * 3 + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;"
    answer = pictures.ask("PUT", "/files/main/bomb.gif", body=bomb)
    assert answer.status == 201
    made(pictures, "/files/main/after.jpg", photo())
    assert listed(pictures, answer.json()) == []
    assert pictures.content("/files/main/bomb.gif") == bomb


def test_the_files_page_shows_the_thumbnail(pictures: Site) -> None:
    file = made(pictures, "/files/main/page.jpg", photo())
    browser = Browser(pictures).sign_in("ann")
    page = browser.page(f"/page/files/{file['id']}")
    shown = re.findall(r'class="preview"[^>]*><img src="([^"]+)"', page.html)
    assert shown and shown[0] in {f"{file['derived_url']}/thumbnails/640.{format}" for format in ("webp", "jpeg")}
    assert Image.open(io.BytesIO(browser.ask("GET", shown[0]).body)).size == (640, 480)
    assert shown[0] in page.links and "made by thumbnails" in page.text
    assert "img-src 'self'" in str(browser.ask("GET", f"/page/files/{file['id']}").header("Content-Security-Policy"))
