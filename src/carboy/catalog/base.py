"""The contract every catalog keeps. Proved for each by tests/contracts/test_catalog.py.

Each changing method is one transaction: when it returns, its change is on stable storage; when it raises anything but
CommitUnknown, nothing changed. No method waits for a client, and none may be called while holding a client up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from carboy.catalog.base_figures import Figures
from carboy.catalog.base_hooks import Hooks
from carboy.catalog.base_jobs import Jobs
from carboy.model import (
    Act,
    AuditEntry,
    Blob,
    Chunk,
    File,
    Filter,
    Folder,
    Fragment,
    Instance,
    Key,
    Lease,
    Limits,
    Link,
    OnConflict,
    Page,
    Placed,
    Placement,
    Progress,
    Publication,
    Shelved,
    SortKey,
    Span,
    Token,
    Upload,
    UploadState,
    Usage,
    Version,
    Zip,
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room promised to a declared size, until ``expires_at``: ``size`` bytes of the storage that are still to come, and within the
    ``limits`` of a space, and of an owner in it, the ``adds`` bytes that the whole will add to what they keep."""

    id: str
    storage: str
    principal: str
    size: int
    expires_at: float
    space: str = ""
    owner: str | None = None
    adds: int = 0
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Move:
    """Where a file or a folder goes: ``to`` is the whole new path, of a folder with its slash. ``limits`` are the new space's. ``pending``
    are the ids of the contents that go along to another space though they are held back; None lets all go."""

    space: str
    to: str
    on_conflict: OnConflict = "refuse"
    keep_versions: int = 0
    limits: Limits = Limits()
    pending: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class ChunkTotals:
    """An upload's numbered chunks together: how many, the highest index (-1 for none), where the furthest that has a place
    ends, and how many have none (pieces)."""

    count: int
    highest: int
    end: int
    pieces: int


