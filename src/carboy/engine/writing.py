"""One request's bytes on their way into an upload: to their place, or into a piece whose place is found later."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

from carboy import streams
from carboy.config import Settings
from carboy.engine.checkpoints import Checkpoints
from carboy.engine.receive import Digests
from carboy.errors import BytesDiffer, CommitUnknown, StorageUnavailable, TooLarge
from carboy.model import Chunk, Fragment, Key, Placed, Progress, Span, Upload
from carboy.storage.base import Storage, Writer


class Recorder(Protocol):
    """What keeps the record of uploads: the part of :class:`carboy.engine.uploads.Uploads` that writing needs."""

    settings: Settings
    executor: Executor

    def record(self, upload: Upload, spans: Sequence[Span], chunk: Chunk | None = None, size: int | None = None, *,
               fragments: Sequence[Fragment] = (), lease: str | None = None, fence: str | None = None) -> Progress: ...

    def written(self, upload: Upload) -> Progress: ...

    def check_type(self, upload: Upload, head: bytes) -> None: ...

    def verify(self, upload: Upload, at: int, size: int, digests: Digests) -> None: ...


class Writing:
    """One request's bytes on their way into an upload. After :meth:`end`, ``progress`` tells what is recorded, and after
    the block ``placed`` the file if that completed the upload."""

    def __init__(self, uploads: Recorder, progress: Progress, pump: streams.Pump, writer: Writer, held: int, digests: Digests,
                 index: int | None, whole: bool, *, declares: bool = False) -> None:
        self.progress = progress
        self.placed: Placed | None = None
        self._uploads = uploads
        self._pump = pump
        self._writer = writer
        self._held = held
        self._digests = digests
        self._index = index
        self._whole = whole or bool(digests)
        self._size = progress.upload.size if declares else None
        self._ended = False
        self._typed = False
        settings = uploads.settings
        self._checkpoints = Checkpoints(uploads.executor, lambda: partial(self._save, pump.spans()),
                                        every_bytes=settings.checkpoint_bytes, every_seconds=settings.checkpoint_seconds)

    @property
    def received(self) -> int:
        return self._pump.received

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next bytes. Raises BytesDiffer, TooLarge, UnsupportedType, or a storage's error."""
        self._pump.check(len(data))
        if self._pump.position + len(data) > self._held:
            self._hold(self._pump.position + len(data))
        self._pump.feed(data)
        if not self._typed and len(self._pump.head) >= streams.HEAD_SIZE:
            self._typed = True
            self._uploads.check_type(self.progress.upload, self._pump.head)
        if not self._whole:
            self._checkpoints.tick(self._pump.received)

    def verify(self, digests: Digests) -> None:
        """Raises DigestMismatch: for digests that are known only after the bytes, before :meth:`end`. What wasn't computed while they came
        is computed from what the storage reads back."""
        computed = [digest for digest in digests if self._pump.computes(digest[0])]
        self._pump.verify(computed)
        later = [digest for digest in digests if digest not in computed]
        if later:
            self._uploads.verify(self.progress.upload, self._pump.start, self._pump.received, later)

    def end(self) -> Progress:
        """All bytes of the request came: verify, sync and record them. Raises DigestMismatch, which discards them."""
        self._ended = True
        self._pump.verify(self._digests)
        self._settle(Chunk(self._index, self._pump.received, 0, self._pump.start) if self._index is not None else None)
        return self.progress

    def salvage(self) -> None:
        """The request ended early: keep what came, unless a digest was to prove it."""
        if not self._ended and not self._whole:
            self._settle(None)

    def discard(self) -> None:
        """Nothing more is kept; what is being synced now is waited for, because the writer is closed after this."""
        self._checkpoints.settle()

    def _hold(self, end: int) -> None:
        """More comes than was likely: lock on, and ask what others recorded there before it was locked."""
        self._writer.extend(end)
        progress = self._uploads.written(self.progress.upload)
        size = progress.upload.size
        if size is not None and end > size:
            raise TooLarge(f"bytes to {end} are past the size of {size}", limit=size)
        self._pump.know(progress.spans)
        self._held = end

    def _settle(self, chunk: Chunk | None) -> None:
        try:
            self._checkpoints.settle()
            self._save(self._pump.spans(), chunk, last=True)
        except StorageUnavailable:
            if not self._whole:
                self._save([])  # what the storage has taken nonetheless
            raise

    def _save(self, spans: list[Span], chunk: Chunk | None = None, *, last: bool = False) -> None:
        kept = self._writer.keep(spans, last=last)
        if kept.spans or chunk or (self._ended and self._size is not None):
            self.progress = self._uploads.record(self.progress.upload, kept.spans, chunk, self._size, fragments=kept.fragments,
                                                 lease=self._writer.lease)


class Piece:
    """A chunk on its way into a file of its own."""

    def __init__(self, uploads: Recorder, key: Key, writer: Writer, limit: int, digests: Digests, fence: str | None) -> None:
        self.kept = False
        self.key = key
        self._uploads = uploads
        self._writer = writer
        self._digests = digests
        self._fence = fence
        self._pump = streams.Pump(writer, limit=limit, digests=[name for name, _ in digests])

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next bytes. Raises TooLarge or a storage's error."""
        self._pump.feed(data)

    def verify(self) -> None:
        """Raises DigestMismatch."""
        self._pump.verify(self._digests)

    def keep(self, upload: Upload, index: int) -> Progress:
        """Sync it and note it as the upload's chunk ``index``, in the place of an earlier one."""
        self._writer.flush()
        spans = self._pump.spans()
        chunk = Chunk(index, self._pump.received, spans[0].crc if spans else 0, None, self.key)
        try:
            progress = self._uploads.record(upload, [], chunk, fence=self._fence)
        except CommitUnknown:
            self.kept = True
            raise
        self.kept = True
        return progress


class Stored:
    """What a storage keeps from one place on, for a Pump that only compares."""

    def __init__(self, storage: Storage, key: Key, at: int, end: int) -> None:
        self._pieces = storage.read(key, Span(at, end))
        self._left = memoryview(b"")

    def write(self, data: memoryview | bytes) -> None:
        raise BytesDiffer("the upload is complete; it takes no other bytes")

    def compare(self, data: memoryview | bytes) -> bool:
        """Whether these are the bytes that come next. Raises BytesMissing."""
        view = memoryview(data)
        while view:
            self._left = self._left or memoryview(next(self._pieces, b""))
            size = min(len(view), len(self._left))
            if not size or view[:size] != self._left[:size]:
                return False
            view, self._left = view[size:], self._left[size:]
        return True
