"""Whether bytes that come once more are those that are kept, without reading back what can't be read: parts of an upload under way.

Pieces are objects, and read. Parts are compared by CRC, and where one was put together from what several requests sent, mark by mark; what
comes of less than a mark can't be proved different, and counts as equal.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from carboy import checksums
from carboy.errors import BytesMissing
from carboy.model import Fragment, Key
from carboy.storage.s3_objects import Objects
from carboy.storage.s3_reading import read

_MOST_MARKS = 64
Marks = list[list[int]]


def marks_of(fragments: Sequence[Fragment]) -> Marks:
    """Length and CRC of each stretch whose CRC is known, for neighbours that become one fragment. Older ones are put together where there
    are too many."""
    marks = [mark for fragment in fragments for mark in _marks(fragment)]
    while len(marks) > _MOST_MARKS:
        marks = [_joined(*marks[at:at + 2]) for at in range(0, len(marks), 2)]
    return marks


def _marks(fragment: Fragment) -> Marks:
    kept = fragment.ref.get("marks")
    return kept or [[fragment.end - fragment.start, -1 if fragment.crc is None else fragment.crc]]


def _joined(first: list[int], second: list[int] | None = None) -> list[int]:
    if second is None:
        return first
    crc = -1 if -1 in (first[1], second[1]) else checksums.combine(first[1], second[1], second[0])
    return [first[0] + second[0], crc]


@dataclass(frozen=True, slots=True)
class _Mark:
    start: int
    end: int
    crc: int
    fragment: Fragment


class Comparer:
    """Compares bytes at ascending places of one key."""

    def __init__(self, objects: Objects, key: Key, fragments: Sequence[Fragment]) -> None:
        self._objects = objects
        self._key = key
        self._marks = list(_spread(fragments))
        self._starts = [mark.start for mark in self._marks]
        self._at = -1
        self._crc = 0
        self._from = -1
        self._object = _Stored(objects, key)
        self._piece: _Stored | None = None

    def equal(self, at: int, data: memoryview) -> bool:
        """Whether ``data`` is what is kept at ``at``, as far as that can be known."""
        if at != self._at:
            self._from = -1
        while data:
            mark = self._mark(at)
            if mark is None:
                return self._object.equal(at, data)
            taken, data = data[:mark.end - at], data[mark.end - at:]
            if not self._fits(mark, at, taken):
                return False
            at = self._at = at + len(taken)
        return True

    def _fits(self, mark: _Mark, at: int, data: memoryview) -> bool:
        if mark.fragment.key is not None:
            return self._is_in_piece(mark.fragment, mark.fragment.key, at, data)
        if at == mark.start:
            self._from, self._crc = at, 0
        if self._from != mark.start or mark.crc < 0:
            return True
        self._crc = checksums.crc64nvme(data, self._crc)
        return at + len(data) < mark.end or self._crc == mark.crc

    def _is_in_piece(self, piece: Fragment, key: Key, at: int, data: memoryview) -> bool:
        """A piece is an object, and can be read."""
        if self._piece is None or self._piece.key != key:
            self._piece = _Stored(self._objects, key)
        try:
            return self._piece.equal(at - piece.start, data)
        except BytesMissing:  # the upload is complete by now
            return self._object.equal(at, data)

    def _mark(self, at: int) -> _Mark | None:
        index = bisect_right(self._starts, at) - 1
        return self._marks[index] if index >= 0 and at < self._marks[index].end else None


def _spread(fragments: Sequence[Fragment]) -> Iterator[_Mark]:
    for fragment in sorted(fragments, key=lambda one: one.start):
        at = fragment.start
        for length, crc in _marks(fragment):
            yield _Mark(at, at + length, crc, fragment)
            at += length


class _Stored:
    """An object that is read along."""

    def __init__(self, objects: Objects, key: Key) -> None:
        self._objects = objects
        self.key = key
        self._at = 0
        self._size = -1
        self._pieces: Any = None
        self._rest = memoryview(b"")

    def equal(self, at: int, data: memoryview) -> bool:
        """Raises BytesMissing."""
        if self._pieces is None or at != self._at:
            self._begin(at)
        if at + len(data) > self._size:
            return False
        while data:
            if not self._rest:
                self._rest = memoryview(next(self._pieces))
            size = min(len(data), len(self._rest))
            if data[:size] != self._rest[:size]:
                return False
            data, self._rest = data[size:], self._rest[size:]
            self._at += size
        return True

    def _begin(self, at: int) -> None:
        if self._size < 0:
            head = self._objects.head(self.key)
            if head is None:
                raise BytesMissing("the stored bytes are missing", key=self.key)
            self._size = head.size
        self._at, self._rest = at, memoryview(b"")
        self._pieces = read(self._objects, self.key, at, max(at, self._size))
