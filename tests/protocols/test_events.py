"""``GET /api/v1/events``: what happens, told while it happens, to those who may know."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import wire
from catalogs import put
from fixtures_gates import CONFIG, Gated
from fixtures_postgres import PostgresServer
from fixtures_server import eventually
from sse import Event, Stream

from carboy.bootstrap import Services, close, make_ready, open_carboy
from carboy.config import of_application
from carboy.web.api import events as events_module
from carboy.web.app import Application


def listen(server: Gated, query: str = "", *, who: Mapping[str, str] | None = None, **more: Any) -> Stream:
    return Stream(server.url, server.auth if who is None else who, query, **more)


def paths(events: list[Event], kind: str) -> list[str]:
    return [event.data["path"] for event in events if event.kind == kind]


# --- nothing is missed, nothing comes twice ---


@pytest.fixture(params=["sqlite", "postgresql"])
def busy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gated]:
    """Two processes."""
    env = {}
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        env = {"CARBOY_DATABASE": postgres.new_database()}
        own = {name: value for name, value in os.environ.items() if not name.startswith("CARBOY_")}
        subprocess.run([sys.executable, "-m", "carboy.cli.main", "db", "upgrade", "--data", str(tmp_path / "data")], check=True, cwd=tmp_path,
                       env={**own, **env})
    server = Gated(tmp_path, env=env, workers=2)
    yield server.start()  # type: ignore[misc]
    server.stop()
    server.must_be_sound()


UPLOADERS, EACH = 4, 40


def test_who_comes_back_misses_nothing_and_hears_nothing_twice(busy: Gated) -> None:
    """While four upload to both processes, and jobs run, a client breaks off again and again, and goes on with the last id that it got."""
    for number in range(UPLOADERS):
        for each in range(EACH):
            busy.open(f"{number}-{each}")
    wanted = {f"{number}-{each}" for number in range(UPLOADERS) for each in range(EACH)}
    heard: Counter[tuple[str, str]] = Counter()
    last: list[str | None] = [None]

    def upload(number: int) -> None:
        for each in range(EACH):
            busy.put(f"gated/{number}-{each}")

    def is_all() -> bool:
        return len(heard) == 2 * len(wanted)

    with ThreadPoolExecutor(UPLOADERS) as pool:
        with listen(busy) as stream:
            last[0] = stream.last_id
            sent = [pool.submit(upload, number) for number in range(UPLOADERS)]
        rounds = 0
        while not is_all():
            rounds += 1
            with listen(busy, last_id=last[0]) as stream:
                for event in stream.events():
                    if event.id:
                        heard[event.kind, event.data["path"]] += 1
                    last[0] = stream.last_id
                    if is_all() or (sum(heard.values()) % 23 == 0 and rounds < 30):
                        break
        for one in sent:
            one.result()
    assert set(heard) == {(kind, path) for kind in ("file.create", "job.done") for path in wanted}
    assert set(heard.values()) == {1}
    assert rounds > 3


def test_all_who_listen_hear_the_same_in_the_same_order(gated: Gated) -> None:
    with ThreadPoolExecutor(8) as pool:
        streams = [listen(gated, "?space=main&kinds=file.*") for _ in range(3)]
        list(pool.map(lambda number: gated.put(f"main/{number}"), range(60)))
        gated.put("main/last")
        heard = [stream.until(lambda event: event.data["path"] == "last") for stream in streams]
        for stream in streams:
            stream.connection.close()
    assert len(heard[0]) == 61
    assert [[event.data for event in one] for one in heard[1:]] == [[event.data for event in heard[0]]] * 2


# --- who may know ---


def test_in_a_private_space_one_hears_of_ones_own_alone(gated: Gated) -> None:
    ann, bob = (gated.someone(["home:read,write,delete"]) for _ in range(2))
    gated.open("secret")
    gated.open("own")
    with listen(gated, who=bob) as his, listen(gated, "?space=home", who=ann) as hers, listen(gated, "?space=home") as all_:
        stored = gated.put("home/deep/secret", who=ann)
        gated.job(stored["jobs"][0]["id"], "done")
        gated.api("POST", "/api/v1/folders/move", {"space": "home", "path": "deep/", "to": "deeper/"}, who=ann)
        gated.put("home/own", who=bob)
        told = hers.until(lambda event: event.kind == "folder.move")
        seen = [event for event in told if event.id]
        assert [(event.kind, event.data["path"]) for event in seen] == [
            ("file.create", "deep/secret"), ("job.done", "deep/secret"), ("folder.move", "deeper/")]
        assert seen[-1].data["facts"]["from"] == "deep/", "without the owner's folder"
        assert [event.data["path"] for event in his.until(lambda event: event.kind == "job.done") if event.id] == ["own", "own"]
        everything = all_.until(lambda event: event.kind == "job.done" and event.data["path"] == "own")
        assert paths(everything, "file.create") == ["deep/secret", "own"]


def test_where_something_came_from_is_told_to_those_who_see_that_place(gated: Gated) -> None:
    reader = gated.someone(["other:read"])
    stored = gated.put("main/hidden/name")
    with listen(gated, who=reader) as stream, listen(gated, "?space=other") as all_:
        gated.api("POST", f"/api/v1/files/{stored['id']}/move", {"space": "other", "path": "shown"})
        assert stream.next("file.move").data["facts"] == {}
        assert all_.next("file.move").data["facts"] == {"from_space": "main", "from": "hidden/name"}


def test_the_jobs_of_a_file_are_told_where_it_is(gated: Gated) -> None:
    """Who reads the space that it has left hears no more of them, though they began there; nor once it is in the trash."""
    here, there = gated.someone(["gated:read"]), gated.someone(["main:read"])
    stored = gated.put("gated/leaves")
    job = stored["jobs"][0]["id"]
    with listen(gated, f"?file={stored['id']}") as all_:
        assert all_.next("job.progress").data["job_id"] == job
        gated.api("POST", f"/api/v1/files/{stored['id']}/move", {"space": "main", "path": "leaves"})
        all_.until(lambda event: event.kind == "file.move")
        assert [all_.next("job.progress").data["space"] for _ in range(3)][-1] == "main"
        with listen(gated, who=here) as his, listen(gated, f"?job={job}", who=there) as hers:
            assert hers.next("job.progress").data["job_id"] == job
            assert gated.ask("DELETE", f"/api/v1/files/{stored['id']}").status == 204
            gated.open("leaves", "secret")
            assert hers.until(lambda event: event.kind == "job.done")[-1].data["facts"]["result"]["said"] == "secret"
            later = gated.put("gated/later", b"later")
            told = his.until(lambda event: event.kind == "file.create" and event.data["path"] == "later")
            assert job not in [event.data["job_id"] for event in told]
    assert gated.ask("GET", f"/api/v1/jobs/{job}", who=here).status == 404
    gated.open("later")
    gated.job(later["jobs"][0]["id"], "done")


def test_without_a_right_nothing_is_told(gated: Gated) -> None:
    stranger, writer = gated.someone(["elsewhere:admin", "other:read"]), gated.someone(["main:write"])
    id = gated.put("main/unseen")["id"]
    for query, who, status in (("?space=main", stranger, 404), ("?space=main", writer, 403), ("?space=nowhere", writer, 404), (f"?file={id}", stranger, 404),
                               (f"?job={'0' * 32}", writer, 404), (f"?upload={'0' * 32}", writer, 404), ("?space=main", {}, 401), (f"?file={id}", {}, 401)):
        with listen(gated, query, who=who) as stream:
            assert stream.refusal().status == status, (query, status)
    with listen(gated, who=stranger) as stream:
        gated.put("main/unseen2")
        gated.put("other/seen")
        assert stream.next().data["path"] == "seen"


def test_of_a_public_space_everybody_hears(gated: Gated) -> None:
    with listen(gated, who={}) as stream:
        gated.put("main/not-theirs")
        gated.put("shop/theirs")
        assert stream.next().data["path"] == "theirs"


def test_a_stream_ends_once_its_token_is_revoked_or_expires(gated: Gated) -> None:
    revoked, brief = gated.someone(["main:read"]), gated.someone(["main:read"], expires_in=1)
    with listen(gated, who=revoked) as one, listen(gated, who=brief) as other:
        gated.put("main/before")
        assert one.next("file.create").data["path"] == "before"
        assert gated.ask("DELETE", f"/api/v1/tokens/{revoked['X-Id']}").status == 204
        assert one.has_ended() and other.has_ended()
    with listen(gated, who=revoked) as again:
        assert again.refusal().status == 401


def test_browsers_listen_with_their_session(gated: Gated) -> None:
    """EventSource sends cookies, and no field of one's own."""
    signed_in = gated.ask("POST", "/login", {"Content-Type": "application/x-www-form-urlencoded", "Origin": gated.url, "Host": gated.url.partition("//")[2]},
                          urlencode({"token": gated.token}).encode(), who={})
    assert signed_in.status == 303, signed_in
    cookie = str(signed_in.header("Set-Cookie")).partition(";")[0]
    with listen(gated, "?space=main", who={"Cookie": cookie}) as stream:
        gated.put("main/cookie")
        assert stream.next("file.create").data["path"] == "cookie"
        last = stream.last_id
    gated.put("main/cookie2")
    with listen(gated, f"?space=main&last_event_id={last}", who={"Cookie": cookie}) as stream:
        assert stream.next("file.create").data["path"] == "cookie2"


