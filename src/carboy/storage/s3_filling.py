"""Bytes that come in order, cut into blocks where parts end: what both kinds of S3 writers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

from carboy.errors import BytesDamaged
from carboy.model import Fragment, Key
from carboy.storage.s3_buffers import Block, Budget
from carboy.storage.s3_flight import Flight, Threads
from carboy.storage.s3_multiparts import Multiparts
from carboy.storage.s3_parts import MAX_PART, MIN_PART, Plan
from carboy.storage.s3_reading import read

T = TypeVar("T")
_COPY = 256 * 2**20
"""How much the server copies in one call, where parts needn't be longer."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What writers of one storage work with. ``new_key`` gives a key that counts as being in progress until ``forget``."""

    objects: Multiparts
    budget: Budget
    threads: Threads
    part: int
    new_key: Callable[[], Key]
    forget: Callable[[Key], None]

    def read(self, key: Key, start: int, end: int) -> Iterator[bytes]:
        """See :func:`carboy.storage.s3_reading.read`."""
        return read(self.objects, key, start, end)

    def join(self, pieces: Sequence[Fragment], block: Block) -> None:
        """The bytes of pieces, one after another, into a block, where they are still what was stored. Raises BytesDamaged, BytesMissing."""
        for piece in pieces:
            with closing(self._fetched(piece)) as fetched:
                for data in fetched.pieces():
                    block.write(data)

    def _fetched(self, piece: Fragment) -> Block:
        """A piece's bytes. What was spoilt on the way is fetched again."""
        for _ in range(3):
            block = self.budget.block(piece.end - piece.start)
            try:
                for data in self.read(piece.key or Key(""), 0, piece.end - piece.start):
                    block.write(data)
            except BaseException:
                block.close()
                raise
            if piece.crc in (None, block.crc):
                return block
            block.close()
        raise BytesDamaged("bytes that were received came back damaged from the storage", key=piece.key)


class Filling(ABC, Generic[T]):
    """``_start`` to ``_at`` is in the block that is being filled, if there is one; at ``_end`` it is cut, once more comes. ``_until`` is
    where the bytes are likely to end."""

    def __init__(self, kit: Kit, plan: Plan, at: int, size: int | None) -> None:
        self._kit = kit
        self._plan = plan
        self._size = size
        self._until: int | None = size
        self._at = self._start = self._end = at
        self._block: Block | None = None
        self._flight: Flight[T] = Flight(kit.threads)

    def write(self, data: memoryview | bytes) -> None:
        """See :class:`carboy.storage.base.Writer`. Waits while two parts are under way. Raises what one failed with."""
        self._flight.check()
        view = memoryview(data)
        while view:
            block = self._room()
            size = min(len(view), self._end - self._at)
            block.write(view[:size])
            self._at += size
            view = view[size:]

    def copy(self, key: Key, start: int, size: int, crc: int | None = None) -> None:
        """As :meth:`write`, from another object: what makes whole parts is copied by the server, the rest read and written."""
        end = start + size
        if size >= 2 * MIN_PART and self._copies():
            if self._block is not None:
                start += self._read_through(key, start, min(end, start + self._end - self._at))
            while start < end and (length := self._copyable(end - start)):
                self._cut()
                self._start, self._at = self._at, self._at + length
                self._ship_copy(key, start, length, crc if length == size else None)
                start += length
        self._read_through(key, start, end)

    def spread(self) -> None:
        """Parts are sent as soon as they are whole: there is nothing to hurry."""

    # --- inside ---

    @abstractmethod
    def _ship(self, block: Block) -> None:
        """Send the block, which is whole."""

    @abstractmethod
    def _ship_copy(self, key: Key, start: int, length: int, crc: int | None) -> None:
        """Have the server copy a part from another object, to between ``_start`` and ``_at``."""

    @abstractmethod
    def _copies(self) -> bool:
        """Whether there may be parts that the server copies."""

    def _begin(self) -> int:
        """Where the part begins that a block at ``_at`` is for."""
        return self._at

    def _room(self) -> Block:
        """A block with room for at least a byte."""
        if self._block is not None and self._at == self._end:
            self._cut()
        if self._block is None:
            self._start = self._at
            self._end = self._best_end(self._begin())
            end = self._end if self._size is None else min(self._end, max(self._size, self._at))
            self._block = self._kit.budget.block(end - self._start)
        return self._block

    def _best_end(self, base: int) -> int:
        """Where the part best ends: as others would end it, but so that what is left of the request is no scrap."""
        end = self._plan.end(base)
        if end <= self._at:
            end = self._plan.end(self._at)
        if self._until is None or end >= self._until or self._until == self._size or self._plan.allows(end, self._until):
            return end
        return self._until if self._until - base <= MAX_PART else end

    def _cut(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            self._ship(block)

    def _read_through(self, key: Key, start: int, end: int) -> int:
        for piece in self._kit.read(key, start, end):
            self.write(piece)
        return end - start

    def _copyable(self, left: int) -> int:
        """How long a part may be at the current place that the server copies, when so many bytes are left; 0 for none."""
        best = self._plan.end(self._at) - self._at
        length = min(left, max(best, _COPY // best * best if best < _COPY else best), MAX_PART)
        return length if self._plan.allows(self._at, self._at + length) else 0

    def _drop(self) -> None:
        """What is in the block is not wanted any more."""
        block, self._block = self._block, None
        if block is not None:
            block.close()
