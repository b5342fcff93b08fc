"""The contract every catalog keeps. Proved for each by tests/contracts/test_catalog.py.

Each changing method is one transaction: when it returns, its change is on stable storage; when it raises anything but
CommitUnknown, nothing changed. No method waits for a client, and none may be called while holding a client up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from carboy.model import Blob, Chunk, File, Key, Page, Placed, Placement, Progress, Span, Token, Upload, UploadState, Version


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room promised to a declared size, until ``expires_at``."""

    id: str
    storage: str
    principal: str
    size: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class ChunkTotals:
    """An upload's numbered chunks together: how many, the highest index (-1 for none), where the furthest that has a place
    ends, and how many have none (pieces)."""

    count: int
    highest: int
    end: int
    pieces: int


class Catalog(Protocol):
    """The only truth about files and uploads. Methods may be called from any thread."""

    # --- life ---
    def migrate(self) -> None:
        """Bring the schema up to date (SQLite: after a snapshot of the file). Raises SchemaMismatch if it is newer."""

    def check(self) -> None:
        """Raises SchemaMismatch unless the schema is this version's, CatalogUnavailable if it can't be asked."""

    def close(self) -> None:
        """Let all connections go. Repeatable; the catalog may be used again (it opens lazily, also after a fork). A process
        that forks closes it first: SQLite's connections survive no fork, not even unused."""

    # --- files ---
    def file(self, id: str) -> File | None: ...

    def file_at(self, space: str, path: str) -> File | None: ...

    def files(self, space: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100,
              folders: bool = False) -> Page:
        """Files whose path starts with ``prefix``, by path in code point order, after ``cursor``. With ``folders``,
        paths that go on past the next ``/`` are given once, as that folder (with its slash)."""

    def place(self, placements: Sequence[Placement], *, now: float, release: str | None = None) -> list[Placed]:
        """All or none: each blob becomes the content of its path. Also drops the reservation ``release``.

        Raises PreconditionFailed, PathConflict, Conflict (``on_conflict="refuse"``). A replaced content becomes a
        version where ``keep_versions`` > 0 (oldest beyond that many go), else its blob is condemned. Steps become
        queued jobs. A blob already known (by id) is locked and must not be condemned: raises NotFound.
        """

    def delete_file(self, id: str, *, now: float, etags: tuple[str, ...] | None = None) -> File | None:
        """Forget the file and its versions and condemn their blobs; None if there is none. Raises PreconditionFailed."""

    def versions(self, file_id: str) -> list[Version]:
        """The older contents that are kept, newest first."""

    # --- uploads ---
    def create_upload(self, upload: Upload, *, reserve: Reservation | None = None) -> Upload:
        """Insert it, and the reservation, whose id is the upload's; where ``name`` is taken by a receiving upload of that
        owner and space, return that one instead and reserve nothing."""

    def upload(self, id: str) -> Progress | None: ...

    def upload_named(self, space: str, owner: str | None, name: str) -> Progress | None:
        """The receiving one if there is one, else the one that completed last."""

    def uploads(self, *, space: str | None = None, owner: str | None = None, cursor: str | None = None,
                limit: int = 100) -> tuple[list[Progress], str | None]:
        """Receiving uploads by id, with the next cursor."""

    def record(self, upload_id: str, spans: Sequence[Span], *, now: float, expires_at: float, size: int | None = None,
               chunk: Chunk | None = None, driver_state: Mapping[str, Any] | None = None,
               reserve_until: float | None = None) -> Progress:
        """Add spans, merging neighbours (CRCs combine), declare the size where given, note the chunk.

        Locks the upload's row first. A span that overlaps a recorded one only repeats it and adds what is new to
        nothing: callers cut spans to the gaps, and an overlap raises Conflict. A piece (a chunk with a key) that
        replaces one of the same index condemns the older one's key. With ``reserve_until`` the upload's reservation shrinks to
        what is still missing and lives until then. Raises UploadGone unless receiving, TooLarge for a
        span past the size, Conflict for another size than the declared one, NotFound.
        """

    def chunks(self, upload_id: str) -> list[Chunk]:
        """By index."""

    def chunk_totals(self, upload_id: str) -> ChunkTotals:
        """Counted in the catalog, so that it costs the same for a few chunks and for many."""

    def complete(self, upload_id: str, placement: Placement, *, now: float, expires_at: float) -> Placed:
        """A covered upload becomes a file: blob, file, version, jobs, upload state and reservation in one transaction;
        piece keys are condemned, and so is the upload's own key if the placement's blob has another. Repeatable: once
        complete it returns the file again. Raises what place() raises, MissingBytes if not covered, UploadGone."""

    def end_upload(self, upload_id: str, state: UploadState, *, now: float, failure: str | None = None,
                   expires_at: float) -> bool:
        """Cancel, fail or expire: condemns its keys, drops spans, chunks and reservation. False unless it was receiving, and
        for ``expired`` unless its time is up: bytes may have come since it was listed."""

    # --- room ---
    def reserve(self, reservation: Reservation, *, room: int, cap: int, now: float) -> None:
        """Promise room in one serialised transaction. Raises StorageFull if live reservations of the storage and this
        one exceed ``room``, or those of the principal exceed ``cap``. The same id again renews it."""

    def release(self, id: str) -> None: ...

    def reserved(self, storage: str, *, now: float) -> int: ...

    # --- upkeep ---
    def condemned(self, storage: str, *, before: float, limit: int = 1000) -> list[Key]:
        """Keys whose bytes may go: nothing refers to them since before that time."""

    def forget(self, storage: str, keys: Iterable[Key]) -> None:
        """The bytes of these condemned keys are gone."""

    def known(self, storage: str, keys: Sequence[Key]) -> set[Key]:
        """Which of these keys a blob, a receiving upload, a piece or a condemned entry names, asked now."""

    def expired_uploads(self, *, now: float, limit: int = 1000) -> list[Upload]: ...

    def covered_uploads(self, limit: int = 1000) -> list[Upload]:
        """Receiving uploads whose spans cover their size: complete() did not come through."""

    def purge(self, *, now: float) -> int:
        """Drop lapsed reservations, ended uploads past their expiry, and instances silent for a day; how many rows went."""

    def blobs(self, storage: str, *, after: Key | None = None, limit: int = 1000) -> list[Blob]:
        """Blobs by key, for fsck."""

    def set_sha256(self, blob_id: str, sha256: bytes) -> None: ...

    # --- tokens ---
    def add_token(self, token: Token, secret_sha256: bytes) -> None: ...

    def token(self, secret_sha256: bytes) -> Token | None:
        """By the hash of its secret, whatever its expiry."""

    def tokens(self) -> list[Token]: ...

    def revoke_token(self, id: str, *, now: float) -> bool: ...

    # --- instances ---
    def heartbeat(self, instance: str, *, now: float, host: str, pid: int) -> None: ...

    def counts(self) -> Mapping[str, int]:
        """Rows of files, blobs, receiving uploads and condemned keys."""

    def snapshot(self, path: str) -> None:
        """A consistent copy of the catalog (SQLite only)."""


def batched(items: Iterator[Key], size: int) -> Iterator[list[Key]]:
    """``items`` in lists of at most ``size``."""
    batch: list[Key] = []
    for item in items:
        batch.append(item)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