# --- what is asked for ---


def test_streams_are_narrowed_to_what_is_asked_for(gated: Gated) -> None:
    gated.open("one")
    gated.open("two")
    first = gated.put("gated/one")
    job = first["jobs"][0]["id"]
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": "filename dHdv"}
    upload = str(gated.ask("POST", "/tus/gated/", tus).header("Location"))
    gated.job(job, "done")
    queries = {"space": "?space=main", "file": f"?file={first['id']}", "upload": f"?upload={upload.rpartition('/')[2]}", "job": f"?job={job}",
               "kinds": "?kinds=file.update,job.done", "both": "?space=gated&kinds=file.create"}
    streams = {name: listen(gated, query) for name, query in queries.items()}
    gated.api("PATCH", f"/api/v1/files/{first['id']}", {"tags": ["x"]})
    gated.ask("POST", f"/api/v1/jobs/{job}/retry")  # refused: it is done
    done = gated.ask("PATCH", upload, {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}, b"two")
    assert done.status == 204
    second = str(done.header("Carboy-File"))
    gated.job(gated.api("GET", f"/api/v1/files/{second}/jobs")["jobs"][0]["id"], "done")
    ordered = gated.api("POST", f"/api/v1/files/{first['id']}/jobs", {"step": "gate", "args": {"size": 2}})
    gated.job(ordered["id"], "done")
    gated.put("main/three")

    def kinds(name: str, last: str) -> list[str]:
        return [event.kind for event in streams[name].until(lambda event: event.kind == last) if event.id]

    assert kinds("space", "file.create") == ["file.create"]
    assert kinds("file", "job.done") == ["file.update", "job.done"]
    assert kinds("upload", "job.done")[-2:] == ["file.create", "job.done"]
    assert kinds("kinds", "job.done") == ["file.update", "job.done"]
    assert kinds("both", "file.create") == ["file.create"]
    gated.ask("DELETE", f"/api/v1/files/{first['id']}")
    assert kinds("file", "file.trash") == ["file.trash"]
    for stream in streams.values():
        stream.connection.close()


