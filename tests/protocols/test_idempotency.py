"""``Idempotency-Key``: a creating request that is sent again is answered as the first time, and done once."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import wire
from fixtures_site import FORM, Site, field, file, multipart

TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": "filename YS5iaW4="}
CREATING = {
    "put": ("PUT", "/files/main/keyed/put.txt", {}, b"put"),
    "form": ("POST", "/files/twins/keyed/", {"Content-Type": FORM}, multipart(file("file", "a.txt", b"form"))),
    "classic": ("POST", "/upload", {"Content-Type": FORM}, multipart(file("file", "keyed.txt", b"classic"))),
    "tus": ("POST", "/tus/twins/", TUS, None),
    "dropzone": ("POST", "/widgets/dropzone/twins", {"Content-Type": FORM}, multipart(file("file", "d.txt", b"dropzone"))),
    "filepond": ("POST", "/widgets/filepond/twins", {"Content-Type": FORM, "Upload-Length": "9"}, multipart(field("filepond", "{}"))),
    "link": ("POST", "/api/v1/links", {"Content-Type": "application/json"}, json.dumps({"kind": "inbox", "space": "main", "path": "in/"}).encode()),
}


def keyed(headers: Mapping[str, str], key: str) -> dict[str, str]:
    return {**headers, "Idempotency-Key": key}


def told(answer: wire.Response) -> tuple[object, ...]:
    """All that is the answer's own."""
    new = {"x-request-id", "idempotency-replayed", "date", "connection"}
    return answer.status, sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in new), answer.body


@pytest.mark.parametrize("kind", CREATING)
def test_it_is_done_once(site: Site, kind: str) -> None:
    method, target, headers, body = CREATING[kind]
    key = secrets.token_hex()
    first = site.ask(method, target, keyed(headers, key), body, who="ann")
    assert first.status in (200, 201), first
    before = site.kept()
    again = site.ask(method, target, keyed(headers, key), body, who="ann")
    site.must_be_as(before)
    assert told(again) == told(first)
    assert (first.header("Idempotency-Replayed"), again.header("Idempotency-Replayed")) == (None, "true")
    assert first.header("X-Request-ID") != again.header("X-Request-ID")


def test_another_request_with_the_key_is_refused(site: Site) -> None:
    key = keyed({}, secrets.token_hex())
    assert site.ask("PUT", "/files/main/keyed/one.txt", key, b"one", who="ann").status == 201
    for method, target, headers, body in (("PUT", "/files/main/keyed/two.txt", {}, b"one"), ("PUT", "/files/main/keyed/one.txt", {}, b"longer"),
                                          ("POST", "/upload", {}, b"one"), ("PUT", "/files/main/keyed/one.txt", {"Content-MD5": "x"}, b"one")):
        answer = site.ask(method, target, {**headers, **key}, body, who="ann")
        assert (answer.status, answer.json()["code"]) == (422, "key_reused")


def test_keys_of_one_are_none_of_another(site: Site) -> None:
    key = keyed({}, secrets.token_hex())
    for who, size in (("ann", 1), ("bob", 2), ("nobody", 3)):
        answer = site.ask("PUT", f"/files/inbox/keyed/{who}.txt", key, b"x" * size, who=who)
        assert (answer.status, answer.header("Idempotency-Replayed")) == (201, None)


def test_what_failed_may_be_tried_again(site: Site) -> None:
    key = keyed({}, secrets.token_hex())
    wrong = {**key, "If-Match": '"none"'}
    assert site.ask("PUT", "/files/main/keyed/failed.txt", wrong, b"new", who="ann").status == 412
    with site.server.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/keyed/failed.txt", site.fields("ann", {**key, "Content-Length": "3"})) + b"ne")
        connection.end_writing()
        assert connection.response("PUT").status == 400
    answer = site.ask("PUT", "/files/main/keyed/failed.txt", key, b"new", who="ann")
    assert (answer.status, answer.header("Idempotency-Replayed")) == (201, None)


def test_while_the_first_is_under_way(site: Site) -> None:
    key = keyed({}, secrets.token_hex())
    with site.server.connect() as connection:
        connection.send(wire.head("PUT", "/files/main/keyed/slow.txt", site.fields("ann", {**key, "Content-Length": "4", "Expect": "100-continue"})))
        assert connection.interim().status == 100, "it is being received"
        answer = site.ask("PUT", "/files/main/keyed/slow.txt", key, b"slow", who="ann")
        assert (answer.status, answer.json()["code"], answer.header("Retry-After")) == (409, "request_under_way", "1")
        connection.send(b"slow")
        assert connection.response("PUT").status == 201
    assert site.ask("PUT", "/files/main/keyed/slow.txt", key, b"slow", who="ann").header("Idempotency-Replayed") == "true"


def test_many_at_once_make_one(site: Site) -> None:
    key = keyed({"Content-Type": FORM}, secrets.token_hex())
    body = multipart(file("file", "once.txt", b"once"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: site.ask("POST", "/files/twins/keyed-once/", key, body, who="ann"), range(8)))
    assert {answer.status for answer in answers} <= {201, 409}
    assert site.paths("twins", "keyed-once/") == ["keyed-once/once.txt"]


@pytest.mark.parametrize("key", ["", "x" * 256, "wörd", "a\tb"])
def test_keys_that_are_none(site: Site, key: str) -> None:
    assert site.ask("PUT", "/files/main/keyed/none.txt", keyed({}, key), b"x", who="ann").status == 400


def test_secrets_are_not_kept(site: Site) -> None:
    body = json.dumps({"name": "x", "scopes": ["main:read"]}).encode()
    assert site.ask("POST", "/api/v1/tokens", keyed({}, "k"), body).status == 400


def test_reading_has_no_use_for_it(site: Site) -> None:
    assert site.ask("GET", "/files/main/", keyed({}, "x" * 999)).status == 200
