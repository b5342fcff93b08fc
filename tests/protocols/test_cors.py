"""Pages of other origins: preflights, and answers that they may read, problems too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import wire
from fixtures_server import Server

from carboy.config import load
from carboy.errors import ConfigError
from carboy.web.cors import ALLOWED, EXPOSED

APP = "https://app.example"
TARGETS = ("/files/main/a", "/files/main/", "/tus/main/", "/uploads/x", "/widgets/filepond/main", "/direct/main/s3/multipart", "/api/v1/files", "/nothing", "/upload")


@pytest.fixture(scope="module", params=[APP, "*"])
def open_to(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    server = Server(tmp_path_factory.mktemp("cors") / "data", env={"CARBOY_CORS_ORIGINS": f'["{request.param}"]'}).start()
    yield server, request.param
    server.stop()
    server.must_be_sound()


def listed(answer: wire.Response, name: str) -> set[str]:
    return {one.strip() for one in str(answer.header(name)).split(",")}


@pytest.mark.parametrize("target", TARGETS)
def test_preflights(open_to: tuple[Server, str], target: str) -> None:
    server, allowed = open_to
    answer = wire.request(server.url, "OPTIONS", target, {
        "Origin": APP, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,upload-offset,x-of-my-own"})
    assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (204, allowed)
    assert {"PATCH", "DELETE", "PUT"} <= listed(answer, "Access-Control-Allow-Methods")
    assert {*ALLOWED, "x-of-my-own"} <= listed(answer, "Access-Control-Allow-Headers")
    assert int(str(answer.header("Access-Control-Max-Age"))) > 0
    assert "Origin" in listed(answer, "Vary")
    assert answer.header("Access-Control-Allow-Credentials") is None


@pytest.mark.parametrize(("method", "target", "headers", "status"), [
    ("PUT", "/files/main/cors.txt", {}, 201), ("GET", "/files/main/cors.txt", {}, 200), ("GET", "/files/main/none", {}, 404),
    ("PUT", "/files/main/x", {"Authorization": "Bearer wrong"}, 401), ("POST", "/tus/main/", {"Tus-Resumable": "1.0.0"}, 400),
    ("TRACE", "/files/main/x", {}, 405)])
def test_answers_and_problems_can_be_read(open_to: tuple[Server, str], method: str, target: str, headers: dict[str, str], status: int) -> None:
    server, allowed = open_to
    answer = server.request(method, target, {"Origin": APP, **headers}, b"body" if method == "PUT" else None)
    assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (status, allowed)
    assert set(EXPOSED) <= listed(answer, "Access-Control-Expose-Headers")
    assert "Origin" in listed(answer, "Vary")
    assert answer.header("Access-Control-Allow-Credentials") is None


@pytest.mark.parametrize("head", [f"GET / HTTP/1.1\r\nOrigin: {APP}\r\n\r\n", f"G@T / HTTP/1.1\r\nHost: a\r\norigin:{APP}\r\n\r\n",
                                  f"PUT /files/main/x HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nContent-Length: -1\r\n\r\n"], ids=range(3))
def test_what_is_refused_before_it_is_understood(open_to: tuple[Server, str], head: str) -> None:
    server, allowed = open_to
    with server.connect() as connection:
        connection.send(head)
        answer = connection.response()
    assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (400, allowed)


def test_no_origin_takes_long_to_be_read(open_to: tuple[Server, str]) -> None:
    with open_to[0].connect() as connection:
        connection.send("GET / HTTP/1.1\r\nHost: a\r\nOrigin:" + " " * 60_000 + "\rx\r\n\r\n")
        assert connection.response().status in (400, 431)


def test_other_origins_are_let_in_nowhere(open_to: tuple[Server, str]) -> None:
    server, allowed = open_to
    if allowed == "*":
        return
    for origin in ("https://app.example.evil", "http://app.example", "https://app.example:444", "null", "https://APP.example/"):
        preflight = wire.request(server.url, "OPTIONS", "/files/main/a", {"Origin": origin, "Access-Control-Request-Method": "PUT"})
        answer = server.request("GET", "/files/main/", {"Origin": origin})
        assert (preflight.header("Access-Control-Allow-Origin"), answer.header("Access-Control-Allow-Origin")) == (None, None)
        assert "Origin" in listed(answer, "Vary")
    assert server.request("GET", "/files/main/").header("Access-Control-Allow-Origin") is None


def test_without_the_setting_nothing_is_said(live: Server) -> None:
    answer = live.request("GET", "/files/main/", {"Origin": APP})
    assert answer.header("Access-Control-Allow-Origin") is None
    assert "Origin" not in str(answer.header("Vary"))


def test_a_cookie_proves_nothing_to_another_origin(open_to: tuple[Server, str]) -> None:
    server, _ = open_to
    login = wire.request(server.url, "POST", "/login", {"Content-Type": "application/x-www-form-urlencoded"}, f"token={server.token}".encode())
    cookie = next(line.partition(";")[0] for line in login.all("Set-Cookie") if "=" in line)
    for origin in ({"Origin": APP}, {"Origin": APP, "Sec-Fetch-Site": "cross-site"}):
        answer = wire.request(server.url, "PUT", "/files/main/stolen", {"Cookie": cookie, **origin}, b"x")
        assert answer.status == 403


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://a b", "https://*.example/x"])
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ConfigError, match="cors_origins"):
        load(cors_origins=[origin])