def test_a_job_is_followed_to_its_end(gated: Gated) -> None:
    """How far it is has no id, and is told twice a second at most; what became of it has."""
    stored = gated.put("gated/followed")
    with listen(gated, f"?job={stored['jobs'][0]['id']}") as stream:
        began = time.monotonic()
        told = [stream.next("job.progress") for _ in range(4)]
        assert time.monotonic() - began > 1.0, "four can't have come sooner"
        gated.open("followed", "end")
        end = stream.next("job.done")
    assert {event.id for event in told} == {None}
    shares = [event.data["facts"]["progress"] for event in told]
    assert shares == sorted(shares) and len(set(shares)) > 1 and shares[-1] > 0
    assert told[-1].data["facts"]["phrase"].startswith("round ") and told[-1].data["facts"]["step"] == "gate"
    assert (end.data["facts"]["result"]["said"], end.data["file_id"]) == ("end", stored["id"])


# --- where it begins ---


@pytest.mark.parametrize("place", ["1-1000000000", "1.2-1000000000", "999999999-{now}", "1.2-{now}"])
def test_who_was_away_too_long_is_told_so(gated: Gated, place: str) -> None:
    """Then what is there has to be looked at; what happens next is told as ever."""
    stream = Stream.__new__(Stream)
    connection = gated.connect()
    connection.send(wire.head("GET", "/api/v1/events?space=main", {**gated.auth, "Last-Event-ID": place.format(now=int(time.time()))}))
    stream.connection, stream.last_id, stream.comments, stream._text = connection, None, [], ""
    assert connection._head().status == 200
    reset = stream.block()
    assert reset and (reset.kind, reset.data) == ("reset", {}) and stream.last_id
    gated.put("main/after-reset")
    assert stream.next().data["path"] == "after-reset"
    connection.close()


