"""How bodies come over a socket: in one packet with their head, byte by byte, chunked, pipelined, announced and malformed."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Mapping

import pytest
import wire
from fixtures_server import Server, eventually
from wire import Connection


def name() -> str:
    """A path of the test's own on the shared server."""
    return f"/files/main/{secrets.token_hex(8)}"


def put_head(live: Server, target: str, size: int | None, **fields: str) -> bytes:
    headers: dict[str, str] = {**live.auth, **{key.replace("_", "-"): value for key, value in fields.items()}}
    if size is not None:
        headers["Content-Length"] = str(size)
    else:
        headers["Transfer-Encoding"] = "chunked"
    return wire.head("PUT", target, headers)


def stored(live: Server, target: str) -> bytes | None:
    answer = live.request("GET", target)
    assert answer.status in (200, 404)
    return answer.body if answer.status == 200 else None


def chunked(*pieces: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0" + extension + b"\r\n" + trailers + b"\r\n"


# --- with a length -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 65_536, 300_000])
def test_a_body_in_the_same_packet_as_its_head(live: Server, size: int) -> None:
    target, data = name(), os.urandom(size)
    with live.connect() as connection:
        connection.send(put_head(live, target, size) + data)
        assert connection.response("PUT").status == 201
        assert stored(live, target) == data


def test_head_and_body_byte_by_byte(live: Server) -> None:
    target, data = name(), os.urandom(300)
    with live.connect() as connection:
        for byte in put_head(live, target, len(data)) + data:
            connection.send(bytes([byte]))
        assert connection.response("PUT").status == 201
    assert stored(live, target) == data


@pytest.mark.parametrize("seed", range(12))
def test_a_body_in_whatever_packets(live: Server, seed: int) -> None:
    """Cuts inside the head, at its end, inside the body; small and large pieces; the connection used again."""
    chance = random.Random(seed)
    with live.connect() as connection:
        for _ in range(3):
            target, data = name(), chance.randbytes(chance.choice((1, 10, 5_000, 70_000, 3_000_000)))
            message = put_head(live, target, len(data)) + data
            cuts = sorted(chance.randrange(len(message)) for _ in range(chance.randrange(6)))
            for start, end in zip([0, *cuts], [*cuts, len(message)], strict=True):
                connection.send(message[start:end])
            assert connection.response("PUT").status == 201
            assert stored(live, target) == data


def test_two_requests_in_one_packet_are_both_stored_and_answered_in_order(live: Server) -> None:
    first, second = name(), name()
    with live.connect() as connection:
        connection.send(put_head(live, first, 5) + b"first" + put_head(live, second, 6) + b"second")
        for target in (first, second):
            answer = connection.response("PUT")
            assert (answer.status, answer.header("Location")) == (201, target)
    assert (stored(live, first), stored(live, second)) == (b"first", b"second")


def test_twenty_requests_of_all_kinds_one_behind_the_other(live: Server) -> None:
    targets = [name() for _ in range(20)]
    message, methods = b"", []
    for number, target in enumerate(targets):
        data = b"%d" % number * 1000
        message += put_head(live, target, None) + chunked(data) if number % 2 else put_head(live, target, len(data)) + data
        message += wire.head("GET", target, live.auth)
        methods += ["PUT", "GET"]
    with live.connect() as connection:
        connection.send(message)
        answers = [connection.response(method) for method in methods]
    assert [answer.status for answer in answers] == [201, 200] * 20
    assert [answer.body for answer in answers[1::2]] == [b"%d" % number * 1000 for number in range(20)]


def test_a_pipelined_request_cut_in_two(live: Server) -> None:
    """Its first half comes with the request before it, its second half later."""
    first, second = name(), name()
    next_one = put_head(live, second, 6) + b"second"
    for cut in (1, 10, len(next_one) - 7, len(next_one) - 6, len(next_one) - 1):
        with live.connect() as connection:
            connection.send(put_head(live, first, 5) + b"first" + next_one[:cut])
            assert connection.response("PUT").status in (200, 201)
            connection.send(next_one[cut:])
            assert connection.response("PUT").status in (200, 201)
        assert stored(live, second) == b"second"


# --- chunked -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [
    chunked(b"abc", b"d", b"efghij"), chunked(b"abc", b"defghij", extension=b";name=value"), chunked(b"abcdefghij", extension=b' ; name="quoted;\\"value"'),
    chunked(b"abcdefghij", trailers=b"X-Trailer: value\r\nOther: 1\r\n"), b"00A\r\nabcdefghij\r\n000\r\n\r\n",
], ids=["chunks", "extensions", "quoted", "trailers", "zeros"])
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_chunked_bodies(live: Server, message: bytes, byte_by_byte: bool) -> None:
    target = name()
    with live.connect() as connection:
        sent = put_head(live, target, None) + message
        for at in range(0, len(sent), 1 if byte_by_byte else len(sent)):
            connection.send(sent[at:at + 1] if byte_by_byte else sent)
        assert connection.response("PUT").status == 201
        assert connection.request("GET", target, live.auth).body == b"abcdefghij"


