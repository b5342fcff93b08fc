"""A tiny HTTP/1.1 client on a raw socket: sends exactly the bytes it is told to, and reads exactly what comes back.

Real clients tidy up what they send; tests of a server want to send what no client would.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

LIMIT = 60.0
"""Seconds that a test waits for the server at most; never what decides whether it passes."""

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Closed(Exception):
    """The server closed the connection before the answer, or in the midst of it. ``so_far`` is what had come."""

    def __init__(self, so_far: bytes) -> None:
        super().__init__(f"the server closed the connection after {so_far!r}")
        self.so_far = so_far


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. ``interim`` holds the 1xx answers that came before it, ``trailers`` what followed a chunked body."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()
    interim: tuple[Response, ...] = ()
    version: str = "HTTP/1.1"

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of a header that occurs at most once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(slots=True)
class Connection:
    """One TCP connection to a server, with TLS for ``https``; a context manager."""

    url: str
    timeout: float = LIMIT
    tls: ssl.SSLContext | None = None
    socket: socket.socket = field(init=False)
    _buffer: bytearray = field(init=False, default_factory=bytearray)

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        self.socket = socket.create_connection((address.hostname or "127.0.0.1", address.port or 80), self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.scheme == "https":
            self.socket = (self.tls or trusting()).wrap_socket(self.socket)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- out ---

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def request(self, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> Response:
        """Send one request and read its answer. ``Content-Length`` is added to a body unless the headers frame it."""
        self.send(head(method, target, headers, body, host=urlsplit(self.url).netloc) + (body or b""))
        return self.response(method)

    def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; the empty one ends it."""
        self.send(b"%x\r\n" % len(data) + data + b"\r\n")

    def end_writing(self) -> None:
        """Tell the server that nothing more comes; it may still answer."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with RST, as a machine that crashed does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    # --- in ---

    def response(self, method: str = "GET") -> Response:
        """The next final answer, to a request with this method. Raises Closed, TimeoutError."""
        interim = []
        while (answer := self._head()).status < 200 and answer.status != 101:
            interim.append(answer)
        body, trailers = self._body(answer, method)
        return Response(answer.status, answer.reason, answer.headers, body, trailers, tuple(interim), answer.version)

    def interim(self) -> Response:
        """The next answer's head, which must be a 1xx one."""
        answer = self._head()
        assert 100 <= answer.status < 200, answer
        return answer

    def at_end(self) -> bool:
        """Wait for the server to close the connection; False where it sends a byte instead."""
        if self._buffer:
            return False
        try:
            more = self.socket.recv(1)
        except ConnectionError:
            return True
        self._buffer += more
        return not more

    def _head(self) -> Response:
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        version, status, reason = [*lines[0].split(" ", 2), ""][:3]
        return Response(int(status), reason, _fields(lines[1:]), version=version)

    def _body(self, answer: Response, method: str) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return b"", ()
        if "chunked" in (answer.header("transfer-encoding") or "").lower():
            return self._chunks()
        length = answer.header("content-length")
        return (self._to_end() if length is None else self._exactly(int(length))), ()

    def _chunks(self) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        body = bytearray()
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        trailers = []
        while (line := self._until(b"\r\n")) != b"\r\n":
            trailers.append(line[:-2].decode("latin-1"))
        return bytes(body), _fields(trailers)

    def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            self._more()
        return self._take(at + len(mark))

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        return self._take(size)

    def _to_end(self) -> bytes:
        while more := self.socket.recv(65536):
            self._buffer += more
        return self._take(len(self._buffer))

    def _more(self) -> None:
        try:
            more = self.socket.recv(1 << 20)
        except ConnectionError:
            more = b""
        if not more:
            raise Closed(bytes(self._buffer))
        self._buffer += more

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def trusting() -> ssl.SSLContext:
    """For a client that believes any certificate: tests make their own, and curl checks them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def head(method: str, target: str, headers: Headers = (), body: bytes | None = None, *, host: str = "test") -> bytes:
    """A request's head; ``Host`` and, for a body, ``Content-Length`` are added where the headers have none."""
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {name.lower() for name, _ in fields}
    if "host" not in names:
        fields.insert(0, ("Host", host))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def request(url: str, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> Response:
    """One request on a connection of its own."""
    with Connection(url) as connection:
        return connection.request(method, target, headers, body)


def _fields(lines: Iterable[str]) -> tuple[tuple[str, str], ...]:
    pairs = (line.split(":", 1) for line in lines)
    return tuple((name, value.strip()) for name, value in pairs)
