"""Webhooks of the real server: told of uploads, across kills, seen and replayed by API and command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from fixtures_server import Server, ServerFactory, eventually
from receivers import Got, Receiver, receiving, status


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def hooked(server: ServerFactory, receiver: Receiver, **options: Any) -> Server:
    """A server that tells the receiver of files, once it does."""
    rules = {"url": receiver.url, "allow_private": True, "timeout": 60}
    one = server(env={"CARBOY_WEBHOOKS": json.dumps({"app": rules}), "CARBOY_JOB_POLL": "0.05"}, **options)
    eventually(lambda: api(one)["webhooks"][0]["begun"])
    return one


def api(server: Server, path: str = "", method: str = "GET", body: Any = None, expected: int = 200) -> Any:
    answer = server.request(method, f"/api/v1/webhooks{path}", body=json.dumps(body).encode() if body else None)
    assert answer.status == expected, answer
    return answer.json()


def carboy(server: Server, *words: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "carboy.cli.main", "webhooks", *words, "--data", str(server.data)], env=server._env,
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


def put(server: Server, name: str, data: bytes = b"abc") -> Any:
    answer = server.request("PUT", f"/files/main/{name}", body=data)
    assert answer.status in (200, 201), answer
    return answer


def held(until: threading.Event) -> Callable[[BaseHTTPRequestHandler, Got], None]:
    def reply(handler: BaseHTTPRequestHandler, got: Got) -> None:
        until.wait(60)
        status(204)(handler, got)

    return reply


def test_an_upload_is_told_with_its_request(server: ServerFactory, receiver: Receiver) -> None:
    one = hooked(server, receiver, workers=2)
    answer = put(one, "a.txt")
    got, = receiver.wait_for(1)
    assert got.is_signed(carboy(one, "secret", "app").strip())
    documented: dict[str, Any] = {}
    page = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
    exec(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0], documented)
    assert documented["is_genuine"](carboy(one, "secret", "app").strip(), got.headers, got.body)
    assert not documented["is_genuine"](carboy(one, "secret", "app").strip(), got.headers, got.body + b" ")
    data = got.json["data"]
    assert set(data) == set(json.loads(re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0])["data"])
    assert (data["file_id"], data["etag"], data["request_id"]) == (answer.json()["id"], answer.header("ETag"), answer.header("X-Request-ID"))


def test_a_kill_while_it_is_sent_loses_nothing(server: ServerFactory, receiver: Receiver) -> None:
    """SIGKILL to all of its processes while the receiver has the message and hasn't answered."""
    one = hooked(server, receiver)
    let_go = threading.Event()
    receiver.reply = held(let_go)
    put(one, "a.txt", b"1")
    put(one, "a.txt", b"22")
    receiver.wait_for(1)
    one.kill()
    let_go.set()
    one.start()
    receiver.wait_for(3)
    assert receiver.kinds == ["file.create", "file.create", "file.replace"]
    assert receiver.got[0].id == receiver.got[1].id
    eventually(lambda: api(one)["webhooks"][0]["deliveries"] == {"taken": 2})


def test_the_operator_sees_and_replays(server: ServerFactory, receiver: Receiver) -> None:
    one = hooked(server, receiver)
    receiver.reply = status(410, b"not here")
    file = put(one, "a.txt").json()
    eventually(lambda: api(one)["webhooks"][0]["deliveries"] == {"dead": 1})
    hook, = api(one)["webhooks"]
    assert hook == {"name": "app", "url": receiver.url, "events": ["file.*", "job.done", "job.dead"], "spaces": [], "begun": True,
                    "deliveries": {"dead": 1}}
    page = api(one, "/app/deliveries?state=dead")
    shown, = page["deliveries"]
    assert (shown["type"], shown["attempts"], shown["answer"], page["next"]) == ("file.create", 1, "410 Gone: not here", None)
    assert shown["message"] == receiver.got[0].json
    assert api(one, "/app/deliveries?state=taken")["deliveries"] == []
    receiver.reply = status(200)
    assert api(one, "/app/replay", "POST", {"id": shown["id"]}) == {"replayed": 1}
    receiver.wait_for(2)
    eventually(lambda: api(one)["webhooks"][0]["deliveries"] == {"taken": 1})
    assert carboy(one, "replay", "app", "--file", file["id"]) == "1 messages are sent again\n"
    receiver.wait_for(3)
    assert {got.id for got in receiver.got} == {shown["id"]}
    assert receiver.url in carboy(one, "list")
    eventually(lambda: "taken" in carboy(one, "deliveries", "app"))
    assert json.loads(carboy(one, "deliveries", "app", "--json"))["message"] == receiver.got[0].json
    assert carboy(one, "test", "app") == "200 OK\n"
    receiver.reply = status(500, b"broken")
    assert "not taken: 500" in carboy(one, "test", "app", code=1)


@pytest.mark.parametrize(("method", "path", "body", "expected"), [
    ("GET", "/none/deliveries", None, 404), ("POST", "/none/replay", {"state": "dead"}, 404), ("POST", "/app/replay", {}, 400),
    ("POST", "/app/replay", {"id": "x"}, 400), ("POST", "/app/replay", {"since": "yesterday"}, 400), ("GET", "/app/deliveries?state=x", None, 400),
    ("GET", "/app/deliveries?cursor=x", None, 400)])
def test_what_is_wrong_is_told(shared: Server, method: str, path: str, body: Any, expected: int) -> None:
    answer = shared.request(method, f"/api/v1/webhooks{path}", body=None if body is None else json.dumps(body).encode())
    assert answer.status == expected, answer


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/app/deliveries"), ("POST", "/app/replay")])
def test_only_administrators_of_all_may(shared: Server, method: str, path: str) -> None:
    made = shared.request("POST", "/api/v1/tokens", body=b'{"name": "some", "scopes": ["main:admin"]}').json()
    for headers, expected in (({"Authorization": f"Bearer {made['secret']}"}, 403), ({"Authorization": ""}, 401)):
        assert shared.request(method, f"/api/v1/webhooks{path}", headers, b'{"state": "dead"}' if method == "POST" else None).status == expected


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with receiving() as receiver:
        rules = {"url": receiver.url, "allow_private": True}
        one = Server(tmp_path_factory.mktemp("hooked") / "data", env={"CARBOY_WEBHOOKS": json.dumps({"app": rules})}).start()
        yield one
        one.stop()
    one.must_be_sound()


def test_what_cannot_be_sent_again_is_asked_for(shared: Server) -> None:
    assert "say what is to be sent again" in carboy(shared, "replay", "app", code=2)
    assert "no webhook 'none'" in carboy(shared, "secret", "none", code=1)


def test_a_wrong_setting_stops_the_server(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "carboy.cli.main", "serve", "--data", str(tmp_path)], capture_output=True, text=True, check=False,
                          timeout=60, env={"PATH": "/usr/bin:/bin", "CARBOY_WEBHOOKS": '{"a": {"url": "gopher://x"}}'})
    assert done.returncode == 2
    assert "webhooks.a.url" in done.stderr
