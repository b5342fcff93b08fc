"""Many prebuilt requests over some kept-alive connections, from one thread on epoll."""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.clients import http
from benchmarks.clients.curl import TransferFailed

_SILENCE = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """How long it took, and what it cost us to send it."""

    seconds: float
    own_cpu: float


@dataclass(slots=True)
class _Line:
    sock: socket.socket
    request: bytes = b""
    answer: bytearray = None  # type: ignore[assignment]  # set with each request


def send_all(host: str, port: int, requests: Iterable[bytes], connections: int) -> Load:
    """Send every request, each connection one at a time. Raises TransferFailed unless all are answered 2xx."""
    sender = _Sender((host, port), deque(requests))
    started, cpu = time.perf_counter(), sum(os.times()[:2])
    sender.run(connections)
    return Load(time.perf_counter() - started, sum(os.times()[:2]) - cpu)


class _Sender:
    def __init__(self, address: tuple[str, int], waiting: deque[bytes]) -> None:
        self._address, self._waiting = address, waiting
        self._poll = select.epoll()
        self._lines: dict[int, _Line] = {}

    def run(self, connections: int) -> None:
        try:
            for _ in range(min(connections, len(self._waiting))):
                self._open(self._waiting.popleft())
            while self._lines:
                events = self._poll.poll(_SILENCE)
                if not events:
                    raise TransferFailed(f"{len(self._lines)} requests without an answer for {_SILENCE:.0f} s")
                for number, _ in events:
                    self._read(self._lines[number])
        finally:
            for line in self._lines.values():
                line.sock.close()
            self._poll.close()

    def _open(self, request: bytes) -> None:
        sock = socket.create_connection(self._address, timeout=_SILENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = self._lines[sock.fileno()] = _Line(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN)
        self._send(line, request)

    def _send(self, line: _Line, request: bytes) -> None:
        line.request, line.answer = request, bytearray()
        line.sock.sendall(request)

    def _read(self, line: _Line) -> None:
        try:
            data = line.sock.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            return self._again(line)
        line.answer += data
        if http.answer_end(line.answer):
            self._answered(line)
        return None

    def _answered(self, line: _Line) -> None:
        if http.status(line.answer) // 100 != 2:
            raise TransferFailed(f"{line.request[:80]!r}: {bytes(line.answer[:500])!r}")
        if not self._waiting:
            self._close(line)
        else:
            try:
                self._send(line, self._waiting.popleft())
            except (BrokenPipeError, ConnectionResetError):
                self._again(line)

    def _again(self, line: _Line) -> None:
        """The server ended a kept-alive connection, as it may between requests: the request goes over a new one."""
        if line.answer:
            raise TransferFailed(f"an answer broke off: {bytes(line.answer[:300])!r}")
        self._close(line)
        self._open(line.request)

    def _close(self, line: _Line) -> None:
        self._poll.unregister(line.sock.fileno())
        del self._lines[line.sock.fileno()]
        line.sock.close()
