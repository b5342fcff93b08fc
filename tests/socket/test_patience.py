"""How long the server waits for whom, and that those who wait for nothing are not held up by those who don't."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wire
from fixtures_server import Server, ServerFactory, eventually
from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import SocketUnreader
from wire import LIMIT, Connection

from carboy.streams import BufferPool, Pace
from carboy.web.body_socket import SocketSource

THREADS = ("--threads", "24")
BODIES = 20
"""Bodies that may be on their way at once: threads without the reserved ones."""
BOUNDARY = "carboy-test"


def head(one: Server, target: str, size: int, method: str = "PUT", **fields: str) -> bytes:
    return wire.head(method, target, {**one.auth, **{name.replace("_", "-"): value for name, value in fields.items()}, "Content-Length": str(size)})


def form(fields: dict[str, str], data: bytes) -> bytes:
    """A chunk's form, its fields first."""
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="chunk"; filename="chunk"\r\n\r\n'.encode())
    return b"".join(parts) + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def chunk(one: Server, fields: dict[str, str], data: bytes) -> tuple[bytes, bytes]:
    """A request of ``/chunk-upload``: head and body."""
    body = form(fields, data)
    return head(one, "/chunk-upload", len(body), "POST", Content_Type=f"multipart/form-data; boundary={BOUNDARY}"), body


def upload(one: Server) -> dict[str, Any]:
    """The one upload under way; empty where there is none."""
    uploads = one.request("GET", "/api/v1/uploads").json()["uploads"]
    return uploads[0] if uploads else {}


def fresh(one: Server) -> bool:
    """Whether a small request on a new connection is answered at once."""
    with one.connect() as connection:
        return connection.request("GET", "/healthz").status == 200


# --- deadlines -----------------------------------------------------------------------------------------------------


def of_its_own(folder: Path, env: dict[str, str]) -> Iterator[Server]:
    """A server for the tests of this module."""
    one = Server(folder / "data", args=THREADS, env=env).start()
    yield one
    one.stop()
    one.must_be_sound()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Waits for nobody for long."""
    yield from of_its_own(tmp_path_factory.mktemp("hasty"), {"CARBOY_HEADER_TIMEOUT": "0.7", "CARBOY_BODY_IDLE": "0.7"})


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Waits long for everyone, and has few threads."""
    yield from of_its_own(tmp_path_factory.mktemp("patient"), {"CARBOY_RESERVED_THREADS": "4"})


