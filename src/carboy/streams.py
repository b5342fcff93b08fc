"""How bytes move: a Source gives them, a Pump reads, checks and writes them, a pool lends the buffers.

A transfer holds a buffer only while bytes move; a silent client holds none. Nothing here knows HTTP or a storage.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from carboy import checksums
from carboy.errors import BodyCut, BytesDiffer, DigestMismatch, Interrupted, TooLarge, TooSlow
from carboy.model import Span

Ending = Literal["open", "complete", "cut", "slow", "stopped"]
"""How a source ended: by its declared end, by a client that left, by the rate limits, or because it was asked to."""

SMALL, MEDIUM, LARGE = 16 * 2**10, 128 * 2**10, 2**20
HEAD_SIZE = 4096
"""How many first bytes a Pump keeps for telling the media type."""


class BufferPool:
    """Lends buffers of three sizes and keeps up to ``keep`` bytes of returned ones. Thread-safe."""

    def __init__(self, keep: int = 32 * 2**20) -> None:
        self._keep = keep
        self._kept = 0
        self._free: dict[int, deque[memoryview]] = {SMALL: deque(), MEDIUM: deque(), LARGE: deque()}
        self._lock = threading.Lock()

    def take(self, size: int) -> memoryview:
        """A buffer of exactly ``size`` (SMALL, MEDIUM or LARGE) bytes with arbitrary content."""
        with self._lock:
            if self._free[size]:
                self._kept -= size
                return self._free[size].pop()
        return memoryview(bytearray(size))

    def give(self, buffer: memoryview) -> None:
        with self._lock:
            if self._kept + len(buffer) <= self._keep:
                self._kept += len(buffer)
                self._free[len(buffer)].append(buffer)


class Source(Protocol):
    """Where the bytes of one request come from. ``ended`` says why there are no more."""

    ended: Ending

    @property
    def remaining(self) -> int | None:
        """Bytes still to come; None when the end is not known beforehand."""

    def lend(self) -> Iterator[memoryview]:
        """The bytes in pieces, each valid until the next is asked for. Ends for every Ending; never raises for a
        client that left."""

    def give(self) -> Iterator[bytes]:
        """The same as :meth:`lend` as bytes that stay as they are."""

    def stop(self) -> None:
        """End soon, from another thread; what has arrived may still be given."""


class BytesSource:
    """A Source over bytes in memory, or an iterable of them: Python calls and tests."""

    def __init__(self, data: bytes | Sequence[bytes], *, cut: bool = False) -> None:
        self._pieces = [data] if isinstance(data, bytes) else list(data)
        self.ended: Ending = "open"
        self.remaining: int | None = sum(map(len, self._pieces)) + (1 if cut else 0)
        self._cut = cut

    def lend(self) -> Iterator[memoryview]:
        for piece in self._pieces:
            if self.ended != "open":
                return
            self.remaining = (self.remaining or 0) - len(piece)
            yield memoryview(piece)
        if self.ended == "open":
            self.ended = "cut" if self._cut else "complete"

    def give(self) -> Iterator[bytes]:
        return map(bytes, self.lend())

    def stop(self) -> None:
        self.ended = "stopped"


def ending_error(source: Source, received: int) -> BodyCut | TooSlow | None:
    """The error a request fails with when its source did not end by itself."""
    if source.ended == "slow":
        return TooSlow("the body fell under the minimum rate or was silent too long", received=received)
    if source.ended == "stopped":
        return Interrupted("another request sends these bytes, the upload is over, or the server stops", received=received)
    if source.ended != "complete":
        return BodyCut("the body ended before its declared length", received=received)
    return None


def digest_error(algorithm: str, expected: bytes, received: bytes) -> DigestMismatch:
    """The error of bytes that have another digest than the one given."""
    return DigestMismatch(f"the {algorithm} of the bytes is not the one given", algorithm=algorithm, expected=expected.hex(),
                          received=received.hex())


class Sink(Protocol):
    """Where a Pump puts bytes: the writing side of ``carboy.storage.base.Writer``."""

    def write(self, data: memoryview | bytes) -> None: ...

    def compare(self, data: memoryview | bytes) -> bool: ...


class Pump:
    """Checks and writes bytes that belong one after another from offset ``at``.

    ``known`` lists recorded spans: bytes inside them are compared and never written (BytesDiffer if they differ); all
    others go to ``sink`` and, with their CRC-64/NVME, into spans. More than ``limit`` bytes raise TooLarge. The digests
    named run over all bytes. With ``head`` the first bytes are kept for telling the media type.
    ``compared`` tells whether any were recorded before, and so not written; ``comparing`` whether the sink is at that, also once it has
    failed at it.
    """

    def __init__(self, sink: Sink, *, at: int = 0, known: Sequence[Span] = (), limit: int | None = None,
                 digests: Sequence[str] = (), head: bool = False) -> None:
        self._sink = sink
        self._limit = limit
        self._keep_head = head
        self._digests = {name: checksums.new(name) for name in digests}
        self._spans: list[Span] = []
        self._start = self._position = at
        self._from = at
        self._crc = 0
        self.head = b""
        self.compared = self.comparing = False
        self.know(known)

    @property
    def start(self) -> int:
        """Where the first byte belongs."""
        return self._from

    @property
    def received(self) -> int:
        """Bytes taken in, compared ones included."""
        return self._position - self._from

    @property
    def position(self) -> int:
        """Where the next byte belongs."""
        return self._position

    def know(self, spans: Sequence[Span]) -> None:
        """What is recorded now, from here on."""
        self._known = deque(span for span in sorted(spans) if span.end > self._position)

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next bytes. Raises TooLarge before any of them is written, BytesDiffer, and what the sink raises."""
        self.check(len(data))
        if self._keep_head and len(self.head) < HEAD_SIZE:
            self.head += bytes(data[:HEAD_SIZE - len(self.head)])
        for digest in self._digests.values():
            digest.update(data)
        if self._known:
            self._feed_around_known(memoryview(data))
        else:
            self._take(data)

    def check(self, size: int) -> None:
        """Raises TooLarge where ``size`` more bytes are too many."""
        if self._limit is not None and self.received + size > self._limit:
            raise TooLarge(f"more than {self._limit} bytes came", limit=self._limit)

    def spans(self) -> list[Span]:
        """The spans written since the last call. Only those flushed since may be recorded."""
        self._cut()
        spans, self._spans = self._spans, []
        return spans

    def digest(self, name: str) -> bytes:
        return self._digests[name].digest()

    def computes(self, name: str) -> bool:
        """Whether that digest runs over the bytes."""
        return name in self._digests

    def verify(self, expected: Sequence[tuple[str, bytes]]) -> None:
        """Raises DigestMismatch naming the first of ``(algorithm, digest)`` that the bytes don't have."""
        for name, digest in expected:
            if self.digest(name) != digest:
                raise digest_error(name, digest, self.digest(name))

    def _take(self, data: memoryview | bytes) -> None:
        crc = checksums.crc64nvme(data, self._crc)
        self._sink.write(data)
        self._crc = crc
        self._position += len(data)

    def _cut(self) -> None:
        if self._position > self._start:
            self._spans.append(Span(self._start, self._position, self._crc))
        self._start, self._crc = self._position, 0

    def _feed_around_known(self, data: memoryview) -> None:
        while data and self._known:
            span = self._known[0]
            if self._position < span.start:
                size = min(len(data), span.start - self._position)
                self._take(data[:size])
            else:
                self._cut()
                self.compared = self.comparing = True
                size = min(len(data), span.end - self._position)
                same = self._sink.compare(data[:size])
                self.comparing = False
                if not same:
                    raise BytesDiffer("bytes that were already received came with another content",
                                      start=span.start, end=span.end)
                self._position = self._start = self._position + size
                if self._position >= span.end:
                    self._known.popleft()
            data = data[size:]
        if data:
            self._take(data)


class Pace:
    """Whether a body comes fast enough: never silent for ``idle`` seconds, and at least ``rate`` bytes per second over
    each ``window``."""

    def __init__(self, idle: float, rate: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.idle = idle
        self._rate, self._window, self._clock = rate, window, clock
        self._since = self._last = clock()
        self._bytes = 0

    def count(self, size: int) -> None:
        self._bytes += size
        self._last = self._clock()

    def slow(self) -> bool:
        """Whether it has been silent too long, or the window that ends now was too slow. Starts the next one if it has ended."""
        now = self._clock()
        if now - self._last >= self.idle:
            return True
        if now - self._since < self._window:
            return False
        slow = self._rate > 0 and self._bytes < self._rate * (now - self._since)
        self._since, self._bytes = now, 0
        return slow


@contextmanager
def borrowed(pool: BufferPool, size: int) -> Iterator[memoryview]:
    """A buffer from the pool that goes back at the end."""
    buffer = pool.take(size)
    try:
        yield buffer
    finally:
        pool.give(buffer)