@pytest.mark.parametrize("place", ["x", "1", "-", "1-2-3", "1.2.3-4", "9" * 60, "1-" + "9" * 30, "٣-1", f"{2**63}-999999999999", f"1.{2**63}-999999999999"])
def test_what_is_no_place_is_refused(gated: Gated, place: str) -> None:
    answer = gated.ask("GET", f"/api/v1/events?{urlencode({'last_event_id': place})}")
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")


def test_the_head_says_that_nobody_keeps_it(gated: Gated) -> None:
    with listen(gated) as stream:
        assert [stream.head.header(name) for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering")] == ["text/event-stream", "no-store", "no"]
        assert stream.last_id
    answer = gated.ask("HEAD", "/api/v1/events")
    assert (answer.status, answer.header("Content-Type"), answer.body) == (200, "text/event-stream", b"")


# --- limits ---


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Gated]:
    """A server with few places, which takes long to stop if it waits for anybody."""
    server = Gated(tmp_path, config=CONFIG.replace("graceful_timeout = 1", "graceful_timeout = 600\nsend_idle = 1\nworker = false"),
                   env={"CARBOY_EVENT_STREAMS": "4"})
    yield server.start()  # type: ignore[misc]
    if server.running:
        server.stop()
    server.must_be_sound()


def test_streams_are_capped_for_each_and_for_all(narrow: Gated) -> None:
    people = [narrow.someone(["main:read"]) for _ in range(5)]
    streams = [listen(narrow, who=who) for who in people[:3]]
    for stream in streams:
        assert stream.head.status == 200
    with listen(narrow, who=people[0]) as second:
        refused = second.refusal()
    assert (refused.status, refused.json()["code"], refused.header("Retry-After")) == (503, "busy", "5")
    streams.append(listen(narrow, who=people[3]))
    assert streams[-1].head.status == 200
    with listen(narrow, who=people[4]) as fifth:
        assert fifth.refusal().status == 503
    assert narrow.ask("HEAD", "/api/v1/events", who=people[4]).status == 200, "it takes no place"
    streams[0].connection.close()

    def free() -> bool:
        with listen(narrow, who=people[4]) as stream:
            return stream.head.status == 200

    eventually(free)
    assert narrow.put("main/still-served")["size"] == 5
    for stream in streams:
        stream.connection.close()


def stuck(narrow: Gated) -> wire.Connection:
    """A client that takes little, and reads nothing."""
    connection = wire.Connection.__new__(wire.Connection)
    host, port = narrow.url.removeprefix("http://").split(":")
    connection.url, connection.timeout, connection.tls, connection._buffer = narrow.url, wire.LIMIT, None, bytearray()
    connection.socket = socket.socket()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.socket.settimeout(wire.LIMIT)
    connection.socket.connect((host, int(port)))
    return connection


def test_who_takes_nothing_is_cut_and_goes_on_where_they_were(narrow: Gated) -> None:
    """Events of a path of 4000 bytes, more of them than any buffer on the way holds; nobody else is held up."""
    path = "/".join(["x" * 249] * 16)
    id = narrow.put(f"main/{path}")["id"]
    who, other = (narrow.someone(["main:read"]) for _ in range(2))
    slow = listen(narrow, "?space=main", who=who, connection=stuck(narrow))
    operations = {"operations": [{"op": "update", "id": id, "tags": [str(number)]} for number in range(1000)]}
    with ThreadPoolExecutor(1) as pool:
        quick = pool.submit(updates, narrow, other, slow.last_id, 2000)
        for _ in range(2):
            assert narrow.api("POST", "/api/v1/bulk", operations)["succeeded"] == 1000
        assert len(quick.result(wire.LIMIT)) == 2000
    assert len(updates(narrow, who, slow.last_id, 2000)) == 2000  # there is a place again: the one that was cut has lost it
    slow.connection.close()


