"""The contract every storage keeps. Proved for each driver by tests/contracts/test_storage.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, runtime_checkable

from carboy.model import Fragment, Key, Span

DriverState = Mapping[str, Any]
"""What a storage wants to be told again of an upload, JSON; opaque to the engine, made when the upload begins, and never changed."""
Fragments = Callable[[], Sequence[Fragment]]
"""Asks what is recorded of an upload's fragments now, by start."""


def no_fragments() -> Sequence[Fragment]:
    """Those of a storage that writes in place."""
    return ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is on stable storage since a writer was last asked: spans to be recorded, and where the storage put their bytes. A fragment
    may cover more than the spans: bytes of older fragments that it takes the place of."""

    spans: Sequence[Span]
    fragments: Sequence[Fragment] = ()


class Writer(Protocol):
    """A place in one blob that one thread writes, in order. It holds its lock on the range until closed, so it is
    closed only after the commit that names its bytes has been decided."""

    lease: str | None
    """What the catalog has to see still there when it records what this writes; None where the kernel sees to it."""

    def write(self, data: memoryview | bytes) -> None:
        """Take all of ``data`` at the current place, which must lie in the locked range, and move on.

        Raises StorageFull, StorageReadOnly or StorageFailed.
        """

    def compare(self, data: memoryview | bytes) -> bool:
        """Whether the stored bytes at the current place equal ``data``; moves on. Writes nothing."""

    def copy(self, key: Key, start: int, size: int, crc: int | None = None) -> None:
        """Take ``size`` bytes of another blob, which is sealed, from ``start``, copied by the storage itself where it can. ``crc`` is
        theirs, where it is known."""

    def extend(self, end: int) -> None:
        """Let the locked range reach to ``end``. Raises RangeBusy. What is recorded there must be asked again after it."""

    def flush(self) -> None:
        """When this returns, everything written is on stable storage; a staged blob is whole then, and takes no more. May be called from
        another thread.

        Raises StorageFailed, which is final: this writer never succeeds again.
        """

    def spread(self) -> None:
        """Get on with bringing what was written to stable storage, so that flush() has less to do. Promises nothing. May be called from
        another thread. Raises StorageFailed."""

    def keep(self, written: Sequence[Span], *, last: bool) -> Kept:
        """Of ``written``, the spans written since the last call, what is on stable storage when this returns: all of it with ``last``,
        and what earlier calls left out. May be called from another thread while more is written. Not for staged blobs. Raises as
        flush()."""

    def close(self) -> None:
        """Let the range go. Repeatable. Unflushed bytes may be lost."""


class Storage(Protocol):
    """Where bytes are kept. All methods may be called from any thread."""

    name: str

    def prepare(self) -> None:
        """Make what must exist before the first blob; repeatable. Called once per start, before requests."""

    def close(self) -> None:
        """Let go of what is held open, when no call is under way. Repeatable; the storage may be used again."""

    def fence(self) -> str | None:
        """The instance that the catalog has to know still alive when it commits a key that this process staged or began; None where the
        kernel's locks see to it."""

    def stage(self, size: int | None, most: int | None = None) -> AbstractContextManager[tuple[Key, Writer]]:
        """A new, empty blob under a key of its own, whose name is durable, and a writer that holds all of it. For what comes whole.
        Where the size is not known, ``most`` may tell that it is no more than that."""

    def begin(self, size: int | None) -> AbstractContextManager[tuple[Key, DriverState]]:
        """A new, empty blob for an upload, durable, held for the block; writers for it come later."""

    def writer(self, key: Key, at: int, end: int | None, state: DriverState, fragments: Fragments) -> AbstractContextManager[Writer]:
        """A writer for ``[at, end)`` (``end`` None: to infinity) of what was begun. Raises RangeBusy where another holds some of it,
        NotFound where the key is gone."""

    def seal(self, key: Key, size: int, state: DriverState, fragments: Fragments) -> None:
        """Nothing but ``[0, size)`` of what was begun remains of the blob, durably, and it can be read and copied. Repeatable, also after
        an answer was lost. Waits for no writer: raises RangeBusy."""

    def read(self, key: Key, span: Span | None = None) -> Iterator[bytes]:
        """The bytes, in pieces of at most 1 MiB. Raises BytesMissing before the first."""

    def delete(self, key: Key, *, unless: Callable[[Key], bool] | None = None) -> bool:
        """Remove the bytes, and what was begun. A missing key is fine. False if a writer holds it, or if ``unless`` says so, which is
        asked while no writer can begin or still be deciding; then nothing is removed."""

    def size(self, key: Key) -> int | None:
        """How many bytes are kept under the key, None for no such key."""

    def keys(self) -> Iterator[Key]:
        """Every key there is, those of uploads under way too."""

    def room(self) -> int:
        """How many bytes can still be taken, after the headroom kept for the catalog."""


