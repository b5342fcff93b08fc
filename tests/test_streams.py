"""Sources, the Pump, buffers and the pace of a body, as tables; tests/properties/test_pump.py has the Pump against a model."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from carboy import checksums
from carboy.errors import BodyCut, BytesDiffer, DigestMismatch, Interrupted, TooLarge, TooSlow
from carboy.model import Span
from carboy.streams import HEAD_SIZE, LARGE, MEDIUM, SMALL, BufferPool, BytesSource, Ending, Pace, Pump, borrowed, ending_error


class Memory:
    """A sink over bytes in memory that moves on as a storage's writer does."""

    def __init__(self, stored: bytes = b"", at: int = 0) -> None:
        self.data = bytearray(stored)
        self.at = at
        self.written: list[tuple[int, int]] = []

    def write(self, data: memoryview | bytes) -> None:
        self.data.extend(bytes(max(0, self.at - len(self.data))))
        self.data[self.at:self.at + len(data)] = data
        self.written.append((self.at, self.at + len(data)))
        self.at += len(data)

    def compare(self, data: memoryview | bytes) -> bool:
        same = bytes(self.data[self.at:self.at + len(data)]) == bytes(data)
        self.at += len(data)
        return same


# --- sources -------------------------------------------------------------------------------------------------------


def test_a_source_gives_its_pieces_and_says_that_it_is_complete() -> None:
    source = BytesSource([b"ab", b"", b"cde"])
    assert source.remaining == 5
    assert source.ended == "open"
    assert [bytes(piece) for piece in source.lend()] == [b"ab", b"", b"cde"]
    assert (source.remaining, source.ended) == (0, "complete")


def test_a_cut_source_gives_what_came_and_misses_the_rest() -> None:
    source = BytesSource(b"abc", cut=True)
    assert b"".join(map(bytes, source.lend())) == b"abc"
    assert source.ended == "cut"
    assert source.remaining and source.remaining > 0


def test_a_stopped_source_gives_no_more() -> None:
    source = BytesSource([b"ab", b"cd"])
    pieces = source.lend()
    assert bytes(next(pieces)) == b"ab"
    source.stop()
    assert list(pieces) == []
    assert source.ended == "stopped"


@pytest.mark.parametrize(("ended", "error"), [("complete", None), ("cut", BodyCut), ("stopped", Interrupted), ("open", BodyCut), ("slow", TooSlow)])
def test_how_a_source_ended_is_the_error_of_a_request(ended: Ending, error: type[Exception] | None) -> None:
    source = BytesSource(b"")
    source.ended = ended
    found = ending_error(source, 17)
    assert type(found) is (error or type(None))
    assert found is None or found.facts == {"received": 17}


# --- the pump ------------------------------------------------------------------------------------------------------


def test_bytes_become_one_span_with_their_crc() -> None:
    sink = Memory(at=100)
    pump = Pump(sink, at=100)
    for piece in (b"12345", b"", b"6789"):
        pump.feed(piece)
    assert pump.spans() == [Span(100, 109, 0xAE8B14860A799888)]
    assert (pump.start, pump.position, pump.received) == (100, 109, 9)
    assert sink.data == bytes(100) + b"123456789"


def test_spans_are_told_once_and_go_on_after_that() -> None:
    pump = Pump(Memory())
    pump.feed(b"abc")
    assert pump.spans() == [Span(0, 3, checksums.crc64nvme(b"abc"))]
    assert pump.spans() == []
    pump.feed(b"de")
    assert pump.spans() == [Span(3, 5, checksums.crc64nvme(b"de"))]


def test_the_first_bytes_are_kept_where_asked() -> None:
    data = bytes(range(256)) * 40
    pump = Pump(Memory(), head=True)
    for at in range(0, len(data), 100):
        pump.feed(data[at:at + 100])
    assert pump.head == data[:HEAD_SIZE]
    plain = Pump(Memory())
    plain.feed(data)
    assert plain.head == b""


def test_too_many_bytes_are_refused_before_any_of_them_is_written() -> None:
    sink = Memory()
    pump = Pump(sink, limit=10)
    pump.feed(b"1234567")
    with pytest.raises(TooLarge) as refused:
        pump.feed(b"8901")
    assert refused.value.facts["limit"] == 10
    assert sink.data == b"1234567"
    pump.feed(b"890")
    assert pump.spans() == [Span(0, 10, checksums.crc64nvme(b"1234567890"))]


KNOWN_CRCS = {"crc32": "a684c7c6", "crc32c": "280c069e", "crc64nvme": f"{checksums.crc64nvme(b'0123456789'):016x}"}
"""Of the ten digits, the first two as any calculator of them tells; big endian."""


def digest_of(name: str, data: bytes) -> bytes:
    return bytes.fromhex(KNOWN_CRCS[name]) if name in KNOWN_CRCS else hashlib.new(name.replace("-", ""), data).digest()


