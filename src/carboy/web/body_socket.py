"""A body of known length, received straight from the socket into a borrowed buffer, after what the HTTP parser has already read.

While the client is silent no buffer is held; while it is fast the kernel is asked to fill whole buffers (MSG_WAITALL) and to wake the
thread once for half of one (SO_RCVLOWAT): waking it for every few packets costs more than the copying. A slow client's thread is woken
for 32 KiB, or after two seconds. gunicorn's own reader is kept up to date, so that it knows where the next request begins.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from carboy.streams import LARGE, MEDIUM, SMALL, BufferPool, Ending, Pace, borrowed
from carboy.web.tls import end_reading

GROWN = {SMALL: MEDIUM, MEDIUM: LARGE, LARGE: LARGE}
_FAST_WAIT = struct.pack("@ll", 0, 250_000)
_NO_WAIT_LIMIT = struct.pack("@ll", 0, 0)
_FAST_MARK = LARGE // 2
PATIENT_MARK = 32 * 2**10
MOMENT = 2.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class SocketSource:
    """A body of known length on a plain TCP connection that gunicorn's parser has handed over."""

    def __init__(self, sock: socket.socket, reader: Any, pool: BufferPool, pace: Pace, *, expects_continue: bool = False) -> None:
        self.ended: Ending = "open"
        self._sock = sock
        self._reader = reader
        self._pool = pool
        self._pace = pace
        self._continue = expects_continue
        self._stopped = False
        self._size = SMALL
        self._fast = False
        self._mark = 1

    @property
    def remaining(self) -> int | None:
        return int(self._reader.length)

    def lend(self) -> Iterator[memoryview]:
        return self._all(self._fast_pieces)

    def give(self) -> Iterator[bytes]:
        return map(bytes, self._all(self._fast_bytes))  # bytes() copies only what is borrowed

    def _all(self, fast: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        yield from self._parsed()
        try:
            while self._reader.length and self.ended == "open":
                yield from fast() if self._fast else self._piece()
        except OSError:
            self.ended = "cut"
        finally:
            if self._fast:
                self._set_fast(False)
            self._set_mark(1)
        self._conclude()

    def _conclude(self) -> None:
        if not self._reader.length:
            self.ended = "complete"
        elif self._stopped:
            self.ended = "stopped"

    def stop(self) -> None:
        self._stopped = True
        end_reading(self._sock)

    def _parsed(self) -> Iterator[memoryview]:
        """What the parser read beyond the head; bytes beyond the body belong to the next request and go back."""
        if not self._reader.length:
            return
        data = self._reader.unreader.take_buffered()
        mine = data[:self._reader.length]
        if len(data) > len(mine):
            self._reader.unreader.unread(data[len(mine):])
        self._reader.length -= len(mine)
        if mine:
            yield memoryview(mine)
        if self._reader.length and self._continue:
            try:
                self._sock.sendall(CONTINUE)
            except OSError:
                self.ended = "cut"

    def _piece(self) -> Iterator[memoryview]:
        self._wait()
        with borrowed(self._pool, self._size) as buffer:
            size = self._receive(buffer, socket.MSG_DONTWAIT)
            if size:
                yield buffer[:size]
        if size == self._size:
            self._grow()
            if self._mark > self._reader.length:  # more than will come
                self._set_mark(1)
        elif self.ended == "open":
            self._set_mark(PATIENT_MARK if self._reader.length > PATIENT_MARK else 1)
        if self._pace.slow():
            self.ended = "slow"

    def _grow(self) -> None:
        if self._size == LARGE and self._reader.length > LARGE:
            self._set_fast(True)
        self._size = GROWN[self._size]

    def _wait(self) -> None:
        """Until enough bytes have come, or a moment has passed in which fewer came."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.poll(min(self._pace.idle, MOMENT) * 1000)

    def _fast_pieces(self) -> Iterator[memoryview]:
        with borrowed(self._pool, LARGE) as buffer:
            while self._fast:
                size = self._receive(buffer, socket.MSG_WAITALL)
                self._stay_fast(size)
                if size:
                    yield buffer[:size]

    def _fast_bytes(self) -> Iterator[bytes]:
        """The same without a borrowed buffer: the bytes are the caller's, so they need no copy to be kept."""
        while self._fast:
            try:
                data = self._sock.recv(min(LARGE, self._reader.length), socket.MSG_WAITALL)
            except BlockingIOError:
                self._stay_fast(0)
                return
            self._count(len(data))
            self._stay_fast(len(data))
            if data:
                yield data

    def _stay_fast(self, size: int) -> None:
        """As long as whole buffers come, and another whole one is to come."""
        if size < LARGE or self._reader.length < LARGE:
            self._set_fast(False)

    def _receive(self, buffer: memoryview, flags: int) -> int:
        """Bytes received; 0 with ``ended`` set where the client left, 0 without where it only paused."""
        try:
            size = self._sock.recv_into(buffer, min(len(buffer), self._reader.length), flags)
        except BlockingIOError:
            return 0
        self._count(size)
        return size

    def _count(self, size: int) -> None:
        if not size:
            self.ended = "cut"
        self._reader.length -= size
        self._pace.count(size)

    def _set_fast(self, fast: bool) -> None:
        """A receive timeout in the kernel, so that a blocking read of a whole buffer comes back from a client that pauses.
        The last, smaller piece is read without all this: it would never reach the mark that wakes the thread."""
        self._fast = fast
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _FAST_WAIT if fast else _NO_WAIT_LIMIT)
        except OSError:
            self.ended = "cut"
        self._set_mark(_FAST_MARK if fast else 1)

    def _set_mark(self, mark: int) -> None:
        """How many bytes must have come for the kernel to wake the thread."""
        if mark != self._mark:
            self._mark = mark
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
            except OSError:
                self.ended = "cut"