@pytest.mark.parametrize("so_far", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_has_one_deadline_and_is_408_after_it(hasty: Server, so_far: bytes) -> None:
    with hasty.connect() as connection:
        connection.send(so_far)
        answer = connection.response()
        assert (answer.status, answer.header("Connection")) == (408, "close")
        assert connection.at_end()


def test_a_head_that_comes_byte_by_byte_has_no_longer(hasty: Server) -> None:
    with hasty.connect() as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.05):
                try:
                    connection.send(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert connection.response().status == 408
        finally:
            ended.set()
            thread.join()


def test_a_kept_connection_is_not_in_a_hurry_until_its_next_head_begins(hasty: Server) -> None:
    with hasty.connect() as connection, hasty.connect() as other:
        assert connection.request("GET", "/healthz").status == 200
        other.send(b"G")
        assert other.response().status == 408  # more time has passed than a head has
        assert connection.request("GET", "/healthz").status == 200
        connection.send(b"G")
        assert connection.response().status == 408


@pytest.mark.parametrize(("size", "so_far"), [(10, b""), (10, b"12345"), (10_000_000, b"x" * 5_000_000), (None, b""), (None, b"5\r\nabc")])
def test_a_silent_body_is_408_and_no_file(hasty: Server, size: int | None, so_far: bytes) -> None:
    one = hasty
    with one.connect() as connection:
        framing = {"Content-Length": str(size)} if size else {"Transfer-Encoding": "chunked"}
        connection.send(wire.head("PUT", "/files/main/a", {**one.auth, **framing}) + so_far)
        answer = connection.response("PUT")
        assert (answer.status, answer.json()["code"]) == (408, "too_slow")
        assert connection.at_end()
    assert one.request("GET", "/files/main/a").status == 404
    eventually(lambda: not list((one.data / "blobs").glob("*/*")))


def test_a_body_that_trickles_is_408_by_its_rate(server: ServerFactory) -> None:
    """A byte a while is never silent, and still too slow."""
    one = server(args=THREADS, env={"CARBOY_BODY_MIN_RATE": "1000", "CARBOY_BODY_RATE_WINDOW": "1"})
    with one.connect() as connection:
        connection.send(head(one, "/files/main/a", 1_000_000))
        ended = threading.Event()

        def trickle() -> None:
            while not ended.wait(0.02):
                try:
                    connection.send(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert connection.response("PUT").status == 408
        finally:
            ended.set()
            thread.join()
    assert one.request("GET", "/files/main/a").status == 404


# --- silent connections hold nobody up -----------------------------------------------------------------------------


@pytest.fixture
def crowd() -> Iterator[list[Connection]]:
    """Connections that are closed at the end."""
    connections: list[Connection] = []
    yield connections
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("so_far", [b"", b"G", b"GET /healthz HTTP/1.1\r\n"])
def test_sixty_silent_heads_hold_no_thread(patient: Server, crowd: list[Connection], so_far: bytes) -> None:
    for _ in range(60):
        crowd.append(patient.connect())
        crowd[-1].send(so_far)
    assert all(fresh(patient) for _ in range(5))
    assert patient.request("PUT", "/files/main/a", body=b"x" * 100_000).status in (200, 201)
    assert len(patient.request("GET", "/files/main/a").body) == 100_000


@pytest.mark.parametrize("so_far", [b"", b"x" * 50])
def test_sixty_silent_bodies_leave_threads_to_those_who_read(patient: Server, crowd: list[Connection], so_far: bytes) -> None:
    """Twenty of them may wait; the others are told at once that there are too many."""
    assert patient.request("PUT", "/files/main/there", body=b"there").status in (200, 201)
    for number in range(60):
        crowd.append(patient.connect())
        crowd[-1].send(head(patient, f"/files/main/{number}", 100) + so_far)
    refused = eventually(lambda: len(some := [connection for connection in crowd if answered(connection)]) == 60 - BODIES and some)
    assert refused and all(connection.response("PUT").status == 503 for connection in refused)
    assert patient.request("PUT", "/files/main/more", body=b"x").status == 503
    assert all(fresh(patient) for _ in range(5))
    assert patient.request("GET", "/files/main/there").body == b"there"
    for connection in crowd:
        connection.close()
    eventually(lambda: patient.request("PUT", "/files/main/more", body=b"x").status in (200, 201))


def answered(connection: Connection) -> bool:
    """Whether something has come already."""
    connection.socket.settimeout(0.0)
    try:
        return bool(connection.socket.recv(1, 2))  # MSG_PEEK
    except BlockingIOError:
        return False
    finally:
        connection.socket.settimeout(wire.LIMIT)


def test_one_client_may_not_take_all_places(server: ServerFactory, crowd: list[Connection]) -> None:
    one = server(args=THREADS, env={"CARBOY_RESERVED_THREADS": "4", "CARBOY_UPLOADS_PER_CLIENT": "3"})
    for number in range(3):
        crowd.append(one.connect())
        crowd[-1].send(head(one, f"/files/main/{number}", 100))
    eventually(lambda: len(list((one.data / "blobs").glob("*/*"))) == 3)
    answer = one.request("PUT", "/files/main/more", body=b"x")
    assert (answer.status, answer.json()["limit"]) == (503, 3)
    crowd[0].send(b"x" * 100)
    assert crowd[0].response("PUT").status == 201
    assert eventually(lambda: one.request("PUT", "/files/main/more", body=b"x").status in (200, 201))


def test_a_client_that_does_not_take_its_answer_is_cut_and_holds_nobody(server: ServerFactory, crowd: list[Connection]) -> None:
    one = server(args=("--threads", "12"), env={"CARBOY_RESERVED_THREADS": "4", "CARBOY_SEND_IDLE": "1"})
    size = 30_000_000
    assert one.request("PUT", "/files/main/large", body=bytes(size)).status == 201
    for _ in range(12):
        crowd.append(one.connect())
        crowd[-1].send(wire.head("GET", "/files/main/large", one.auth))
    assert eventually(lambda: fresh(one))
    assert "ERROR" not in one.log()


# --- taking over ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_request_for_a_stalled_chunk_takes_over(server: ServerFactory, workers: int) -> None:
    """What had come is kept, the stalled request is told, and neither waits for the idle limit of 30 seconds."""
    one = server(workers=workers)
    data = bytes(range(256)) * 4_000
    fields = {"file_id": "film", "index": "0", "chunk_size": str(len(data)), "total": str(len(data))}
    request, body = chunk(one, fields, data)
    with one.connect() as stalled:
        stalled.send(request + body[:600_000])
        eventually(lambda: all_read(one))
        began = time.monotonic()
        with one.connect() as second:
            second.send(request + body)
            assert second.response("POST").status == 200
        assert time.monotonic() - began < 20
        assert stalled.response("POST").status in (400, 409)
        assert stalled.at_end()
    assert one.request("GET", "/files/main/film").body == data


def test_what_came_of_a_chunk_whose_client_resets_is_kept(server: ServerFactory) -> None:
    one = server()
    data = bytes(range(256)) * 4_000
    fields = {"file_id": "film", "index": "0", "chunk_size": str(len(data)), "total": str(len(data))}
    request, body = chunk(one, fields, data)
    connection = one.connect()
    connection.send(request + body[:600_000])
    eventually(lambda: all_read(one))
    connection.reset()
    kept = eventually(lambda: upload(one).get("received"))
    assert 0 < kept < 600_000
    assert "ERROR" not in one.log()
    with one.connect() as again:
        again.send(request + body)
        assert again.response("POST").status == 200
    assert one.request("GET", "/files/main/film").body == data


def all_read(one: Server) -> bool:
    """Whether the blob holds a good part of what was sent: a reset throws away what the server had not read."""
    return any(path.stat().st_size > 300_000 for path in (one.data / "blobs").glob("*/*"))


# --- stopping ------------------------------------------------------------------------------------------------------


def test_a_stop_lets_bodies_finish_and_takes_no_new_ones(server: ServerFactory) -> None:
    one = server()
    with one.connect() as under_way:
        under_way.send(head(one, "/files/main/a", 10) + b"01234")
        eventually(lambda: list((one.data / "blobs").glob("*/*")))
        stopping = threading.Thread(target=one.stop)
        stopping.start()
        eventually(lambda: not accepts(one))
        under_way.send(b"56789")
        assert under_way.response("PUT").status == 201
        stopping.join(wire.LIMIT)
    assert not one.running
    one.start()
    assert one.request("GET", "/files/main/a").body == b"0123456789"


def accepts(one: Server) -> bool:
    try:
        with one.connect(timeout=1) as connection:
            return connection.request("GET", "/healthz").status == 200
    except (OSError, wire.Closed):
        return False


def test_a_stop_keeps_what_came_of_a_chunk(server: ServerFactory) -> None:
    """Shortly before the grace is over the bodies that still come are asked to end; what came of them is recorded."""
    one = server(env={"CARBOY_GRACEFUL_TIMEOUT": "2"})
    data = bytes(range(256)) * 4_000
    fields = {"file_id": "film", "index": "0", "chunk_size": str(len(data)), "total": str(len(data))}
    request, body = chunk(one, fields, data)
    with one.connect() as stalled:
        stalled.send(request + body[:600_000])
        eventually(lambda: all_read(one))
        assert one.stop() == 0
    one.start()
    assert 0 < upload(one)["received"] < 600_000
    with one.connect() as again:
        again.send(request + body)
        assert again.response("POST").status == 200
    assert one.request("GET", "/files/main/film").body == data


def test_an_idle_server_stops_at_once_with_kept_connections(server: ServerFactory) -> None:
    one = server()
    with one.connect() as kept:
        assert kept.request("GET", "/healthz").status == 200
        assert one.stop(signal.SIGTERM) == 0
        assert kept.at_end()


@pytest.mark.parametrize("first", [1, 100, 16 * 1024 - 1, 16 * 1024, 40_000])
@pytest.mark.parametrize("rest", [32 * 1024 + 1, 34_364, 48 * 1024, 48 * 1024 + 1, 150_000, 3 * 2**20])
def test_nothing_waits_for_more_bytes_than_are_to_come(first: int, rest: int) -> None:
    """The kernel wakes the thread when so many bytes are there: were they more than the rest, it would wait its two seconds in vain."""
    data = os.urandom(first + rest)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server = listener.accept()[0]
        with server, ThreadPoolExecutor(1) as sending:
            source = SocketSource(server, LengthReader(SocketUnreader(server), len(data)), BufferPool(), Pace(LIMIT, 0, LIMIT))
            pieces, left, got = source.lend(), len(data), bytearray()
            client.sendall(data[:first])
            sent = None
            while left:
                piece = next(pieces)
                assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) <= left
                got += piece
                left -= len(piece)
                if sent is None and len(got) >= first:
                    sent = sending.submit(client.sendall, data[first:])
            assert list(pieces) == []
    assert (bytes(got), source.ended) == (data, "complete")
