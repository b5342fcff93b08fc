"""The server speaks TLS itself: bodies and answers as without it, handshakes that hold nobody, and files that can't be used."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certificates
import pytest
import wire
from certificates import Certificate
from fixtures_server import Server, ServerFactory, eventually
from wire import Connection

THREADS = ("--threads", "24")
BODIES = 20
"""Bodies that may be on their way at once: threads without the reserved ones."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.make(tmp_path_factory.mktemp("tls"))


def of_its_own(folder: Path, certificate: Certificate, env: dict[str, str]) -> Iterator[Server]:
    """A server for the tests of this module; none may make it log an error."""
    one = Server(folder / "data", args=(*certificate.args, *THREADS), env={"CARBOY_RESERVED_THREADS": "4", **env}).start()
    yield one
    one.stop()
    one.must_be_sound()
    assert "ERROR" not in one.log()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    yield from of_its_own(tmp_path_factory.mktemp("secure"), certificate, {})


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Waits for nobody for long."""
    yield from of_its_own(tmp_path_factory.mktemp("hasty"), certificate,
                          {"CARBOY_HEADER_TIMEOUT": "0.7", "CARBOY_BODY_IDLE": "0.7", "CARBOY_SEND_IDLE": "1"})


@pytest.fixture
def crowd() -> Iterator[list[Any]]:
    """Connections and sockets that are closed at the end, whatever happens."""
    opened: list[Any] = []
    yield opened
    for one in opened:
        one.close()


def name() -> str:
    return f"/files/main/{secrets.token_hex(8)}"


def put_head(one: Server, target: str, size: int | None, **fields: str) -> bytes:
    framing = {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
    return wire.head("PUT", target, {**one.auth, **framing, **{key.replace("_", "-"): value for key, value in fields.items()}})


def raw(one: Server) -> socket.socket:
    """A TCP connection without TLS."""
    address = urlsplit(one.url)
    return socket.create_connection((address.hostname or "", address.port or 0), wire.LIMIT)


def closed(plain: socket.socket) -> bool:
    """Wait for the server to end the connection, whatever it says before."""
    try:
        while plain.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def fresh(one: Server) -> bool:
    with one.connect() as connection:
        return connection.request("GET", "/healthz").status == 200


# --- there and back ------------------------------------------------------------------------------------------------


def test_the_address_is_https(secure: Server) -> None:
    assert secure.url.startswith("https://127.0.0.1:")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_large_body_and_its_download_on_one_connection(secure: Server, version: ssl.TLSVersion) -> None:
    target, data = name(), os.urandom(20_000_000)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    context = wire.trusting()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with Connection(secure.url, tls=context) as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        assert connection.socket.selected_alpn_protocol() == "http/1.1"
        answer = connection.request("PUT", target, {**secure.auth, "Repr-Digest": f"sha-256=:{digest}:"}, data)
        assert (answer.status, answer.json()["size"]) == (201, len(data))
        assert connection.request("GET", target, secure.auth).body == data
        part = connection.request("GET", target, {**secure.auth, "Range": "bytes=1000000-4999999"})
        assert (part.status, part.body) == (206, data[1_000_000:5_000_000])
        several = connection.request("GET", target, {**secure.auth, "Range": "bytes=0-99999,200000-299999"})
        assert several.status == 206
        assert data[200_000:300_000] in several.body
        assert connection.request("HEAD", target, secure.auth).header("Content-Length") == str(len(data))


@pytest.mark.parametrize("seed", range(12))
def test_a_body_in_whatever_records(secure: Server, seed: int) -> None:
    """Cuts inside the head, at its end, inside the body; small and large pieces; the connection used again."""
    chance = random.Random(seed)
    with secure.connect() as connection:
        for _ in range(3):
            target, data = name(), chance.randbytes(chance.choice((0, 1, 10, 5_000, 16_384, 70_000, 3_000_000)))
            message = put_head(secure, target, len(data)) + data
            cuts = sorted(chance.randrange(len(message)) for _ in range(chance.randrange(6)))
            for start, end in zip([0, *cuts], [*cuts, len(message)], strict=True):
                if end > start:
                    connection.send(message[start:end])
            assert connection.response("PUT").status == 201
            assert connection.request("GET", target, secure.auth).body == data


def test_head_and_body_byte_by_byte(secure: Server) -> None:
    target, data = name(), os.urandom(300)
    with secure.connect() as connection:
        for byte in put_head(secure, target, len(data)) + data:
            connection.send(bytes([byte]))
        assert connection.response("PUT").status == 201
        assert connection.request("GET", target, secure.auth).body == data


@pytest.mark.parametrize("piece", [100_000, 16_384, 1_000])
def test_twenty_requests_one_behind_the_other(secure: Server, piece: int) -> None:
    """In records that begin and end anywhere: what OpenSSL has taken in already makes no socket readable."""
    targets = [name() for _ in range(20)]
    message, methods = b"", []
    for number, target in enumerate(targets):
        message += put_head(secure, target, 1_500) + b"%04d" % number * 375 + wire.head("GET", target, secure.auth)
        methods += ["PUT", "GET"]
    with secure.connect() as connection:
        for at in range(0, len(message), piece):
            connection.send(message[at:at + piece])
        answers = [connection.response(method) for method in methods]
    assert [answer.status for answer in answers] == [201, 200] * 20
    assert [answer.body for answer in answers[1::2]] == [b"%04d" % number * 375 for number in range(20)]


def test_a_chunked_body(secure: Server) -> None:
    target, data = name(), os.urandom(5_000_000)
    with secure.connect() as connection:
        connection.send(put_head(secure, target, None))
        for at in range(0, len(data), 700_001):
            connection.chunk(data[at:at + 700_001])
        connection.chunk(b"")
        assert connection.response("PUT").status == 201
        assert connection.request("GET", target, secure.auth).body == data


def test_a_form(secure: Server) -> None:
    folder, data = name(), os.urandom(2_000_000)
    boundary = "carboy-test"
    files = [f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="{number}"\r\n\r\n'.encode() + data + b"\r\n" for number in range(3)]
    body = b"".join(files) + f"--{boundary}--\r\n".encode()
    answer = secure.request("POST", f"{folder}/", {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body)
    assert (answer.status, len(answer.json()["files"])) == (201, 3)
    assert all(secure.request("GET", f"{folder}/{number}").body == data for number in range(3))


@pytest.mark.parametrize("size", [5, None])
def test_100_continue_is_sent_when_the_body_is_wanted(secure: Server, size: int | None) -> None:
    with secure.connect() as connection:
        connection.send(put_head(secure, name(), size, Expect="100-continue"))
        assert connection.interim().status == 100
        connection.send(b"hello" if size else b"5\r\nhello\r\n0\r\n\r\n")
        assert connection.response("PUT").status == 201


def test_a_refusal_can_be_read_while_the_body_still_comes(secure: Server) -> None:
    """The close waits for the client, as without TLS."""
    with secure.connect() as connection:
        connection.send(wire.head("PUT", name(), {"Authorization": "Bearer wrong", "Content-Length": "3000000"}))
        connection.send(bytes(3_000_000))
        assert connection.response("PUT").status == 401
        assert connection.at_end()


def test_curl_that_checks_the_certificate(secure: Server, certificate: Certificate, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    sent, back, target = tmp_path / "sent", tmp_path / "back", secure.url + name()
    sent.write_bytes(os.urandom(20_000_000))
    curl = ["curl", "-sS", "--fail", "--cacert", str(certificate.cert), "-H", f"Authorization: Bearer {secure.token}"]
    subprocess.run([*curl, "-T", str(sent), "-o", os.devnull, target], check=True, timeout=wire.LIMIT)
    subprocess.run([*curl, "-o", str(back), target], check=True, timeout=wire.LIMIT)
    assert back.read_bytes() == sent.read_bytes()


# --- clients that say nothing --------------------------------------------------------------------------------------


def test_silent_handshakes_hold_no_thread(secure: Server, crowd: list[Any]) -> None:
    """Nothing, a byte of a ClientHello, half of one: more of each than there are threads."""
    hello = client_hello()
    for so_far in (b"", hello[:1], hello[:len(hello) // 2]):
        for _ in range(30):
            crowd.append(raw(secure))
            crowd[-1].sendall(so_far)
    assert fresh(secure)
    assert secure.request("PUT", name(), body=bytes(100_000)).status == 201
    late = crowd[-1]
    assert late.send(hello[len(hello) // 2:]) > 0
    assert late.recv(1) == b"\x16", "and the handshake goes on where it was"


@pytest.mark.parametrize("so_far", [0, 1, 60])
def test_a_handshake_has_a_deadline(hasty: Server, so_far: int) -> None:
    with raw(hasty) as plain:
        plain.sendall(client_hello()[:so_far])
        assert closed(plain)


@pytest.mark.parametrize("so_far", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_is_408(hasty: Server, so_far: bytes) -> None:
    with hasty.connect() as connection:
        if so_far:
            connection.send(so_far)
        assert connection.response().status == 408
        assert connection.at_end()


def test_a_body_that_falls_silent_is_408(hasty: Server) -> None:
    target = name()
    with hasty.connect() as connection:
        connection.send(put_head(hasty, target, 1_000_000) + bytes(70_000))
        assert connection.response("PUT").json()["code"] == "too_slow"
        assert connection.at_end()
    assert hasty.request("GET", target).status == 404


def test_bodies_that_wait_leave_threads_for_the_others(secure: Server, crowd: list[Any]) -> None:
    for number in range(BODIES):
        crowd.append(secure.connect())
        crowd[-1].send(put_head(secure, name(), 100_000) + bytes(number))
    assert eventually(lambda: secure.request("PUT", name(), body=b"x").status == 503)
    assert fresh(secure)
    for number, connection in enumerate(crowd):
        connection.send(bytes(100_000 - number))
        assert connection.response("PUT").status == 201


def test_a_client_that_does_not_take_its_answer_is_cut(hasty: Server, crowd: list[Any]) -> None:
    target = name()
    assert hasty.request("PUT", target, body=bytes(20_000_000)).status == 201
    for _ in range(24):
        crowd.append(hasty.connect())
        crowd[-1].send(wire.head("GET", target, hasty.auth))
    assert eventually(lambda: fresh(hasty))


# --- clients that leave --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close_notify", "close", "reset"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_cut_is_no_file(secure: Server, ending: str, chunked: bool) -> None:
    target = name()
    connection = secure.connect()
    connection.send(put_head(secure, target, None if chunked else 1_000_000))
    connection.send(b"ffff\r\n" + bytes(65535) + b"\r\n" if chunked else bytes(500_000))
    assert isinstance(connection.socket, ssl.SSLSocket)
    if ending == "close_notify":
        with suppress(OSError):  # it is sent first; then the answer stands where the server's own is looked for
            connection.socket.unwrap()
    elif ending == "reset":
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    eventually(lambda: not secure.request("GET", "/api/v1/uploads").json()["uploads"])
    assert secure.request("GET", target).status == 404


def test_a_second_request_for_a_stalled_chunk_takes_over(secure: Server) -> None:
    """The stalled one is told over its TLS, and what came of it is kept."""
    path, data, boundary = secrets.token_hex(8), bytes(range(256)) * 4_000, "carboy-test"
    fields = {"file_id": path, "index": "0", "chunk_size": str(len(data)), "total": str(len(data))}
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in fields.items()]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="chunk"; filename="chunk"\r\n\r\n'.encode() + data)
    body = b"".join(parts) + f"\r\n--{boundary}--\r\n".encode()
    head = wire.head("POST", "/chunk-upload", {**secure.auth, "Content-Type": f"multipart/form-data; boundary={boundary}"}, body)
    with secure.connect() as stalled, secure.connect() as second:
        stalled.send(head + body[:600_000])
        eventually(lambda: any(file.stat().st_size > 300_000 for file in (secure.data / "blobs").glob("*/*") if file.stat().st_size < 600_000))
        second.send(head + body)
        assert second.response("POST").status == 200
        assert stalled.response("POST").status in (400, 409)
    assert secure.request("GET", f"/files/main/{path}").body == data


@pytest.mark.parametrize("said", [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"PUT /files/main/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"])
def test_plain_http_is_told_to_use_https(secure: Server, said: bytes) -> None:
    with Connection(secure.url.replace("https:", "http:")) as connection:
        connection.send(said)
        answer = connection.response()
        assert (answer.status, answer.header("Connection")) == (400, "close")
        assert "https" in answer.json()["detail"]
        assert connection.at_end()
    assert fresh(secure)


@pytest.mark.parametrize("said", [b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"SSH-2.0-x\r\n", b"\x80\x2e\x01\0\x02" + bytes(50)])
def test_what_is_no_tls_is_dropped(secure: Server, said: bytes) -> None:
    with raw(secure) as plain:
        try:
            plain.sendall(said)
        except ConnectionError:
            pass
        assert closed(plain)
    assert fresh(secure)


def test_tls_before_1_2_is_refused(secure: Server) -> None:
    program = shutil.which("openssl")
    assert program
    done = subprocess.run([program, "s_client", "-connect", secure.url.removeprefix("https://"), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
                          input=b"", capture_output=True, timeout=wire.LIMIT)
    assert done.returncode != 0
    assert b"alert protocol version" in done.stderr


def client_hello() -> bytes:
    """The first flight of a real client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = wire.trusting().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


