"""The Pump and CRC-64/NVME against a model, whatever the pieces, the places and what is known already."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carboy import checksums
from carboy.catalog.spans import merged
from carboy.errors import BytesDiffer, TooLarge
from carboy.model import Span, gaps
from carboy.streams import Pump

UNKNOWN = 0xEE
"""What the storage holds outside known spans: nobody may read it."""


class Disk:
    """Stored bytes that refuse to be written inside a known span."""

    def __init__(self, size: int, at: int, known: Sequence[Span], stored: bytes) -> None:
        self.data = bytearray([UNKNOWN]) * size
        self.known = known
        self.at = at
        for span in known:
            self.data[span.start:span.end] = stored[span.start:span.end]

    def write(self, data: memoryview | bytes) -> None:
        end = self.at + len(data)
        assert not any(span.start < end and self.at < span.end for span in self.known), "wrote inside a recorded span"
        self.data[self.at:end] = data
        self.at = end

    def compare(self, data: memoryview | bytes) -> bool:
        end = self.at + len(data)
        assert any(span.start <= self.at and end <= span.end for span in self.known), "compared what nobody recorded"
        same = bytes(self.data[self.at:end]) == bytes(data)
        self.at = end
        return same


def feed(pump: Pump, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        pump.feed(piece)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in pieces, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@st.composite
def known_spans(draw: st.DrawFn, data: bytes) -> list[Span]:
    """Disjoint spans that are never neighbours, as the catalog has them, in any order."""
    places = sorted(set(draw(st.lists(st.integers(0, len(data)), max_size=10))))
    spans = [Span(start, end, checksums.crc64nvme(data[start:end])) for start, end in zip(places[::2], places[1::2], strict=False)]
    return draw(st.permutations(spans))


@st.composite
def transfers(draw: st.DrawFn) -> tuple[bytes, int, int, list[Span], list[bytes]]:
    data = draw(st.binary(min_size=1, max_size=200))
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, len(data)))
    return data, start, end, draw(known_spans(data)), draw(cuts(data[start:end]))


@given(transfers(), st.data())
def test_every_byte_is_compared_or_written_and_spans_say_which(transfer: tuple[bytes, int, int, list[Span], list[bytes]], more: st.DataObject) -> None:
    data, start, end, known, pieces = transfer
    disk = Disk(len(data), start, known, data)
    pump = Pump(disk, at=start, known=known, digests=["sha-256", "md5"], head=True)
    told: list[Span] = []
    for piece in pieces:
        pump.feed(memoryview(piece))
        if more.draw(st.booleans()):
            told += pump.spans()
    told += pump.spans()

    assert pump.position == disk.at == end
    assert pump.received == end - start
    assert disk.data[start:end] == data[start:end]
    assert all(span.length and span.crc == checksums.crc64nvme(data[span.start:span.end]) for span in told)
    assert pump.head == data[start:end]
    assert pump.digest("sha-256") == hashlib.sha256(data[start:end]).digest()
    recorded = merged([*known, *told], checksums.combine)
    assert gaps(recorded, end) == [gap for gap in gaps(known, end) if gap[1] <= start] + _before(known, start, end)
    assert all(span.crc == checksums.crc64nvme(data[span.start:span.end]) for span in recorded)


def _before(known: Sequence[Span], start: int, end: int) -> list[tuple[int, int]]:
    """The part before ``start`` of the gap that ``start`` lies in."""
    return [(low, start) for low, high in gaps(known, end) if low < start < high]


@given(transfers(), st.data())
def test_one_different_byte_in_a_known_place_is_found_and_nothing_known_changes(transfer: tuple[bytes, int, int, list[Span], list[bytes]], more: st.DataObject) -> None:
    data, start, end, known, _ = transfer
    places = [at for span in known for at in range(max(span.start, start), min(span.end, end))]
    if not places:
        return
    wrong = bytearray(data[start:end])
    wrong[more.draw(st.sampled_from(places)) - start] ^= more.draw(st.integers(1, 255))
    disk = Disk(len(data), start, known, data)
    with pytest.raises(BytesDiffer):
        feed(Pump(disk, at=start, known=known), more.draw(cuts(bytes(wrong))))
    assert all(disk.data[span.start:span.end] == data[span.start:span.end] for span in known)


@given(transfers(), st.integers(0, 220))
def test_no_byte_past_the_limit_is_written(transfer: tuple[bytes, int, int, list[Span], list[bytes]], limit: int) -> None:
    data, start, end, known, pieces = transfer
    disk = Disk(len(data), start, known, data)
    pump = Pump(disk, at=start, known=known, limit=limit)
    if end - start <= limit:
        feed(pump, pieces)
        assert pump.received == end - start
        return
    with pytest.raises(TooLarge):
        feed(pump, pieces)
    assert pump.received <= limit
    past = [at for at in range(start + pump.received, len(data)) if not any(span.start <= at < span.end for span in known)]
    assert all(disk.data[at] == UNKNOWN for at in past)


@given(transfers())
def test_bytes_outside_the_request_stay_as_they_are(transfer: tuple[bytes, int, int, list[Span], list[bytes]]) -> None:
    data, start, end, known, pieces = transfer
    disk, untouched = Disk(len(data), start, known, data), Disk(len(data), 0, known, data)
    feed(Pump(disk, at=start, known=known), pieces)
    assert (disk.data[:start], disk.data[end:]) == (untouched.data[:start], untouched.data[end:])


@given(st.data(), st.binary(max_size=400))
def test_crcs_of_the_parts_combine_to_the_crc_of_the_whole(more: st.DataObject, data: bytes) -> None:
    crc = 0
    for piece in more.draw(cuts(data)):
        crc = checksums.combine(crc, checksums.crc64nvme(piece), len(piece))
    assert crc == checksums.crc64nvme(data)


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=100))
def test_it_does_not_matter_which_neighbours_are_combined_first(one: bytes, two: bytes, three: bytes) -> None:
    a, b, c = map(checksums.crc64nvme, (one, two, three))
    left = checksums.combine(checksums.combine(a, b, len(two)), c, len(three))
    right = checksums.combine(a, checksums.combine(b, c, len(three)), len(two) + len(three))
    assert left == right == checksums.crc64nvme(three, checksums.crc64nvme(two, a))


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_running_crc_goes_on(one: bytes, two: bytes) -> None:
    assert checksums.crc64nvme(two, checksums.crc64nvme(one)) == checksums.crc64nvme(one + two)
