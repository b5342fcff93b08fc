"""Writes one new object that comes whole: by one call where it is small, else in parts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from carboy.errors import BytesMissing, CarboyError, StorageFailed
from carboy.model import Key, Span
from carboy.storage.base import Kept
from carboy.storage.s3_buffers import Block
from carboy.storage.s3_filling import Filling, Kit
from carboy.storage.s3_multiparts import Part
from carboy.storage.s3_parts import plan

_PATIENCE = 5.0
"""Seconds that are spent on aborting what is given up: the sweeper does it later."""


class StagedWriter(Filling[Part]):
    """See :class:`carboy.storage.base.Writer`. Nobody else knows the key, so it needs no lease."""

    lease: str | None = None

    def __init__(self, kit: Kit, key: Key, size: int | None, most: int | None = None) -> None:
        super().__init__(kit, plan(most if size is None else size, kit.part, kit.objects.most_parts, alone=True), 0, size)
        self._key = key
        self._upload: str | None = None
        self._whole = False
        self._closed = False

    def compare(self, data: memoryview | bytes) -> bool:
        raise StorageFailed("what is staged is new: there is nothing to compare with")

    def extend(self, end: int) -> None:
        """All of it is held."""

    def keep(self, written: Sequence[Span], *, last: bool) -> Kept:
        raise StorageFailed("what is staged is whole or nothing")

    def flush(self) -> None:
        if self._whole:
            return
        if self._upload is None:
            self._put()
        else:
            self._complete(self._upload)
        self._whole = True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._drop()
        self._flight.settle()
        if self._upload and not self._whole:
            with suppress(CarboyError):  # the sweeper aborts it then
                self._kit.objects.abort(self._key, self._upload, deadline=_PATIENCE)
        self._kit.forget(self._key)

    # --- inside ---

    def _put(self) -> None:
        block = self._block or self._kit.budget.block(0)
        try:
            self._kit.objects.put(self._key, block)
        finally:
            self._drop()

    def _complete(self, upload: str) -> None:
        self._cut()
        self._flight.settle()
        self._flight.check()
        parts = sorted(self._flight.done(), key=lambda part: part.number)
        if sum(part.size for part in parts) != self._at:
            raise StorageFailed("parts of the file are missing")
        self._kit.objects.complete(self._key, upload, parts)

    def _copies(self) -> bool:
        return True

    def _begun(self) -> str:
        if self._upload is None:
            self._upload = self._kit.objects.create(self._key)
        return self._upload

    def _ship(self, block: Block) -> None:
        try:
            number = self._plan.number(self._start, 0)
            self._flight.send(partial(self._send, self._begun(), number, block))
        except BaseException:
            block.close()
            raise

    def _send(self, upload: str, number: int, block: Block) -> Part:
        try:
            return self._kit.objects.part(self._key, upload, number, block)
        finally:
            block.close()

    def _ship_copy(self, key: Key, start: int, length: int, crc: int | None) -> None:
        self._flight.send(partial(self._copy, self._begun(), self._plan.number(self._start, 0), key, start, length, crc))

    def _copy(self, upload: str, number: int, key: Key, start: int, length: int, crc: int | None) -> Part:
        part = self._kit.objects.copy_part(self._key, upload, number, key, start, start + length, crc=crc)
        if part is None:
            raise BytesMissing("the stored bytes are missing or cut", key=key)
        return part
