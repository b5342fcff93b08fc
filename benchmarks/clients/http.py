"""A lean HTTP/1.1 client: requests are made of bytes beforehand, so that measuring costs next to nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from typing import Self

from benchmarks.clients.curl import TransferFailed

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
BOUNDARY = "----benchmarkQ7vD2kXcP"


def head(method: str, target: str, length: int = 0, headers: Iterable[str] = ()) -> bytes:
    """A request's head; ``headers`` are whole lines."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def form_body(files: Iterable[tuple[str, str, bytes]], fields: Mapping[str, str] | None = None) -> bytes:
    """A multipart body: fields first, then files as (field, file name, content)."""
    opening, closing = form_frame(fields or {})
    parts = [opening]
    for field, name, content in files:
        parts += [file_header(field, name), content, b"\r\n"]
    return b"".join([*parts, closing])


def form_frame(fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """What comes before the first file of a form, and after the last."""
    disposition = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    opening = "".join(f"--{BOUNDARY}\r\n{disposition.format(name, value)}" for name, value in fields.items())
    return opening.encode(), f"--{BOUNDARY}--\r\n".encode()


def file_header(field: str, name: str) -> bytes:
    """The head of a file part."""
    return (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n").encode()


FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"


def answer_end(data: bytes | bytearray) -> int:
    """Where the answer at the start of ``data`` ends; 0 while it isn't all there. Answers must tell their length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    length = _LENGTH.search(data, 0, end)
    total = end + 4 + (int(length[1]) if length else 0)
    return total if len(data) >= total else 0


def status(data: bytes | bytearray) -> int:
    """The status of an answer."""
    return int(data[9:12])


class Connection:
    """One kept-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._sock = self._connect()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self._address, timeout=120)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def exchange(self, *request: bytes | memoryview, bodiless: bool = False) -> bytes:
        """The body of the answer. Raises TransferFailed unless it is 2xx. Answers to HEAD tell a length and have no body."""
        answer = self.exchange_whole(request, bodiless=bodiless)
        return answer[answer.index(b"\r\n\r\n") + 4:]

    def exchange_whole(self, request: Iterable[bytes | memoryview], *, bodiless: bool = False) -> bytes:
        """The answer, head and body; the request's parts may be made while they are sent. Raises TransferFailed unless it is 2xx."""
        data, first = bytearray(), b""
        for part in request:
            first = first or bytes(part[:80])
            self._sock.sendall(part)
        while not (end := data.find(b"\r\n\r\n") + 1 if bodiless else answer_end(data)):
            if not (more := self._sock.recv(1 << 16)):
                raise TransferFailed(f"the connection ended; {bytes(data[:300])!r}")
            data += more
        if status(data) // 100 != 2:
            raise TransferFailed(f"{first!r}: {bytes(data[:500])!r}")
        return bytes(data if bodiless else data[:end])
