"""Writes a range of an upload under way: parts of a multipart upload where that can be, else pieces, objects of their own.

A part must be 5 MiB at least, unless it is the last, and far enough from the next one to have another number. What is shorter is a piece.
Who goes on where a piece ends takes it up into the next part, or, where there are many small ones, into a piece twice as large: so each
byte moves a few times only, however small the requests are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from carboy import checksums
from carboy.errors import BytesMissing, StorageFailed
from carboy.model import Fragment, Key, Span
from carboy.storage.base import Fragments, Hold, Kept
from carboy.storage.s3_buffers import Block
from carboy.storage.s3_compare import Comparer, marks_of
from carboy.storage.s3_filling import Filling, Kit
from carboy.storage.s3_parts import MAX_PART, MIN_PART, plan_of

Destination = Callable[[Block], tuple[dict[str, Any], Key | None]]
"""Brings a block to the storage: what is to be known of it there, and the key of the object if it is a piece."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What one job brought to the storage: new bytes, and the fragment that holds them, and perhaps older ones."""

    span: Span
    fragment: Fragment


class RangeWriter(Filling[Sent]):
    """See :class:`carboy.storage.base.Writer`."""

    def __init__(self, kit: Kit, key: Key, state: Mapping[str, Any], at: int, end: int | None, hold: Hold, fragments: Fragments) -> None:
        super().__init__(kit, plan_of(state, kit.part), at, state.get("size"))
        self._until = self._size if end is None else end
        self.lease: str | None = hold.id
        self._key = key
        self._hold = hold
        self._pick = int(hold.id[:8], 16)
        self._upload: str | None = state.get("upload")
        self._ask = fragments
        self._known: Sequence[Fragment] | None = None
        self._chain: list[Fragment] = []
        self._run = at
        self._comparer: Comparer | None = None
        self._pieces: list[Key] = []
        self._copied = False

    def compare(self, data: memoryview | bytes) -> bool:
        """Bytes of parts are compared by CRC; what can't be proved different counts as equal (see :mod:`carboy.storage.s3_compare`)."""
        self._cut()
        at, self._at = self._at, self._at + len(data)
        self._run = self._at
        try:
            return self._comparing().equal(at, memoryview(data))
        except BytesMissing:  # a part has taken up the piece that held them, perhaps
            self._known = self._comparer = None
            return self._comparing().equal(at, memoryview(data))

    def _comparing(self) -> Comparer:
        if self._comparer is None:
            self._comparer = Comparer(self._kit.objects, self._key, self._fragments())
        return self._comparer

    def extend(self, end: int) -> None:
        self._hold.extend(end)
        self._until = end
        self._known = self._comparer = None

    def flush(self) -> None:
        self._cut()
        self._flight.settle()
        self._flight.check()

    def keep(self, written: Sequence[Span], *, last: bool) -> Kept:
        """Without ``last`` what is on S3 by now, also after a part has failed; its error comes once there is nothing else to tell."""
        if last:
            self.flush()
        sent = self._flight.done()
        if not sent:
            self._flight.check()
        spans = written if last and self._copied else _merged([one.span for one in sent])
        return Kept(spans, [one.fragment for one in sent])

    def close(self) -> None:
        self._drop()
        self._flight.settle()
        pieces, self._pieces = self._pieces, []
        for key in pieces:
            self._kit.forget(key)

    # --- where a run of bytes goes ---

    def _begin(self) -> int:
        self._chain = self._left() if self._at == self._run else []
        return self._chain[0].start if self._chain else self._at

    def _left(self) -> list[Fragment]:
        """The pieces that end, one after another, where the block begins, and that one part can hold with it."""
        if not self._start:
            return []
        before = {one.end: one for one in self._fragments() if one.key}
        limit = self._plan.end(self._start) - self._start
        chain: list[Fragment] = []
        at = self._start
        while (one := before.get(at)) and self._start - one.start <= limit:
            chain.insert(0, one)
            at = one.start
        return chain

    def _supported(self, base: int) -> bool:
        """Whether a part may begin there without leaving a gap before it that no part could fill."""
        return not base or any(one.end == base for one in self._fragments())

    def _fragments(self) -> Sequence[Fragment]:
        if self._known is None:
            self._known = self._ask()
        return self._known

    # --- sending ---

    def _ship(self, block: Block) -> None:
        chain, self._chain = self._chain, []
        base, last = chain[0].start if chain else self._start, self._at == self._size
        to: Destination
        if self._upload and self._fits(base, last):
            to = partial(self._part, self._upload, self._plan.number(base, self._pick))
        elif not self._upload and last and base == 0:
            to = self._put_whole
        else:
            chain, to = _lately(chain, block.size), self._put_piece
        try:
            self._flight.send(partial(self._send, to, Span(self._start, self._at, block.crc), chain, block))
        except BaseException:
            block.close()
            raise

    def _fits(self, base: int, last: bool) -> bool:
        """Whether what is in the block can be a part, with the pieces from ``base`` on."""
        if last:
            return self._at - base <= MAX_PART
        return self._plan.allows(base, self._at) and (self._at - self._start >= MIN_PART or self._supported(base))

    def _send(self, to: Destination, span: Span, chain: list[Fragment], block: Block) -> Sent:
        marks = marks_of([*chain, Fragment(span.start, span.end, span.crc, {})])
        try:
            if chain:
                block = self._joined(chain, block)
            base = span.end - block.size
            ref, key = to(block)
            return Sent(span, Fragment(base, span.end, block.crc, {**ref, "marks": marks} if len(marks) > 1 else ref, key))
        finally:
            block.close()

    def _joined(self, chain: Sequence[Fragment], block: Block) -> Block:
        """A block of the pieces and the bytes after them, in place of the one that is given. Raises BytesDamaged, BytesMissing."""
        joined = self._kit.budget.block(block.size + sum(one.end - one.start for one in chain))
        try:
            self._kit.join(chain, joined)
            for data in block.pieces():
                joined.write(data)
        except BaseException:
            joined.close()
            raise
        block.close()
        return joined

    def _part(self, upload: str, number: int, block: Block) -> tuple[dict[str, Any], None]:
        part = self._kit.objects.part(self._key, upload, number, block, check=self._hold.check)
        return {"number": number, "etag": part.etag}, None

    def _put_whole(self, block: Block) -> tuple[dict[str, Any], Key | None]:
        """All there is, at its own key. Where somebody who was taken for dead has put something else there, it is a piece."""
        try:
            return {"whole": self._kit.objects.put(self._key, block, check=self._hold.check).etag}, None
        except StorageFailed:
            return self._put_piece(block)

    def _put_piece(self, block: Block) -> tuple[dict[str, Any], Key]:
        key = self._kit.new_key()
        self._pieces.append(key)
        return {"etag": self._kit.objects.put(key, block, check=self._hold.check).etag}, key

    def _copies(self) -> bool:
        return self._upload is not None

    def _ship_copy(self, key: Key, start: int, length: int, crc: int | None) -> None:
        self._copied = True
        number = self._plan.number(self._start, self._pick)
        self._flight.send(partial(self._copy, str(self._upload), number, Span(self._start, self._at, crc or 0), key, start, crc))

    def _copy(self, upload: str, number: int, span: Span, key: Key, start: int, crc: int | None) -> Sent:
        part = self._kit.objects.copy_part(self._key, upload, number, key, start, start + span.length, crc=crc, check=self._hold.check)
        if part is None:
            raise BytesMissing("the stored bytes are missing or cut", key=key)
        return Sent(span, Fragment(span.start, span.end, part.crc, {"number": number, "etag": part.etag}))


def _lately(chain: list[Fragment], size: int) -> list[Fragment]:
    """Those at the end that are no longer than what follows them: so pieces double, and each byte moves only as often."""
    at = len(chain)
    while at and chain[at - 1].end - chain[at - 1].start <= size:
        at -= 1
        size += chain[at].end - chain[at].start
    return chain[at:]


def _merged(spans: list[Span]) -> list[Span]:
    """Neighbours as one."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and merged[-1].end == span.start:
            before = merged.pop()
            span = Span(before.start, span.end, checksums.combine(before.crc, span.crc, span.length))
        merged.append(span)
    return merged
