"""The range grammar of RFC 9110 section 14, as a table, and the framing of several ranges."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carboy.errors import RangeNotSatisfiable
from carboy.web.ranges import MAX_RANGES, content_range, multipart, parse_range

BIG = "9" * 30

SERVED = [
    ("bytes=0-0", [(0, 1)]), ("bytes=0-9", [(0, 10)]), ("bytes=5-", [(5, 100)]), ("bytes=0-", [(0, 100)]), ("bytes=-1", [(99, 100)]),
    ("bytes=-100", [(0, 100)]), ("bytes=-1000", [(0, 100)]), ("bytes=99-99", [(99, 100)]), ("bytes=99-1000", [(99, 100)]),
    ("bytes=0-99", [(0, 100)]), (f"bytes=0-{BIG}", [(0, 100)]), (f"bytes=-{BIG}", [(0, 100)]), ("bytes=000-0009", [(0, 10)]),
    (f"bytes={'0' * 500}5-{'0' * 500}6", [(5, 7)]),
    ("BYTES=0-9", [(0, 10)]), ("Bytes=0-9", [(0, 10)]), ("bytes= 0-9", [(0, 10)]), ("bytes=0-9 ", [(0, 10)]), ("bytes=0-9,", [(0, 10)]),
    ("bytes=,0-9", [(0, 10)]), ("bytes=0-1,2-3", [(0, 2), (2, 4)]), ("bytes=50-59 ,\t0-9", [(50, 60), (0, 10)]),
    ("bytes=0-0,-1", [(0, 1), (99, 100)]), ("bytes=0-9,5-14", [(0, 10), (5, 15)]), ("bytes=0-9,200-300", [(0, 10)]),
    ("bytes=200-,-0,3-3", [(3, 4)]), ("bytes=0-9,0-9", [(0, 10), (0, 10)]),
]

ALL = [
    None, "", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=0", "bytes=0-9-", "bytes=9-0", "bytes=0-9,9-0", "bytes=0-9,x",
    "items=0-9", "byte=0-9", "=0-9", "bytes:0-9", "bytes 0-9/100", "bytes=0 -9", "bytes=+0-9", "bytes=0x0-9", "bytes=0.0-9", "bytes=-5-",
    "bytes=\u0661-", "bytes=1_0-20", "bytes==0-9", "bytes=0-60,40-99", "bytes=0-,0-", "bytes=0-99,0-0",
    "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)), "bytes=" + "," * 100_000,
    "bytes=" + "0-0," * 100_000, "bytes=" + "-" * 100_000,
]

UNSATISFIABLE = ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=-000", "bytes=100-,-0", f"bytes={BIG}-", f"bytes={BIG}-{BIG}9"]


@pytest.mark.parametrize(("field", "expected"), SERVED)
def test_ranges_are_cut_to_the_file_in_the_clients_order(field: str, expected: list[tuple[int, int]]) -> None:
    """What lies in a file of 100 bytes is served; specs with nothing in it are left out."""
    assert parse_range(field, 100) == expected


@pytest.mark.parametrize("field", ALL)
def test_anything_else_gets_the_whole_file(field: str | None) -> None:
    """Absent, malformed, another unit, too many, or more bytes than the file: the field is ignored."""
    assert parse_range(field, 100) is None


@pytest.mark.parametrize("field", UNSATISFIABLE)
def test_a_right_field_without_a_byte_of_the_file_is_refused_with_its_size(field: str) -> None:
    """416 tells how long the file is."""
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range(field, 100)
    assert refused.value.facts["size"] == 100


def test_the_most_ranges_are_served() -> None:
    """64 ranges are served, 65 are not."""
    field = "bytes=" + ",".join(f"{n}-{n}" for n in range(MAX_RANGES))
    assert parse_range(field, 100) == [(n, n + 1) for n in range(MAX_RANGES)]


def test_an_empty_file() -> None:
    """No first byte exists; a suffix asks for the whole of nothing, which is an ordinary 200."""
    assert parse_range("bytes=-5", 0) is None
    for field in ("bytes=0-", "bytes=0-0", "bytes=-0"):
        with pytest.raises(RangeNotSatisfiable):
            parse_range(field, 0)


@given(st.integers(1, 10**20), st.integers(0, 10**20), st.integers(0, 10**20))
def test_one_range_follows_the_definition(size: int, first: int, length: int) -> None:
    """Positions of any magnitude: both ends are inclusive, the last byte is cut to the file."""
    size = min(size, 2**63 - 1)
    if first >= size:
        with pytest.raises(RangeNotSatisfiable):
            parse_range(f"bytes={first}-{first + length}", size)
    else:
        assert parse_range(f"bytes={first}-{first + length}", size) == [(first, min(first + length + 1, size))]


@given(st.text(alphabet="0123456789-, =bytes", max_size=40), st.integers(0, 50))
def test_no_field_gives_a_byte_outside_the_file(field: str, size: int) -> None:
    """Whatever comes, ranges are inside the file and not empty."""
    try:
        ranges = parse_range(f"bytes={field}", size)
    except RangeNotSatisfiable:
        return
    assert ranges is None or all(0 <= start < end <= size for start, end in ranges)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 50)), min_size=2, max_size=8))
def test_the_length_of_several_ranges_is_known_beforehand(parts: list[tuple[int, int]]) -> None:
    """Content-Length counts every byte of the framing, and a reader finds each range in it."""
    content = bytes(range(100)) + bytes(100)
    ranges = [(start, start + length) for start, length in parts]
    framed = multipart(ranges, len(content), "text/x", "0123456789abcdef")
    body = b"".join(head + content[start:end] for head, (start, end) in framed.parts) + framed.tail
    assert len(body) == framed.content_length
    found = re.findall(rb"\r\n--0123456789abcdef\r\nContent-Type: text/x\r\nContent-Range: bytes (\d+)-(\d+)/200\r\n\r\n", body)
    assert [(int(first), int(last) + 1) for first, last in found] == ranges
    assert body.endswith(b"\r\n--0123456789abcdef--\r\n")
    assert framed.content_type == "multipart/byteranges; boundary=0123456789abcdef"


def test_content_range_is_inclusive() -> None:
    """RFC 9110 section 14.4."""
    assert content_range((0, 1), 100) == "bytes 0-0/100"
