"""The contract every storage keeps. Proved for each driver by tests/contracts/test_storage.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Protocol, runtime_checkable

from carboy.model import Key, Span

DriverState = Mapping[str, Any]
"""Opaque to the engine, JSON; committed together with the span that came with it."""


class Writer(Protocol):
    """A place in one blob that one thread writes, in order. It holds its lock on the range until closed, so it is
    closed only after the commit that names its bytes has been decided."""

    def write(self, data: memoryview | bytes) -> None:
        """Take all of ``data`` at the current place, which must lie in the locked range, and move on.

        Raises StorageFull, StorageReadOnly or StorageFailed.
        """

    def compare(self, data: memoryview | bytes) -> bool:
        """Whether the stored bytes at the current place equal ``data``; moves on. Writes nothing."""

    def copy(self, key: Key, start: int, size: int) -> None:
        """Take ``size`` bytes of another blob from ``start``, copied by the storage itself where it can."""

    def extend(self, end: int) -> None:
        """Let the locked range reach to ``end``. Raises RangeBusy. What is recorded there must be asked again after it."""

    def flush(self) -> DriverState:
        """When this returns, everything written is on stable storage. May be called from another thread.

        Raises StorageFailed, which is final: this writer never succeeds again.
        """

    def close(self) -> None:
        """Let the range go. Repeatable. Unflushed bytes may be lost."""


class Storage(Protocol):
    """Where bytes are kept. All methods may be called from any thread."""

    name: str

    def prepare(self) -> None:
        """Make what must exist before the first blob; repeatable. Called once per start, before requests."""

    def close(self) -> None:
        """Let go of what is held open, when no call is under way. Repeatable; the storage may be used again."""

    def stage(self, size: int | None) -> AbstractContextManager[tuple[Key, Writer]]:
        """A new, empty blob under a key of its own, whose name is durable, and a writer that holds all of it."""

    def writer(self, key: Key, at: int, end: int | None, state: DriverState) -> AbstractContextManager[Writer]:
        """A writer for ``[at, end)`` (``end`` None: to infinity). Raises RangeBusy where another holds some of it,
        NotFound where the key is gone."""

    def seal(self, key: Key, size: int, state: DriverState) -> None:
        """Nothing but ``[0, size)`` remains of the blob, durably. Repeatable. Waits for no writer: raises RangeBusy."""

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]:
        """The bytes, in pieces of at most 1 MiB. Raises BytesMissing before the first."""

    def delete(self, key: Key, *, unless: Callable[[Key], bool] | None = None) -> bool:
        """Remove the bytes. A missing key is fine. False if a writer holds it, or if ``unless`` says so, which is asked
        while no writer can begin or still be deciding; then nothing is removed."""

    def size(self, key: Key) -> int | None:
        """How many bytes are kept under the key, None for no such key."""

    def keys(self) -> Iterator[Key]:
        """Every key there is, those of uploads under way too."""

    def room(self) -> int:
        """How many bytes can still be taken, after the headroom kept for the catalog."""


@runtime_checkable
class OnDisk(Protocol):
    """A storage whose blobs are files: downloads go out by sendfile."""

    def path(self, key: Key) -> str:
        """The blob's path, for X-Accel-Redirect and X-Sendfile. Relative to the storage's root."""

    def open(self, key: Key) -> BinaryIO:
        """The blob, unbuffered, never through a symlink. Raises BytesMissing."""


@runtime_checkable
class Adopts(Protocol):
    """A storage that takes in files of the same machine without their bytes passing through the program."""

    def adopt(self, source: int, *, link: bool = False) -> AbstractContextManager[tuple[Key, Writer, bool]]:
        """A new blob with the bytes of the file that is open, its name durable, and a writer that holds it: flushed, they are durable.
        With ``link`` by hard link where that can be: the last is True then, and the blob is as good as its owner leaves it."""

    def put(self, key: Key, source: int, *, link: bool = False) -> bool:
        """The open file's bytes become those of the blob, all at once and durably, whatever was there; the name is durable after
        :meth:`sync`. For blobs that are complete. Whether it is a hard link (``link``)."""

    def sync(self) -> None:
        """The names of all blobs are on stable storage."""
