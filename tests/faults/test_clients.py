"""Clients that leave, clients that go silent, a server that is stopped under its uploads, a sweeper that comes by meanwhile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults.disk import until
from faults.journal import Content
from faults.runner import Client, Server, chunk_request, request_head, reset

Start = Callable[..., Server]
MIB = 2**20
CONTENT = Content(5, 6 * MIB)
SENT = 4 * MIB


def begin(server: Server, head: bytes, data: bytes) -> socket.socket:
    """A connection on which a request has begun and ``data`` of its body went out."""
    connection = socket.create_connection(server.address, timeout=60)
    connection.sendall(head + data)
    return connection


def answered(connection: socket.socket) -> bytes:
    """The status line that comes, empty where the connection just ends."""
    try:
        with connection.makefile("rb") as reader:
            return reader.readline()
    except OSError:
        return b""


def stored(server: Server) -> list[Path]:
    return [path for path in (server.data / "blobs").rglob("*") if path.is_file()]


def upload(client: Client, path: str) -> dict[str, Any]:
    return next((upload for upload in client.uploads() if upload["path"] == path), {})


def test_the_last_chunk_may_come_several_times_at_once(start: Start) -> None:
    """One of them completes the upload; the others bring nothing new, and are told that it was received."""
    server = start()
    half = CONTENT.size // 2
    clients = [server.client() for _ in range(4)]
    for turn in range(10):
        assert clients[0].chunk(f"u{turn}", 0, CONTENT.read(0, half), offset=0, total=CONTENT.size).ok
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(
                lambda client, name=f"u{turn}": client.chunk(name, 1, CONTENT.read(half), offset=half, total=CONTENT.size), clients))
        assert {answer.status for answer in answers} <= {200, 409}, "409: another sends these very bytes"
        assert 200 in {answer.status for answer in answers}
        with ThreadPoolExecutor(4) as threads:  # and where it is the first chunk too
            answers = list(threads.map(
                lambda client, name=f"v{turn}": client.chunk(name, 0, CONTENT.read(0, 9999), offset=0, total=9999), clients))
        assert {answer.status for answer in answers} <= {200, 409}
    assert clients[0].uploads() == []
    assert clients[0].get("u0").body == CONTENT.read()
    assert clients[0].get("v0").body == CONTENT.read(0, 9999)
    assert server.audit() == []


def test_bytes_past_the_end_never_reach_a_file_that_is_complete(start: Start) -> None:
    """A chunk too many has begun, with a byte, when the client completes without it."""
    server = start()
    client = server.client()
    assert client.chunk("u", 0, CONTENT.read(0, MIB), chunk_size=MIB).ok
    head, tail = chunk_request("u", 1, MIB, chunk_size=MIB)
    with begin(server, head, CONTENT.read(MIB, MIB + 1)) as late:
        client.complete("u", 1)  # which asks the late one to end, where it holds the room past the end by now
        with suppress(OSError):
            late.sendall(CONTENT.read(MIB + 1, 2 * MIB) + tail)
            assert b" 200 " not in answered(late)
    until(lambda: client.complete("u", 1).ok, "it can be completed")
    assert client.get("u").body == CONTENT.read(0, MIB)
    assert server.audit() == []


def test_what_came_of_a_chunk_is_kept_when_the_client_resets(start: Start) -> None:
    server = start()
    client = server.client()
    head, _ = chunk_request("u", 0, CONTENT.size, offset=0, total=CONTENT.size)
    connection = begin(server, head, CONTENT.read(0, SENT))
    trickle = iter(range(SENT, CONTENT.size, 512))

    def recorded() -> bool:
        at = next(trickle)
        connection.sendall(CONTENT.read(at, at + 512))
        return bool(upload(client, "u").get("received", 0) >= MIB)

    until(recorded, "some of it is recorded while it comes")
    reset(connection)
    until(lambda: client.chunk("u", 0, CONTENT.read(), offset=0, total=CONTENT.size).ok, "the rest may come")
    assert client.get("u").body == CONTENT.read()


def test_nothing_remains_of_a_put_whose_client_resets(start: Start) -> None:
    server = start()
    client = server.client()
    connection = begin(server, request_head("PUT", "/files/main/x", CONTENT.size), CONTENT.read(0, SENT))
    until(lambda: any(path.stat().st_size for path in stored(server)), "bytes arrive on the disk")
    reset(connection)
    until(lambda: not stored(server), "the bytes are removed")
    assert client.get("x").status == 404
    assert server.audit() == []


def test_a_form_whose_client_resets_leaves_nothing(start: Start) -> None:
    server = start()
    head = request_head("POST", "/files/main/f/", 10 * MIB, Content_Type="multipart/form-data; boundary=b")
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="%d"\r\n\r\n'
    connection = begin(server, head, part % 1 + CONTENT.read(0, MIB) + b"\r\n" + part % 2 + CONTENT.read(0, MIB))
    until(lambda: len(stored(server)) == 2, "two files have begun")
    reset(connection)
    until(lambda: not stored(server), "the bytes are removed")
    assert server.client().get("f/1").status == 404


def test_a_client_that_goes_silent_is_ended_and_its_chunk_kept(start: Start) -> None:
    server = start(CARBOY_BODY_IDLE=0.5)
    client = server.client()
    head, _ = chunk_request("u", 0, CONTENT.size, offset=0, total=CONTENT.size)
    connection = begin(server, head, CONTENT.read(0, SENT))
    silent = begin(server, request_head("PUT", "/files/main/x", CONTENT.size), CONTENT.read(0, SENT))
    assert b"408" in answered(connection)
    assert b"408" in answered(silent)
    assert upload(client, "u")["received"] >= MIB
    assert client.get("x").status == 404
    until(lambda: len(stored(server)) == 1, "what came of the PUT is removed")
    assert client.chunk("u", 0, CONTENT.read(), offset=0, total=CONTENT.size).ok
    assert client.get("u").body == CONTENT.read()
    connection.close()
    silent.close()


def test_half_open_clients_do_not_stop_others(start: Start) -> None:
    server = start()
    heads = [begin(server, request_head("PUT", f"/files/main/{n}", 100), b"x") for n in range(60)]
    assert server.client().put("x", b"x").ok
    assert server.client().get("x").body == b"x"
    for connection in heads:
        reset(connection)
    until(lambda: len(stored(server)) == 1, "what came of them is removed")


def test_sigterm_under_fifty_uploads_tells_the_truth(start: Start) -> None:
    """Some are done before the stop, some in its grace, some stall: whatever was answered is so, the rest resumes."""
    server = start(CARBOY_GRACEFUL_TIMEOUT=6)
    contents = [Content(n + 1, 2 * MIB) for n in range(50)]
    requests = [chunk_request(f"u{n}", 0, content.size, offset=0, total=content.size) for n, content in enumerate(contents)]
    connections = [begin(server, head, content.read(0, content.size // 2)) for (head, _), content in zip(requests, contents, strict=True)]
    until(lambda: len(server.client().uploads()) == 50, "all are under way")
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    for n in range(0, 50, 2):
        connections[n].sendall(contents[n].read(contents[n].size // 2) + requests[n][1])
    told = [answered(connection) for connection in connections]
    stopping.join(60)
    assert not stopping.is_alive(), "the server stops"
    for connection in connections:
        connection.close()
    assert all(b" 200 " in told[n] for n in range(0, 50, 2)), "what came within the grace was finished"
    assert not any(b" 200 " in told[n] for n in range(1, 50, 2))
    server.start()
    client = server.client()
    for n, content in enumerate(contents):
        if b" 200 " not in told[n]:
            assert upload(client, f"u{n}")["offset"] > 0, "what came before the stop was kept"
            assert client.chunk(f"u{n}", 0, content.read(), offset=0, total=content.size).ok
        assert client.get(f"u{n}").body == content.read()
    assert server.audit() == []


def test_the_sweeper_removes_nothing_of_slow_uploads(start: Start) -> None:
    """It comes by while a PUT, a form and a chunk are in the middle of their bodies: in the server and by hand."""
    server = start(CARBOY_SWEEP_INTERVAL=0.05, CARBOY_ORPHAN_INTERVAL=0.05, CARBOY_DELETE_GRACE=0)
    client = server.client()
    head, tail = chunk_request("c", 0, CONTENT.size, offset=0, total=CONTENT.size)
    put = begin(server, request_head("PUT", "/files/main/p", CONTENT.size), CONTENT.read(0, SENT))
    chunk = begin(server, head, CONTENT.read(0, SENT))
    until(lambda: sum(path.stat().st_size > 0 for path in stored(server)) == 2, "both have bytes on the disk")
    for turn in range(3):
        assert client.put("marker", b"x" * (turn + 1)).ok
        assert client.delete("marker").ok
        until(lambda: len(stored(server)) == 2, "the sweeper has come by and removed the deleted file")
        assert server.run("sweep").returncode == 0
    put.sendall(CONTENT.read(SENT))
    chunk.sendall(CONTENT.read(SENT) + tail)
    assert b" 201 " in answered(put)
    assert b" 200 " in answered(chunk)
    assert client.get("p").body == CONTENT.read()
    assert client.get("c").body == CONTENT.read()
    assert server.audit() == []
    put.close()
    chunk.close()


def test_an_upload_under_way_does_not_expire(start: Start) -> None:
    server = start(CARBOY_SWEEP_INTERVAL=0.05, CARBOY_UPLOAD_EXPIRY=3)
    client = server.client()
    head, tail = chunk_request("idle", 0, CONTENT.size, offset=0, total=CONTENT.size)
    reset(begin(server, head, CONTENT.read(0, SENT)))
    until(lambda: upload(client, "idle"), "the upload that nobody goes on with is there")
    slow = begin(server, *chunk_request("slow", 0, CONTENT.size, offset=0, total=CONTENT.size)[:1], CONTENT.read(0, MIB))
    sent = MIB

    def idle_is_gone() -> bool:
        nonlocal sent
        if sent < CONTENT.size - MIB:
            slow.sendall(CONTENT.read(sent, sent + 8192))
            sent += 8192
        return not upload(client, "idle")

    until(idle_is_gone, "the idle upload has expired")
    assert upload(client, "slow"), "the one that bytes still come for is there"
    slow.sendall(CONTENT.read(sent) + tail)
    assert b" 200 " in answered(slow)
    slow.close()
    assert client.get("slow").body == CONTENT.read()
