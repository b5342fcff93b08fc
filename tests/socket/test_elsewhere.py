"""The application without its own worker: other WSGI servers and Werkzeug's client read bodies from ``wsgi.input``."""

from __future__ import annotations

import hashlib
import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
import waitress.server
import wire
from waitress import wasyncore
from werkzeug.test import Client

from carboy.bootstrap import Services, close, open_carboy, prepare
from carboy.config import Settings
from carboy.web.app import Application

TOKEN = "elsewhere-" + "t" * 32
AUTH = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    one = open_carboy(Settings(data=tmp_path / "data", admin_token=TOKEN, threads=8, reserved_threads=2))
    prepare(one)
    yield one
    close(one)


def content_digest(data: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:"}


# --- waitress ------------------------------------------------------------------------------------------------------


@pytest.fixture
def waitress_url(services: Services) -> Iterator[str]:
    server = waitress.server.create_server(Application(services), host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    with suppress(OSError):  # the loop may have woken by itself, and closed all before it is woken
        server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))  # on its own thread, whose loop ends then
    thread.join(wire.LIMIT)
    assert not thread.is_alive()
    server.task_dispatcher.shutdown()


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_waitress_stores_and_returns_files(waitress_url: str, size: int, chunked: bool) -> None:
    data = os.urandom(size)
    with wire.Connection(waitress_url) as connection:
        if chunked:
            connection.send(wire.head("PUT", "/files/main/a", {**AUTH, **content_digest(data), "Transfer-Encoding": "chunked"}))
            for at in range(0, size, 1_000_000):
                connection.chunk(data[at:at + 1_000_000])
            connection.chunk(b"")
            assert connection.response("PUT").status == 201
        else:
            assert connection.request("PUT", "/files/main/a", {**AUTH, **content_digest(data)}, data).status == 201
        assert connection.request("GET", "/files/main/a", AUTH).body == data


def test_waitress_is_told_of_a_refusal(waitress_url: str) -> None:
    assert wire.request(waitress_url, "PUT", "/files/main/a", body=b"x" * 100_000).status == 401
    assert wire.request(waitress_url, "PUT", "/files/main/a", {**AUTH, **content_digest(b"other")}, b"x").status == 400
    assert wire.request(waitress_url, "GET", "/files/main/a", AUTH).status == 404


# --- Werkzeug's client ---------------------------------------------------------------------------------------------


@pytest.fixture
def client(services: Services) -> Client:
    return Client(Application(services))


def content(client: Client, path: str = "a", **fields: str) -> bytes:
    with client.get(f"/files/main/{path}", headers={**AUTH, **fields}) as answer:
        return answer.get_data()


def test_werkzeugs_client_puts_gets_and_deletes(client: Client) -> None:
    data = os.urandom(2_500_000)
    assert client.put("/files/main/a", data=data, headers=AUTH).status_code == 201
    assert content(client) == data
    assert content(client, Range="bytes=5-9") == data[5:10]
    assert client.delete("/files/main/a", headers=AUTH).status_code == 204
    assert client.get("/files/main/a", headers=AUTH).status_code == 404


def test_werkzeugs_client_posts_a_form(client: Client) -> None:
    answer = client.post("/files/main/folder/", headers=AUTH, data={"note": "both", "one": (BytesIO(b"1" * 100_000), "one.txt"), "two": (BytesIO(b"2"), "two.txt")})
    assert answer.status_code == 201
    assert answer.json and [file["path"] for file in answer.json["files"]] == ["folder/one.txt", "folder/two.txt"]
    assert content(client, "folder/one.txt") == b"1" * 100_000


class Cut(BytesIO):
    """An input that says less than its length, as of a client that left."""


class Broken(BytesIO):
    """An input whose connection breaks after its first read."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise ConnectionResetError
        return super().read(5)


@pytest.mark.parametrize("kind", [Cut, Broken])
def test_a_body_that_ends_early_is_no_file_and_no_error(client: Client, services: Services, kind: type[BytesIO]) -> None:
    answer = client.put("/files/main/a", input_stream=kind(b"0123456789"), headers=AUTH, environ_overrides={"CONTENT_LENGTH": "20"})
    assert answer.status_code == 400
    assert answer.json and answer.json["code"] == "body_cut"
    assert client.get("/files/main/a", headers=AUTH).status_code == 404
    assert list(services.storages["local"].keys()) == []


def test_more_than_the_length_is_not_read(client: Client) -> None:
    assert client.put("/files/main/a", input_stream=BytesIO(b"0123456789"), headers=AUTH, environ_overrides={"CONTENT_LENGTH": "4"}).status_code == 201
    assert content(client) == b"0123"


def test_a_length_that_is_not_given_is_an_empty_body(client: Client) -> None:
    """Without a promise that the input ends by itself, reading on would wait for ever."""
    assert client.put("/files/main/a", input_stream=BytesIO(b"0123456789"), headers=AUTH, environ_overrides={"CONTENT_LENGTH": ""}).status_code == 201
    assert content(client) == b""


def test_an_input_that_ends_by_itself_is_read_to_its_end(client: Client) -> None:
    answer = client.put("/files/main/a", input_stream=BytesIO(b"0123456789"), headers=AUTH, environ_overrides={"CONTENT_LENGTH": "", "wsgi.input_terminated": True})
    assert answer.status_code == 201
    assert content(client) == b"0123456789"
