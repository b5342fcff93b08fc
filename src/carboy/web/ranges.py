"""Byte ranges as RFC 9110 section 14 writes them, and the framing of several in one answer. Pure, and linear in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from carboy.errors import RangeNotSatisfiable

MAX_RANGES = 64
"""More ranges than this in one request are not served as ranges."""

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_PAST_EVERYTHING = 10**19

Range = tuple[int, int]
"""Half open: ``(start, end)``."""


def parse_range(header: str | None, size: int) -> list[Range] | None:
    """The parts of a file of ``size`` bytes that a ``Range`` field asks for, in the client's order, cut to the file.

    None means to send all of it: no field, another unit, a malformed one, more than 64 ranges, or ranges that together
    are more than the file. Raises RangeNotSatisfiable where the field is right and no byte lies in it.
    """
    specs = _specs(header)
    if not specs or len(specs) > MAX_RANGES:
        return None
    ranges = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if not match or not (match[1] or match[2]) or _reversed(match[1], match[2]):
            return None
        ranges.append(_resolved(match[1], match[2], size))
    return _served(ranges, size)


def content_range(part: Range, size: int) -> str:
    """The value of ``Content-Range`` (section 14.4)."""
    return f"bytes {part[0]}-{part[1] - 1}/{size}"


def _specs(header: str | None) -> list[str]:
    unit, equals, specs = (header or "").partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes" or specs.count(",") > 4 * MAX_RANGES:
        return []
    return [spec for spec in (part.strip(" \t") for part in specs.split(",")) if spec]


def _number(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= 19 else _PAST_EVERYTHING


def _reversed(first: str, last: str) -> bool:
    return bool(first and last) and _number(last) < _number(first)


def _resolved(first: str, last: str, size: int) -> Range | None:
    """The bytes of one spec, ``(0, 0)`` for a suffix of an empty file, None if there are none."""
    if not first:
        suffix = min(_number(last), size)
        return (size - suffix, size) if _number(last) else None
    start = _number(first)
    if start >= size:
        return None
    return start, (min(_number(last) + 1, size) if last else size)


def _served(resolved: Sequence[Range | None], size: int) -> list[Range] | None:
    ranges = [part for part in resolved if part]
    if not ranges:
        raise RangeNotSatisfiable(f"The file has {size} bytes; none lies in the range asked for.", size=size)
    total = sum(end - start for start, end in ranges)
    return ranges if total > 0 and (total <= size or len(ranges) == 1) else None


@dataclass(frozen=True, slots=True)
class Multipart:
    """The body of a 206 with several ranges (section 14.6), its framing and length known before the first byte."""

    boundary: str
    parts: tuple[tuple[bytes, Range], ...]
    tail: bytes

    @property
    def content_type(self) -> str:
        return f"multipart/byteranges; boundary={self.boundary}"

    @property
    def content_length(self) -> int:
        return sum(len(head) + end - start for head, (start, end) in self.parts) + len(self.tail)


def multipart(ranges: Sequence[Range], size: int, media_type: str, boundary: str) -> Multipart:
    """Frame ``ranges`` of a file of ``size`` bytes. The boundary must be unguessable, so that no file contains it."""
    parts = tuple(
        (f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {content_range(part, size)}\r\n\r\n".encode("latin-1"), part)
        for part in ranges)
    return Multipart(boundary, parts, f"\r\n--{boundary}--\r\n".encode("latin-1"))
