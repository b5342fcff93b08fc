"""A body of known length over TLS.

Records of at most 16 KiB are decrypted straight into a borrowed buffer until it is full or nothing more has come. Only then the kernel
is asked to wake the thread: a socket whose bytes OpenSSL has taken in already would never become readable. While the client is silent no
buffer is held.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from typing import Any

from carboy.streams import LARGE, borrowed
from carboy.web.body_socket import GROWN, MOMENT, PATIENT_MARK, SocketSource
from carboy.web.tls import NOT_YET

_RECORD = 17 * 2**10
"""What OpenSSL may hold of a record that hasn't come whole: bytes which no mark may count on."""
_FAST_MARK = LARGE // 4
_FAST_WAIT = 0.25


class TlsSource(SocketSource):
    """See the module; else as a SocketSource, with the same limits of idle time and rate, counted in bytes of the body."""

    _dry = False

    def _all(self, fast: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        yield from self._parsed()
        try:
            self._sock.setblocking(False)
            while self._reader.length and self.ended == "open":
                yield from self._piece()
        except OSError:
            self.ended = "cut"
        finally:
            self._set_mark(1)
            self._block()
        self._conclude()

    def _piece(self) -> Iterator[memoryview]:
        if self._dry:
            self._wait()
        with borrowed(self._pool, self._size) as buffer:
            size = self._fill(buffer)
            if size:
                yield buffer[:size]
        self._fast = size == LARGE
        if size == self._size:
            self._size = GROWN[size]
        self._choose_mark()
        if self._pace.slow():
            self.ended = "slow"

    def _fill(self, buffer: memoryview) -> int:
        """As much as has come and fits. ``ended`` is set where the client left."""
        size, wanted = 0, min(len(buffer), self._reader.length)
        self._dry = False
        try:
            while size < wanted and (got := self._sock.recv_into(buffer[size:wanted])):
                size += got
        except NOT_YET:
            self._dry = True
        else:
            if size < wanted:
                self.ended = "cut"
        self._reader.length -= size
        if size:
            self._pace.count(size)
        return size

    def _choose_mark(self) -> None:
        """As the plain source: fast clients wake the thread for much, others for a little, and the end of the body for anything."""
        mark = _FAST_MARK if self._fast else PATIENT_MARK
        self._set_mark(mark if self._reader.length > mark + _RECORD else 1)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.poll((_FAST_WAIT if self._fast else min(self._pace.idle, MOMENT)) * 1000)

    def _block(self) -> None:
        """The answer is written by a socket that blocks."""
        try:
            self._sock.setblocking(True)
        except OSError:
            self.ended = "cut"
