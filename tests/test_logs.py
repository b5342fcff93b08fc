"""What the logs say of a request, and what they never say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import wire
from fixtures_server import Server, ServerFactory, eventually

from carboy.web.logs import shown_path

ID = re.compile(r"[0-9a-f]{16}")


def lines(one: Server, logger: str) -> list[dict[str, Any]]:
    """The lines of a JSON log by this logger."""
    objects = [json.loads(line) for line in one.log().splitlines() if line.startswith("{")]
    return [line for line in objects if line["logger"] == logger]


def line_of(one: Server, id: str, logger: str) -> dict[str, Any]:
    """The one line by this logger about the request with this id; it may be written after the answer."""
    found: list[dict[str, Any]] = eventually(lambda: [line for line in lines(one, logger) if line["request_id"] == id])
    assert len(found) == 1
    return found[0]


# --- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "target", "status"), [("GET", "/healthz", 200), ("GET", "/files/main/absent", 404), ("PATCH", "/files/main/x", 405),
                                                          ("GET", "/nothing/here", 404), ("GET", "/files/main/%00", 400)])
def test_every_answer_has_an_id_and_a_problem_repeats_it(live: Server, method: str, target: str, status: int) -> None:
    answer = live.request(method, target)
    assert answer.status == status
    assert ID.fullmatch(answer.header("X-Request-ID") or "")
    if status >= 400:
        assert answer.json()["request_id"] == answer.header("X-Request-ID")


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nHost: x\r\nBroken header: y\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_has_one_too(live: Server, head: bytes) -> None:
    with live.connect() as connection:
        connection.send(head)
        answer = connection.response()
        assert answer.status == 400
        assert answer.json()["request_id"] == answer.header("X-Request-ID") != ""


def test_ids_are_the_servers_own_and_new_each_time(live: Server) -> None:
    with live.connect() as connection:
        answers = [connection.request("GET", "/healthz", {"X-Request-ID": "mine"}) for _ in range(50)]
    ids = {answer.header("X-Request-ID") for answer in answers}
    assert len(ids) == 50
    assert "mine" not in ids


def test_a_line_names_its_request_as_text_and_as_json(server: ServerFactory) -> None:
    text, objects = server(), server(env={"CARBOY_LOG_FORMAT": "json"})
    id = text.request("PUT", "/files/main/a", body=b"x").header("X-Request-ID")
    assert eventually(lambda: re.search(rf"^\S+ \S+ INFO \[{id}\] stored main/a$", text.log(), re.MULTILINE))
    id = objects.request("PUT", "/files/main/a", body=b"x").header("X-Request-ID") or ""
    assert line_of(objects, id, "carboy.upload")["path"] == "a"


# --- the access log ------------------------------------------------------------------------------------------------


def test_the_access_log_has_a_line_for_each_request_and_no_secret(server: ServerFactory) -> None:
    one = server(env={"CARBOY_LOG_FORMAT": "json", "CARBOY_ACCESS_LOG": "true"})
    size = 3_000_000
    seen = {}
    for method, target, body in (("PUT", "/files/main/a%20b?secret=hidden", bytes(size)), ("GET", "/files/main/a%20b", None), ("HEAD", "/files/main/a%20b", None),
                                 ("GET", "/s/hidden/inside?password=hidden", None), ("GET", "/files/main/s/shown", None), ("GET", "/healthz%0Aforged", None)):
        answer = one.request(method, target, body=body)
        line = line_of(one, answer.header("X-Request-ID") or "", "carboy.access")
        assert (line["method"], line["status"], line["client"]) == (method, answer.status, "127.0.0.1")
        assert line["seconds"] > 0
        seen[method, line["path"]] = line
    assert set(seen) == {("PUT", "/files/main/a b"), ("GET", "/files/main/a b"), ("HEAD", "/files/main/a b"), ("GET", "/s/…/inside"),
                         ("GET", "/files/main/s/shown"), ("GET", "/healthz\\nforged")}
    assert seen["GET", "/files/main/a b"]["size"] == size
    assert seen["HEAD", "/files/main/a b"]["size"] == 0
    token, = one.request("GET", "/api/v1/tokens").json()["tokens"]
    assert seen["GET", "/files/main/a b"]["principal"] == token["id"]
    with one.connect() as connection:
        connection.send(b"nonsense\r\n\r\n")
        refused = connection.response()
    assert line_of(one, refused.header("X-Request-ID") or "", "carboy.access")["status"] == 400
    assert wire.request(one.url, "GET", "/api/v1/files?space=main").status == 401
    assert "hidden" not in one.log()
    assert one.token not in one.log()


def test_the_access_log_as_text(server: ServerFactory) -> None:
    one = server(env={"CARBOY_ACCESS_LOG": "true"})
    id = one.request("GET", "/healthz?x=1").header("X-Request-ID")
    assert eventually(lambda: re.search(rf"INFO \[{id}\] GET /healthz 200, \d+ bytes, \d+\.\d\d\d s, -, 127\.0\.0\.1$", one.log(), re.MULTILINE))


def test_there_is_none_unless_asked_for(live: Server) -> None:
    id = live.request("GET", "/healthz").header("X-Request-ID") or "-"
    live.request("GET", "/healthz")
    assert id not in live.log()


@pytest.mark.parametrize(("path", "shown"), [
    ("/s/TOKEN", "/s/…"), ("/s/TOKEN/a/b", "/s/…/a/b"), ("/s/TOKEN?x=1", "/s/…"), ("/s/", "/s/"), ("/files/main/s/x", "/files/main/s/x"),
    ("/a\u202eb\n", "/a\\u202eb\\n"),
])
def test_the_secret_of_a_link_is_not_shown(path: str, shown: str) -> None:
    assert shown_path(path) == shown