def test_a_large_chunked_body(live: Server) -> None:
    target, data = name(), os.urandom(5_000_000)
    with live.connect() as connection:
        connection.send(put_head(live, target, None))
        for at in range(0, len(data), 700_001):
            connection.chunk(data[at:at + 700_001])
        connection.chunk(b"")
        assert connection.response("PUT").status == 201
    assert stored(live, target) == data


@pytest.mark.parametrize("message", [b"zz\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcX\r\n0\r\n\r\n", b"\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
                                     b"3;\r;\r\nabc\r\n0\r\n\r\n", b"3 x\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n" + b"x" * 9000, b"3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
                                     b"3\r\nabc\r\n0\r\nX: a\nY: b\r\n\r\n"])
def test_malformed_chunks_are_400_and_nothing_is_kept(live: Server, message: bytes) -> None:
    target = name()
    with live.connect() as connection:
        connection.send(put_head(live, target, None) + message)
        answer = connection.response("PUT")
        assert answer.status == 400
        assert answer.json()["status"] == 400
        assert connection.at_end()
    assert stored(live, target) is None


@pytest.mark.parametrize("so_far", [b"", b"5\r\n", b"5\r\nab", b"5\r\nabcde\r\n", b"5\r\nabcde\r\n0\r\n"])
def test_a_chunked_body_that_ends_early_is_no_file(live: Server, so_far: bytes) -> None:
    target = name()
    with live.connect() as connection:
        connection.send(put_head(live, target, None) + so_far)
        connection.end_writing()
        assert connection.response("PUT").status == 400
    assert stored(live, target) is None


# --- Expect: 100-continue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, None])
def test_100_continue_is_sent_when_the_body_is_wanted(live: Server, size: int | None) -> None:
    target = name()
    with live.connect() as connection:
        connection.send(put_head(live, target, size, Expect="100-continue"))
        assert connection.interim().status == 100
        connection.send(b"hello") if size else connection.send(chunked(b"hello"))
        answer = connection.response("PUT")
        assert (answer.status, answer.interim) == (201, ())
        assert connection.request("GET", target, live.auth).body == b"hello"


def test_no_100_where_the_whole_body_is_there_already(live: Server) -> None:
    """RFC 9110 section 10.1.1: it may be left out then."""
    with live.connect() as connection:
        connection.send(put_head(live, name(), 5, Expect="100-continue") + b"hello")
        answer = connection.response("PUT")
        assert (answer.status, answer.interim) == (201, ())


@pytest.mark.parametrize(("fields", "status"), [
    ({"Authorization": "Bearer wrong"}, 401), ({"If-None-Match": "*"}, 412), ({"Content-Digest": "sha-256=:AAAA:"}, 400),
])
def test_a_refusal_comes_without_100_and_ends_the_connection(live: Server, fields: Mapping[str, str], status: int) -> None:
    target = name()
    assert live.request("PUT", target, body=b"there").status == 201
    with live.connect() as connection:
        connection.send(wire.head("PUT", target, {**live.auth, **fields, "Expect": "100-continue", "Content-Length": "1000"}))
        answer = connection.response("PUT")
        assert (answer.status, answer.interim, answer.header("Connection")) == (status, (), "close")
        assert connection.at_end()
    assert stored(live, target) == b"there"


