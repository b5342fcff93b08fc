"""Small pieces that lie between parts. A part must have 5 MiB and can't be read before it is an object, so nothing can be joined to it.

The parts without those pieces become an object, and from this one and the pieces the right one is made, mostly by the server's copying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from carboy.errors import CarboyError, StorageFailed
from carboy.model import Fragment, Key
from carboy.storage.s3_client import Check
from carboy.storage.s3_filling import Kit
from carboy.storage.s3_multiparts import Part
from carboy.storage.s3_parts import MIN_PART
from carboy.storage.s3_reading import read

_COPY = 2**30


@dataclass(frozen=True, slots=True)
class _Run:
    """``length`` bytes of the object without the pieces, from ``start`` there; before them ``pieces``."""

    pieces: Sequence[Fragment]
    start: int
    length: int


class Mending:
    """Makes the object of ``key`` whole; nobody else does at the same time. ``check`` raises where that is not sure any more.
    Whoever begins anew goes on from where this one came."""

    def __init__(self, kit: Kit, key: Key, size: int, etag: str, fragments: Sequence[Fragment], left_out: Sequence[Fragment],
                 check: Check) -> None:
        self._kit = kit
        self._check = check
        self._key = key
        self._size = size
        self._etag = etag
        self._runs = list(_runs(fragments, left_out))
        self._upload = ""
        self._parts: list[Part] = []

    def run(self) -> None:
        """Raises BytesMissing, StorageFailed."""
        for key, upload in list(self._kit.objects.uploads(self._key)):
            if key == self._key:  # of one who was cut off
                self._kit.objects.abort(key, upload)
        self._upload = self._kit.objects.create(self._key, checked=False)
        try:
            for run in self._runs:
                self._add(run)
            self._kit.objects.complete(self._key, self._upload, self._parts, fresh=False, check=self._check)
        except CarboyError:
            self._kit.objects.abort(self._key, self._upload)
            raise

    def _add(self, run: _Run) -> None:
        """The run's pieces with what follows them as one part, and the rest in as few as can be."""
        at, end = run.start, run.start + run.length
        if run.pieces:
            at = end if run.length < 2 * MIN_PART else at + MIN_PART
            self._parts.append(self._joined(run, at))
        count = -(-(end - at) // max(_COPY, -(-self._size // 5000)))
        bounds = [at + (end - at) * number // count for number in range(count + 1)] if count else []
        for start, stop in pairwise(bounds):
            self._parts.append(self._copied(start, stop))

    def _joined(self, run: _Run, end: int) -> Part:
        block = self._kit.budget.block(sum(one.end - one.start for one in run.pieces) + end - run.start)
        try:
            self._kit.join(run.pieces, block)
            for data in read(self._kit.objects, self._key, run.start, end, etag=self._etag):
                block.write(data)
            return self._kit.objects.part(self._key, self._upload, len(self._parts) + 1, block, check=self._check)
        finally:
            block.close()

    def _copied(self, start: int, end: int) -> Part:
        part = self._kit.objects.copy_part(self._key, self._upload, len(self._parts) + 1, self._key, start, end, etag=self._etag,
                                           check=self._check)
        if part is None:
            raise StorageFailed("S3 has other bytes than it was sent", key=self._key)
        return part


def _runs(fragments: Sequence[Fragment], left_out: Sequence[Fragment]) -> Iterator[_Run]:
    """Of all fragments, in order; each run begins with those that were left out, but the first, which may have none."""
    pieces: list[Fragment] = []
    start = length = 0
    for fragment in fragments:
        if fragment not in left_out:
            length += fragment.end - fragment.start
            continue
        if length:
            yield _Run(pieces, start, length)
            pieces, start, length = [], start + length, 0
        pieces.append(fragment)
    yield _Run(pieces, start, length)