# --- the certificate -----------------------------------------------------------------------------------------------


def served(one: Server) -> bytes:
    """The certificate that the server shows now."""
    with one.connect() as connection:
        assert isinstance(connection.socket, ssl.SSLSocket)
        return connection.socket.getpeercert(binary_form=True) or b""


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert.read_text())


def test_sighup_takes_a_new_certificate_and_keeps_the_old_one_for_a_bad_one(server: ServerFactory, tmp_path: Path) -> None:
    first, second = certificates.make(tmp_path, "first"), certificates.make(tmp_path, "second")
    one = server(args=first.args)
    before = der(first)
    assert served(one) == before
    first.cert.write_bytes(second.cert.read_bytes())
    os.kill(one.pid, signal.SIGHUP)
    eventually(lambda: "the certificate was not changed" in one.log())
    assert served(one) == before
    first.key.write_bytes(second.key.read_bytes())
    os.kill(one.pid, signal.SIGHUP)
    assert eventually(lambda: served(one) == der(second))
    assert one.request("PUT", "/files/main/after", body=b"x").status == 201


@pytest.mark.parametrize(("change", "told"), [
    ("no cert", "tls_cert: cannot read"),
    ("no key", "tls_key: cannot read"),
    ("cert is no pem", "holds no certificate in PEM"),
    ("key is no pem", "holds no private key in PEM"),
    ("another key", "is not the key of the certificate"),
    ("password", "has a password"),
    ("alone", "tls_cert and tls_key go together"),
])
def test_files_that_cannot_be_used_stop_the_start_with_one_line(tmp_path: Path, change: str, told: str) -> None:
    certificate = certificates.make(tmp_path, password="secret" if change == "password" else "")
    if change.startswith("no "):
        (certificate.cert if change == "no cert" else certificate.key).unlink()
    elif change.endswith("no pem"):
        (certificate.cert if change.startswith("cert") else certificate.key).write_text("nothing")
    elif change == "another key":
        certificate.key.write_bytes(certificates.make(tmp_path, "other").key.read_bytes())
    args = certificate.args[:2] if change == "alone" else certificate.args
    done = subprocess.run([sys.executable, "-m", "carboy.cli.main", "serve", "--port", "0", "--data", str(tmp_path / "data"), *args],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=wire.LIMIT, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()