class Hold(Protocol):
    """A range that is held. ``id`` is the lease's."""

    id: str

    def extend(self, end: int) -> None:
        """Raises RangeBusy."""

    def check(self) -> None:
        """Raises Interrupted unless it is certainly still held: nobody can have taken this process for dead yet."""


class Holds(Protocol):
    """Who may write where among many processes and machines: what the kernel's locks are for files. For drivers whose storage has none."""

    def instance(self) -> str:
        """This process's id, 32 hex digits, registered and alive when this returns. Another one after it was taken for dead."""

    def hold(self, storage: str, key: Key, start: int, end: int | None) -> AbstractContextManager[Hold]:
        """Raises RangeBusy, and asks who is in the way to let go."""

    def held(self, storage: str, key: Key) -> bool:
        """Whether anybody alive holds some of the key."""

    def alive(self, maker: str) -> bool:
        """Whether the instance whose id begins with these 8 digits may still commit what it made. False only once it can't any more."""


@runtime_checkable
class OnDisk(Protocol):
    """A storage whose blobs are files: downloads go out by sendfile."""

    def path(self, key: Key) -> str:
        """The blob's path, for X-Accel-Redirect and X-Sendfile. Relative to the storage's root."""

    def open(self, key: Key) -> BinaryIO:
        """The blob, unbuffered, never through a symlink. Raises BytesMissing."""


MIN_PART, MAX_PART, FEW_PARTS, MAX_PARTS = 5 * 2**20, 5 * 2**30, 1000, 10_000
"""How long, in bytes, a part may be that a client sends to the storage itself (the last one may be shorter), how many there may always be,
and how many where the server takes as many as AWS does."""


@dataclass(frozen=True, slots=True)
class ClientPart:
    """A part that the storage has of what a client sends it. ``etag`` is what it calls the part's bytes, without quotes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A PUT that anybody may make of the storage for some time, with these header fields at least."""

    url: str
    headers: Mapping[str, str]


@runtime_checkable
class Direct(Protocol):
    """A storage to which clients send the bytes themselves, as parts with numbers from 1, to addresses signed for one part each. They are
    nothing until :meth:`join`; after it no such address is good any more, and neither after ``delete``."""

    def most_parts(self) -> int:
        """The highest number that a part may have: :data:`FEW_PARTS` at least, :data:`MAX_PARTS` at most."""

    def offer(self) -> AbstractContextManager[tuple[Key, DriverState]]:
        """A new, empty blob for parts of clients, held for the block. ``seal`` takes its state once it is joined, or empty."""

    def sign(self, key: Key, state: DriverState, number: int, *, length: int | None, md5: bytes | None, expiry: float) -> Signed:
        """The part's address, good for ``expiry`` seconds; no bytes but of this ``length`` and ``md5`` are taken there, where they are
        given."""

    def client_parts(self, key: Key, state: DriverState) -> Sequence[ClientPart] | None:
        """What is there, by number, as the storage itself says; None once it is joined or deleted."""

    def join(self, key: Key, state: DriverState, parts: Sequence[ClientPart]) -> None:
        """These parts, one after another, become the blob. Repeatable, also after an answer was lost. Raises Conflict where one is not
        what it was."""

    def confirmed(self, key: Key, state: DriverState, size: int) -> AbstractContextManager[Key]:
        """The key of the joined bytes, which no address that was signed can change any more: that of the blob, or of a copy where the
        storage needs one, which is held for the block. Raises Conflict."""


@runtime_checkable
class Vouches(Protocol):
    """A storage that computes checksums of what it has got."""

    def vouched(self, key: Key) -> int | None:
        """The CRC-64/NVME of a whole blob's bytes as the storage itself has computed it; None where it hasn't."""


@runtime_checkable
class Redirects(Protocol):
    """A storage that can give clients the bytes itself."""

    def address(self, key: Key, *, media_type: str, disposition: str) -> str | None:
        """Where anybody may GET the bytes for some time, ranges of them too, with these as Content-Type and Content-Disposition; None where
        downloads are to pass through Carboy."""


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