class Catalog(Jobs, Hooks, Figures, Protocol):
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

    def place(self, placements: Sequence[Placement], *, now: float, release: str | None = None, by: Act | None = None,
              upload: Upload | None = None, fence: Collection[str] = ()) -> list[Placed]:
        """All or none: each blob becomes the content of its path. Also drops the reservation ``release``, and enters ``upload`` as the
        complete one that the first placement came by. The instances of ``fence`` made the blobs: one that was taken for dead
        raises StorageFailed here, in ``stage``, ``create_upload`` and ``record``, because a sweeper may be removing what it made.

        Raises PreconditionFailed, PathConflict, Conflict (``on_conflict="refuse"``), and QuotaExceeded where the placements' ``limits``
        don't allow them, exactly, however many come at once. A replaced content becomes a version where ``keep_versions`` > 0 (oldest
        beyond that many go), else its blob is condemned. What the catalog's plan orders becomes jobs, here and wherever else a content
        gets to a file, or a file into another space; then what holds contents back is ordered for its older ones too.
        A blob already known (by id) is locked and must not be condemned: raises NotFound.
        So a copy is a placement of
        the same blob. Folder sums and usage change with it. ``by`` is entered in the audit log, here and below, in the same transaction
        (file.create, file.replace); without it nothing is.
        """

    def delete_file(self, id: str, *, now: float, etags: tuple[str, ...] | None = None, by: Act | None = None) -> File | None:
        """Forget the file, wherever it is (also in the trash, or staged), and its versions, and condemn their blobs; None if there is none.
        Raises PreconditionFailed. (file.delete; file.purge from the trash)"""

    def versions(self, file_id: str) -> list[Version]:
        """The older contents that are kept, newest first."""

    def restore_version(self, id: str, number: int, *, keep: int, now: float, etags: tuple[str, ...] | None = None,
                        by: Act | None = None) -> File:
        """An older content becomes the current one, as a new version; the one it replaces is kept as ``place`` does. Raises NotFound,
        PreconditionFailed. (file.restore_version)"""

    def update_file(self, id: str, *, metadata: Mapping[str, Any] | None = None, tags: Sequence[str] | None = None, now: float,
                    etags: tuple[str, ...] | None = None, by: Act | None = None) -> File:
        """Apply ``metadata`` as a merge patch (RFC 7396: None removes), set the tags; what is None stays. The content's ETag, version and
        ``modified_at`` stay. Raises NotFound, PreconditionFailed. (file.update)"""

    def move(self, id: str, move: Move, *, now: float, etags: tuple[str, ...] | None = None, by: Act | None = None) -> File:
        """The file, with its id, versions, tags and links, goes to another path, of another space too; its owner and times stay. Where
        there is a
        file: ``refuse`` raises Conflict, ``rename`` finds a free name, ``replace`` deletes that one (as delete_file). Moving to where it is
        changes nothing. Raises NotFound, PathConflict, PreconditionFailed, QuotaExceeded, Pending. (file.move)"""

    def move_folder(self, space: str, folder: str, move: Move, *, now: float, by: Act | None = None) -> int:
        """Every file in ``folder`` goes along, in one transaction, however many they are, and so do the links to it and to folders within;
        how many. Raises NotFound for an empty folder, Conflict where there is a file or folder already at ``move.to``,
        InvalidRequest for a folder into itself, QuotaExceeded, Pending. (folder.move)"""

    def pending(self, space: str, path: str) -> list[File]:
        """What is held back, and not in quarantine, of the file at ``path``, or of all in that folder (with its slash), older contents
        included: the file of each, with that content."""

    # --- the shelf: trash and staged files ---
    def trash_file(self, id: str, *, now: float, expires_at: float, etags: tuple[str, ...] | None = None,
                   by: Act | None = None) -> File | None:
        """To the trash, with its versions, tags and links: ``file()`` and its path know it no more. None if there is none. (file.trash)"""

    def trash_folder(self, space: str, folder: str, *, now: float, expires_at: float, by: Act | None = None) -> int:
        """Every file in the folder, in one transaction; how many. (folder.trash)"""

    def restore(self, id: str, move: Move, *, now: float, by: Act | None = None) -> File:
        """From the trash to ``move.to``, as :meth:`move` would. Its links live again. Raises NotFound unless it is in the trash.
        (file.restore)"""

    def shelved(self, id: str) -> Shelved | None:
        """The file with this id, if it is in the trash or staged."""

    def trashed(self, space: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100) -> tuple[list[Shelved], str | None]:
        """What of a space is in the trash, whose path started with ``prefix``: last deleted first; with the next cursor."""

    def stage(self, placements: Sequence[Placement], *, now: float, expires_at: float, release: str | None = None,
              fence: Collection[str] = ()) -> list[Shelved]:
        """All or none: durable, invisible files, without jobs, sums, usage or quota, until they are published or expire. Conditions are
        not looked at."""

    def publish(self, publications: Sequence[Publication], *, now: float, by: Act | None = None) -> list[Placed]:
        """All or none: staged files take their paths, as ``place`` would have put them there: where a path has a file, that one gets the
        content and keeps
        its id; else the staged file's id stays. Raises NotFound for what is not staged (any more), and what ``place`` raises.
        (file.create, file.replace)"""

    def expired_shelf(self, *, now: float, limit: int = 1000) -> list[Shelved]:
        """What has been in the trash or staged too long."""

    # --- lists ---
    def listed(self, space: str, *, prefix: str = "", sort: SortKey = "path", descending: bool = False, filter: Filter = Filter(),
               cursor: str | None = None, limit: int = 100) -> Page:
        """Files in this order (then by id), those that pass the filter; a cursor belongs to one order. Raises InvalidRequest for a
        cursor that isn't one."""

    def folders(self, space: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100) -> tuple[list[Folder], str | None]:
        """The folders that begin with ``prefix``, cut at the next slash behind it, by path, with what lies in each at any depth; with
        the next cursor. Costs what it shows, however many files there are."""

    def folder_sums(self, space: str, folders: Sequence[str]) -> dict[str, Folder]:
        """What lies in each of these folders (their paths with the slash; ``""`` is the space), at any depth; all are in the answer."""

    def usage(self, space: str, owner: str | None = None) -> Usage:
        """What is kept in the space, or by one owner in it."""

    def search(self, space: str, words: Sequence[str], *, prefix: str = "", filter: Filter = Filter(), cursor: str | None = None,
               limit: int = 100) -> Page:
        """Files whose path, metadata values or tags contain every word, anywhere, whatever the case; every character of a word stands
        for itself. Newest
        text first. What was committed before is found."""

    def read_texts(self, limit: int = 1000) -> int:
        """Prepare up to ``limit`` changed files for searching; how many there were. ``search`` does it as well."""

    # --- links ---
    def add_link(self, link: Link, *, by: Act | None = None) -> None:
        """(link.create) Raises NotFound if its file is gone."""

    def link(self, id: str) -> Link | None: ...

    def links(self, space: str | None = None, *, created_by: str | None = None, file_id: str | None = None, cursor: str | None = None,
              limit: int = 100) -> tuple[list[Link], str | None]:
        """By id, with the next cursor; expired and revoked ones too."""

    def use_link(self, id: str, *, now: float, uses: int = 1, received: int = 0) -> Link:
        """Count it, exactly; negative numbers count back. Raises LinkExpired (expired, revoked, used_up) and NotFound, and then counts
        nothing."""

    def revoke_link(self, id: str, *, now: float, by: Act | None = None) -> bool:
        """(link.revoke)"""

    # --- audit, zips, secrets ---
    def note(self, entry: AuditEntry) -> None:
        """Enter something that changed no row (its ``id`` is given here)."""

    def audit(self, *, space: str | None = None, principal: str | None = None, action: str | None = None, file_id: str | None = None,
              since: float | None = None, until: float | None = None, before: int | None = None,
              limit: int = 100) -> list[AuditEntry]:
        """The newest first; ``before`` is the id of the last one of the page before."""

    def add_zip(self, zip: Zip) -> None: ...

    def zip(self, id: str) -> Zip | None: ...

    def blob(self, id: str) -> Blob | None: ...

    def blobs_with_ids(self, ids: Sequence[str]) -> dict[str, Blob]:
        """Those that there are, by their ids, all as of one moment."""

    def secret(self, name: str, fresh: bytes) -> bytes:
        """The key of this name; ``fresh`` becomes it where there is none yet."""

    # --- uploads ---
    def create_upload(self, upload: Upload, *, reserve: Reservation | None = None, fence: Collection[str] = ()) -> Upload:
        """Insert it, and the reservation, whose id is the upload's; where ``name`` is taken by a receiving upload of that
        owner and space, return that one instead and reserve nothing."""

    def upload(self, id: str) -> Progress | None: ...

    def name_upload(self, id: str, path: str) -> bool:
        """Where a receiving upload's file is to go. False unless it is receiving."""

    def upload_named(self, space: str, owner: str | None, name: str) -> Progress | None:
        """The receiving one if there is one, else the one that completed last."""

    def uploads(self, *, space: str | None = None, owner: str | None = None, cursor: str | None = None,
                limit: int = 100) -> tuple[list[Progress], str | None]:
        """Receiving uploads by id, with the next cursor."""

    def record(self, upload_id: str, spans: Sequence[Span], *, now: float, expires_at: float, size: int | None = None,
               chunk: Chunk | None = None, reserve_until: float | None = None, fragments: Sequence[Fragment] = (),
               lease: str | None = None, fence: Collection[str] = ()) -> Progress:
        """Add spans, merging neighbours (CRCs combine), declare the size where given, note the chunk.

        Locks the upload's row first. A span that overlaps a recorded one only repeats it and adds what is new to
        nothing: callers cut spans to the gaps, and an overlap raises Conflict. A piece (a chunk with a key) that
        replaces one of the same index condemns the older one's key. With ``reserve_until`` the upload's reservation shrinks to
        what is still missing and lives until then. A fragment takes the place of those within it, whose pieces are condemned. Under a
        ``lease`` it raises Interrupted where that is gone. Raises UploadGone unless receiving, TooLarge for a
        span past the size, Conflict for another size than the declared one, NotFound.
        """

    def fragments(self, upload_id: str) -> list[Fragment]:
        """By start."""

    def chunks(self, upload_id: str) -> list[Chunk]:
        """By index."""

    def chunk_totals(self, upload_id: str) -> ChunkTotals:
        """Counted in the catalog, so that it costs the same for a few chunks and for many."""

    def complete(self, upload_id: str, placement: Placement, *, now: float, expires_at: float, by: Act | None = None,
                 fence: Collection[str] = ()) -> Placed:
        """A covered upload becomes a file: blob, file, version, jobs, upload state and reservation in one transaction;
        piece keys are condemned, and so is the upload's own key if the placement's blob has another. Repeatable: once
        complete it returns the file again. ``fence`` as in :meth:`place`. Raises what place() raises, MissingBytes if not covered,
        UploadGone."""

    def end_upload(self, upload_id: str, state: UploadState, *, now: float, failure: str | None = None,
                   expires_at: float) -> bool:
        """Cancel, fail or expire: condemns its keys, drops spans, chunks and reservation. False unless it was receiving, and
        for ``expired`` unless its time is up: bytes may have come since it was listed."""

    # --- room ---
    def reserve(self, reservation: Reservation, *, room: int, cap: int, now: float) -> None:
        """Promise room in one serialised transaction. Raises QuotaExceeded if what is kept, live reservations and this one exceed the
        reservation's ``limits``, StorageFull if live reservations of the storage and this
        one exceed ``room``, or those of the principal exceed ``cap``. The same id again renews it."""

    def release(self, id: str) -> None: ...

    def reserved(self, storage: str, *, now: float) -> int: ...

    # --- upkeep ---
    def condemned(self, storage: str, *, before: float, limit: int = 1000) -> list[Key]:
        """Keys whose bytes may go: nothing refers to them since before that time."""

    def forget(self, storage: str, keys: Iterable[Key]) -> None:
        """The bytes of these condemned keys are gone."""

    def known(self, storage: str, keys: Sequence[Key]) -> set[Key]:
        """Which of these keys a blob, a receiving upload, a piece (of a chunk or a fragment) or a condemned entry names, asked now."""

    def expired_uploads(self, *, now: float, limit: int = 1000) -> list[Upload]: ...

    def covered_uploads(self, after: str | None = None, limit: int = 1000) -> list[Upload]:
        """Receiving uploads whose spans cover their size, by id: complete() did not come through, or was refused."""

    def uploads_of_parts(self, after: str | None = None, limit: int = 1000, *, part: str = "") -> list[Upload]:
        """Receiving uploads that wait for their parts, or for this one among them, by id."""

    def purge(self, *, now: float, audit_before: float = 0.0, log_before: float = 0.0) -> int:
        """Drop lapsed reservations, ended uploads and zips past their expiry, links dead for a month, audit entries from before both
        times, what else the log has from before ``log_before``, deliveries to webhooks that were taken before ``log_before``, or given up
        before both times; how many rows went."""

    def blobs(self, storage: str, *, after: Key | None = None, limit: int = 1000) -> list[Blob]:
        """Blobs by key, for fsck."""

    def blobs_apart(self, space: str, storage: str, *, after: str | None = None, limit: int = 100) -> list[Blob]:
        """Contents that files of the space have, older ones, the trash, staged files and what is derived included, and that are kept in
        another storage than this one; by id. Files of other spaces may have them too."""

    def switch_blob(self, blob: Blob, storage: str, key: Key, *, now: float, fence: Collection[str] = ()) -> bool:
        """The blob's bytes are under this key of this storage from now on, and where they were they are condemned; its id, and so the ETags
        of its files, stay. False, and nothing changes, where it is not where ``blob`` says any more. ``fence`` as in :meth:`place`."""

    def stored(self) -> Mapping[str, tuple[int, int]]:
        """How many contents, and how many bytes, are kept in each storage that has any."""

    def set_sha256(self, blob_id: str, sha256: bytes) -> None: ...

    def set_damaged(self, blob_id: str, at: float | None) -> bool:
        """Quarantine the blob's bytes, or (None) trust them again. False if there is no such blob."""

    def miscounted(self) -> list[str]:
        """Folder sums and usage that are not what the files add up to, in words; for fsck."""

    # --- answers ---
    def claim_answer(self, principal: str, key: str, fingerprint: bytes, *, now: float,
                     expires_at: float) -> tuple[bytes, str | None] | None:
        """The key is this request's until then: None. Or the fingerprint of the request that has it, and what that was answered, None
        while it is under way."""

    def keep_answer(self, principal: str, key: str, answer: str | None, *, expires_at: float) -> None:
        """What the request was answered, until then. None: it is still under way, until then at least."""

    def drop_answer(self, principal: str, key: str) -> None:
        """The key is nobody's again."""

    # --- tokens ---
    def add_token(self, token: Token, secret_sha256: bytes, *, by: Act | None = None) -> None: ...

    def token(self, secret_sha256: bytes) -> Token | None:
        """By the hash of its secret, whatever its expiry."""

    def tokens(self) -> list[Token]: ...

    def token_with_id(self, id: str) -> Token | None: ...

    def revoke_token(self, id: str, *, now: float, by: Act | None = None) -> bool: ...

    # --- instances and leases ---
    def appear(self, instance: Instance) -> None:
        """Register a process that is about to write to a shared storage."""

    def beat(self, instance: str) -> list[Instance] | None:
        """It lives: its counter grows. All that are registered; None if it was taken for dead."""

    def instances(self) -> list[Instance]:
        """All that are registered."""

    def bury(self, instance: Instance) -> bool:
        """Forget it and its leases, if its counter stands where it stood (``beats``): it takes part in no commit from then on."""

    def lease(self, lease: Lease) -> list[Lease]:
        """Enter it, and [], unless others overlap: then those, marked as wanted. Raises StorageFailed if its instance is gone."""

    def extend_lease(self, id: str, end: int | None) -> list[Lease]:
        """Let it reach to ``end``; as :meth:`lease`. Raises Interrupted if it is gone."""

    def release_lease(self, id: str) -> None: ...

    def wanted(self, instance: str) -> list[Lease]:
        """Which of its leases others want."""

    def leases(self, storage: str, key: Key) -> list[Lease]:
        """Those on the key."""

    def counts(self) -> Mapping[str, int]:
        """Rows of files, blobs, receiving uploads and condemned keys."""

    def snapshot(self, path: str) -> None:
        """A consistent copy of the catalog (SQLite only)."""


def paged(listed: Callable[[str | None, int], Sequence[Upload]], limit: int = 1000) -> Iterator[Upload]:
    """All that are listed by id, ``limit`` at a time."""
    after: str | None = None
    while True:
        page = listed(after, limit)
        yield from page
        if len(page) < limit:
            return
        after = page[-1].id


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