def test_an_unknown_expectation_is_417(live: Server) -> None:
    assert live.request("PUT", name(), {"Expect": "tea"}, b"x").status == 417


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5_000, 3_000_000])
def test_the_answer_to_a_refused_body_can_be_read_whatever_was_sent(live: Server, size: int) -> None:
    """The body is not read as the next request, and does not reset the connection before the answer was read."""
    with live.connect() as connection:
        connection.send(wire.head("PUT", name(), {"Content-Length": str(size)}) + (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * (size // 30 + 1))[:size])
        answer = connection.response("PUT")
        assert answer.status == 401
        assert connection.at_end()


def test_a_refusal_without_a_body_keeps_the_connection(live: Server) -> None:
    with live.connect() as connection:
        assert connection.request("GET", name()).status == 401
        assert connection.request("PUT", name(), {"Content-Length": "0"}).status == 401
        assert connection.request("GET", name(), live.auth).status == 404
        assert connection.request("GET", "/healthz").status == 200


def test_what_was_read_whole_and_then_refused_keeps_the_connection(live: Server) -> None:
    target = name()
    with live.connect() as connection:
        wrong = {**live.auth, "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
        assert connection.request("PUT", target, wrong, b"hello").status == 400
        assert connection.request("PUT", target, live.auth, b"hello").status == 201
    assert stored(live, target) == b"hello"


# --- heads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [
    b"GET /healthz HTTP/1.1\nHost: x\n\n", b"GET /healthz HTTP/1.1\r\nHost: x\n\r\n", b"GET /\n", b"\n", b"\r\n\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
    b"nonsense\r\n\r\n", b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n", b"GET /healthz HTTP/1.1\r\n folded: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
])
def test_malformed_heads_are_400_and_end_the_connection(live: Server, head: bytes) -> None:
    with live.connect() as connection:
        connection.send(head)
        answer = connection.response()
        assert answer.status == 400
        assert answer.header("Connection") == "close"
        assert connection.at_end()


@pytest.mark.parametrize("fields", [b"X: " + b"x" * 70_000, b"".join(b"X-%d: %s\r\n" % (n, b"x" * 500) for n in range(200)).rstrip(), b"X: " + b"x" * 8_500])
def test_a_head_that_is_too_large_is_431(live: Server, fields: bytes) -> None:
    with live.connect() as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n")
        assert connection.response().status == 431
        assert connection.at_end()


def test_a_head_that_never_ends_is_431(live: Server) -> None:
    with live.connect() as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 66_000)
        assert connection.response().status == 431


@pytest.mark.parametrize(("size", "status"), [(9_000, 404), (60_000, 404), (66_000, 431)])
def test_only_the_whole_head_has_a_limit_not_its_first_line(live: Server, size: int, status: int) -> None:
    """A path of 4,096 bytes takes 12 KiB encoded, a query more."""
    assert wire.request(live.url, "GET", "/" + "x" * size).status == status


def test_a_head_after_empty_lines_is_a_head(live: Server) -> None:
    """RFC 9112 section 2.2: a server should ignore at least one empty line before the request line."""
    with live.connect() as connection:
        connection.send(b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.response().status == 200


# --- clients that leave --------------------------------------------------------------------------------------------


def blobs(live: Server) -> set[str]:
    return {path.name for path in (live.data / "blobs").glob("*/*")}


@pytest.mark.parametrize("leave", ["reset", "close", "end_writing"])
@pytest.mark.parametrize("size", [0, 100, 2_000_000])
def test_a_client_that_leaves_within_a_put_leaves_nothing_and_no_error(live: Server, leave: str, size: int) -> None:
    target, before, logged = name(), blobs(live), len(live.log())
    connection = Connection(live.url)
    connection.send(put_head(live, target, 3_000_000) + bytes(size))
    eventually(lambda: blobs(live) - before)
    getattr(connection, leave)()
    eventually(lambda: not blobs(live) - before)
    assert stored(live, target) is None
    assert "ERROR" not in live.log()[logged:]
    assert "Traceback" not in live.log()[logged:]
    if leave == "end_writing":
        assert connection.response("PUT").status == 400
        connection.close()


@pytest.mark.parametrize("so_far", [b"", b"PUT /files", b"PUT /files/main/x HTTP/1.1\r\nHost: x\r\n"])
def test_a_client_that_leaves_within_a_head_is_nothing(live: Server, so_far: bytes) -> None:
    logged = len(live.log())
    for leave in ("reset", "close"):
        connection = Connection(live.url)
        connection.send(so_far)
        getattr(connection, leave)()
    assert live.request("GET", "/healthz").status == 200
    assert "ERROR" not in live.log()[logged:]


def test_a_client_that_leaves_before_its_answer_has_stored_its_file(live: Server) -> None:
    target = name()
    connection = Connection(live.url)
    connection.send(put_head(live, target, 5) + b"hello")
    connection.close()
    assert eventually(lambda: stored(live, target)) == b"hello"


# --- Host ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "status"), [
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400), (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400), (b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 200),
    (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
])
def test_a_request_of_http_1_1_has_one_host(live: Server, head: bytes, status: int) -> None:
    """RFC 9112 section 3.2; it may be empty."""
    with live.connect() as connection:
        connection.send(head)
        answer = connection.response()
        assert answer.status == status
        if status == 400:
            assert "host" in answer.json()["detail"].lower()
            assert connection.at_end()
