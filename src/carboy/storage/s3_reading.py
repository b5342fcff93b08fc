"""The bytes of an object as they come, taken up again where the connection broke."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from carboy.errors import BytesMissing, StorageFailed
from carboy.model import Key
from carboy.storage.s3_client import Answer, Refused
from carboy.storage.s3_objects import Objects

_PIECE = 2**20
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def read(objects: Objects, key: Key, start: int = 0, end: int | None = None, *, etag: str | None = None) -> Iterator[bytes]:
    """``[start, end)`` (None: all) in pieces of at most 1 MiB, of that object alone which has the ``etag``, where one is given. The object
    is opened before this returns.

    Raises BytesMissing where it is gone or shorter, StorageFailed where the server sends something else than was asked for,
    StorageUnavailable once nothing has come for the deadline.
    """
    if end is not None and end <= start:
        if objects.head(key) is None:
            raise _missing(key)
        return iter(())
    return _Reading(objects, key, start, end, etag).pieces()


class _Reading:
    def __init__(self, objects: Objects, key: Key, start: int, end: int | None, etag: str | None) -> None:
        self._objects = objects
        self._key = key
        self._at = start
        self._end = end
        self._etag = etag
        self._body: Any = None
        self._open()

    def pieces(self) -> Iterator[bytes]:
        last = time.monotonic()
        try:
            while self._end is None or self._at < self._end:
                piece = self._next(last)
                if piece:
                    self._at += len(piece)
                    yield piece
                    last = time.monotonic()  # what the reader takes is no fault of the server
        finally:
            self._close()

    def _next(self, last: float) -> bytes:
        """The next piece; none where the connection broke, and another is open now."""
        from carboy.storage import s3_errors as words
        left = (self._end or 0) - self._at
        try:
            if piece := self._body.read(min(left, _PIECE)):
                return bytes(piece)
            error: Exception = OSError("the body ended early")
        except Exception as failure:
            if not words.is_foreign(failure):
                raise
            error = failure
        self._close()
        if time.monotonic() - last > self._objects.client.settings.deadline:
            raise words.translated(error, "get_object", self._objects.client.bucket) from error
        time.sleep(0.1)
        self._open()
        return b""

    def _open(self) -> None:
        try:
            answer = self._objects.get(self._key, self._at, self._end, self._etag)
        except Refused as refused:
            raise BytesMissing("the stored bytes are cut", key=self._key) from refused
        if answer is None:
            raise _missing(self._key)
        self._body, self._etag = answer["Body"], answer["ETag"]
        try:
            self._check(answer)
        except StorageFailed:
            self._close()
            raise

    def _check(self, answer: Answer) -> None:
        """That the body is what was asked for, as its head tells."""
        start, end, size = _span(answer)
        if self._end is None:
            self._end = size
        if size < self._end:
            raise BytesMissing("the stored bytes are cut", key=self._key, size=size, wanted=self._end)
        if (start, end) != (self._at, self._end) or answer["ContentLength"] != end - start:
            raise StorageFailed("the S3 server sends other bytes than were asked for", key=self._key)

    def _close(self) -> None:
        """Let the connection go: it serves again if the body was read to its end."""
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _span(answer: Answer) -> tuple[int, int, int]:
    """Where the body begins and ends, and the size of the object."""
    told = answer.get("ContentRange")
    if not told:
        return 0, answer["ContentLength"], answer["ContentLength"]
    match = _RANGE.fullmatch(told)
    return (int(match[1]), int(match[2]) + 1, int(match[3])) if match else (-1, -1, 2**63)


def _missing(key: Key) -> BytesMissing:
    return BytesMissing("the stored bytes are missing", key=key)