@pytest.mark.parametrize("name", sorted(checksums.DIGEST_SIZES))
def test_digests_run_over_all_bytes_compared_ones_too(name: str) -> None:
    data = b"0123456789"
    pump = Pump(Memory(data), known=[Span(2, 5)], digests=[name])
    for at in range(0, 10, 3):
        pump.feed(data[at:at + 3])
    expected = digest_of(name, data)
    assert len(expected) == checksums.DIGEST_SIZES[name]
    assert pump.digest(name) == expected
    pump.verify([(name, expected)])
    with pytest.raises(DigestMismatch) as refused:
        pump.verify([(name, expected), (name, b"\0" * len(expected))])
    assert refused.value.facts == {"algorithm": name, "expected": "00" * len(expected), "received": expected.hex()}


def test_known_bytes_are_compared_and_never_written() -> None:
    sink = Memory(b"..cd..gh..")
    pump = Pump(sink, known=[Span(6, 8), Span(2, 4)])
    pump.feed(b"abcdefghij")
    assert sink.written == [(0, 2), (4, 6), (8, 10)]
    assert pump.spans() == [Span(0, 2, checksums.crc64nvme(b"ab")), Span(4, 6, checksums.crc64nvme(b"ef")), Span(8, 10, checksums.crc64nvme(b"ij"))]
    assert pump.compared


def test_other_bytes_in_a_known_place_are_refused_and_named() -> None:
    sink = Memory(b"..cd..")
    pump = Pump(sink, known=[Span(2, 4)])
    with pytest.raises(BytesDiffer) as refused:
        pump.feed(b"abcXef")
    assert (refused.value.facts["start"], refused.value.facts["end"]) == (2, 4)
    assert bytes(sink.data) == b"abcd.."


def test_what_became_known_later_is_compared_from_there_on() -> None:
    sink = Memory(b"......gh")
    pump = Pump(sink)
    pump.feed(b"abcd")
    assert not pump.compared
    pump.know([Span(0, 3), Span(6, 8)])
    pump.feed(b"efgh")
    assert pump.compared
    assert sink.written == [(0, 4), (4, 6)]
    assert [(span.start, span.end) for span in pump.spans()] == [(0, 6)]


def test_what_the_sink_raises_leaves_no_span() -> None:
    class Full(Memory):
        def write(self, data: memoryview | bytes) -> None:
            raise OSError("full")

    pump = Pump(Full())
    with pytest.raises(OSError, match="full"):
        pump.feed(b"abc")
    assert pump.spans() == []


# --- checksums -----------------------------------------------------------------------------------------------------


def test_crc_has_the_check_value_of_the_specification() -> None:
    """NVM Express Base Specification, 64-bit CRC: the check value of "123456789"."""
    assert checksums.crc64nvme(b"123456789") == 0xAE8B14860A799888
    assert checksums.crc64nvme(b"") == 0


# --- buffers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, MEDIUM, LARGE])
def test_a_buffer_that_was_given_back_is_lent_again(size: int) -> None:
    pool = BufferPool()
    first = pool.take(size)
    assert len(first) == size
    assert pool.take(size) is not first
    pool.give(first)
    assert pool.take(size) is first


def test_the_pool_keeps_no_more_than_it_may() -> None:
    pool = BufferPool(keep=2 * LARGE)
    lent = [pool.take(LARGE) for _ in range(5)]
    for buffer in lent:
        pool.give(buffer)
    again = [pool.take(LARGE) for _ in range(5)]
    assert sum(any(new is old for old in lent) for new in again) == 2


def test_a_borrowed_buffer_goes_back_whatever_happens() -> None:
    pool = BufferPool()
    with pytest.raises(ValueError, match="inside"), borrowed(pool, SMALL) as buffer:
        raise ValueError("inside")
    assert pool.take(SMALL) is buffer


def test_no_buffer_is_lent_to_two_threads() -> None:
    pool, start = BufferPool(keep=8 * SMALL), threading.Barrier(16)

    def work(mark: int) -> bool:
        start.wait()
        for _ in range(300):
            with borrowed(pool, SMALL) as buffer:
                buffer[:4] = bytes([mark] * 4)
                if bytes(buffer[:4]) != bytes([mark] * 4):
                    return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(16)))


# --- pace ----------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("rate", "size", "seconds", "slow"), [
    (100, 0, 9.9, False), (100, 0, 10, True), (100, 999, 10, True), (100, 1000, 10, False), (100, 1001, 10, False),
    (100, 1500, 20, True), (100, 2000, 20, False), (0, 0, 1000, False), (1, 10, 10, False),
])
def test_a_window_below_the_rate_is_slow(rate: int, size: int, seconds: float, slow: bool) -> None:
    clock = Clock()
    pace = Pace(idle=5000, rate=rate, window=10, clock=clock)
    pace.count(size)
    clock.now += seconds
    assert pace.slow() is slow


@pytest.mark.parametrize(("silent", "slow"), [(0, False), (29.9, False), (30, True), (1000, True)])
def test_a_client_that_is_silent_past_the_idle_limit_is_slow_whatever_the_rate(silent: float, slow: bool) -> None:
    clock = Clock()
    pace = Pace(idle=30, rate=0, window=10, clock=clock)
    pace.count(10**9)
    clock.now += silent
    assert pace.slow() is slow


def test_every_window_is_judged_by_itself() -> None:
    clock = Clock()
    pace = Pace(idle=30, rate=100, window=10, clock=clock)
    pace.count(10**9)
    clock.now += 10
    assert not pace.slow()
    clock.now += 9
    assert not pace.slow()
    clock.now += 1
    assert pace.slow()
