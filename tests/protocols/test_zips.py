"""Zips over HTTP: their length is told and kept to, and what broke off goes on."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_server import ServerFactory
from fixtures_site import Site


@pytest.fixture(scope="module")
def trip(shared_site: Site) -> dict[str, bytes]:
    """A folder of some files, as they lie in an archive."""
    files = {f"zipped/{number:02}/é{number}.bin": bytes([number]) * (number * 9001) for number in range(12)}
    for path, data in files.items():
        assert shared_site.ask("PUT", f"/files/main/{wire_path(path)}", body=data, who="ann").status in (200, 201)
    return files


def wire_path(path: str) -> str:
    return path.replace("é", "%C3%A9")


def ask(site: Site, body: dict[str, Any], headers: dict[str, str] | None = None, who: str = "ann") -> wire.Response:
    return site.ask("POST", "/api/v1/zip", headers or {}, json.dumps(body).encode(), who=who)


def test_an_archive_of_a_folder(site: Site, trip: dict[str, bytes]) -> None:
    answer = ask(site, {"paths": ["zipped/"], "name": "Our trip ☀.zip"})
    assert answer.status == 200
    assert answer.header("Content-Length") == str(len(answer.body)), "exactly"
    assert answer.header("Content-Type") == "application/zip"
    assert answer.header("Content-Disposition") == "attachment; filename=\"Our trip _.zip\"; filename*=UTF-8''Our%20trip%20%E2%98%80.zip"
    assert (answer.header("X-Content-Type-Options"), answer.header("Cache-Control")) == ("nosniff", "private, no-cache")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as found:
        assert {info.filename: found.read(info) for info in found.infolist()} == trip


def test_it_goes_on_where_it_broke_off(site: Site, trip: dict[str, bytes]) -> None:
    first = ask(site, {"paths": ["zipped/"]})
    address, tag = first.header("Content-Location") or "", first.header("ETag") or ""
    for start in (0, 1, 29, 10_000, 99_999, len(first.body) - 100, len(first.body) - 1):
        rest = site.ask("GET", address, {"Range": f"bytes={start}-", "If-Range": tag}, who="ann")
        assert (rest.status, rest.header("Content-Range")) == (206, f"bytes {start}-{len(first.body) - 1}/{len(first.body)}")
        assert first.body[:start] + rest.body == first.body
    middle = site.ask("GET", address, {"Range": "bytes=5000-5999"}, who="ann")
    assert middle.body == first.body[5000:6000] and middle.header("Content-Length") == "1000"


def test_its_address_is_as_a_files(site: Site, trip: dict[str, bytes]) -> None:
    made = ask(site, {"paths": ["zipped/"]}, {"Accept": "application/json"})
    told = made.json()
    assert made.status == 201 and made.header("Location") == told["url"] and told["files"] == len(trip)
    head = site.ask("HEAD", told["url"], who="ann")
    assert (head.status, head.header("Content-Length"), head.body) == (200, str(told["size"]), b"")
    tag = head.header("ETag") or ""
    assert site.ask("GET", told["url"], {"If-None-Match": tag}, who="ann").status == 304
    assert site.ask("GET", told["url"], {"If-Match": '"another"'}, who="ann").status == 412
    assert site.ask("GET", told["url"], {"Range": "bytes=5-", "If-Range": '"another"'}, who="ann").status == 200
    assert site.ask("GET", told["url"], {"Range": f"bytes={told['size']}-"}, who="ann").status == 416
    assert site.ask("GET", told["url"], {"Range": "bytes=0-1,5-6"}, who="ann").status == 200, "one range at a time"
    assert len(site.ask("GET", told["url"], who="ann").body) == told["size"]


@pytest.mark.parametrize("body, status, code", [
    ({}, 400, "invalid_request"), ({"paths": []}, 400, "invalid_request"), ({"paths": ["nowhere/"]}, 404, "not_found"),
    ({"paths": ["../x"]}, 400, "invalid_name"), ({"ids": ["x"]}, 400, "invalid_request"), ({"ids": ["0" * 32]}, 404, "not_found"),
    ({"paths": ["zipped/"], "space": "vault"}, 404, "not_found"), ({"paths": ["zipped/"], "name": "a/../b\0"}, 400, "invalid_name"),
    ({"paths": ["zipped/"], "level": 9}, 400, "invalid_request"), ({"paths": "zipped/"}, 400, "invalid_request"),
    ({"paths": ["x"] * 10_001}, 400, "invalid_request"),
])
def test_archives_that_are_none(site: Site, trip: dict[str, bytes], body: dict[str, Any], status: int, code: str) -> None:
    before = site.kept()
    answer = ask(site, body)
    assert (answer.status, answer.json()["code"]) == (status, code)
    site.must_be_as(before)


def test_a_client_that_leaves_harms_nobody(site: Site, trip: dict[str, bytes]) -> None:
    made = ask(site, {"paths": ["zipped/"]}, {"Accept": "application/json"}).json()
    for _ in range(3):
        with site.server.connect() as connection:
            connection.send(wire.head("GET", made["url"], site.fields("ann")))
            connection.socket.recv(1)
            connection.reset()
    assert len(site.ask("GET", made["url"], who="ann").body) == made["size"]


def test_bytes_that_are_gone_are_told_before_the_first_byte(server: ServerFactory) -> None:
    one = server(allow_errors=True)
    for name in "ab":
        one.request("PUT", f"/files/main/f/{name}.txt", body=name.encode())
    made = one.request("POST", "/api/v1/zip", {"Accept": "application/json"}, b'{"paths": ["f/"]}').json()
    for blob in Path(one.data / "blobs").glob("*/*"):
        blob.unlink()
    answer = one.request("GET", made["url"])
    assert (answer.status, answer.json()["code"]) == (500, "bytes_missing")