def updates(narrow: Gated, who: Mapping[str, str], last_id: str | None, count: int) -> set[str | None]:
    """The ids of so many events, each heard once; a machine that is busy may have cut this one, too."""
    found: list[str | None] = []
    while len(found) < count:
        with eventually(lambda: opened(narrow, who, last_id)) as stream:  # type: ignore[union-attr] # noqa: B023
            for event in stream.events():
                assert event.kind == "file.update"
                found.append(event.id)
                if len(found) == count:
                    break
            last_id = stream.last_id
    assert len(set(found)) == count
    return set(found)


def opened(narrow: Gated, who: Mapping[str, str], last_id: str | None) -> Stream | None:
    """A stream, if there is a place for it."""
    stream = listen(narrow, "?space=main", who=who, last_id=last_id)
    if stream.head.status == 200:
        return stream
    stream.connection.close()
    return None


def test_a_server_that_stops_ends_its_streams(narrow: Gated) -> None:
    """It would wait ten minutes for requests; the test fails after one."""
    with listen(narrow) as stream, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(stream.has_ended)
        assert narrow.stop() == 0
        assert ended.result(wire.LIMIT)


# --- within other servers ---


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    opened = open_carboy(of_application({"data": tmp_path / "data", "durability": "relaxed", "spaces": {"main": {"public": "read"}}}))
    make_ready(opened)
    yield opened
    close(opened)


def environ(**more: Any) -> dict[str, Any]:
    return {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/v1/events", "QUERY_STRING": "", "SERVER_NAME": "test", "SERVER_PORT": "80",
            "wsgi.url_scheme": "http", "wsgi.multithread": True, "REMOTE_ADDR": "127.0.0.1", **more}


def test_a_place_that_was_told_late_is_as_old_as_it_is(services: Services) -> None:
    """Who goes on from the log of the day before yesterday and breaks off is told that what followed there is forgotten."""
    def resumed(last_id: str) -> tuple[str, Iterator[bytes]]:
        body = iter(Application(services)(environ(HTTP_LAST_EVENT_ID=last_id), lambda *_: None))
        return next(body).decode(), body

    begun = next(iter(Application(services)(environ(), lambda *_: None))).decode()
    first, now = begun.partition("id: ")[2].strip(), time.time()
    hours = {"one": 40, "two": 39, "three": 1}
    for path, ago in hours.items():
        put(services.catalog, path, now - ago * 3600)
    told, body = resumed(first)
    assert "reset" not in told and f"id: {first}\n" in told
    text = ""
    while '"three"' not in text:
        text += next(body).decode()
    ids = re.findall("id: (.*)\nevent: file.create", text)
    assert [int(id.rpartition("-")[2]) for id in ids] == [int(now - ago * 3600) for ago in hours.values()]
    services.catalog.purge(now=now, audit_before=now - 24 * 3600, log_before=now - 24 * 3600)
    assert "event: reset" in resumed(ids[0])[0]
    assert "reset" not in resumed(ids[2])[0]


def test_something_is_said_from_time_to_time(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT", 0.05)
    body = iter(Application(services)(environ(), lambda *_: None))
    assert next(body).startswith(b"retry: 2000\nid: ")
    assert next(body).startswith(b": all is well\nid: ")
    services.news.stop()
    assert list(body) == []


def test_a_process_that_does_one_thing_at_a_time_is_not_kept_busy(services: Services) -> None:
    """The stream ends after what there is to tell, and the browser asks again."""
    body = Application(services)(environ(**{"wsgi.multithread": False}), lambda *_: None)
    assert len(list(body)) == 1


def test_a_place_is_given_back_by_who_never_began_to_read(services: Services) -> None:
    application = Application(services)
    for _ in range(100):
        application(environ(), lambda *_: None).close()  # type: ignore[attr-defined]
    answers: list[str] = []
    application(environ(), lambda status, *_: answers.append(status)).close()  # type: ignore[attr-defined]
    assert answers == ["200 OK"]


def test_a_closed_carboy_leaves_no_thread(services: Services) -> None:
    body = Application(services)(environ(), lambda *_: None)
    next(iter(body))
    eventually(lambda: any(thread.name == "news" for thread in threading.enumerate()))
    body.close()  # type: ignore[attr-defined]
    services.news.close()
    assert not any(thread.name == "news" for thread in threading.enumerate())
